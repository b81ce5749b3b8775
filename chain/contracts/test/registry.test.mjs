// Registration, stake and seats.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { NODE, World } from './world.mjs';

let world;
let ledger;
let one;
before(async () => {
  world = await World.start();
  one = await world.person('one');
});
after(() => world.stop());

test('a registration binds node, price and profiles to the account and its stake', async () => {
  ledger = await world.deploy();
  const events = await ledger.register(one, { profiles: ['720p', '480p'], stake: 150n, price: 9n });

  const { transcoder, node, price, stake, profiles } = events.named('Registered');
  assert.deepEqual([transcoder, node, price, stake], [one.address, NODE, 9n, 150n]);
  assert.deepEqual([...profiles], ['720p', '480p']);
  const kept = await ledger.read('transcoderOf', one.address);
  assert.deepEqual([...kept.terms], [150n, 9n]);
  assert.deepEqual([kept.node, kept.bonded, kept.seated], [NODE, 150n, true]);
});

test('a registration with too little stake, no node or too long texts is refused', async () => {
  ledger = await world.deploy();
  await ledger.refuses('StakeTooLow', one, 'register', [NODE, 1n, []], 99n);
  await ledger.refuses('NoNode', one, 'register', [`0x${'00'.repeat(32)}`, 1n, []], 100n);
  await ledger.refuses('TextTooLong', one, 'register', [NODE, 1n, Array(17).fill('p')], 100n);
  await ledger.refuses('TextTooLong', one, 'register', [NODE, 1n, ['p'.repeat(33)]], 100n);
  await ledger.register(one, { profiles: Array(16).fill('p'.repeat(32)) });
});

test('terms change once in the life of a seed; node and profiles at any time', async () => {
  ledger = await world.deploy();
  const { block } = await ledger.register(one);
  await ledger.refuses('ChangedTooRecently', one, 'register', [NODE, 4n, []]);
  await ledger.refuses('ChangedTooRecently', one, 'register', [NODE, 3n, []], 1n);
  await ledger.refuses('ChangedTooRecently', one, 'unregister');
  const other = `0x${'22'.repeat(32)}`;
  await ledger.send(one, 'register', [other, 3n, ['1080p']]);
  assert.equal((await ledger.read('transcoderOf', one.address)).node, other);

  await world.reach(block + 256n);
  await ledger.refuses('ChangedTooRecently', one, 'unregister');
  await ledger.send(one, 'register', [NODE, 4n, []], 50n);
  assert.deepEqual([...(await ledger.read('transcoderOf', one.address)).terms], [150n, 4n]);
});

test('stake comes back only after it was bonded for its time', async () => {
  ledger = await world.deploy();
  await ledger.refuses('NotRegistered', one, 'unregister');
  await ledger.refuses('NotRegistered', one, 'releaseStake');
  await ledger.register(one, { stake: 140n });
  await ledger.refuses('StillBonded', one, 'releaseStake');
  await world.mine(300);
  const left = await ledger.send(one, 'unregister');
  const { unbondsAt } = left.named('Unregistered');
  assert.equal(unbondsAt, left.block + 300n);
  await ledger.refuses('NotRegistered', one, 'unregister');
  await world.reach(unbondsAt - 1n);
  await ledger.refuses('StillBonded', one, 'releaseStake');
  await ledger.send(one, 'releaseStake');
  assert.equal(await ledger.read('balanceOf', one.address), 140n);
  await ledger.refuses('NotRegistered', one, 'releaseStake');

  await ledger.refuses('StakeTooLow', one, 'register', [NODE, 1n, []]);
  await ledger.register(one);
  assert.deepEqual([...(await ledger.read('seats'))], [one.address], 'one seat, not two');
});

test('one who left comes back with the stake that is still bonded', async () => {
  ledger = await world.deploy();
  await ledger.register(one);
  await world.mine(300);
  await ledger.send(one, 'unregister');
  await world.mine(300);
  await ledger.send(one, 'register', [NODE, 3n, []]);
  await ledger.refuses('StillBonded', one, 'releaseStake');
  assert.equal(await ledger.read('activeCount'), 1n);
});

test('seats are bounded; more stake displaces the least', async () => {
  ledger = await world.deploy();
  const people = await Promise.all(Array.from({ length: 70 }, (_, n) => world.person(`seat ${n}`)));
  for (const [n, each] of people.slice(0, 64).entries()) await ledger.register(each, { stake: 200n + BigInt(n) });
  const seats = await ledger.read('seats');
  assert.deepEqual([...seats], [...seats].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)));
  await ledger.refuses('SeatsTaken', people[64], 'register', [NODE, 3n, []], 10_000n);

  await world.mine(300);
  await ledger.refuses('SeatsTaken', people[64], 'register', [NODE, 3n, []], 200n);
  const displaced = (await ledger.register(people[64], { stake: 201n })).named('Unregistered');
  assert.deepEqual([displaced.transcoder, displaced.displaced], [people[0].address, true]);
  for (const each of people.slice(65, 70)) await ledger.register(each, { stake: 900n });
  assert.equal(await ledger.read('activeCount'), 64n);
  assert.equal((await ledger.read('seats')).length, 70, 'those displaced may still be elected by older seeds');

  await world.mine(300);
  await ledger.register(await world.person('seat 70'), { stake: 901n });
  assert.equal((await ledger.read('seats')).length, 70, 'a seat that was left is used again');
});

test('displacement stops where seats that were left cannot be used again yet; elections stay affordable', async () => {
  ledger = await world.deploy();
  const people = await Promise.all(Array.from({ length: 81 }, (_, n) => world.person(`seat ${n}`)));
  for (const each of people.slice(0, 64)) await ledger.register(each);
  await world.mine(300);
  for (const each of people.slice(64, 80)) await ledger.register(each, { stake: 101n });
  assert.equal((await ledger.read('seats')).length, 80);
  const broadcaster = await world.person('broadcaster');
  const jobId = await ledger.createJob(broadcaster);
  await world.mine(1);
  const { gas } = await ledger.send(broadcaster, 'assign', [jobId]);
  assert.ok(gas < 1_000_000, `an election over all seats costs ${gas} gas`);
  await ledger.refuses('SeatsTaken', people[80], 'register', [NODE, 3n, []], 10_000n);
  await world.mine(300);
  await ledger.register(people[80], { stake: 10_000n });
  assert.equal((await ledger.read('seats')).length, 80);
});

test('settings that make no sense are refused at the deployment', async () => {
  const bad = [{ minStake: 0n }, { unbondBlocks: 256n }, { ackBlocks: 0n }, { challengeBond: 0n }];
  for (const settings of bad) {
    await assert.rejects(world.deploy(settings), { reason: 'BadSettings' });
  }
  const settings = { ...(await world.deploy()).settings };
  assert.deepEqual((await ledger.read('settings')).toObject(), settings);
});
