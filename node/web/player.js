// Plays one broadcast from this node and keeps at it: whatever fails is tried again until
// the broadcast has ended. Renditions come and go with their transcoders, and hls.js knows
// only those it began with: a second engine begins anew behind the first, and the two change
// places once both show the same moment.

import * as ui from './controls.js';

const id = decodeURIComponent(location.pathname.split('/').pop());
const source = `/stream/${encodeURIComponent(id)}.m3u8`;

const RETRY_MS = 2000;
const MASTER_MS = 5000;
const GAP_MS = 4000;
const FACTS_MS = 500;
const STILL_TICKS = 4;
const SWAP_LOOK_MS = 100;
const SWAP_GIVE_UP_MS = 15000;
const SWAP_CLOSE_S = 0.08;
const ERRORS_KEPT = 100;

const videos = [...document.querySelectorAll('#stage video')];
let current = null;
let next = null;
let state = 'starting';
let wanted = '';
let pausedByViewer = false;
let retry = 0;
let links = '–';
let still = 0;
const counts = { fatal: 0, stalls: 0 };
const errors = [];

const video = () => current?.video ?? videos[0];

function show(name, text, options) {
  state = name;
  ui.notice(text, options);
}

// ---- engines ---------------------------------------------------------------------------

/** hls.js on one of the two video elements. */
class Engine {
  constructor(element) {
    this.video = element;
    this.over = false;
    this.failures = 0;
    this.recovered = -Infinity;
    this.gapAt = -Infinity;
    const hls = new Hls({
      workerPath: '/assets/hls.worker.js',
      liveSyncDurationCount: 2,
      liveMaxLatencyDurationCount: 6,
      maxLiveSyncPlaybackRate: 1.1,
      manifestLoadPolicy: { default: policy(6) },
      playlistLoadPolicy: { default: policy(6) },
      fragLoadPolicy: { default: policy(8) },
    });
    this.hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => { this.choose(); offerQualities(); });
    hls.on(Hls.Events.LEVEL_SWITCHED, offerQualities);
    hls.on(Hls.Events.LEVEL_LOADED, (_, data) => { this.over = !data.details.live; this.failures = 0; });
    hls.on(Hls.Events.FRAG_BUFFERED, () => { if (this === current && state !== 'ended') show('live'); });
    hls.on(Hls.Events.ERROR, (_, data) => this.failed(data));
    hls.loadSource(source);
    hls.attachMedia(element);
  }

  /** The wanted rendition among those that are offered; -1 for whichever fits. */
  wantedLevel() {
    return this.hls.levels.findIndex((level) => level.name === wanted);
  }

  /** Takes the wanted rendition if it is offered, and the best fitting one if not. */
  choose() {
    const index = this.wantedLevel();
    if (this.hls.currentLevel >= 0) {
      this.hls.nextLevel = index;
      return;
    }
    if (index >= 0) this.hls.startLevel = index;
    this.hls.loadLevel = index;
  }

  /** hls.js leaves a rendition that has a gap; once that is past, it is gone back to. */
  insist() {
    const index = this.wantedLevel();
    const { currentLevel, nextLevel } = this.hls;
    const past = performance.now() - this.gapAt > GAP_MS;
    if (index >= 0 && past && currentLevel >= 0 && currentLevel !== index && nextLevel !== index) this.choose();
  }

  /** The moment that is seen, in milliseconds since 1970. */
  moment() {
    return this.hls.playingDate?.getTime() ?? NaN;
  }

  failed(data) {
    errors.push(data.details);
    if (errors.length > ERRORS_KEPT) errors.shift();
    if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && this === current) {
      counts.stalls += 1;
      // What plays may have just been given up.
      followMaster();
    }
    if (data.details === Hls.ErrorDetails.FRAG_GAP) this.gapAt = performance.now();
    if (!data.fatal) return;
    if (this !== current) { dropNext(); return; }
    counts.fatal += 1;
    const now = performance.now();
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && now - this.recovered > RETRY_MS) {
      this.recovered = now;
      this.hls.recoverMediaError();
      return;
    }
    this.failures += 1;
    const unknown = data.response?.code === 404 || data.response?.code === 410;
    const network = data.type === Hls.ErrorTypes.NETWORK_ERROR && this.hls.levels.length > 0;
    if (network && !unknown && this.failures < 4) {
      // What is buffered plays on meanwhile.
      setTimeout(() => { if (this === current) this.hls.startLoad(); }, RETRY_MS);
      return;
    }
    // The master playlist tells whether it goes on. What is buffered plays on meanwhile.
    if (!buffered(this.video)) show('interrupted', 'The stream is interrupted. It goes on by itself.');
    restart();
  }

  destroy() {
    this.hls.destroy();
    this.video.removeAttribute('src');
    this.video.load();
  }
}

function policy(retries) {
  const again = { maxNumRetry: retries, retryDelayMs: 500, maxRetryDelayMs: 4000 };
  return { maxTimeToFirstByteMs: 12000, maxLoadTimeMs: 20000, timeoutRetry: again, errorRetry: again };
}

// ---- starting --------------------------------------------------------------------------

/** The variants of the master playlist, by address; players do not read it again themselves. */
async function readMaster() {
  let response;
  try {
    response = await fetch(source, { cache: 'no-store' });
  } catch {
    throw Object.assign(new Error('no answer'), { status: 0 });
  }
  if (!response.ok) throw Object.assign(new Error(response.statusText), { status: response.status });
  const lines = (await response.text()).split('\n').filter((line) => line && !line.startsWith('#'));
  return new Set(lines.map((line) => new URL(line, response.url).href));
}

/** What nothing comes after. */
const FINAL = {
  400: ['error', 'This is not the id of a broadcast. Copy the whole id.'],
  410: ['ended', 'The broadcast has ended.'],
};

const REASONS = {
  0: ['offline', 'This node does not answer. It is asked again.'],
  404: ['waiting', 'This broadcast is not on air. It starts here by itself when it is.'],
  503: ['waiting', 'The stream is being looked for…'],
};

async function start() {
  clearTimeout(retry);
  try {
    await readMaster();
  } catch ({ status }) {
    if (status in FINAL) {
      show(...FINAL[status], { still: true });
      return;
    }
    const reason = REASONS[status] ?? ['waiting', `The node cannot serve the stream now (${status}).`];
    show(...reason, { again: status === 0 ? start : null });
    restart();
    return;
  }
  load();
}

/** Begins anew after a while. */
function restart() {
  clearTimeout(retry);
  retry = setTimeout(start, RETRY_MS);
}

function load() {
  show('starting', 'Opening the stream…');
  dropNext();
  current?.destroy();
  current = null;
  if (Hls.isSupported()) {
    current = new Engine(videos[0]);
    bringForward(videos[0]);
  } else {
    // Safari on a telephone plays HLS by itself.
    videos[0].src = source;
    show('live');
  }
  if (!pausedByViewer) play();
}

async function play() {
  pausedByViewer = false;
  const element = video();
  try {
    await element.play();
  } catch (error) {
    if (error.name !== 'NotAllowedError') return;
    if (element.muted) {
      show(state, 'Press play to begin.', { still: true });
      return;
    }
    // No sound without a touch: the picture need not wait for one.
    element.muted = true;
    ui.offerSound();
    await play();
  }
}

// ---- renditions that come and go ---------------------------------------------------------

async function followMaster() {
  if (state !== 'live' || !current || next) return;
  let offered;
  try {
    offered = await readMaster();
  } catch {
    // The playlist of the rendition that plays says more than this one.
    return;
  }
  if (!current || next || !current.hls.levels.length) return;
  const has = current.hls.levels.map((level) => level.uri);
  const same = has.length === offered.size && has.every((uri) => offered.has(uri));
  // A paused picture and one in a window of its own are left alone.
  if (!same && !video().paused && !document.pictureInPictureElement) takeUp();
}

/** Starts a second engine that knows what is offered now, and changes over to it. */
function takeUp() {
  const element = videos.find((one) => one !== current.video);
  element.muted = true;
  next = new Engine(element);
  const engine = next;
  const begun = performance.now();
  element.play().catch(() => dropNext());
  const look = setInterval(() => {
    if (next !== engine) { clearInterval(look); return; }
    const late = performance.now() - begun > SWAP_GIVE_UP_MS;
    const ahead = (engine.moment() - current.moment()) / 1000;
    const shows = element.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA && !element.seeking;
    // A picture that stands still is not waited for.
    const stands = current.video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
    if (shows && (stands || Math.abs(ahead) < SWAP_CLOSE_S)) {
      clearInterval(look);
      changeOver();
    } else if (late || state !== 'live') {
      clearInterval(look);
      dropNext();
    } else if (shows && Number.isFinite(ahead)) {
      // Seeking takes a moment too, and the other plays on meanwhile.
      element.currentTime += SWAP_LOOK_MS / 1000 - ahead;
    }
  }, SWAP_LOOK_MS);
}

function changeOver() {
  const old = current;
  const { volume, muted, playbackRate } = old.video;
  current = next;
  next = null;
  current.video.volume = volume;
  current.video.playbackRate = playbackRate;
  old.video.muted = true;
  current.video.muted = muted;
  bringForward(current.video);
  old.destroy();
  offerQualities();
  // A browser may stop what begins to sound without a touch.
  if (current.video.paused && !pausedByViewer) play();
}

function dropNext() {
  next?.destroy();
  next = null;
}

function bringForward(element) {
  for (const one of videos) one.classList.toggle('on', one === element);
  ui.reflect(element);
}

// ---- what viewers choose and see ---------------------------------------------------------

function offerQualities() {
  if (!current) return;
  const levels = [...current.hls.levels].sort((a, b) => b.bitrate - a.bitrate);
  const playing = current.hls.levels[current.hls.currentLevel];
  const auto = wanted === '' && playing ? `Auto (${playing.name})` : 'Auto';
  const options = levels.map((level) => [level.name, label(level)]);
  if (wanted && !levels.some((level) => level.name === wanted)) {
    options.push([wanted, `${wanted} · not offered now`]);
  }
  ui.qualities([['', auto], ...options], wanted);
}

function label({ name, height, bitrate }) {
  const size = height && name !== `${height}p` ? ` ${height}p` : '';
  return `${name}${size} · ${kilobits(bitrate)}`;
}

const kilobits = (bits) => (bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`);

function chooseByName(name) {
  wanted = name;
  for (const engine of [current, next]) engine?.choose();
  offerQualities();
}

function goLive() {
  const edge = current?.hls.liveSyncPosition;
  if (Number.isFinite(edge)) video().currentTime = edge;
  play();
}

function seekBy(seconds) {
  const { seekable } = video();
  if (!seekable.length) return;
  const [from, to] = [seekable.start(0), current?.hls.liveSyncPosition ?? seekable.end(seekable.length - 1)];
  video().currentTime = Math.min(to, Math.max(from, video().currentTime + seconds));
}

/** A picture that stands still for two seconds is explained. */
function explainStill(element) {
  const stands = state === 'live' && !element.paused && element.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
  if (!stands && still >= STILL_TICKS && state === 'live') show('live');
  still = stands ? still + 1 : 0;
  if (still === STILL_TICKS) ui.notice('The stream is held up. It goes on by itself.');
}

function tell() {
  const element = video();
  explainStill(element);
  const latency = current?.hls.latency;
  const playing = state === 'live' && element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  const known = playing && Number.isFinite(latency) && latency > 0;
  const edge = known && latency < (current.hls.targetLatency ?? 0) + 3;
  ui.status(state === 'live' && element.paused ? 'paused' : state, known ? `${latency.toFixed(1)} s behind` : '', edge);
  if (!ui.factsShown()) return;
  const level = current?.hls.levels[current.hls.currentLevel];
  const camera = (Date.now() - (current?.moment() ?? NaN)) / 1000;
  const quality = element.getVideoPlaybackQuality?.();
  ui.facts({
    rendition: level ? `${level.name} ${element.videoWidth}×${element.videoHeight}` : '–',
    latency: known ? `${latency.toFixed(1)} s` : '–',
    // Clocks differ: what cannot be is not told.
    camera: camera > 0 && camera < 3600 ? `${camera.toFixed(1)} s` : '–',
    buffer: `${buffered(element).toFixed(1)} s`,
    speed: current ? kilobits(current.hls.bandwidthEstimate || 0) : '–',
    stalls: String(counts.stalls),
    frames: quality ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : '–',
    links,
  });
}

function buffered(element) {
  for (let n = 0; n < element.buffered.length; n += 1) {
    const [from, to] = [element.buffered.start(n), element.buffered.end(n)];
    if (from <= element.currentTime + 0.1 && element.currentTime < to) return to - element.currentTime;
  }
  return 0;
}

async function countLinks() {
  if (!ui.factsShown()) return;
  try {
    links = String((await (await fetch('/readyz', { cache: 'no-store' })).json()).links);
  } catch {
    links = '–';
  }
}

// ---- the page --------------------------------------------------------------------------

for (const element of videos) {
  element.addEventListener('ended', () => {
    if (current ? element === current.video && current.over : true) {
      show('ended', 'The broadcast has ended.', { still: true });
    }
  });
}
const kept = ui.keptVolume();
videos[0].volume = kept.volume;
videos[0].muted = kept.muted;

ui.onQuality(chooseByName);
ui.controls({
  video,
  play,
  pause: () => { pausedByViewer = true; video().pause(); },
  goLive,
  seekBy,
  setVolume: (volume) => {
    video().volume = volume;
    video().muted = volume === 0;
    ui.keepVolume(volume || 1, volume === 0);
  },
  setMuted: (muted) => {
    video().muted = muted;
    if (!muted && !video().volume) video().volume = 1;
    ui.keepVolume(video().volume, muted);
    if (!pausedByViewer) play();
  },
});
document.getElementById('id').textContent = id;
document.title = `Headwater · …${id.slice(-8)}`;

setInterval(followMaster, MASTER_MS);
setInterval(() => current?.insist(), MASTER_MS);
setInterval(tell, FACTS_MS);
setInterval(countLinks, MASTER_MS);

window.headwater = {
  get hls() { return current?.hls ?? null; },
  select: (index) => chooseByName(current?.hls.levels[index]?.name ?? ''),
  stats: () => ({
    state,
    currentTime: video().currentTime,
    videoWidth: video().videoWidth,
    videoHeight: video().videoHeight,
    paused: video().paused,
    muted: video().muted,
    wanted,
    moment: current?.moment() ?? NaN,
    buffered: buffered(video()),
    level: current ? current.hls.currentLevel : -1,
    levels: current ? current.hls.levels.map(({ name, width, height }) => ({ name, width, height })) : [],
    latency: current ? current.hls.latency : null,
    fatalErrors: counts.fatal,
    stalls: counts.stalls,
    errors: errors.slice(),
  }),
};

start();
