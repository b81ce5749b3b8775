// Random sequences of calls: whatever happens, the ledger has what it owes, its events tell all, its refusals have
// names, and everybody gets out what is theirs. FUZZ_SEED and FUZZ_CALLS choose others than the usual ones.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Replay } from './replay.mjs';
import { NODE, Reverted, World } from './world.mjs';

const SEEDS = process.env.FUZZ_SEED ? [Number(process.env.FUZZ_SEED)] : [1, 2, 3];
const CALLS = Number(process.env.FUZZ_CALLS ?? 300);
const SHORT = { ackBlocks: 2n, jobBlocks: 90n, claimBlocks: 40n, challengeBlocks: 30n, answerBlocks: 15n, unbondBlocks: 257n };
const [OPEN, ASSIGNED, ACKNOWLEDGED, ENDED] = [1n, 2n, 3n, 4n];
let world;
before(async () => {
  world = await World.start();
});
after(() => world.stop());

/** Numbers below a bound, the same for the same seed (mulberry32). */
function randomness(seed) {
  let state = seed;
  const below = (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
  const pick = (list) => list[below(list.length)];
  return { below, pick };
}

/** One run: who takes part, what was claimed, and what may be done next. */
class Run {
  constructor(ledger, people, random) {
    Object.assign(this, { ledger, people, ...random, claims: [], replay: new Replay(ledger.settings), seen: 0n });
    this.done = new Map();
  }

  anyone() {
    return this.pick([...this.people.broadcasters, ...this.people.transcoders, this.people.watcher]);
  }

  /** Mostly a job in one of these states, sometimes any or none. */
  job(...states) {
    const fit = [...this.replay.jobs].filter(([, { state }]) => states.includes(state));
    if (fit.length > 0 && this.below(8) > 0) return this.pick(fit)[0];
    return BigInt(1 + this.below(this.replay.jobs.size + 1));
  }

  who(address) {
    const all = [...this.people.broadcasters, ...this.people.transcoders];
    return all.find((one) => one.address === address) ?? this.anyone();
  }

  /** Mostly who may do it, sometimes somebody. */
  mostly(address) {
    return this.below(8) === 0 ? this.anyone() : this.who(address);
  }

  /** Transcoders that were ever elected for the job. */
  worker(jobId) {
    const { transcoder, excluded } = this.replay.jobs.get(jobId) ?? { excluded: [] };
    return this.who(this.pick([transcoder, ...excluded]));
  }

  async call(who, name, args = [], value = 0n) {
    try {
      const events = await this.ledger.send(who, name, args, value);
      this.done.set(name, (this.done.get(name) ?? 0) + 1);
      return events;
    } catch (error) {
      if (!(error instanceof Reverted)) throw error;
      assert.ok(error.reason && error.reason !== 'Panic', `${name}(${args.join(', ')}): ${error.message}`);
      return null;
    }
  }

  async claim() {
    const jobId = this.job(ACKNOWLEDGED);
    const worker = this.worker(jobId);
    const job = this.replay.jobs.get(jobId);
    const signer = this.who(job?.broadcaster);
    const first = this.below(30);
    const receipts = Array.from({ length: 1 + this.below(6) }, (_, n) => {
      const forger = this.below(9) === 0 ? this.people.watcher : signer;
      const segment = this.below(9) === 0 ? first : first + n;
      return this.ledger.receipt(forger, worker, jobId, segment, job?.stream);
    });
    try {
      const made = await this.ledger.claim(worker, jobId, receipts, { last: first + 5, streamId: job?.stream });
      this.done.set('claimWork', (this.done.get('claimWork') ?? 0) + 1);
      this.claims.push({ ...made, count: receipts.length });
    } catch (error) {
      if (!error.reason) throw error;
      assert.notEqual(error.reason, 'Panic');
    }
  }

  async onClaim() {
    if (this.claims.length === 0) return;
    const pending = this.claims.filter(({ claimId }) => this.replay.claims.get(claimId)?.state === 1n);
    const made = this.pick(pending.length > 0 && this.below(8) > 0 ? pending : this.claims);
    const index = this.below(made.count);
    const { watcher } = this.people;
    const bond = this.ledger.settings.challengeBond;
    const opening = made.open(index);
    const same = ({ claimId, index: at, receipt }) =>
      receipt.segment === opening.receipt.segment && (claimId !== made.claimId || at !== index);
    const openings = this.claims.flatMap(({ open, count }) => Array.from({ length: count }, (_, n) => open(n)));
    const other = openings.find(same) ?? this.pick(openings);
    await this.pick([
      () => this.call(watcher, 'proveBad', [opening]),
      () => this.call(watcher, 'proveDouble', [opening, other]),
      () => this.call(this.anyone(), 'challenge', [made.claimId, index], bond),
      () => this.call(this.anyone(), 'challenge', [made.claimId, index], bond),
      () => this.call(this.anyone(), 'answer', [opening]),
      () => this.call(this.anyone(), 'answer', [opening]),
      () => this.call(this.anyone(), 'resolveChallenge', [made.claimId, index]),
      () => this.call(this.anyone(), 'settleClaim', [made.claimId]),
      () => this.call(this.anyone(), 'settleClaim', [made.claimId]),
    ])();
  }

  async step() {
    const jobId = this.job(OPEN, ASSIGNED, ACKNOWLEDGED);
    const job = this.replay.jobs.get(jobId);
    const elected = this.job(ASSIGNED);
    const ended = this.job(ENDED);
    const { broadcasters, transcoders } = this.people;
    const register = () => {
      const stake = BigInt(this.below(300));
      return this.call(this.pick(transcoders), 'register', [NODE, this.below(5), []], stake);
    };
    const create = () => {
      const stream = `stream ${this.below(4)}`;
      return this.call(this.pick(broadcasters), 'createJob', [stream, [], 3 + this.below(4)]);
    };
    const steps = [
      [2, () => this.call(this.anyone(), 'deposit', [], BigInt(this.below(400)))],
      [1, () => this.call(this.anyone(), 'withdraw', [this.below(200)])],
      [2, register],
      [1, () => this.call(this.pick(transcoders), 'unregister')],
      [1, () => this.call(this.pick(transcoders), 'releaseStake')],
      [3, create],
      [6, () => this.call(this.anyone(), 'assign', [this.job(OPEN)])],
      [5, () => this.call(this.mostly(this.replay.jobs.get(elected)?.transcoder), 'acknowledge', [elected])],
      [2, () => this.call(this.mostly(job?.broadcaster), 'reassign', [jobId])],
      [1, () => this.call(this.mostly(job?.broadcaster), 'extendJob', [jobId, this.below(4)])],
      [1, () => this.call(this.mostly(job?.broadcaster), this.pick(['endJob', 'cancelJob']), [jobId])],
      [1, () => this.call(this.anyone(), 'expireJob', [jobId])],
      [1, () => this.call(this.anyone(), 'releaseReserve', [ended])],
      [6, () => this.claim()],
      [16, () => this.onClaim()],
      [2, () => world.mine(1 + this.below(6))],
    ];
    if (this.below(60) === 0) return world.mine(258);
    let at = this.below(steps.reduce((sum, [weight]) => sum + weight, 0));
    return steps.find(([weight]) => (at -= weight) < 0)[1]();
  }

  /** Reads new events and compares what they add up to with what the contract has. */
  async check() {
    const height = await world.height();
    const news = height > this.seen ? await this.ledger.events(this.seen + 1n) : [];
    for (const event of news) {
      this.replay.apply(event);
      if (event.name === 'JobCreated') this.replay.jobs.get(event.args.jobId).stream = event.args.streamId;
    }
    this.seen = height;
    const held = BigInt(await world.rpc('eth_getBalance', this.ledger.address, 'latest'));
    assert.equal(held, this.replay.total());
    assert.deepEqual(this.replay.faults, []);
  }

  /** Compares the state told by events with the contract's own. */
  async compare() {
    const { replay, ledger } = this;
    for (const [account, balance] of replay.balances) assert.equal(await ledger.read('balanceOf', account), balance);
    for (const [account, told] of replay.transcoders) {
      const kept = await ledger.read('transcoderOf', account);
      assert.deepEqual([kept.bonded, kept.terms.stake], [told.stake, told.active ? told.stake : 0n]);
      assert.deepEqual([kept.node, told.active ? kept.terms.price : told.price], [told.node, told.price]);
    }
    for (const [jobId, told] of replay.jobs) {
      const kept = (await ledger.read('jobOf', jobId)).toObject();
      for (const name of ['broadcaster', 'streamHash', 'maxPrice', 'reserved', 'expiresAt', 'state', 'round']) {
        assert.equal(kept[name], told[name], `${name} of job ${jobId}`);
      }
      assert.deepEqual([kept.transcoder, kept.seedBlock], [told.transcoder, told.seedBlock]);
      assert.deepEqual([...(await ledger.read('excludedOf', jobId))], told.excluded);
    }
    for (const [claimId, told] of replay.claims) {
      const kept = await ledger.read('claimOf', claimId);
      assert.deepEqual([kept.state, kept.amount, kept.settlesAt], [told.state, told.amount, told.settlesAt]);
    }
    assert.equal(await ledger.read('burned'), replay.burned);
    const seats = [...(await ledger.read('seats'))];
    assert.deepEqual(seats, seats.toSorted((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)));
    const active = [...replay.transcoders.values()].filter((one) => one.active).length;
    assert.equal(await ledger.read('activeCount'), BigInt(active));
  }

  /** Ends everything and pays everybody. */
  async windDown() {
    const { watcher } = this.people;
    for (const jobId of this.replay.jobs.keys()) {
      if (this.replay.jobs.get(jobId).state !== 4n) {
        await this.ledger.send(this.who(this.replay.jobs.get(jobId).broadcaster), 'endJob', [jobId]);
      }
    }
    await world.mine(300);
    for (const { claimId, count } of this.claims) {
      for (let index = 0; index < count; index += 1) await this.call(watcher, 'resolveChallenge', [claimId, index]);
      await this.call(watcher, 'settleClaim', [claimId]);
    }
    for (const jobId of this.replay.jobs.keys()) await this.call(watcher, 'releaseReserve', [jobId]);
    for (const one of this.people.transcoders) await this.call(one, 'unregister');
    await world.mine(300);
    for (const one of this.people.transcoders) await this.call(one, 'releaseStake');
    for (const one of [...this.people.broadcasters, ...this.people.transcoders, watcher]) {
      await this.ledger.send(one, 'withdraw', [await this.ledger.read('balanceOf', one.address)]);
    }
  }
}

const succeeded = new Map();
for (const seed of SEEDS) {
  test(`after any sequence of calls sums are conserved and all get what is theirs (seed ${seed})`, async () => {
    const people = {
      broadcasters: [await world.person('broadcaster 1'), await world.person('broadcaster 2')],
      transcoders: await Promise.all([1, 2, 3, 4, 5].map((n) => world.person(`transcoder ${n}`))),
      watcher: await world.person('watcher'),
    };
    const run = new Run(await world.deploy(SHORT), people, randomness(seed));
    for (const one of people.transcoders.slice(0, 3)) await run.ledger.register(one, { stake: 200n });
    for (const one of people.broadcasters) await run.ledger.send(one, 'deposit', [], 2000n);
    for (let n = 0; n < CALLS; n += 1) {
      await run.step();
      await run.check();
    }
    await run.compare();
    const happened = Object.fromEntries(run.done);
    for (const name of ['createJob', 'assign', 'acknowledge', 'claimWork']) {
      assert.ok(happened[name] > 0, `${name} never succeeded: ${JSON.stringify(happened)}`);
    }
    assert.ok(run.replay.elections > 0);
    for (const [name, times] of run.done) succeeded.set(name, (succeeded.get(name) ?? 0) + times);

    await run.windDown();
    await run.check();
    await run.compare();
    const held = BigInt(await world.rpc('eth_getBalance', run.ledger.address, 'latest'));
    assert.equal(held, run.replay.burned, 'only what was burned stays');
    if (process.env.FUZZ_SEED) console.log(happened, 'elections', run.replay.elections);
  });
}

test('the sequences reach what they are meant to test', () => {
  for (const name of ['reassign', 'endJob', 'challenge', 'settleClaim']) {
    assert.ok(succeeded.get(name) > 0, `${name}: ${JSON.stringify(Object.fromEntries(succeeded))}`);
  }
  const slashes = ['proveBad', 'proveDouble', 'resolveChallenge'].map((name) => succeeded.get(name) ?? 0);
  assert.ok(slashes.some((times) => times > 0), 'a claim was slashed');
});
