//! Which codecs are passed on as they are, and their RFC 6381 names.

use ffmpeg_next::codec::Id;

use crate::ffmpeg::Details;

/// The name of a codec that browsers can play from MP4; `None` for any other.
pub(crate) fn name(id: Id, details: &Details) -> Option<String> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "FFmpeg knows hundreds of codecs; these are the ones that pass"
    )]
    match id {
        Id::H264 => avc(&details.extradata),
        Id::HEVC => hevc(&details.extradata),
        Id::AAC => Some(aac(&details.extradata)),
        _ => None,
    }
}

/// `avc1.PPCCLL` from an AVCDecoderConfigurationRecord, or from the SPS when the stream
/// is in Annex B form.
fn avc(extradata: &[u8]) -> Option<String> {
    let profile = if extradata.first() == Some(&1) {
        extradata.get(1..4)?
    } else {
        let sps = nal_units(extradata).find(|nal| nal.first().is_some_and(|b| b & 0x1f == 7))?;
        sps.get(1..4)?
    };
    Some(format!(
        "avc1.{:02x}{:02x}{:02x}",
        profile[0], profile[1], profile[2]
    ))
}

fn nal_units(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = annex_b.windows(3).enumerate();
    let starts = starts.filter(|(_, window)| *window == [0, 0, 1]);
    starts.map(|(at, _)| &annex_b[at + 3..])
}

/// `hvc1.…` from an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, E.3).
fn hevc(extradata: &[u8]) -> Option<String> {
    let record = extradata.get(..13).filter(|record| record[0] == 1)?;
    let space = ["", "A", "B", "C"][usize::from(record[1] >> 6)];
    let tier = if record[1] & 0x20 == 0 { 'L' } else { 'H' };
    let profile = record[1] & 0x1f;
    let compatibility = u32::from_be_bytes(record[2..6].try_into().ok()?).reverse_bits();
    let level = record[12];
    let mut name = format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{level}");
    let constraints = &record[6..12];
    let used = constraints
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |at| at + 1);
    for byte in &constraints[..used] {
        name.push_str(&format!(".{byte:X}"));
    }
    Some(name)
}

/// `mp4a.40.N` from an AudioSpecificConfig; AAC LC when there is none.
fn aac(extradata: &[u8]) -> String {
    let first = extradata.first().copied().unwrap_or(2 << 3);
    let second = extradata.get(1).copied().unwrap_or(0);
    let object = match first >> 3 {
        31 => 32 + (((first & 7) << 3) | (second >> 5)),
        short => short,
    };
    format!("mp4a.40.{object}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avc_names_come_from_either_form_of_extradata() {
        let record = [1, 0x64, 0x00, 0x1f, 0xff];
        let annex_b = [0, 0, 0, 1, 0x67, 0x4d, 0x40, 0x1f, 0x95];

        assert_eq!(avc(&record).as_deref(), Some("avc1.64001f"));
        assert_eq!(avc(&annex_b).as_deref(), Some("avc1.4d401f"));
        assert_eq!(avc(&[]), None);
    }

    #[test]
    fn hevc_main_profile_has_its_usual_name() {
        let record = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];

        assert_eq!(hevc(&record).as_deref(), Some("hvc1.1.6.L93.90"));
    }

    #[test]
    fn aac_low_complexity_and_high_efficiency_differ() {
        assert_eq!(aac(&[0x12, 0x10]), "mp4a.40.2");
        assert_eq!(aac(&[0x2b, 0x11]), "mp4a.40.5");
        assert_eq!(aac(&[]), "mp4a.40.2");
    }
}
