// The life of a job.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { id } from 'ethers';
import { World, ZERO_ADDRESS } from './world.mjs';

const [OPEN, ASSIGNED, ACKNOWLEDGED, ENDED] = [1n, 2n, 3n, 4n];
let world;
let ledger;
let broadcaster;
let transcoders;
let stranger;
before(async () => {
  world = await World.start();
  broadcaster = await world.person('broadcaster');
  stranger = await world.person('stranger');
  transcoders = await Promise.all(['one', 'two', 'three'].map((name) => world.person(name)));
});
after(() => world.stop());
beforeEach(async () => {
  ledger = await world.deploy();
});

async function assigned(count = 1) {
  for (const each of transcoders.slice(0, count)) await ledger.register(each);
  const jobId = await ledger.createJob(broadcaster);
  const { transcoder } = await ledger.assign(jobId);
  return { jobId, holder: transcoders.find(({ address }) => address === transcoder) };
}

const state = async (jobId) => (await ledger.read('jobOf', jobId)).state;
const balance = (who) => ledger.read('balanceOf', who.address);

test('creating a job sets its reserve aside and says all a watcher needs', async () => {
  await ledger.send(broadcaster, 'deposit', [], 130n);
  const events = await ledger.send(broadcaster, 'createJob', ['a.b.source', ['720p', '360p'], 5n]);

  const created = events.named('JobCreated');
  assert.deepEqual(created.toObject().profiles.toArray(), ['720p', '360p']);
  assert.deepEqual(
    [created.jobId, created.broadcaster, created.streamHash, created.streamId, created.maxPricePerSegment],
    [1n, broadcaster.address, id('a.b.source'), 'a.b.source', 5n],
  );
  assert.deepEqual([created.reserved, created.expiresAt], [100n, events.block + 400n]);
  assert.equal(events.named('SeedChosen').seedBlock, events.block + 1n);
  assert.equal(await balance(broadcaster), 30n);
  const job = await ledger.read('jobOf', 1n);
  assert.deepEqual([job.state, job.reserved, job.maxPrice], [OPEN, 100n, 5n]);
  assert.equal(await ledger.read('liveJobOf', broadcaster.address, 'a.b.source'), 1n);
});

test('a job without the money for it, or with texts out of bounds, is refused', async () => {
  await ledger.send(broadcaster, 'deposit', [], 99n);
  await ledger.refuses('BalanceTooLow', broadcaster, 'createJob', ['s', [], 5n]);
  await ledger.refuses('NoStream', broadcaster, 'createJob', ['', [], 1n]);
  await ledger.refuses('TextTooLong', broadcaster, 'createJob', ['s'.repeat(201), [], 1n]);
  await ledger.refuses('TextTooLong', broadcaster, 'createJob', ['s', Array(17).fill('p'), 1n]);
  await ledger.refuses('TextTooLong', broadcaster, 'createJob', ['s', ['p'.repeat(33)], 1n]);
  await ledger.refuses('AmountTooLarge', broadcaster, 'createJob', ['s', [], 2n ** 128n - 1n]);
  await ledger.send(broadcaster, 'createJob', ['s'.repeat(200), Array(16).fill('p'.repeat(32)), 1n]);
});

test('a stream has one job at a time, and strangers cannot take its name', async () => {
  const first = await ledger.createJob(broadcaster, 's', 0n);
  await ledger.refuses('StreamHasJob', broadcaster, 'createJob', ['s', [], 0n]);
  const foreign = await ledger.createJob(stranger, 's', 0n);
  assert.notEqual(foreign, first);
  await ledger.send(broadcaster, 'endJob', [first]);
  assert.equal(await ledger.read('liveJobOf', broadcaster.address, 's'), 0n);
  await ledger.createJob(broadcaster, 's', 0n);
});

test('only the holder acknowledges, and again changes nothing', async () => {
  const { jobId, holder } = await assigned();
  await ledger.refuses('NotHolder', stranger, 'acknowledge', [jobId]);
  await ledger.refuses('UnknownJob', holder, 'acknowledge', [9n]);
  const events = await ledger.send(holder, 'acknowledge', [jobId]);
  assert.equal(events.named('JobAcknowledged').transcoder, holder.address);
  assert.equal(await state(jobId), ACKNOWLEDGED);
  assert.equal((await ledger.send(holder, 'acknowledge', [jobId])).length, 0);
  await ledger.refuses('WrongState', stranger, 'assign', [jobId]);
});

test('anyone takes a job from who does not acknowledge, and only then', async () => {
  const { jobId, holder } = await assigned(3);
  const { assignedAt } = await ledger.read('jobOf', jobId);
  await world.reach(assignedAt + 5n);
  await ledger.refuses('AckPending', stranger, 'reassign', [jobId]);
  const events = await ledger.send(stranger, 'reassign', [jobId]);

  const taken = events.named('JobUnassigned');
  assert.deepEqual([taken.transcoder, taken.by], [holder.address, stranger.address]);
  assert.equal(events.named('SeedChosen').seedBlock, events.block + 1n);
  assert.deepEqual([...(await ledger.read('excludedOf', jobId))], [holder.address]);
  assert.equal((await ledger.read('jobOf', jobId)).transcoder, ZERO_ADDRESS);
  await ledger.refuses('NotHolder', holder, 'acknowledge', [jobId]);
  const next = await ledger.assign(jobId);
  assert.notEqual(next.transcoder, holder.address);
  assert.equal(next.round, 1n);
});

test('an acknowledged job is taken only by its broadcaster or given back by its holder', async () => {
  const { jobId, holder } = await assigned(3);
  await ledger.send(holder, 'acknowledge', [jobId]);
  await world.mine(50);
  await ledger.refuses('NotBroadcaster', stranger, 'reassign', [jobId]);
  await ledger.send(broadcaster, 'reassign', [jobId]);
  await ledger.refuses('WrongState', broadcaster, 'reassign', [jobId]);
  const { transcoder } = await ledger.assign(jobId);
  await ledger.send(transcoder, 'reassign', [jobId]);
  const third = await ledger.assign(jobId);
  assert.equal(new Set([holder.address, transcoder, third.transcoder]).size, 3);
  await ledger.send(broadcaster, 'reassign', [jobId]);
  assert.equal(await ledger.assign(jobId), undefined, 'all have failed it');
});

test('a job changes hands a bounded number of times', async () => {
  const many = await Promise.all(Array.from({ length: 18 }, (_, n) => world.person(`many ${n}`)));
  for (const each of many) await ledger.register(each);
  const jobId = await ledger.createJob(broadcaster);
  for (let n = 0; n < 16; n += 1) {
    assert.ok(await ledger.assign(jobId));
    await ledger.send(broadcaster, 'reassign', [jobId]);
  }
  const { round } = await ledger.assign(jobId);
  assert.equal(round, 16n);
  await ledger.refuses('TooManyRounds', broadcaster, 'reassign', [jobId]);
  await ledger.send(broadcaster, 'cancelJob', [jobId]);
});

test('what is cancelled before anyone worked gives all back at once', async () => {
  const { jobId, holder } = await assigned();
  await ledger.refuses('NotBroadcaster', stranger, 'cancelJob', [jobId]);
  const events = await ledger.send(broadcaster, 'cancelJob', [jobId]);
  assert.equal(events.named('JobEnded').reason, 1n);
  assert.equal(await balance(broadcaster), 100n);
  assert.equal(await state(jobId), ENDED);
  for (const [who, name] of [[holder, 'acknowledge'], [broadcaster, 'reassign'], [stranger, 'assign']]) {
    await ledger.refuses('WrongState', who, name, [jobId]);
  }
  for (const name of ['cancelJob', 'endJob', 'expireJob']) {
    await ledger.refuses('WrongState', broadcaster, name, [jobId]);
  }
  await ledger.refuses('WrongState', broadcaster, 'releaseReserve', [jobId]);
});

test('a job that was worked on is ended, and gives back after the time for claims', async () => {
  const { jobId, holder } = await assigned();
  await ledger.send(holder, 'acknowledge', [jobId]);
  await ledger.refuses('WrongState', broadcaster, 'cancelJob', [jobId]);
  await ledger.refuses('NotBroadcaster', holder, 'endJob', [jobId]);
  await ledger.refuses('WrongState', stranger, 'releaseReserve', [jobId]);
  const ended = await ledger.send(broadcaster, 'endJob', [jobId]);
  assert.equal(ended.named('JobEnded').reason, 0n);
  assert.equal(await balance(broadcaster), 0n);
  await world.reach(ended.block + 30n);
  await ledger.refuses('ReserveHeld', stranger, 'releaseReserve', [jobId]);
  await ledger.send(stranger, 'releaseReserve', [jobId]);
  assert.equal(await balance(broadcaster), 100n);
  await ledger.refuses('WrongState', stranger, 'releaseReserve', [jobId]);
});

test('a job expires unless it is extended', async () => {
  const { jobId } = await assigned();
  const { expiresAt } = await ledger.read('jobOf', jobId);
  await ledger.refuses('JobNotExpired', stranger, 'expireJob', [jobId]);
  await ledger.refuses('NotBroadcaster', stranger, 'extendJob', [jobId, 1]);
  await ledger.refuses('TooManySegments', broadcaster, 'extendJob', [jobId, 21]);
  await ledger.refuses('BalanceTooLow', broadcaster, 'extendJob', [jobId, 2]);
  await ledger.send(broadcaster, 'deposit', [], 10n);
  await world.reach(expiresAt - 1n);
  const extended = (await ledger.send(broadcaster, 'extendJob', [jobId, 2])).named('JobExtended');
  assert.deepEqual([extended.added, extended.reserved, extended.expiresAt], [10n, 110n, expiresAt + 399n]);
  await world.reach(extended.expiresAt - 1n);
  await ledger.refuses('JobNotExpired', stranger, 'expireJob', [jobId]);
  await ledger.refuses('JobExpired', broadcaster, 'extendJob', [jobId, 0]);
  await ledger.refuses('JobExpired', (await ledger.read('jobOf', jobId)).transcoder, 'acknowledge', [jobId]);
  const expired = (await ledger.send(stranger, 'expireJob', [jobId])).named('JobEnded');
  assert.equal(expired.reason, 2n);
  assert.equal(await balance(broadcaster), 110n);
});

test('an expired job elects nobody', async () => {
  const jobId = await ledger.createJob(broadcaster);
  await ledger.register(transcoders[0]);
  const { expiresAt } = await ledger.read('jobOf', jobId);
  await world.reach(expiresAt);
  await ledger.refuses('JobExpired', stranger, 'assign', [jobId]);
});
