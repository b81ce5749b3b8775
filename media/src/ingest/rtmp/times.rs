//! Whether an encoder's clock still runs.
//!
//! A stream's times rise without holes, as the playlist adds them up. An encoder whose
//! clock is set, or that stood still, is one that begins anew.

use super::headers::Kind;

/// Media of a track may be this much earlier than the media before it, in ms.
const BACK: i32 = 500;
/// Media may be this much later than all before it, in ms. It is long, because a track
/// alone may have a picture every other second.
const AHEAD: i32 = 3000;

/// The newest times of one encoder, in ms modulo 2^32.
#[derive(Debug, Default)]
pub(super) struct Times {
    video: Option<u32>,
    audio: Option<u32>,
    /// Of either track.
    newest: Option<u32>,
}

impl Times {
    /// Takes note of media; `true` when its time has nothing to do with those before.
    pub(super) fn leaps(&mut self, kind: Kind, time: u32) -> bool {
        let track = match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
            Kind::Script => return false,
        };
        let back = track.is_some_and(|last| since(last, time) < -BACK);
        let ahead = self.newest.is_some_and(|last| since(last, time) > AHEAD);
        if back || ahead {
            *self = Self::default();
        }
        match kind {
            Kind::Video => self.video = Some(time),
            Kind::Audio | Kind::Script => self.audio = Some(time),
        }
        if self.newest.is_none_or(|last| since(last, time) > 0) {
            self.newest = Some(time);
        }
        back || ahead
    }
}

/// From `last` to `time`; they may have gone round 2^32 between.
const fn since(last: u32, time: u32) -> i32 {
    time.wrapping_sub(last).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaps(times: &[(Kind, u32)]) -> Vec<bool> {
        let mut seen = Times::default();
        let leap = |&(kind, time)| seen.leaps(kind, time);
        times.iter().map(leap).collect()
    }

    #[test]
    fn a_clock_that_is_set_back_or_forward_leaps_once() {
        let video = |time| (Kind::Video, time);
        assert_eq!(
            leaps(&[video(9000), video(9040), video(40), video(80)]),
            [false, false, true, false]
        );
        assert_eq!(
            leaps(&[video(9000), video(12_001), video(12_041)]),
            [false, true, false]
        );
    }

    #[test]
    fn both_tracks_leap_together() {
        let times = [
            (Kind::Video, 9000),
            (Kind::Audio, 9010),
            (Kind::Audio, 60_000),
            (Kind::Video, 59_990),
            (Kind::Audio, 60_021),
            (Kind::Video, 0),
            (Kind::Audio, 10),
        ];
        assert_eq!(
            leaps(&times),
            [false, false, true, false, false, true, false]
        );
    }

    #[test]
    fn what_encoders_do_is_no_leap() {
        let times = [
            // A picture every three seconds, with tracks that are not quite in order.
            (Kind::Video, 0),
            (Kind::Video, 3000),
            (Kind::Audio, 1000),
            (Kind::Audio, 900),
            // Pictures are left out while sound goes on.
            (Kind::Audio, 4000),
            (Kind::Audio, 7000),
            (Kind::Video, 9000),
            (Kind::Script, 0),
        ];
        assert_eq!(leaps(&times), [false; 8]);
    }

    #[test]
    fn times_go_round() {
        let times = [(Kind::Video, u32::MAX - 20), (Kind::Video, 20)];
        assert_eq!(leaps(&times), [false; 2]);
    }
}
