//! Master playlists, written and read by m3u8-rs.

use m3u8_rs::{MasterPlaylist, QuotedOrUnquoted, Resolution, VariantStream};

/// One EXT-X-STREAM-INF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Where its media playlist is, relative to the master.
    pub uri: String,
    /// RFC 6381 codec strings, comma separated.
    pub codecs: String,
    /// Pixels; 0 without video.
    pub width: u32,
    /// Pixels; 0 without video.
    pub height: u32,
    /// Frames per second times 1000; 0 when unknown.
    pub frame_rate_milli: u32,
    /// Peak segment bitrate in bits per second.
    pub bandwidth: u32,
    /// Average bitrate in bits per second.
    pub average_bandwidth: u32,
    /// Name of the rendition, for players' menus.
    pub name: String,
}

/// A text is no master playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a master playlist")]
pub struct MasterError;

/// Writes a master playlist. Variants keep their order: the first is where players
/// begin.
#[must_use]
pub fn write_master(variants: &[Variant]) -> String {
    let variants = variants.iter().map(|variant| VariantStream {
        uri: variant.uri.clone(),
        bandwidth: u64::from(variant.bandwidth),
        average_bandwidth: Some(u64::from(variant.average_bandwidth)),
        codecs: Some(variant.codecs.clone()),
        resolution: (variant.width > 0).then(|| Resolution {
            width: u64::from(variant.width),
            height: u64::from(variant.height),
        }),
        frame_rate: (variant.frame_rate_milli > 0)
            .then(|| f64::from(variant.frame_rate_milli) / 1000.0),
        other_attributes: Some(
            [(
                "NAME".to_owned(),
                QuotedOrUnquoted::Quoted(variant.name.clone()),
            )]
            .into(),
        ),
        ..VariantStream::default()
    });
    let master = MasterPlaylist {
        // 6 is the least that has EXT-X-MAP in ordinary media playlists.
        version: Some(6),
        independent_segments: true,
        variants: variants.collect(),
        ..MasterPlaylist::default()
    };
    let mut text = Vec::new();
    // Writing to memory cannot fail, and m3u8-rs writes nothing but text.
    if master.write_to(&mut text).is_err() {
        text.clear();
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads a master playlist.
///
/// # Errors
/// When the text is none.
pub fn parse_master(text: &str) -> Result<Vec<Variant>, MasterError> {
    let (_, master) = m3u8_rs::parse_master_playlist(text.as_bytes()).map_err(|_| MasterError)?;
    let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
    let variant = |variant: VariantStream| {
        let (width, height) = variant.resolution.map_or((0, 0), |r| (r.width, r.height));
        let name = variant
            .other_attributes
            .and_then(|mut other| other.remove("NAME"));
        Variant {
            uri: variant.uri,
            codecs: variant.codecs.unwrap_or_default(),
            width: narrow(width),
            height: narrow(height),
            frame_rate_milli: narrow((variant.frame_rate.unwrap_or(0.0) * 1000.0) as u64),
            bandwidth: narrow(variant.bandwidth),
            average_bandwidth: narrow(variant.average_bandwidth.unwrap_or(0)),
            name: name
                .and_then(|name| name.as_quoted().map(str::to_owned))
                .unwrap_or_default(),
        }
    };
    if master.variants.is_empty() {
        return Err(MasterError);
    }
    Ok(master.variants.into_iter().map(variant).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let video = Variant {
            uri: "a.b.source.m3u8".into(),
            codecs: "avc1.64001f,mp4a.40.2".into(),
            width: 1280,
            height: 720,
            frame_rate_milli: 30_000,
            bandwidth: 3_000_000,
            average_bandwidth: 2_500_000,
            name: "source".into(),
        };
        let audio = Variant {
            uri: "a.b.audio.m3u8".into(),
            codecs: "mp4a.40.2".into(),
            width: 0,
            height: 0,
            frame_rate_milli: 0,
            bandwidth: 130_000,
            average_bandwidth: 128_000,
            name: "audio".into(),
        };

        let text = write_master(&[video.clone(), audio.clone()]);

        assert!(text.contains("#EXT-X-INDEPENDENT-SEGMENTS\n"), "{text}");
        assert!(text.contains("FRAME-RATE=30"), "{text}");
        let read = parse_master(&text).unwrap();
        assert_eq!((&read[0].uri, read[0].width), (&video.uri, 1280));
        assert_eq!((read[1].bandwidth, read[1].width), (130_000, 0));
        assert_eq!(read[0].frame_rate_milli, 30_000);
        assert_eq!(read[0].name, "source");
    }

    #[test]
    fn a_media_playlist_is_no_master() {
        assert_eq!(
            parse_master("#EXTM3U\n#EXTINF:2,\na.m4s\n"),
            Err(MasterError)
        );
        assert_eq!(parse_master("<html>"), Err(MasterError));
    }
}
