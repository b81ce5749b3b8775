//! Which renditions to make of a source. No FFmpeg here: plans are pure.

use std::{path::Path, str::FromStr};

use crate::part::Tracks;

/// The rungs an operator offers, highest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rung {
    name: String,
    height: u32,
    bitrate_kbps: u32,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rung: Vec<Rung>,
}

/// Why a ladder was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// Not one of the names known.
    #[error("unknown rung {0:?}; known are 1080p, 720p, 540p, 480p, 360p, 240p and 144p")]
    Unknown(String),
    /// No rung at all, or more than eight.
    #[error("a ladder has 1 to 8 rungs")]
    Count,
    /// A number or name out of bounds.
    #[error("rung {0:?}: {1}")]
    Bounds(String, &'static str),
    /// A file that cannot be read as TOML.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Names with their heights and bitrates in kbit/s, after Apple's authoring guide.
const KNOWN: [(&str, u32, u32); 7] = [
    ("1080p", 1080, 5000),
    ("720p", 720, 2800),
    ("540p", 540, 1800),
    ("480p", 480, 1200),
    ("360p", 360, 700),
    ("240p", 240, 350),
    ("144p", 144, 180),
];

impl FromStr for Ladder {
    type Err = LadderError;

    /// Reads a list such as `720p,480p,360p`.
    fn from_str(text: &str) -> Result<Self, LadderError> {
        let rung = |name: &str| {
            let known = KNOWN.iter().find(|(known, ..)| *known == name);
            let (name, height, bitrate_kbps) =
                *known.ok_or_else(|| LadderError::Unknown(name.to_owned()))?;
            Ok(Rung {
                name: name.to_owned(),
                height,
                bitrate_kbps,
            })
        };
        let rungs: Result<_, _> = text.split(',').map(|name| rung(name.trim())).collect();
        Self::new(rungs?)
    }
}

impl Ladder {
    /// Reads `[[rung]]` tables with `name`, `height` and `bitrate_kbps` from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or a rung is out of bounds.
    pub fn from_file(path: &Path) -> Result<Self, LadderError> {
        let error = |reason: String| LadderError::File {
            path: path.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|e| error(e.to_string()))?;
        Self::new(file.rung)
    }

    fn new(mut rungs: Vec<Rung>) -> Result<Self, LadderError> {
        if rungs.is_empty() || rungs.len() > 8 {
            return Err(LadderError::Count);
        }
        for (at, rung) in rungs.iter().enumerate() {
            let bounds = |what| Err(LadderError::Bounds(rung.name.clone(), what));
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
            if rung.name.is_empty() || rung.name.len() > 32 || !rung.name.bytes().all(plain) {
                return bounds("a name is 1 to 32 of a-z, 0-9, '-' and '_'");
            }
            if rung.name == "source" || rungs[..at].iter().any(|other| other.name == rung.name) {
                return bounds("the name is taken");
            }
            if !(64..=4320).contains(&rung.height) {
                return bounds("a height is 64 to 4320 pixels");
            }
            if !(50..=100_000).contains(&rung.bitrate_kbps) {
                return bounds("a bitrate is 50 to 100000 kbit/s");
            }
        }
        rungs.sort_by_key(|rung| std::cmp::Reverse(rung.height));
        Ok(Self { rungs })
    }

    /// Names of the rungs, highest first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rungs.iter().map(|rung| rung.name.as_str())
    }
}

/// One rendition to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RungPlan {
    /// Name of the rendition.
    pub name: String,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Bits per second of video.
    pub bit_rate: usize,
}

/// The renditions to make of a source: none larger than it, none that differs from
/// another only in name, at least one when there is video.
#[must_use]
pub fn plan(tracks: &Tracks, ladder: &Ladder) -> Vec<RungPlan> {
    let Some(video) = &tracks.video else {
        return Vec::new();
    };
    if video.width == 0 || video.height == 0 {
        return Vec::new();
    }
    let fitting = ladder
        .rungs
        .iter()
        .filter(|rung| rung.height <= video.height);
    let mut rungs: Vec<_> = fitting.collect();
    // A small source still gets a lighter version of itself.
    if rungs.is_empty() {
        rungs.extend(ladder.rungs.last());
    }
    let even = |pixels: u64| u32::try_from(pixels / 2 * 2).unwrap_or(0).max(2);
    let size = |rung: &Rung| {
        let height = u64::from(rung.height.min(video.height));
        let width = (u64::from(video.width) * height * 2 / u64::from(video.height)).div_ceil(2);
        (even(width), even(height))
    };
    rungs
        .into_iter()
        .map(|rung| {
            let (width, height) = size(rung);
            RungPlan {
                name: rung.name.clone(),
                width,
                height,
                bit_rate: rung.bitrate_kbps as usize * 1000,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::VideoTrack;

    fn source(width: u32, height: u32) -> Tracks {
        Tracks {
            video: Some(VideoTrack {
                codec: "avc1.64001f".into(),
                width,
                height,
                frame_rate_milli: 30_000,
            }),
            audio: None,
        }
    }

    #[test]
    fn nothing_is_enlarged() {
        let ladder = "1080p,720p,360p".parse().unwrap();

        let rungs = plan(&source(1280, 720), &ladder);

        let sizes: Vec<_> = rungs.iter().map(|r| (r.width, r.height)).collect();
        assert_eq!(sizes, [(1280, 720), (640, 360)]);
    }

    #[test]
    fn odd_and_upright_pictures_keep_their_shape_in_even_pixels() {
        let ladder = "360p".parse().unwrap();

        assert_eq!(plan(&source(853, 480), &ladder)[0].width, 640);
        assert_eq!(plan(&source(720, 1280), &ladder)[0].width, 202);
    }

    #[test]
    fn a_source_below_every_rung_still_gets_one() {
        let ladder = "720p,480p".parse().unwrap();

        let rungs = plan(&source(320, 180), &ladder);

        assert_eq!(rungs.len(), 1);
        assert_eq!((rungs[0].width, rungs[0].height), (320, 180));
    }

    #[test]
    fn bad_ladders_say_what_is_wrong() {
        let error = |text: &str| text.parse::<Ladder>().unwrap_err().to_string();
        assert!(error("721p").contains("721p"));
        assert!(error("720p,720p").contains("taken"));
        assert!(error("").contains("unknown rung"));
    }
}
