'use strict';

const list = document.getElementById('streams');
const empty = document.getElementById('empty');

async function refresh() {
  try {
    const { streams } = await (await fetch('/streams.json')).json();
    list.replaceChildren(...streams.map(item));
    empty.hidden = streams.length > 0;
  } catch {
    // The node may be restarting; the list is looked at again.
  }
}

function item(stream) {
  const link = document.createElement('a');
  link.href = `/watch/${stream.manifest}`;
  const name = document.createElement('strong');
  name.textContent = stream.name ?? 'Broadcast';
  const state = document.createElement('span');
  state.className = stream.live ? 'badge live' : 'badge';
  state.textContent = stream.live ? 'live' : 'waiting for its encoder';
  const id = document.createElement('code');
  id.textContent = stream.manifest;
  link.append(name, state, id);
  const li = document.createElement('li');
  li.append(link);
  return li;
}

document.getElementById('open').addEventListener('submit', (event) => {
  event.preventDefault();
  const id = document.getElementById('id').value.trim();
  if (id) location.href = `/watch/${encodeURIComponent(id)}`;
});

refresh();
setInterval(refresh, 3000);
