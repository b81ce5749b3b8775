// Receipts, their signatures and the tree of a claim, as the contract checks them.
import { TypedDataEncoder, concat, getBytes, id, keccak256, toBeHex } from 'ethers';

const SEGMENT = {
  Segment: [
    { name: 'jobId', type: 'uint256' },
    { name: 'transcoder', type: 'address' },
    { name: 'streamId', type: 'string' },
    { name: 'number', type: 'uint64' },
    { name: 'sourceHash', type: 'bytes32' },
  ],
};
const ZERO = `0x${'00'.repeat(32)}`;

/** A receipt for one segment, signed by the broadcaster's key (an ethers SigningKey). */
export function signReceipt(domain, key, { jobId, transcoder, streamId, segment, sourceHash, renditionsHash }) {
  const message = { jobId, transcoder, streamId, number: segment, sourceHash };
  const signature = key.sign(TypedDataEncoder.hash(domain, SEGMENT, message)).serialized;
  return { segment, sourceHash, renditionsHash, signature };
}

export function leaf(streamId, receipt) {
  const { segment, sourceHash, renditionsHash, signature } = receipt;
  return keccak256(concat(['0x00', id(streamId), toBeHex(segment, 8), sourceHash, renditionsHash, signature]));
}

const node = (left, right) => keccak256(concat(['0x01', left, right]));

/** The tree over leaves: its root, and the proof of any leaf. */
export function tree(leaves) {
  let size = 1;
  while (size < leaves.length) size *= 2;
  const levels = [[...leaves, ...Array(size - leaves.length).fill(ZERO)]];
  while (levels.at(-1).length > 1) {
    const below = levels.at(-1);
    levels.push(below.flatMap((hash, n) => (n % 2 === 0 ? [node(hash, below[n + 1])] : [])));
  }
  const proof = (index) => levels.slice(0, -1).map((level, height) => level[(index >> height) ^ 1]);
  return { root: levels.at(-1)[0], proof };
}

/** Who a seed elects: the rule written once more, from the text of chain/src/ethereum/election.rs. */
export function elect(seed, round, maxPrice, candidates, excluded) {
  const eligible = candidates
    .filter(({ address, stake, price }) => stake > 0n && price <= maxPrice && !excluded.includes(address))
    .sort((a, b) => (BigInt(a.address) < BigInt(b.address) ? -1 : 1));
  const total = eligible.reduce((sum, { stake }) => sum + stake, 0n);
  if (total === 0n) return null;
  const r = BigInt(keccak256(concat([getBytes(seed), toBeHex(round, 4)]))) % total;
  let sum = 0n;
  return eligible.find(({ stake }) => (sum += stake) > r).address;
}
