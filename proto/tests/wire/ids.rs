//! Ids and their texts.

use headwater_proto::{BroadcastId, ManifestId, MediaId, NodeId, SigningKey, StreamId};
use proptest::prelude::*;

#[test]
fn ids_have_the_text_that_every_libp2p_shows() {
    // The PeerId of the Ed25519 key whose secret is 32 zero bytes.
    let key = SigningKey::from_bytes(&[0; 32]);
    let text = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(key.node_id().to_string(), text);
    assert_eq!(text.parse(), Ok(key.node_id()));
    for bad in [
        "",
        "12D3",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        &"1".repeat(100),
    ] {
        assert!(bad.parse::<NodeId>().is_err(), "{bad}");
    }
    let id = format!("{text}.{}", "a".repeat(26));
    assert!(matches!(id.parse(), Ok(MediaId::Manifest(_))));
    assert!(matches!(
        format!("{id}.360p").parse(),
        Ok(MediaId::Stream(_))
    ));
    for bad in [
        format!("{id}."),
        format!("{id}.a b"),
        id.to_uppercase(),
        format!("{id}.a.b"),
    ] {
        assert!(bad.parse::<MediaId>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn texts_of_ids_read_back(
        node in any::<[u8; 32]>(),
        broadcast in any::<[u8; 16]>(),
        rendition in "[a-z0-9_-]{1,32}",
    ) {
        let manifest = ManifestId {
            node: NodeId::from_public_key(node),
            broadcast: BroadcastId::from_bytes(broadcast),
        };
        let stream = StreamId { rendition: rendition.parse().unwrap(), ..manifest.source() };
        prop_assert_eq!(manifest.to_string().parse(), Ok(manifest));
        prop_assert_eq!(stream.to_string().parse(), Ok(stream));
    }

    #[test]
    fn text_from_anywhere_is_read_or_refused(text in ".{0,120}") {
        if let Ok(id) = text.parse::<MediaId>() {
            let again = match id {
                MediaId::Manifest(id) => id.to_string(),
                MediaId::Stream(id) => id.to_string(),
            };
            prop_assert_eq!(again, text);
        }
    }
}
