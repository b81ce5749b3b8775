// The contract elects whom the job book elects.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { elect } from './receipts.mjs';
import { NODE, World, ZERO_ADDRESS, person } from './world.mjs';

let world;
before(async () => {
  world = await World.start();
});
after(() => world.stop());

async function ledgerWith(candidates) {
  const ledger = await world.deploy({ minStake: 1n });
  for (const { address, price, stake } of candidates) {
    await world.fund(address, stake + 10n ** 18n);
    await ledger.send(address, 'register', [NODE, price, []], stake);
  }
  return ledger;
}

test('known seeds have the winners that election.rs knows', async () => {
  const golden = [3, 2, 2, 2, 1, 1, 1, 3, 1, 2, 3, 1];
  const account = (n) => `0x${n.toString(16).padStart(2, '0').repeat(20)}`;
  const candidates = [1, 2, 3].map((n) => ({ address: account(n), price: 5n, stake: BigInt(n) * 10n }));
  const ledger = await ledgerWith(candidates.toReversed());
  const later = (await world.height()) + 1n;

  for (const [seed, winner] of golden.entries()) {
    const word = `0x${seed.toString(16).padStart(2, '0').repeat(32)}`;
    const [elected, price] = await ledger.read('elect', word, 0, 5n, later, []);
    assert.equal(elected, account(winner), `seed ${seed}`);
    assert.equal(price, 5n);
  }
});

test('vectors made by election.rs give the same winners', async () => {
  const cases = JSON.parse(readFileSync(new URL('election-vectors.json', import.meta.url)));
  let draws = 0;
  for (const each of cases) {
    const candidates = each.candidates.map(({ address, price, stake }) => ({
      address,
      price: BigInt(price),
      stake: BigInt(stake),
    }));
    const ledger = await ledgerWith(candidates);
    const later = (await world.height()) + 1n;
    for (const { seed, round, maxPrice, excluded, winner } of each.draws) {
      const [elected] = await ledger.read('elect', seed, round, maxPrice, later, excluded);
      assert.equal(elected, winner ?? ZERO_ADDRESS);
      assert.equal(elect(seed, round, BigInt(maxPrice), candidates, excluded), winner, 'the rule in JavaScript');
      draws += 1;
    }
  }
  assert.equal(draws, 100);
});

test('a job goes to whom the hash of the block after it elects', async () => {
  const people = ['a', 'b', 'c', 'd'].map((name) => person(`elected ${name}`));
  const candidates = people.map(({ address }, n) => ({ address, price: BigInt(n), stake: 100n * BigInt(n + 1) }));
  const ledger = await ledgerWith(candidates);
  const broadcaster = await world.person('broadcaster');
  for (let n = 0; n < 12; n += 1) {
    const maxPrice = BigInt(n % 4);
    const jobId = await ledger.createJob(broadcaster, `stream ${n}`, maxPrice);
    const createdAt = (await ledger.read('jobOf', jobId)).createdAt;
    const { transcoder, seed, seedBlock, round, price } = await ledger.assign(jobId);
    const block = await world.rpc('eth_getBlockByNumber', `0x${seedBlock.toString(16)}`, false);

    assert.equal(seedBlock, createdAt + 1n);
    assert.equal(seed, block.hash);
    assert.equal(round, 0n);
    assert.equal(transcoder, elect(seed, 0, maxPrice, candidates, []));
    assert.equal(price, candidates.find(({ address }) => address === transcoder).price);
  }
});

test('who joins, raises, cuts or leaves once the seed can be known changes nothing', async () => {
  const [one, two, late] = await Promise.all(['one', 'two', 'late'].map((name) => world.person(name)));
  const ledger = await world.deploy();
  await ledger.register(one, { stake: 500n, price: 2n });
  await ledger.register(two, { stake: 300n, price: 3n });
  await world.mine(300);
  const broadcaster = await world.person('broadcaster');
  const jobId = await ledger.createJob(broadcaster);
  const { seedBlock } = await ledger.read('jobOf', jobId);
  await world.reach(seedBlock + 1n);
  await ledger.register(late, { stake: 10n ** 20n });
  await ledger.register(one, { stake: 10n ** 20n, price: 1n });
  await ledger.send(two, 'unregister');
  const { transcoder, seed, price } = await ledger.assign(jobId);

  const then = [
    { address: one.address, stake: 500n, price: 2n },
    { address: two.address, stake: 300n, price: 3n },
  ];
  assert.equal(transcoder, elect(seed, 0, 5n, then, []));
  assert.equal(price, then.find(({ address }) => address === transcoder).price);
  const now = (await world.height()) + 1n;
  for (let n = 0; n < 20; n += 1) {
    const [elected] = await ledger.read('elect', `0x${n.toString(16).padStart(64, '0')}`, 0, 5n, now, []);
    assert.notEqual(elected, two.address, 'who left is elected by no later seed');
  }
});

test('a seed whose hash is gone is replaced by a later one', async () => {
  const ledger = await world.deploy();
  await ledger.register(await world.person('one'));
  const jobId = await ledger.createJob(await world.person('broadcaster'));
  const { seedBlock } = await ledger.read('jobOf', jobId);
  await world.reach(seedBlock + 257n);

  const events = await ledger.send(person('deployer'), 'assign', [jobId]);

  assert.equal(events.named('JobAssigned'), undefined);
  assert.equal(events.named('SeedChosen').seedBlock, events.block + 1n);
  assert.equal((await ledger.assign(jobId)).transcoder, person('one').address);
});

test('the last block in which a hash can be read still elects by it', async () => {
  const ledger = await world.deploy();
  await ledger.register(await world.person('one'));
  const jobId = await ledger.createJob(await world.person('broadcaster'));
  const { seedBlock } = await ledger.read('jobOf', jobId);
  await world.reach(seedBlock + 256n);
  const events = await ledger.send(person('deployer'), 'assign', [jobId]);
  assert.equal(events.named('JobAssigned').seedBlock, seedBlock);
});

test('nobody is elected before the seed is mined, or when all are too dear', async () => {
  const ledger = await world.deploy();
  await ledger.register(await world.person('one'), { price: 6n });
  const jobId = await ledger.createJob(await world.person('broadcaster'));
  await ledger.refuses('SeedNotMined', person('deployer'), 'assign', [jobId]);
  assert.equal(await ledger.assign(jobId), undefined);
  assert.equal((await ledger.read('jobOf', jobId)).round, 0n);

  await ledger.register(await world.person('two'), { price: 5n });
  await world.mine(1);
  assert.equal(await ledger.assign(jobId), undefined, 'the seed was chosen before the second came');
  assert.equal((await ledger.assign(jobId)).transcoder, person('two').address);
});
