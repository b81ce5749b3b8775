// What this implementation makes of receipts, against vectors that chain/src/ethereum/receipt.rs is held to as well.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SigningKey } from 'ethers';
import { leaf, signReceipt, tree } from './receipts.mjs';

test('receipts, their tree and its proofs are those that the node makes', () => {
  const vectors = JSON.parse(readFileSync(new URL('receipt-vectors.json', import.meta.url)));
  const { key, chainId, contract, job, transcoder, stream, receipts, root } = vectors;
  const domain = { name: 'Headwater', version: '1', chainId, verifyingContract: contract };
  const made = receipts.map(({ number, source, renditions }) =>
    signReceipt(domain, new SigningKey(key), {
      jobId: job,
      transcoder,
      streamId: stream,
      segment: number,
      sourceHash: source,
      renditionsHash: renditions,
    }),
  );
  const built = tree(made.map((receipt) => leaf(stream, receipt)));

  assert.equal(receipts.length, 5, 'so that the tree is not full');
  assert.equal(built.root, root);
  for (const [index, expected] of receipts.entries()) {
    assert.equal(made[index].signature, expected.signature);
    assert.equal(leaf(stream, made[index]), expected.leaf);
    assert.deepEqual(built.proof(index), expected.proof);
  }
});
