// Deposits, claims, challenges, slashing and who is paid.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { TypedDataEncoder, keccak256, toBeHex } from 'ethers';
import { leaf, tree } from './receipts.mjs';
import { NODE, World, ledgerAbi, person } from './world.mjs';

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const BOND = 7n;
let world;
let ledger;
let broadcaster;
let transcoder;
let watcher;
let jobId;
before(async () => {
  world = await World.start();
  broadcaster = await world.person('broadcaster');
  transcoder = await world.person('transcoder');
  watcher = await world.person('watcher');
});
after(() => world.stop());
beforeEach(async () => {
  ledger = await world.deploy({ reserveSegments: 60n });
  await ledger.register(transcoder, { stake: 1000n });
  jobId = await ledger.createJob(broadcaster);
  await ledger.assign(jobId);
  await ledger.send(transcoder, 'acknowledge', [jobId]);
});

const balance = (who) => ledger.read('balanceOf', who.address);
const bonded = async (who = transcoder) => (await ledger.read('transcoderOf', who.address)).bonded;
const receipts = (from, to) =>
  Array.from({ length: to - from }, (_, n) => ledger.receipt(broadcaster, transcoder, jobId, from + n));
const signed = (by, segment) => ledger.receipt(by, transcoder, jobId, segment);
const settle = async (claimId) => {
  await world.reach((await ledger.read('claimOf', claimId)).settlesAt);
  return ledger.send(watcher, 'settleClaim', [claimId]);
};
const slashed = (events) => events.named('ClaimSlashed');

test('the domain is the one that claims to jobs are signed for', async () => {
  assert.equal(await ledger.read('domainSeparator'), TypedDataEncoder.hashDomain(ledger.domain));
});

test('what is deposited can be withdrawn by its owner alone', async () => {
  await ledger.refuses('NothingSent', watcher, 'deposit');
  await ledger.send(watcher, 'deposit', [], 50n);
  await ledger.refuses('BalanceTooLow', watcher, 'withdraw', [51n]);
  await ledger.refuses('BalanceTooLow', transcoder, 'withdraw', [1n]);
  const events = await ledger.send(watcher, 'withdraw', [20n]);
  assert.equal(events.named('Withdrawn').amount, 20n);
  assert.equal(await balance(watcher), 30n);
  await assert.rejects(world.transact({ from: watcher.address, to: ledger.address, value: 5n }), /reverted/);
});

test('a whole cycle: 50 segments, claimed, paid after the window, withdrawn', async () => {
  const first = await ledger.claim(transcoder, jobId, receipts(0, 33));
  const second = await ledger.claim(transcoder, jobId, receipts(33, 50));
  await ledger.refuses('NotSettleable', transcoder, 'settleClaim', [first.claimId]);
  await ledger.send(broadcaster, 'endJob', [jobId]);
  assert.equal((await settle(first.claimId)).named('ClaimSettled').amount, 99n);
  await settle(second.claimId);
  await ledger.refuses('ClaimClosed', watcher, 'settleClaim', [first.claimId]);
  assert.equal(await balance(transcoder), 150n);
  await ledger.send(transcoder, 'withdraw', [150n]);
  await world.mine(40);
  await ledger.send(watcher, 'releaseReserve', [jobId]);
  assert.equal(await balance(broadcaster), 150n, 'of 300 reserved');
  const left = BigInt(await world.rpc('eth_getBalance', ledger.address, 'latest'));
  assert.equal(left, 1000n + 150n, 'stake and what the broadcaster has not withdrawn');
});

test('a claim is taken from who worked, in bounds, within the reserve, once', async () => {
  const root = keccak256('0x01');
  const refused = (reason, who, ...args) => ledger.refuses(reason, who, 'claimWork', args);
  await refused('NotHolder', watcher, jobId, root, 0, 9, 10);
  await refused('UnknownJob', transcoder, 99n, root, 0, 9, 10);
  await refused('BadRange', transcoder, jobId, root, 0, 9, 0);
  await refused('BadRange', transcoder, jobId, root, 0, 9, 11);
  await refused('BadRange', transcoder, jobId, root, 9, 0, 1);
  await refused('BadRange', transcoder, jobId, root, 0, 9999, 4097);
  await refused('ReserveSpent', transcoder, jobId, root, 0, 999, 101);
  await ledger.send(transcoder, 'claimWork', [jobId, root, 0, 9, 10]);
  await refused('AlreadyClaimed', transcoder, jobId, root, 0, 9, 10);
  assert.equal((await ledger.read('jobOf', jobId)).reserved, 270n);
});

test('work of an ended job is claimed within the time for it', async () => {
  const { block } = await ledger.send(broadcaster, 'endJob', [jobId]);
  await world.reach(block + 30n);
  await ledger.claim(transcoder, jobId, receipts(0, 1));
  await ledger.refuses('ClaimingOver', transcoder, 'claimWork', [jobId, keccak256('0x02'), 0, 0, 1]);
});

test('one from whom a job was taken is paid for what it did, and no more', async () => {
  await ledger.send(broadcaster, 'reassign', [jobId]);
  const { claimId } = await ledger.claim(transcoder, jobId, receipts(0, 4));
  await settle(claimId);
  assert.equal(await balance(transcoder), 12n);
  const next = await world.person('next');
  await ledger.register(next);
  await ledger.assign(jobId);
  await ledger.refuses('NotHolder', next, 'claimWork', [jobId, NODE, 0, 0, 1]);
});

test('a receipt that the broadcaster did not sign is slashed', async () => {
  const forged = [signed(broadcaster, 0), signed(watcher, 1), signed(broadcaster, 2)];
  const { claimId, open } = await ledger.claim(transcoder, jobId, forged);
  await ledger.refuses('ReceiptIsGood', watcher, 'proveBad', [open(0)]);
  const events = await ledger.send(watcher, 'proveBad', [open(1)]);

  const { reporter, fault, penalty, reward } = slashed(events);
  assert.deepEqual([reporter, fault, penalty, reward], [watcher.address, 0n, 500n, 100n]);
  assert.equal(await balance(watcher), 100n);
  assert.equal(await bonded(), 500n);
  assert.equal(await ledger.read('burned'), 400n);
  assert.equal((await ledger.read('jobOf', jobId)).reserved, 300n, 'nothing is paid for it');
  await ledger.refuses('ClaimClosed', watcher, 'settleClaim', [claimId]);
  await ledger.refuses('ClaimClosed', watcher, 'proveBad', [open(1)]);
  assert.deepEqual([...(await ledger.read('transcoderOf', transcoder.address)).terms], [500n, 3n]);
});

test('signatures for another job, transcoder, stream, chain or in a second form are bad', async () => {
  const other = await world.person('other');
  const elsewhere = await world.deploy();
  const good = signed(broadcaster, 5);
  const s = BigInt(`0x${good.signature.slice(66, 130)}`);
  const v = good.signature.endsWith('1b') ? '1c' : '1b';
  const mirrored = good.signature.slice(0, 66) + toBeHex(ORDER - s, 32).slice(2) + v;
  await world.mine(260);
  await ledger.register(transcoder, { stake: 100_000n });
  const bad = [
    ledger.receipt(broadcaster, transcoder, jobId + 1n, 5),
    ledger.receipt(broadcaster, other, jobId, 5),
    ledger.receipt(broadcaster, transcoder, jobId, 5, 'another'),
    elsewhere.receipt(broadcaster, transcoder, jobId, 5),
    { ...good, signature: mirrored },
    { ...good, signature: '0x' },
    { ...good, signature: `0x${'00'.repeat(65)}` },
    { ...good, segment: 6 },
    { ...good, sourceHash: keccak256('0x05') },
  ];
  for (const receipt of bad) {
    const { open } = await ledger.claim(transcoder, jobId, [receipt], { first: 0, last: 10 });
    assert.ok(slashed(await ledger.send(watcher, 'proveBad', [open(0)])), JSON.stringify(receipt));
  }
});

test('a segment out of the claimed range is slashed', async () => {
  const { open } = await ledger.claim(transcoder, jobId, receipts(4, 7), { first: 5, last: 8 });
  await ledger.refuses('ReceiptIsGood', watcher, 'proveBad', [open(1)]);
  assert.ok(slashed(await ledger.send(watcher, 'proveBad', [open(0)])));
});

test('what is not in a claim proves nothing', async () => {
  const bad = [signed(watcher, 0), signed(watcher, 1), signed(broadcaster, 2)];
  const { open } = await ledger.claim(transcoder, jobId, bad);
  const sound = open(0);
  const wrong = [
    { ...sound, index: 1 },
    { ...sound, index: 3 },
    { ...sound, index: 4 },
    { ...sound, proof: sound.proof.slice(1) },
    { ...sound, proof: [...sound.proof, keccak256('0x')] },
    { ...sound, receipt: signed(watcher, 7) },
  ];
  for (const opening of wrong) await ledger.refuses('NotInClaim', watcher, 'proveBad', [opening]);
  await ledger.refuses('UnknownClaim', watcher, 'proveBad', [{ ...sound, claimId: 99n }]);
});

test('the same segment twice, in one claim or in two, is slashed', async () => {
  const one = await ledger.claim(transcoder, jobId, [...receipts(0, 3), signed(broadcaster, 1)], { last: 9 });
  await ledger.refuses('NotDouble', watcher, 'proveDouble', [one.open(1), one.open(1)]);
  await ledger.refuses('NotDouble', watcher, 'proveDouble', [one.open(1), one.open(2)]);
  assert.equal(slashed(await ledger.send(watcher, 'proveDouble', [one.open(3), one.open(1)])).fault, 1n);

  const two = await ledger.claim(transcoder, jobId, receipts(0, 3));
  await ledger.refuses('ClaimClosed', watcher, 'proveDouble', [two.open(1), one.open(1)]);
  await settle(two.claimId);
  const three = await ledger.claim(transcoder, jobId, receipts(2, 5));
  await ledger.refuses('NotInClaim', watcher, 'proveDouble', [three.open(0), { ...two.open(2), index: 1 }]);
  assert.ok(slashed(await ledger.send(watcher, 'proveDouble', [three.open(0), two.open(2)])));
  assert.equal(await balance(transcoder), 9n, 'what was settled stays');
});

test('two transcoders of one job may both have done a segment', async () => {
  const mine = await ledger.claim(transcoder, jobId, receipts(0, 2));
  const next = await world.person('next');
  await ledger.register(next);
  await ledger.send(broadcaster, 'reassign', [jobId]);
  assert.equal((await ledger.assign(jobId)).transcoder, next.address);
  await ledger.send(next, 'acknowledge', [jobId]);
  const theirs = await ledger.claim(next, jobId, [ledger.receipt(broadcaster, next, jobId, 1)]);
  await ledger.refuses('NotDouble', watcher, 'proveDouble', [theirs.open(0), mine.open(1)]);
});

test('a challenged receipt is shown and the bond goes to the transcoder', async () => {
  const { claimId, open, settlesAt } = await ledger.claim(transcoder, jobId, receipts(0, 5));
  await ledger.refuses('WrongBond', watcher, 'challenge', [claimId, 0], BOND + 1n);
  await ledger.refuses('NotInClaim', watcher, 'challenge', [claimId, 5], BOND);
  const asked = (await ledger.send(watcher, 'challenge', [claimId, 4], BOND)).named('ClaimChallenged');
  await ledger.refuses('AlreadyChallenged', watcher, 'challenge', [claimId, 4], BOND);
  await ledger.refuses('NotChallenged', transcoder, 'answer', [open(3)]);
  await ledger.refuses('NotInClaim', transcoder, 'answer', [{ ...open(3), index: 4 }]);
  await ledger.refuses('AnswerPending', watcher, 'resolveChallenge', [claimId, 4]);
  await world.reach(asked.answerBy);
  const answered = await ledger.send(transcoder, 'answer', [open(4)]);
  assert.equal(answered.named('ChallengeAnswered').segment, 4n);
  assert.equal(await balance(transcoder), BOND);
  await ledger.refuses('NotChallenged', watcher, 'resolveChallenge', [claimId, 4]);
  await ledger.refuses('AlreadyChallenged', watcher, 'challenge', [claimId, 4], BOND);
  const until = (await ledger.read('claimOf', claimId)).settlesAt;
  assert.equal(until, answered.block + 10n > settlesAt ? answered.block + 10n : settlesAt);
  await settle(claimId);
  assert.equal(await balance(transcoder), BOND + 15n);
});

test('a receipt that is not shown in time is slashed; other bonds go back', async () => {
  const { claimId, open } = await ledger.claim(transcoder, jobId, [signed(watcher, 0), signed(broadcaster, 1)]);
  const { answerBy } = (await ledger.send(watcher, 'challenge', [claimId, 0], BOND)).named('ClaimChallenged');
  await ledger.send(broadcaster, 'challenge', [claimId, 1], BOND);
  await ledger.refuses('ReceiptIsBad', transcoder, 'answer', [open(0)]);
  await world.reach(answerBy + 1n);
  await ledger.refuses('AnsweringOver', transcoder, 'answer', [open(0)]);
  await ledger.refuses('NotSettleable', transcoder, 'settleClaim', [claimId]);
  const events = await ledger.send(person('deployer'), 'resolveChallenge', [claimId, 0]);
  assert.deepEqual([slashed(events).fault, slashed(events).reporter], [2n, watcher.address]);
  assert.equal(await balance(watcher), BOND + 100n);
  await ledger.refuses('ClaimClosed', transcoder, 'answer', [open(1)]);
  await ledger.send(person('deployer'), 'resolveChallenge', [claimId, 1]);
  assert.equal(await balance(broadcaster), BOND);
  assert.equal(await bonded(), 500n, 'one claim is slashed once');
});

test('a claim is challenged within its window only', async () => {
  const { claimId, settlesAt } = await ledger.claim(transcoder, jobId, receipts(0, 2));
  await world.reach(settlesAt - 1n);
  await ledger.send(watcher, 'challenge', [claimId, 0], BOND);
  await ledger.refuses('ChallengingOver', watcher, 'challenge', [claimId, 1], BOND);
});

test('slashed below the least stake, one is out, and its stake stays bonded', async () => {
  for (const segment of [0, 1, 2, 3]) {
    const { open } = await ledger.claim(transcoder, jobId, [signed(watcher, segment)]);
    await ledger.send(watcher, 'proveBad', [open(0)]);
  }
  assert.equal(await bonded(), 62n, 'a half of 125 is rounded up');
  await ledger.refuses('StakeTooLow', transcoder, 'claimWork', [jobId, NODE, 0, 0, 1]);
  assert.equal((await ledger.read('seats')).length, 0);
  assert.equal(await ledger.read('activeCount'), 0n);
  await ledger.refuses('StillBonded', transcoder, 'releaseStake');
  await world.mine(300);
  await ledger.send(transcoder, 'releaseStake');
  assert.equal(await balance(transcoder), 62n);
});

test('stake is not released while a claim could still be slashed', async () => {
  await world.mine(260);
  await ledger.send(transcoder, 'unregister');
  await world.mine(300);
  await ledger.send(broadcaster, 'endJob', [jobId]);
  const { claimId, open } = await ledger.claim(transcoder, jobId, [signed(watcher, 0)]);
  await ledger.refuses('StillBonded', transcoder, 'releaseStake');
  await ledger.send(watcher, 'proveBad', [open(0)]);
  await ledger.send(transcoder, 'releaseStake');
  assert.equal(await balance(transcoder), 500n);
  assert.equal((await ledger.read('claimOf', claimId)).state, 3n);
});

test('a claim slashed after the reserve went back pays the broadcaster', async () => {
  await ledger.send(broadcaster, 'endJob', [jobId]);
  await world.mine(25);
  const { open } = await ledger.claim(transcoder, jobId, [signed(watcher, 0)]);
  await world.mine(8);
  await ledger.send(watcher, 'releaseReserve', [jobId]);
  assert.equal(await balance(broadcaster), 297n);
  await ledger.send(watcher, 'proveBad', [open(0)]);
  assert.equal(await balance(broadcaster), 300n);
});

test('the greatest claim can be challenged and answered', async () => {
  await ledger.send(transcoder, 'reassign', [jobId]);
  ledger = await world.deploy({ reserveSegments: 4096n });
  await ledger.register(transcoder);
  jobId = await ledger.createJob(broadcaster);
  await ledger.assign(jobId);
  await ledger.send(transcoder, 'acknowledge', [jobId]);
  const one = signed(broadcaster, 4095);
  const hashes = Array.from({ length: 4096 }, (_, n) => (n === 4095 ? leaf('stream', one) : keccak256(toBeHex(n, 32))));
  const { root, proof } = tree(hashes);
  const made = await ledger.send(transcoder, 'claimWork', [jobId, root, 0, 4095, 4096]);
  const { claimId } = made.named('WorkClaimed');
  await ledger.send(watcher, 'challenge', [claimId, 4095], BOND);
  const opening = { claimId, index: 4095, receipt: one, proof: proof(4095) };
  const { gas } = await ledger.send(transcoder, 'answer', [opening]);
  assert.ok(gas < 150_000, `an answer costs ${gas} gas`);
});

test('called back while it pays, the ledger pays nothing twice', async () => {
  const { abi, address } = await world.attacker('Reenter', [ledger.address]);
  const before = BigInt(await world.rpc('eth_getBalance', ledger.address, 'latest'));
  const run = (callBack, amount, value) =>
    world.transact({ from: watcher.address, to: address, data: abi.encodeFunctionData('run', [callBack, amount]), value });
  const counts = async () => {
    const read = async (name) => {
      const data = abi.encodeFunctionData(name);
      return BigInt(await world.rpc('eth_call', { to: address, data }, 'latest'));
    };
    return [await read('passed'), await read('refused')];
  };
  const again = ledgerAbi.encodeFunctionData('withdraw', [100n]);
  await run(again, 100n, 100n);
  assert.deepEqual(await counts(), [0n, 1n], 'the balance was gone before it was paid');
  await run(ledgerAbi.encodeFunctionData('withdraw', [40n]), 60n, 100n);
  assert.deepEqual(await counts(), [1n, 1n], 'what is its own it may have');
  assert.equal(await ledger.read('balanceOf', address), 0n);
  assert.equal(BigInt(await world.rpc('eth_getBalance', ledger.address, 'latest')), before);
  assert.equal(BigInt(await world.rpc('eth_getBalance', address, 'latest')), 200n);
});

test('a payment that is not taken stays in the balance', async () => {
  const { abi, address } = await world.attacker('Refuse', []);
  const data = abi.encodeFunctionData('run', [ledger.address]);
  await assert.rejects(world.transact({ from: watcher.address, to: address, data, value: 10n }), {
    reason: 'PaymentFailed',
  });
});
