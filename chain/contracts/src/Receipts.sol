// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Receipt} from "./Types.sol";

/// Hashes, trees and signatures of receipts. Pure: what is here, a client computes in the same way.
library Receipts {
    bytes32 internal constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant SEGMENT_TYPE =
        keccak256("Segment(uint256 jobId,address transcoder,string streamId,uint64 number,bytes32 sourceHash)");
    /// Of two values of `s` that verify, only the lower one counts (EIP-2).
    uint256 internal constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// The EIP-712 domain that claims to jobs and receipts are signed for.
    function separator(uint256 chainId, address ledger) internal pure returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, keccak256("Headwater"), keccak256("1"), chainId, ledger));
    }

    /// What the broadcaster signs for each segment it feeds to a transcoder.
    function digest(bytes32 domain, uint256 jobId, address transcoder, bytes32 streamHash, Receipt calldata receipt)
        internal
        pure
        returns (bytes32)
    {
        bytes32 message = keccak256(
            abi.encode(SEGMENT_TYPE, jobId, transcoder, streamHash, uint256(receipt.segment), receipt.sourceHash)
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, message));
    }

    /// Who signed; zero when it is no signature, or the mirror image of one.
    function signer(bytes32 hash, bytes calldata signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        bytes32 r = bytes32(signature[:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if ((v != 27 && v != 28) || uint256(s) > HALF_ORDER) return address(0);
        return ecrecover(hash, v, r, s);
    }

    /// A leaf of a claim's tree. Leaves and nodes have different prefixes, so none passes for the other.
    function leaf(bytes32 streamHash, Receipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                bytes1(0x00),
                streamHash,
                receipt.segment,
                receipt.sourceHash,
                receipt.renditionsHash,
                receipt.signature
            )
        );
    }

    /// The root of a tree of `count` leaves, of which `hash` is number `index`. The tree is as low as it can be
    /// and complete; missing leaves are zero. A proof of another length than the height gives zero.
    function root(bytes32 hash, uint256 index, uint256 count, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32)
    {
        uint256 height = 0;
        while ((uint256(1) << height) < count) ++height;
        if (proof.length != height || index >= count) return bytes32(0);
        // At most as many steps as a claim's greatest tree is high.
        for (uint256 level = 0; level < height; ++level) {
            bytes32 sibling = proof[level];
            bool right = (index >> level) & 1 == 1;
            hash = right
                ? keccak256(abi.encodePacked(bytes1(0x01), sibling, hash))
                : keccak256(abi.encodePacked(bytes1(0x01), hash, sibling));
        }
        return hash;
    }
}
