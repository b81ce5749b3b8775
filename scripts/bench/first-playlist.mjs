#!/usr/bin/env node
// Time from the start of an encoder to the first playable playlist, at the broadcaster and
// two hops away. Key frames every second. Uses target/release/headwater; 5 rounds.
//   cargo build --release --bin headwater && node scripts/bench/first-playlist.mjs
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const ROUNDS = 5;
const dir = mkdtempSync(join(tmpdir(), 'headwater-bench-'));
const children = [];

async function node(name, ...flags) {
  const child = spawn('target/release/headwater', ['--log', 'error', 'node', '--allow-private-dials',
    '--listen', '/ip4/127.0.0.1/tcp/0', '--http', '127.0.0.1:0', '--admin', '127.0.0.1:0',
    '--rtmp', '127.0.0.1:0', '--data-dir', join(dir, name), ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const said = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const [what, value] = line.split(/: (.*)/);
    said[what] ??= value;
    if (what === 'admin') break;
  }
  return said;
}

async function until(ask) {
  for (;;) {
    const answer = await ask().catch(() => undefined);
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const text = async (url) => {
  const response = await fetch(url);
  return response.ok ? response.text() : undefined;
};
const playlist = (base, manifest) => until(async () => {
  const body = await text(`${base}stream/${manifest}.source.m3u8`);
  return body?.includes('.m4s') ? body : undefined;
});

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

try {
  const relay = await node('relay', '--relayer');
  const viewer = await node('viewer', '--bootstrap', relay.listening);
  const own = [];
  const far = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const broadcaster = await node(`b${round}`, '--broadcaster', '--bootstrap', relay.listening);
    await until(async () => (await text(`${broadcaster.admin.replace('status', 'peers')}`))?.includes('relayer'));
    const began = performance.now();
    const encoder = spawn('ffmpeg', ['-v', 'error', '-re', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30',
      '-f', 'lavfi', '-i', 'sine=sample_rate=48000', '-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency',
      '-pix_fmt', 'yuv420p', '-g', '30', '-c:a', 'aac', '-f', 'flv', broadcaster['publish live']], { stdio: 'ignore' });
    children.push(encoder);
    const manifest = await until(async () => {
      const list = JSON.parse(await text(`${broadcaster.player}streams.json`));
      return list.streams[0]?.manifest;
    });
    const mine = (base, times) => playlist(base, manifest).then(() => times.push(performance.now() - began));
    await Promise.all([mine(broadcaster.player, own), mine(viewer.player, far)]);
    encoder.kill('SIGKILL');
  }
  console.log(`first playlist after the encoder's start, median of ${ROUNDS}:`);
  console.log(`at the broadcaster ${Math.round(median(own))} ms, at a viewer behind a relay ${Math.round(median(far))} ms`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
}
