// What a viewer does with hands, and sees around the picture. Knows nothing of HLS.

const HIDE_MS = 3000;
const STEP_S = 5;
const KEPT = 'headwater.volume';

const $ = (id) => document.getElementById(id);
const stage = $('stage');

/** Wires the controls to `player`: video(), play(), pause(), goLive(), seekBy(s), setVolume(v), setMuted(m). */
export function controls(player) {
  const toggle = () => (player.video().paused ? player.play() : player.pause());
  const mute = () => player.setMuted(!player.video().muted);
  const act = {
    ' ': toggle, k: toggle, m: mute, f: full, l: player.goLive, i: details,
    ArrowLeft: () => player.seekBy(-STEP_S), ArrowRight: () => player.seekBy(STEP_S),
    ArrowUp: () => volumeBy(0.05), ArrowDown: () => volumeBy(-0.05),
  };
  const volumeBy = (step) => {
    player.setVolume(Math.min(1, Math.max(0, player.video().volume + step)));
  };
  $('play').addEventListener('click', toggle);
  $('mute').addEventListener('click', mute);
  $('unmute').addEventListener('click', () => player.setMuted(false));
  $('volume').addEventListener('input', (event) => player.setVolume(Number(event.target.value)));
  $('live').addEventListener('click', player.goLive);
  $('details').addEventListener('click', details);
  $('full').addEventListener('click', full);
  $('copy').addEventListener('click', copy);
  for (const video of stage.querySelectorAll('video')) {
    video.addEventListener('click', toggle);
    video.addEventListener('dblclick', full);
    for (const event of ['play', 'pause', 'volumechange']) video.addEventListener(event, () => reflect(player.video()));
  }
  document.addEventListener('keydown', (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    // Keys that a focused element has a use for are its own.
    if (target.closest('select, input')) return;
    if (key === ' ' && target.closest('button, a')) return;
    const action = act[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    event.preventDefault();
    action();
    wake();
  });
  for (const event of ['pointermove', 'pointerdown', 'focusin']) stage.addEventListener(event, wake);
  if (window.self !== window.top) document.body.classList.add('framed');
  reflect(player.video());
}

let sleep = 0;

/** Shows the controls; they go again while the picture moves and nobody touches anything. */
export function wake() {
  stage.classList.remove('quietly');
  clearTimeout(sleep);
  sleep = setTimeout(() => {
    const playing = stage.querySelector('video.on');
    const used = stage.querySelector(':focus-visible') || !$('facts').hidden || !$('notice').hidden;
    if (playing && !playing.paused && !used) stage.classList.add('quietly');
  }, HIDE_MS);
}

/** Shows what a video is doing. */
export function reflect(video) {
  press($('play'), !video.paused, video.paused ? 'Play' : 'Pause');
  press($('mute'), video.muted, video.muted ? 'Sound on' : 'Mute');
  $('volume').value = String(video.muted ? 0 : video.volume);
  if (!video.muted) $('unmute').hidden = true;
  wake();
}

function press(button, pressed, label) {
  button.setAttribute('aria-pressed', String(pressed));
  button.setAttribute('aria-label', label);
}

/** Says something over the picture; nothing takes the notice away. `again` is offered as a button. */
export function notice(text, { still = false, again = null } = {}) {
  $('notice').hidden = !text;
  $('notice').classList.toggle('still', still);
  if ($('notice-text').textContent !== (text ?? '')) $('notice-text').textContent = text ?? '';
  $('again').hidden = !again;
  $('again').onclick = again;
}

/** The browser allows no sound before somebody touches the page. */
export function offerSound() {
  $('unmute').hidden = false;
}

/** Shows the renditions; `value` is the one that is wanted. */
export function qualities(options, value) {
  const select = $('quality');
  const made = options.map(([name, label]) => new Option(label, name));
  const same = select.length === made.length
    && made.every((option, n) => option.value === select[n].value && option.text === select[n].text);
  // A list that is open is not taken from under the viewer's hand.
  if (!same) select.replaceChildren(...made);
  select.value = value;
}

/** Calls back when the viewer chooses a rendition. */
export function onQuality(choose) {
  $('quality').addEventListener('change', (event) => choose(event.target.value));
}

/** State and how far behind it is; `edge` lights the dot. */
export function status(state, behind, edge) {
  $('state').textContent = state;
  $('behind').textContent = behind;
  $('live').classList.toggle('at-edge', edge);
}

/** Figures for those who want to know. */
export function facts(figures) {
  for (const [name, text] of Object.entries(figures)) $(`fact-${name}`).textContent = text;
}

/** Whether the figures are looked at. */
export const factsShown = () => !$('facts').hidden;

function details() {
  $('facts').hidden = !$('facts').hidden;
  $('details').setAttribute('aria-expanded', String(!$('facts').hidden));
}

async function full() {
  const video = stage.querySelector('video.on');
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (stage.requestFullscreen) await stage.requestFullscreen();
    else video.webkitEnterFullscreen?.();
  } catch {
    // A frame may not be allowed to fill the screen; the picture stays where it is.
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    $('copy').textContent = 'Copied';
  } catch {
    $('copy').textContent = 'Copy the address above';
  }
  setTimeout(() => { $('copy').textContent = 'Copy link'; }, 2000);
}

/** The volume that was set last; a page may be denied its storage. */
export function keptVolume() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    return { volume: Math.min(1, Math.max(0, Number(kept.volume))) || 1, muted: kept.muted === true };
  } catch {
    return { volume: 1, muted: false };
  }
}

/** Keeps the volume for the next page. */
export function keepVolume(volume, muted) {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ volume, muted }));
  } catch {
    // Then it is not kept.
  }
}
