// Lists what can be watched at this node, and looks again while the page is seen.

const REFRESH_MS = 3000;

const list = document.getElementById('streams');
const empty = document.getElementById('empty');
const node = document.getElementById('node');
const input = document.getElementById('broadcast');
const wrong = document.getElementById('wrong');
let shown = '';

async function refresh() {
  try {
    const [streams, ready] = await Promise.all([read('/streams.json'), read('/readyz')]);
    // The list is touched only when it changes, so that focus and selections stay.
    const text = JSON.stringify(streams);
    if (text !== shown) {
      shown = text;
      list.replaceChildren(...streams.streams.map(item));
      empty.hidden = streams.streams.length > 0;
    }
    const linked = ready.links === 1 ? 'linked to 1 other node' : `linked to ${ready.links} other nodes`;
    node.textContent = ready.ready ? linked : 'looking for other nodes…';
  } catch {
    node.textContent = 'This node does not answer. Trying again…';
  }
}

async function read(path) {
  const response = await fetch(path, { cache: 'no-store' });
  return response.json();
}

function item(stream) {
  const link = document.createElement('a');
  link.href = `/watch/${stream.manifest}`;
  const name = document.createElement('strong');
  name.textContent = stream.name ?? 'Broadcast';
  const state = document.createElement('span');
  state.className = stream.live ? 'badge live' : 'badge';
  state.textContent = stream.live ? 'live' : 'waiting for its encoder';
  const renditions = document.createElement('span');
  renditions.className = 'quiet';
  renditions.textContent = stream.renditions.join(' · ');
  const id = document.createElement('code');
  id.textContent = stream.manifest;
  link.append(name, state, renditions, id);
  const li = document.createElement('li');
  li.append(link);
  return li;
}

// An id, or a whole address that has one in it.
function broadcastId(text) {
  const last = text.trim().split(/[?#]/)[0].replace(/\/+$/, '').split('/').pop();
  const id = last.replace(/\.m3u8$/, '');
  return /^[1-9A-HJ-NP-Za-km-z]+\.[a-z2-7]+(\.[^/]+)?$/.test(id) ? id : null;
}

document.getElementById('open').addEventListener('submit', (event) => {
  event.preventDefault();
  const id = broadcastId(input.value);
  wrong.hidden = id !== null;
  wrong.textContent = id ? '' : 'This is not the id of a broadcast. Copy the whole id.';
  if (id) location.href = `/watch/${id}`;
});

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MS);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
