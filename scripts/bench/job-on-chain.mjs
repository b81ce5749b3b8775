#!/usr/bin/env node
// From the block that assigns a job, on a real chain with a block each second, to the first
// part at its transcoder. Uses target/debug/headwater unless told otherwise; 10 rounds.
//   cargo build --bin headwater && scripts/contracts install && node scripts/bench/job-on-chain.mjs [PROGRAM]
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const ROUNDS = 10;
const PRICE = '1000';
const program = process.argv[2] ?? 'target/debug/headwater';
const contracts = resolve('chain/contracts');
const { keccak_256: keccak } = createRequire(join(contracts, 'x.js'))('@noble/hashes/sha3');
// Accounts of every development chain.
const KEYS = ['0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d'];
const dir = mkdtempSync(join(tmpdir(), 'headwater-bench-'));
const children = [];

function start(command, args, env = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  children.push(child);
  return child;
}

async function first(stream, wanted) {
  const lines = createInterface({ input: stream });
  for await (const line of lines) {
    const found = wanted(line);
    if (found !== undefined) {
      stream.resume();
      return found;
    }
  }
  throw new Error('it ended');
}

async function until(ask) {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

const events = JSON.parse(readFileSync(join(contracts, 'artifacts/Headwater.json'))).abi;
const assigned = events.find((entry) => entry.type === 'event' && entry.name === 'JobAssigned');
const signature = `JobAssigned(${assigned.inputs.map((input) => input.type).join(',')})`;
const topic = `0x${Buffer.from(keccak(Buffer.from(signature))).toString('hex')}`;

try {
  const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const anvil = start(join(contracts, `node_modules/@foundry-rs/anvil-linux-${arch}/bin/anvil`),
    ['--host', '127.0.0.1', '--port', '0', '--block-time', '1']);
  const at = await first(anvil.stdout, (line) => line.match(/Listening on (.*)/)?.[1]);
  const rpc = async (method, params) => {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
    const response = await fetch(`http://${at}`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
    return (await response.json()).result;
  };
  const run = (key, ...args) => JSON.parse(execFileSync(program,
    [...args, '--json', '--ledger', `ws://${at}`], { env: { ...process.env, HEADWATER_PRIVATE_KEY: key }, stdio: ['ignore', 'pipe', 'ignore'] }));
  const { contract } = run(KEYS[0], 'ledger', 'deploy', '--yes');
  const place = ['--contract', contract, '--confirmations', '0'];
  run(KEYS[0], 'ledger', 'deposit', '1000000000000000000', '--yes', ...place);

  const node = async (name, key, ...flags) => {
    const child = start(program, ['--log', 'info', 'node', '--allow-private-dials', '--listen', '/ip4/127.0.0.1/tcp/0',
      '--http', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--rtmp', '127.0.0.1:0', '--data-dir', join(dir, name), ...flags],
    key ? { HEADWATER_PRIVATE_KEY: key } : {});
    const log = [];
    createInterface({ input: child.stderr }).on('line', (line) => log.push([performance.now(), line]));
    const said = {};
    await first(child.stdout, (line) => {
      const [what, value] = line.split(/: (.*)/);
      said[what] ??= value;
      return what === 'admin' ? true : undefined;
    });
    return { ...said, log };
  };
  const ledger = ['--ledger', `ws://${at}`, ...place];
  const relay = await node('relay', undefined, '--relayer');
  const join_ = ['--bootstrap', relay.listening];
  const transcoder = await node('transcoder', KEYS[1], '--transcoder', '--ladder', '144p', ...join_, ...ledger);
  run(KEYS[1], 'ledger', 'register', '--yes', '--node', transcoder.node, '--price', PRICE, ...place);
  const broadcaster = await node('broadcaster', KEYS[0], '--broadcaster', '--create-jobs', '--max-price', PRICE,
    '--reconnect-window', '0s', ...join_, ...ledger);

  const [seen, part] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    const from = transcoder.log.length;
    const head = await rpc('eth_blockNumber', []);
    const encoder = start('ffmpeg', ['-v', 'error', '-re', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30',
      '-f', 'lavfi', '-i', 'sine=sample_rate=48000', '-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency',
      '-pix_fmt', 'yuv420p', '-g', '30', '-c:a', 'aac', '-f', 'flv', broadcaster['publish live']]);
    const filter = [{ address: contract, fromBlock: `0x${(Number(head) + 1).toString(16)}`, topics: [topic] }];
    const block = await until(async () => ((await rpc('eth_getLogs', filter))?.length > 0 ? performance.now() : undefined));
    const said = (words) => until(async () => transcoder.log.slice(from).find(([, line]) => line.includes(words))?.[0]);
    seen.push(await said('job starts') - block);
    part.push(await said('the source comes') - block);
    encoder.kill('SIGKILL');
    await said('job is over');
  }
  const told = (times) => `median ${Math.round(median(times))} ms, worst ${Math.round(Math.max(...times))} ms`;
  console.log(`after the block of the assignment, ${ROUNDS} rounds, one block a second:`);
  console.log(`job seen ${told(seen)}; first part at the transcoder ${told(part)}`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
}
