'use strict';

// Plays one broadcast from this node and keeps at it: whatever fails is tried again until
// the broadcast has ended.

const id = decodeURIComponent(location.pathname.split('/').pop());
const source = `/stream/${id}.m3u8`;
const video = document.getElementById('video');
const notice = document.getElementById('notice');
const badge = document.getElementById('state');
const quality = document.getElementById('quality');
const facts = document.getElementById('facts');
const unmute = document.getElementById('unmute');

const RETRY_MS = 2000;
const MASTER_MS = 5000;

let hls = null;
let state = 'starting';
let variants = '';
let wanted = -1;
let fatalErrors = 0;
let stalls = 0;
const errors = [];

function show(next, text) {
  state = next;
  badge.textContent = next;
  badge.className = next === 'live' ? 'badge live' : 'badge';
  notice.textContent = text ?? '';
  notice.hidden = !text;
}

// The variants of a master playlist: players do not read it again, so it is compared.
async function readMaster() {
  const response = await fetch(source, { cache: 'no-store' });
  if (!response.ok) throw Object.assign(new Error(`${response.status}`), { status: response.status });
  const text = await response.text();
  return text.split('\n').filter((line) => line && !line.startsWith('#')).join('\n');
}

async function start() {
  show('starting', 'Waiting for the stream…');
  try {
    variants = await readMaster();
  } catch (error) {
    if (error.status === 400) {
      show('error', 'This is not the id of a broadcast. Copy the whole id.');
      return;
    }
    show('waiting', 'This broadcast is not on air yet. It starts here by itself.');
    setTimeout(start, RETRY_MS);
    return;
  }
  load();
}

function load() {
  if (hls) hls.destroy();
  if (!Hls.isSupported()) {
    // Safari plays HLS by itself.
    video.src = source;
    show('live');
    play();
    return;
  }
  hls = new Hls({
    liveSyncDurationCount: 2,
    liveMaxLatencyDurationCount: 6,
    maxLiveSyncPlaybackRate: 1.1,
    manifestLoadPolicy: { default: policy(6) },
    playlistLoadPolicy: { default: policy(6) },
    fragLoadPolicy: { default: policy(8) },
  });
  hls.on(Hls.Events.MANIFEST_PARSED, fillQuality);
  hls.on(Hls.Events.LEVEL_SWITCHED, fillQuality);
  hls.on(Hls.Events.FRAG_BUFFERED, () => { if (state !== 'ended') show('live'); });
  hls.on(Hls.Events.LEVEL_LOADED, (_, data) => {
    if (!data.details.live) video.addEventListener('ended', () => show('ended', 'The broadcast has ended.'), { once: true });
  });
  hls.on(Hls.Events.ERROR, onError);
  hls.loadSource(source);
  hls.attachMedia(video);
  play();
}

function policy(retries) {
  const retry = { maxNumRetry: retries, retryDelayMs: 500, maxRetryDelayMs: 4000 };
  return { maxTimeToFirstByteMs: 12000, maxLoadTimeMs: 20000, timeoutRetry: retry, errorRetry: retry };
}

function onError(_, data) {
  errors.push(data.details);
  if (errors.length > 100) errors.shift();
  if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR) stalls += 1;
  if (!data.fatal) return;
  fatalErrors += 1;
  if (data.type === Hls.ErrorTypes.MEDIA_ERROR) {
    hls.recoverMediaError();
    return;
  }
  show('waiting', 'The stream is interrupted. It goes on by itself.');
  hls.destroy();
  hls = null;
  setTimeout(start, RETRY_MS);
}

function play() {
  const begun = video.play();
  if (begun) begun.catch(() => { unmute.hidden = false; });
  unmute.hidden = !video.muted;
}

function fillQuality() {
  const options = [new Option('Auto', '-1')];
  hls.levels.forEach((level, index) => {
    const size = level.height ? `${level.height}p` : 'audio';
    options.push(new Option(`${level.name || size} · ${Math.round(level.bitrate / 1000)} kbit/s`, String(index)));
  });
  quality.replaceChildren(...options);
  quality.value = String(wanted);
}

function select(level) {
  wanted = level;
  if (hls) hls.currentLevel = level;
  quality.value = String(level);
}

quality.addEventListener('change', () => select(Number(quality.value)));
unmute.addEventListener('click', () => { video.muted = false; unmute.hidden = true; play(); });

// Renditions come and go with their transcoders.
setInterval(async () => {
  if (state !== 'live') return;
  try {
    const now = await readMaster();
    if (now === variants) return;
    variants = now;
    wanted = -1;
    load();
  } catch {
    // The playlist of the rendition that plays says more than this one.
  }
}, MASTER_MS);

setInterval(() => {
  if (!hls || !video.videoWidth) return;
  const latency = Number.isFinite(hls.latency) ? `${hls.latency.toFixed(1)} s behind live` : '';
  const size = `${video.videoWidth}×${video.videoHeight}`;
  facts.textContent = [size, latency, stalls ? `${stalls} stalls` : ''].filter(Boolean).join(' · ');
}, 1000);

window.headwater = {
  get hls() { return hls; },
  select,
  stats: () => ({
    state,
    currentTime: video.currentTime,
    videoWidth: video.videoWidth,
    videoHeight: video.videoHeight,
    paused: video.paused,
    level: hls ? hls.currentLevel : -1,
    levels: hls ? hls.levels.map((level) => ({ name: level.name, width: level.width, height: level.height })) : [],
    latency: hls ? hls.latency : null,
    fatalErrors,
    stalls,
    errors: errors.slice(),
  }),
};

start();
