// A ledger on a chain of its own, and what tests do with it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Interface, JsonRpcProvider, SigningKey, computeAddress, id, keccak256, toQuantity } from 'ethers';
import { startAnvil } from '../tools/anvil.mjs';
import { compile } from '../tools/compile.mjs';
import { leaf, signReceipt, tree } from './receipts.mjs';

const { abi, bytecode } = JSON.parse(readFileSync(new URL('../artifacts/Headwater.json', import.meta.url)));
export const ledgerAbi = new Interface(abi);
export const NODE = `0x${'11'.repeat(32)}`;
export const ZERO_ADDRESS = `0x${'00'.repeat(20)}`;
export const EVERYBODY = 10n ** 24n;

/** Windows that differ from each other, so that a test notices when one stands in for another. */
export const SETTINGS = {
  minStake: 100n,
  challengeBond: 7n,
  reserveSegments: 20n,
  ackBlocks: 5n,
  jobBlocks: 400n,
  claimBlocks: 30n,
  challengeBlocks: 15n,
  answerBlocks: 10n,
  unbondBlocks: 300n,
};
const tuple = (settings) => Object.keys(SETTINGS).map((name) => settings[name]);

/** A key whose account has money. The name is all that makes it. */
export function person(name) {
  const key = new SigningKey(id(name));
  return { key, address: computeAddress(key) };
}

export class World {
  static async start() {
    const anvil = await startAnvil(['--port', '0', '--auto-impersonate']);
    const provider = new JsonRpcProvider(`http://${anvil.url}`, 31337, {
      staticNetwork: true,
      cacheTimeout: -1,
      batchMaxCount: 100,
    });
    const world = new World();
    Object.assign(world, { anvil, provider });
    return world;
  }

  async stop() {
    this.provider.destroy();
    await this.anvil.stop();
  }

  rpc(method, ...params) {
    return this.provider.send(method, params);
  }

  fund(address, amount = EVERYBODY) {
    return this.rpc('anvil_setBalance', address, toQuantity(amount));
  }

  async person(name) {
    const one = person(name);
    await this.fund(one.address);
    return one;
  }

  /** Sends a transaction; gives its receipt, or throws a Reverted with what the contract said. */
  async transact({ from, to, data, value = 0n }) {
    const hash = await this.rpc('eth_sendTransaction', {
      from,
      ...(to && { to }),
      data,
      value: toQuantity(value),
      gas: toQuantity(to ? 8_000_000 : 12_000_000),
    });
    const receipt = await this.mined(hash);
    if (receipt.status === '0x1') return receipt;
    const trace = await this.rpc('debug_traceTransaction', hash, { tracer: 'callTracer' });
    throw new Reverted(trace.output ?? '0x');
  }

  /** The receipt of a transaction, as soon as it is in a block. */
  async mined(hash) {
    for (;;) {
      const receipt = await this.rpc('eth_getTransactionReceipt', hash);
      if (receipt) return receipt;
      // The chain answers once a block is made, which is at once.
      await new Promise(setImmediate);
    }
  }

  /** Deploys a contract; gives its address. */
  async create(abi, code, args) {
    const from = person('deployer').address;
    await this.fund(from);
    const data = code + abi.encodeDeploy(args).slice(2);
    return (await this.transact({ from, data })).contractAddress;
  }

  async deploy(settings = {}) {
    const set = { ...SETTINGS, ...settings };
    return new LedgerClient(this, await this.create(ledgerAbi, bytecode, [tuple(set)]), set);
  }

  /** Deploys a contract of the tests. */
  async attacker(name, args) {
    const made = compile('test')[`test/${name}.sol`][name];
    const abi = new Interface(made.abi);
    const address = await this.create(abi, `0x${made.evm.bytecode.object}`, args);
    return { abi, address };
  }

  mine(blocks) {
    return this.rpc('anvil_mine', toQuantity(blocks));
  }

  async height() {
    return BigInt(await this.rpc('eth_blockNumber'));
  }

  /** Mines until the next transaction is in this block. */
  async reach(block) {
    const missing = BigInt(block) - 1n - (await this.height());
    assert.ok(missing >= 0n, `block ${block} is over`);
    if (missing > 0n) await this.mine(missing);
  }
}

export class Reverted extends Error {
  constructor(data) {
    const error = data === '0x' ? null : ledgerAbi.parseError(data);
    super(error ? `${error.name}(${error.args.join(', ')})` : `reverted with ${data}`);
    this.reason = error?.name;
  }
}

/** One deployed ledger. */
export class LedgerClient {
  constructor(world, address, settings) {
    Object.assign(this, { world, address, settings });
    this.domain = { name: 'Headwater', version: '1', chainId: 31337, verifyingContract: address };
  }

  /** Calls a function as somebody; gives the events. */
  async send(who, name, args = [], value = 0n) {
    const data = ledgerAbi.encodeFunctionData(name, args);
    const from = who.address ?? who;
    const receipt = await this.world.transact({ from, to: this.address, data, value });
    const events = receipt.logs.map((log) => ledgerAbi.parseLog(log));
    return Object.assign(events, {
      block: BigInt(receipt.blockNumber),
      gas: Number(receipt.gasUsed),
      named: (event) => events.find((each) => each.name === event)?.args,
    });
  }

  async read(name, ...args) {
    const data = ledgerAbi.encodeFunctionData(name, args);
    const result = ledgerAbi.decodeFunctionResult(
      name,
      await this.world.rpc('eth_call', { to: this.address, data }, 'latest'),
    );
    return result.length === 1 ? result[0] : result;
  }

  /** Fails unless the call is refused for this reason. */
  async refuses(reason, who, name, args = [], value = 0n) {
    await assert.rejects(this.send(who, name, args, value), (error) => {
      assert.equal(error.reason, reason, error.message);
      return true;
    });
  }

  /** All events from a block on. */
  async events(from) {
    const filter = { address: this.address, fromBlock: toQuantity(from), toBlock: 'latest' };
    const logs = await this.world.rpc('eth_getLogs', filter);
    return logs.map((log) => ({ ...parsed(log), block: BigInt(log.blockNumber) }));
  }

  register(who, { price = 3n, stake = this.settings.minStake, node = NODE, profiles = [] } = {}) {
    return this.send(who, 'register', [node, price, profiles], stake);
  }

  /** Creates a job whose reserve is deposited before. */
  async createJob(who, streamId = 'stream', maxPrice = 5n, profiles = ['720p']) {
    const reserve = maxPrice * this.settings.reserveSegments;
    if (reserve > 0n) await this.send(who, 'deposit', [], reserve);
    return (await this.send(who, 'createJob', [streamId, profiles, maxPrice])).named('JobCreated').jobId;
  }

  /** Assigns a job as soon as it can be; gives the event, if anyone was elected. */
  async assign(jobId, who = person('deployer')) {
    const { seedBlock } = await this.read('jobOf', jobId);
    if ((await this.world.height()) < seedBlock) await this.world.reach(seedBlock + 1n);
    return (await this.send(who, 'assign', [jobId])).named('JobAssigned');
  }

  receipt(broadcaster, transcoder, jobId, segment, streamId = 'stream') {
    return signReceipt(this.domain, broadcaster.key, {
      jobId,
      transcoder: transcoder.address,
      streamId,
      segment,
      sourceHash: keccak256(id(`source ${segment}`)),
      renditionsHash: keccak256(id(`renditions ${segment}`)),
    });
  }

  /** Claims receipts; gives the claim's number and how to open it. */
  async claim(who, jobId, receipts, { streamId = 'stream', first, last } = {}) {
    const made = tree(receipts.map((receipt) => leaf(streamId, receipt)));
    const numbers = receipts.map(({ segment }) => segment);
    const from = first ?? Math.min(...numbers);
    const to = last ?? Math.max(...numbers);
    const args = [jobId, made.root, from, to, receipts.length];
    const { claimId, settlesAt } = (await this.send(who, 'claimWork', args)).named('WorkClaimed');
    const open = (index) => ({ claimId, index, receipt: receipts[index], proof: made.proof(index) });
    return { claimId, settlesAt, open, root: made.root };
  }
}

function parsed(log) {
  const { name, args } = ledgerAbi.parseLog(log);
  return { name, args };
}
