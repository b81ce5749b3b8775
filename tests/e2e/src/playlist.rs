//! What the playlists of a running node say.

#![expect(
    clippy::unwrap_used,
    reason = "a playlist that does not come has failed its test"
)]

use std::time::Duration;

use anyhow::Context as _;

use crate::{Node, eventually, get_text};

/// The numbers of a media playlist's segments.
#[must_use]
pub fn segments(playlist: &str) -> Vec<u64> {
    let number = |line: &str| line.rsplit('/').next()?.strip_suffix(".m4s")?.parse().ok();
    playlist.lines().filter_map(number).collect()
}

/// Waits until a playlist has a segment beyond `after`; returns it.
///
/// # Panics
/// When none comes.
pub async fn playlist_beyond(node: &Node, stream: &str, after: u64) -> String {
    let url = format!("{}/stream/{stream}.m3u8", node.http);
    eventually("a newer segment", Duration::from_secs(40), async || {
        let text = get_text(&url).await?;
        let newest = segments(&text).last().copied().context("no segments")?;
        anyhow::ensure!(newest > after, "newest is {newest}");
        Ok(text)
    })
    .await
    .unwrap()
}

/// The numbers of a media playlist's segments, after a look that none is missing or twice.
///
/// # Panics
/// When one is.
#[expect(clippy::must_use_candidate, reason = "some only want the look")]
pub fn unbroken(playlist: &str) -> Vec<u64> {
    let numbers = segments(playlist);
    let first = *numbers.first().unwrap();
    let expected: Vec<_> = (first..first + numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "a hole or a repeat");
    assert!(!playlist.contains("#EXT-X-GAP"), "{playlist}");
    numbers
}
