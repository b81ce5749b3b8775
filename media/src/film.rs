//! A stream as a film: its times begin at zero.
//!
//! A part has the time of its broadcast, which may have gone on for hours when somebody
//! begins to keep it.

use std::{collections::BTreeMap, ops::Range};

/// Sets the decode times of inits and parts back, by the same whole seconds in all tracks.
/// What is no MP4 stays as it is.
#[derive(Debug, Default)]
pub struct Film {
    /// Ticks per second, by track.
    scales: BTreeMap<u32, u32>,
    /// Seconds that were over when the film began.
    begin: Option<u64>,
}

/// The decode time of a track in a fragment (ISO/IEC 14496-12, 8.8.12).
struct DecodeTime {
    /// Ticks per second.
    scale: u64,
    ticks: u64,
    /// Where it is: four or eight bytes.
    place: Range<usize>,
}

impl Film {
    /// Takes the next init or part, in order.
    pub fn set_back(&mut self, data: &mut [u8]) {
        for (kind, content) in boxes(data, 0..data.len()) {
            match &kind {
                b"moov" => self.scales = scales(data, content),
                b"moof" => self.fragment(data, content),
                _ => {}
            }
        }
    }

    fn fragment(&mut self, data: &mut [u8], moof: Range<usize>) {
        let tracks = boxes(data, moof).filter(|(kind, _)| kind == b"traf");
        let times: Vec<_> = tracks
            .filter_map(|(_, traf)| self.decode_time(data, traf))
            .collect();
        let first = times.iter().map(|time| time.ticks / time.scale).min();
        let Some(begin) = self.begin.or(first) else {
            return;
        };
        self.begin = Some(begin);
        for time in times {
            let ticks = time.ticks.saturating_sub(begin.saturating_mul(time.scale));
            let bytes = ticks.to_be_bytes();
            let skipped = bytes.len() - time.place.len();
            data[time.place].copy_from_slice(&bytes[skipped..]);
        }
    }

    fn decode_time(&self, data: &[u8], traf: Range<usize>) -> Option<DecodeTime> {
        let track = number(data, child(data, traf.clone(), *b"tfhd")?, 4)?;
        let scale = self.scales.get(&track).filter(|scale| **scale > 0)?;
        let tfdt = child(data, traf, *b"tfdt")?;
        let len = if *data.get(tfdt.start)? == 0 { 4 } else { 8 };
        let place = tfdt.start + 4..tfdt.start + 4 + len;
        let ticks = data[..tfdt.end].get(place.clone())?;
        Some(DecodeTime {
            scale: u64::from(*scale),
            ticks: ticks.iter().fold(0, |all, b| all << 8 | u64::from(*b)),
            place,
        })
    }
}

/// Ticks per second of the tracks of a `moov` (ISO/IEC 14496-12, 8.3.2 and 8.4.2).
fn scales(data: &[u8], moov: Range<usize>) -> BTreeMap<u32, u32> {
    let tracks = boxes(data, moov).filter(|(kind, _)| kind == b"trak");
    let scale = |(_, trak): ([u8; 4], Range<usize>)| {
        let tkhd = child(data, trak.clone(), *b"tkhd")?;
        let mdhd = child(data, child(data, trak, *b"mdia")?, *b"mdhd")?;
        // Behind two times, whose length is the box's version.
        let after_times = |content: Range<usize>| {
            let short = *data.get(content.start)? == 0;
            number(data, content, if short { 12 } else { 20 })
        };
        Some((after_times(tkhd)?, after_times(mdhd)?))
    };
    tracks.filter_map(scale).collect()
}

/// Kinds and contents of the boxes in a range, up to one that does not fit into it.
fn boxes(
    data: &[u8],
    within: Range<usize>,
) -> impl Iterator<Item = ([u8; 4], Range<usize>)> + use<> {
    let mut found = Vec::new();
    let mut at = within.start;
    while let Some(len) = number(data, within.clone(), at - within.start) {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| at.checked_add(len));
        let kind = data
            .get(at + 4..at + 8)
            .and_then(|kind| kind.try_into().ok());
        match (kind, end) {
            (Some(kind), Some(end)) if end >= at + 8 && end <= within.end => {
                found.push((kind, at + 8..end));
                at = end;
            }
            _ => break,
        }
    }
    found.into_iter()
}

fn child(data: &[u8], within: Range<usize>, kind: [u8; 4]) -> Option<Range<usize>> {
    let mut children = boxes(data, within);
    children.find_map(|(found, content)| (found == kind).then_some(content))
}

/// Four bytes of a box's content.
fn number(data: &[u8], content: Range<usize>, at: usize) -> Option<u32> {
    let bytes = data.get(content)?.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let len = u32::try_from(content.len() + 8).unwrap().to_be_bytes();
        [&len, &kind[..], content].concat()
    }

    fn init() -> Vec<u8> {
        let trak = |track: u8, scale: u16| {
            let [high, low] = scale.to_be_bytes();
            let tkhd = [&[0; 15][..], &[track]].concat();
            let mdhd = [&[0; 14][..], &[high, low]].concat();
            let mdia = boxed(b"mdia", &boxed(b"mdhd", &mdhd));
            boxed(b"trak", &[boxed(b"tkhd", &tkhd), mdia].concat())
        };
        let moov = [trak(1, 1000), trak(2, 48_000)].concat();
        [boxed(b"ftyp", b"iso6"), boxed(b"moov", &moov)].concat()
    }

    /// A fragment with a short time of track 1 and a long one of track 2.
    fn fragment(first: u32, second: u64) -> Vec<u8> {
        let traf = |track: u8, version: u8, time: &[u8]| {
            let tfhd = boxed(b"tfhd", &[0, 0, 0, 0, 0, 0, 0, track]);
            let tfdt = boxed(b"tfdt", &[&[version, 0, 0, 0], time].concat());
            boxed(b"traf", &[tfhd, tfdt].concat())
        };
        let (first, second) = (first.to_be_bytes(), second.to_be_bytes());
        let moof = [traf(1, 0, &first), traf(2, 1, &second)].concat();
        [boxed(b"moof", &moof), boxed(b"mdat", b"media")].concat()
    }

    #[test]
    fn all_tracks_are_set_back_by_the_same_seconds() {
        let mut film = Film::default();
        film.set_back(&mut init());

        let mut first = fragment(763_633, 763 * 48_000 + 500);
        film.set_back(&mut first);
        assert_eq!(first, fragment(633, 500));

        let mut later = fragment(765_000, 765 * 48_000);
        film.set_back(&mut later);
        assert_eq!(later, fragment(2000, 2 * 48_000));
    }

    #[test]
    fn what_is_no_mp4_stays_as_it_is() {
        let whole = [init(), fragment(763_633, 763 * 48_000)].concat();
        for len in 0..whole.len() {
            Film::default().set_back(&mut whole[..len].to_vec());
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0xff] {
                let mut bent = whole.clone();
                bent[at] = byte;
                Film::default().set_back(&mut bent);
                assert_eq!(bent.len(), whole.len());
            }
        }
        let mut unknown = fragment(763_633, 763 * 48_000);
        Film::default().set_back(&mut unknown);
        assert_eq!(unknown, fragment(763_633, 763 * 48_000));
    }
}
