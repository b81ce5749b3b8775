// A chain for development: anvil, the contract, money, keys. Runs until it is told to stop.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Contract, ContractFactory, HDNodeWallet, JsonRpcProvider, encryptKeystoreJson, formatEther, parseEther } from 'ethers';
import { startAnvil } from './anvil.mjs';

// The mnemonic of every development chain.
const MNEMONIC = 'test test test test test test test test test test test junk';
const SETTINGS = {
  minStake: parseEther('1'),
  challengeBond: parseEther('0.001'),
  reserveSegments: 1800,
  ackBlocks: 10,
  jobBlocks: 7200,
  claimBlocks: 600,
  challengeBlocks: 60,
  answerBlocks: 30,
  unbondBlocks: 300,
};
const DEPOSIT = parseEther('10');
const PASSWORD = 'devchain';

function options() {
  const text = { type: 'string' };
  const names = { port: text, 'block-time': text, dir: text, state: text, node: text, price: text };
  const { values } = parseArgs({ options: names });
  const number = (name, otherwise) => {
    const value = values[name] ?? otherwise;
    if (!/^\d+$/.test(value)) throw new Error(`--${name} is a whole number`);
    return value;
  };
  if (!values.dir) throw new Error('--dir is needed');
  if (values.node && !/^(0x)?[0-9a-fA-F]{64}$/.test(values.node)) throw new Error('--node is 64 hex digits');
  return {
    port: number('port', '8545'),
    blockTime: number('block-time', '1'),
    price: BigInt(number('price', '1000')),
    dir: resolve(values.dir),
    state: values.state && resolve(values.state),
    node: values.node && `0x${values.node.replace(/^0x/, '')}`,
  };
}

const account = (n, provider) => HDNodeWallet.fromPhrase(MNEMONIC, '', `m/44'/60'/0'/0/${n}`).connect(provider);

/** The contract, put there now unless the chain has it from an earlier run. */
async function contract(dir, owner) {
  const { abi, bytecode } = JSON.parse(readFileSync(new URL('../artifacts/Headwater.json', import.meta.url)));
  const file = join(dir, 'contract');
  if (existsSync(file)) {
    const address = readFileSync(file, 'utf8').trim();
    if ((await owner.provider.getCode(address)) !== '0x') return new Contract(address, abi, owner);
  }
  const made = await new ContractFactory(abi, bytecode, owner).deploy(SETTINGS);
  await made.waitForDeployment();
  writeFileSync(file, `${await made.getAddress()}\n`);
  return new Contract(await made.getAddress(), abi, owner);
}

async function keystore(dir, name, wallet) {
  const path = join(dir, `${name}.json`);
  // Scrypt as light as it goes: the key is known to everyone.
  const text = await encryptKeystoreJson(wallet, PASSWORD, { scrypt: { N: 1024, r: 8, p: 1 } });
  // Ethers writes `Crypto`, geth and everybody else `crypto`.
  const { Crypto: crypto, ...rest } = JSON.parse(text);
  writeFileSync(path, `${JSON.stringify({ ...rest, crypto })}\n`, { mode: 0o600 });
  return path;
}

async function prepare({ dir, node, price }, url) {
  const provider = new JsonRpcProvider(`http://${url}`, undefined, { cacheTimeout: -1, pollingInterval: 100 });
  try {
    const [owner, broadcaster, transcoder] = [0, 1, 2].map((n) => account(n, provider));
    const ledger = await contract(dir, owner);
    if ((await ledger.balanceOf(broadcaster.address)) === 0n) {
      await (await ledger.connect(broadcaster).deposit({ value: DEPOSIT })).wait();
    }
    if (node) {
      const { bonded } = await ledger.transcoderOf(transcoder.address);
      const value = bonded >= SETTINGS.minStake ? 0n : SETTINGS.minStake;
      await (await ledger.connect(transcoder).register(node, price, [], { value })).wait();
    }
    const password = join(dir, 'password');
    writeFileSync(password, `${PASSWORD}\n`, { mode: 0o600 });
    const flags = async (name, wallet) =>
      `--ledger ws://${url} --contract ${ledger.target} ` +
      `--keystore ${await keystore(dir, name, wallet)} --password-file ${password}`;
    console.log(`chain:       http://${url} and ws://${url}, id ${(await provider.getNetwork()).chainId}`);
    console.log(`contract:    ${ledger.target}`);
    console.log(`broadcaster: ${broadcaster.address}, ${formatEther(await ledger.balanceOf(broadcaster.address))} deposited`);
    console.log(`transcoder:  ${transcoder.address}${node ? `, registered for node ${node}` : ''}`);
    console.log(`\nbroadcaster's flags:\n  ${await flags('broadcaster', broadcaster)}`);
    console.log(`transcoder's flags:\n  ${await flags('transcoder', transcoder)}`);
    console.log('\nready; Ctrl-C ends the chain');
  } finally {
    provider.destroy();
  }
}

async function main() {
  const set = options();
  mkdirSync(set.dir, { recursive: true });
  const args = ['--port', set.port, '--mnemonic', MNEMONIC];
  if (set.blockTime !== '0') args.push('--block-time', set.blockTime);
  if (set.state) args.push('--state', set.state);
  const anvil = await startAnvil(args);
  let stopping = false;
  const stop = () => {
    stopping = true;
    anvil.stop();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    await prepare(set, anvil.url);
  } catch (error) {
    await anvil.stop();
    if (stopping) return;
    throw error;
  }
  const code = await anvil.exited;
  if (!stopping) throw new Error(`anvil ended with ${code}`);
}

main().catch((error) => {
  console.error(`devchain: ${error.message}`);
  process.exitCode = 1;
});
