//! Texts that come in URLs, configurations and playlists.

use headwater_media::playlist::{parse_master, write_master};
use headwater_proto::{AddressText, ManifestId, MediaId, NodeId, RenditionName, StreamId};

/// A text as an id, a name, an address and a master playlist.
///
/// # Panics
/// When an id has two forms, or one text is taken for two kinds of id.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let manifest = text.parse::<ManifestId>();
    let stream = text.parse::<StreamId>();
    let either = text.parse::<MediaId>();
    assert!(manifest.is_err() || stream.is_err(), "both kinds");
    assert_eq!(either.is_ok(), manifest.is_ok() || stream.is_ok());
    // What an id looks like is what it was read from: there are no two URLs of one thing.
    if let Ok(id) = manifest {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = stream {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<NodeId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(NodeId::from_peer_id_bytes(&id.to_peer_id_bytes()), Ok(id));
        assert_eq!(id.fmt_short().len(), 8);
    }
    if let Ok(name) = text.parse::<RenditionName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(address) = AddressText::new(text) {
        assert_eq!(address.as_str(), text);
    }
    if let Ok(id) = NodeId::from_peer_id_bytes(data) {
        assert_eq!(id.to_peer_id_bytes(), data);
    }
    if let Ok(variants) = parse_master(text) {
        assert!(!variants.is_empty());
        let written = write_master(&variants);
        assert!(written.starts_with("#EXTM3U"), "{written}");
    }
}
