//! Sealed addresses: for the broadcaster, for one claim, and for nobody else.

use headwater_proto::{
    AddressText, JobId, NodeId, SealError, SealedAddresses, SigningKey, TranscodeClaim,
    limits::{MAX_ADDRESSES, SEALED_BYTES},
};
use proptest::prelude::*;

use crate::examples::{key, stream};

const ADDRESS: &str = "/ip4/192.0.2.1/tcp/4935";

fn claim(addresses: &[&str]) -> TranscodeClaim {
    TranscodeClaim {
        stream: stream(),
        job: JobId(4),
        transcoder: SigningKey::from_bytes(&[9; 32]).node_id(),
        addresses: (addresses.iter())
            .map(|text| AddressText::new(text).unwrap())
            .collect(),
        sealed: None,
        sequence: 2,
        expires_ms: 1_800_000_060_000,
    }
}

#[test]
fn the_broadcaster_reads_what_was_sealed() {
    let longest = format!("/{}", "a".repeat(255));
    for addresses in [&[][..], &[ADDRESS], &[longest.as_str(); MAX_ADDRESSES]] {
        let open = claim(addresses);
        let sealed = open.clone().seal([5; 32]).unwrap();
        assert!(sealed.addresses.is_empty());
        assert!(sealed.sealed.is_some());
        assert_eq!(sealed.open(&key()), Ok(open));
    }
    let open = claim(&[ADDRESS]);
    assert_eq!(open.clone().open(&key()), Ok(open), "nothing was sealed");
}

#[test]
fn nobody_else_reads_it() {
    let sealed = claim(&[ADDRESS]).seal([5; 32]).unwrap();
    let other = SigningKey::from_bytes(&[8; 32]);
    assert_eq!(sealed.clone().open(&other), Err(SealError::Closed));

    let shown = format!("{sealed:?}");
    assert!(!shown.contains("192"), "{shown}");
    let bytes = *sealed.sealed.unwrap().as_bytes();
    let clear = |at: &[u8]| at == ADDRESS.as_bytes();
    assert!(!bytes.windows(ADDRESS.len()).any(clear));
}

#[test]
fn a_box_opens_for_its_own_claim_only() {
    let sealed = claim(&[ADDRESS]).seal([5; 32]).unwrap();
    let changes: [fn(&mut TranscodeClaim); 4] = [
        |claim| claim.job = JobId(5),
        |claim| claim.sequence += 1,
        |claim| claim.transcoder = key().node_id(),
        |claim| claim.stream.rendition = "720p".parse().unwrap(),
    ];
    for change in changes {
        let mut grafted = sealed.clone();
        change(&mut grafted);
        assert_eq!(grafted.open(&key()), Err(SealError::Closed));
    }
}

#[test]
fn every_changed_byte_of_a_box_is_found() {
    let sealed = claim(&[ADDRESS]).seal([5; 32]).unwrap();
    let bytes = *sealed.sealed.as_ref().unwrap().as_bytes();
    for at in 0..SEALED_BYTES {
        let mut changed = bytes;
        changed[at] ^= 1 << (at % 8);
        let claim = TranscodeClaim {
            sealed: Some(SealedAddresses::from_bytes(changed)),
            ..sealed.clone()
        };
        assert_eq!(claim.open(&key()), Err(SealError::Closed), "byte {at}");
    }
}

#[test]
fn a_key_that_shares_its_secret_with_everybody_is_refused() {
    let open = claim(&[ADDRESS]);
    let sealed = open.clone().seal([5; 32]).unwrap();
    let mut bytes = *sealed.sealed.as_ref().unwrap().as_bytes();
    bytes[..32].fill(0);
    let zero = TranscodeClaim {
        sealed: Some(SealedAddresses::from_bytes(bytes)),
        ..sealed
    };
    assert_eq!(zero.open(&key()), Err(SealError::Key));

    // The neutral element of the curve, which has a valid encoding.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut to_all = open.clone();
    to_all.stream.node = NodeId::from_public_key(neutral);
    assert_eq!(to_all.seal([5; 32]), Err(SealError::Key));

    let many = vec![ADDRESS; MAX_ADDRESSES + 1];
    assert_eq!(claim(&many).seal([5; 32]), Err(SealError::TooMany));
}

proptest! {
    #[test]
    fn a_box_from_anywhere_is_refused(fill in any::<u8>(), key_bytes in any::<[u8; 32]>()) {
        let mut bytes = [fill; SEALED_BYTES];
        bytes[..32].copy_from_slice(&key_bytes);
        let claim = TranscodeClaim {
            sealed: Some(SealedAddresses::from_bytes(bytes)),
            ..claim(&[])
        };
        prop_assert!(claim.open(&key()).is_err());
    }
}
