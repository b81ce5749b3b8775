// The development chain: what it prints is true, and nothing of it is left.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Contract, JsonRpcProvider, decryptKeystoreJson } from 'ethers';
import { NODE, ledgerAbi } from './world.mjs';

const program = fileURLToPath(new URL('../tools/devchain.mjs', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'headwater-devchain-'));
const running = new Set();
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(dir, { recursive: true });
});

async function start(...args) {
  const child = spawn(process.execPath, [program, '--port', '0', '--block-time', '0', '--dir', dir, ...args]);
  running.add(child);
  let [text, errors] = ['', ''];
  child.stderr.on('data', (data) => (errors += data));
  const gone = new Promise((resolve) => child.once('exit', resolve)).finally(() => running.delete(child));
  await new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      text += data;
      if (text.includes('ready;')) resolve();
    });
    gone.then((code) => reject(new Error(`ended with ${code}: ${errors}`)));
  });
  const found = (pattern) => pattern.exec(text)?.[1];
  const provider = new JsonRpcProvider(found(/chain: +(\S+)/), 31337, { staticNetwork: true, cacheTimeout: -1 });
  const stop = async () => {
    provider.destroy();
    child.kill('SIGTERM');
    return gone;
  };
  return { text, found, provider, stop, ledger: new Contract(found(/contract: +(\S+)/), ledgerAbi, provider) };
}

test('it prints flags with keys that fit, and keeps its state when asked to', async () => {
  const state = join(dir, 'state.json');
  const first = await start('--state', state, '--node', NODE.slice(2), '--price', '12');
  const keystores = [...first.text.matchAll(/--keystore (\S+) --password-file (\S+)/g)];
  assert.equal(keystores.length, 2);
  const addresses = keystores.map(([, file, password]) => {
    const text = readFileSync(password, 'utf8').trim();
    return decryptKeystoreJson(readFileSync(file, 'utf8'), text);
  });
  const [broadcaster, transcoder] = (await Promise.all(addresses)).map(({ address }) => address);
  assert.ok((await first.ledger.balanceOf(broadcaster)) > 0n);
  const registered = await first.ledger.transcoderOf(transcoder);
  assert.deepEqual([registered.node, registered.terms.price], [NODE, 12n]);
  const url = `http://${first.found(/ws:\/\/(\S+),/)}`;
  assert.equal(await first.stop(), 0);
  await assert.rejects(fetch(url), 'the chain is gone');

  const second = await start('--state', state);
  assert.equal(second.ledger.target, first.ledger.target);
  assert.equal((await second.ledger.transcoderOf(transcoder)).node, NODE);
  assert.equal(await second.stop(), 0);
});

test('a flag that makes no sense is named', async () => {
  for (const [flag, value] of [['--node', 'zz'], ['--price', '-1'], ['--blocks', '3']]) {
    await assert.rejects(start(`${flag}=${value}`), new RegExp(flag));
  }
});
