// What a watcher knows who has seen nothing but events, from the first on.
import { elect } from './receipts.mjs';
import { ZERO_ADDRESS } from './world.mjs';

/** The state of a ledger as its events tell it. Elections on the way are recomputed. */
export class Replay {
  constructor({ challengeBond }) {
    Object.assign(this, { bond: challengeBond, balances: new Map(), transcoders: new Map(), jobs: new Map() });
    Object.assign(this, { claims: new Map(), bonds: 0n, burned: 0n, history: [], elections: 0, faults: [] });
  }

  /** All that the ledger owes or keeps, which must be all that it has. */
  total() {
    const sum = (values) => [...values].reduce((all, value) => all + value, 0n);
    const pending = [...this.claims.values()].filter(({ state }) => state === 1n);
    return (
      sum(this.balances.values()) +
      sum([...this.transcoders.values()].map(({ stake }) => stake)) +
      sum([...this.jobs.values()].map(({ reserved }) => reserved)) +
      sum(pending.map(({ amount }) => amount)) +
      this.bonds +
      this.burned
    );
  }

  apply({ name, args, block }) {
    this[name]?.(args, block);
    if (['Registered', 'Unregistered'].includes(name)) this.remember(block);
  }

  /** Keeps the terms of all as they are after this block. */
  remember(block) {
    const terms = [...this.transcoders].map(([address, { active, stake, price }]) => ({
      address,
      price,
      stake: active ? stake : 0n,
    }));
    this.history.push({ block, terms });
  }

  Credited({ account, balance }) {
    this.balances.set(account, balance);
  }

  Debited({ account, balance }) {
    this.balances.set(account, balance);
  }

  Registered({ transcoder, node, price, stake }) {
    this.transcoders.set(transcoder, { node, price, stake, active: true });
  }

  Unregistered({ transcoder }) {
    this.transcoders.get(transcoder).active = false;
  }

  StakeReleased({ transcoder }) {
    this.transcoders.get(transcoder).stake = 0n;
  }

  StakeSlashed({ transcoder, stake, active }) {
    Object.assign(this.transcoders.get(transcoder), { stake, active });
    const least = active ? stake : 0n;
    for (const { terms } of this.history) {
      const then = terms.find(({ address }) => address === transcoder);
      if (then && then.stake > least) then.stake = least;
    }
  }

  JobCreated({ jobId, broadcaster, streamHash, maxPricePerSegment, reserved, expiresAt }) {
    this.jobs.set(jobId, {
      broadcaster,
      streamHash,
      maxPrice: maxPricePerSegment,
      reserved,
      expiresAt,
      state: 1n,
      round: 0n,
      transcoder: ZERO_ADDRESS,
      excluded: [],
      released: false,
    });
  }

  SeedChosen({ jobId, seedBlock }) {
    this.jobs.get(jobId).seedBlock = seedBlock;
  }

  JobAssigned({ jobId, transcoder, node, price, round, seedBlock, seed }) {
    const job = this.jobs.get(jobId);
    const { terms = [] } = this.history.findLast(({ block }) => block < seedBlock) ?? {};
    const winner = elect(seed, Number(round), job.maxPrice, terms, job.excluded);
    const asked = terms.find(({ address }) => address === transcoder)?.price;
    if (winner !== transcoder || asked !== price || round !== job.round || seedBlock !== job.seedBlock) {
      this.faults.push(`job ${jobId} round ${round} went to ${transcoder}, not ${winner}`);
    }
    this.elections += 1;
    Object.assign(job, { state: 2n, transcoder, node, round: round + 1n });
  }

  JobAcknowledged({ jobId }) {
    this.jobs.get(jobId).state = 3n;
  }

  JobUnassigned({ jobId, transcoder }) {
    const job = this.jobs.get(jobId);
    job.excluded.push(transcoder);
    Object.assign(job, { state: 1n, transcoder: ZERO_ADDRESS });
  }

  JobExtended({ jobId, reserved, expiresAt }) {
    Object.assign(this.jobs.get(jobId), { reserved, expiresAt });
  }

  JobEnded({ jobId }) {
    this.jobs.get(jobId).state = 4n;
  }

  ReserveReleased({ jobId }) {
    Object.assign(this.jobs.get(jobId), { reserved: 0n, released: true });
  }

  WorkClaimed({ claimId, jobId, transcoder, amount, count, settlesAt, root }) {
    this.jobs.get(jobId).reserved -= amount;
    this.claims.set(claimId, { jobId, transcoder, amount, count, settlesAt, root, state: 1n });
  }

  ClaimChallenged() {
    this.bonds += this.bond;
  }

  ChallengeAnswered({ claimId, settlesAt }) {
    this.bonds -= this.bond;
    this.claims.get(claimId).settlesAt = settlesAt;
  }

  BondReturned() {
    this.bonds -= this.bond;
  }

  ClaimSettled({ claimId }) {
    this.claims.get(claimId).state = 2n;
  }

  ClaimSlashed({ claimId, penalty, reward }) {
    const claim = this.claims.get(claimId);
    const job = this.jobs.get(claim.jobId);
    claim.state = 3n;
    this.burned += penalty - reward;
    if (!job.released) job.reserved += claim.amount;
  }
}
