// Starts a development chain and stops it again.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

/** The program itself rather than its npm wrapper, so that the process that is stopped is the chain. */
function program() {
  const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch];
  const exe = process.platform === 'win32' ? 'anvil.exe' : 'anvil';
  return createRequire(import.meta.url).resolve(`@foundry-rs/anvil-${process.platform}-${arch}/bin/${exe}`);
}

/**
 * Runs anvil with the given arguments. `url` is where it listens, `exited` resolves to its exit code, `stop` ends it
 * and waits until it is gone.
 */
export async function startAnvil(args = []) {
  const child = spawn(program(), ['--host', '127.0.0.1', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  const failed = new Promise((_, reject) => child.once('error', reject));
  const port = new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (data) => {
      if (text === null) return;
      text += data;
      const found = /Listening on [^:\s]+:(\d+)/.exec(text);
      if (!found) return;
      text = null;
      resolve(found[1]);
    });
    exited.then((code) => reject(new Error(`anvil ended with ${code} before it listened: ${text}`)));
  });
  const kill = () => child.kill();
  process.once('exit', kill);
  const stop = async () => {
    process.off('exit', kill);
    child.kill();
    await exited;
  };
  return { url: `127.0.0.1:${await Promise.race([port, failed])}`, exited, stop };
}
