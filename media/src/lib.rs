//! Segments, playlists, ingest and transcoding. Knows no peers.
