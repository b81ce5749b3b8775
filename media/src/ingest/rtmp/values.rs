//! Whether the values of a message can be read safely.
//!
//! rml_rtmp reads AMF0 values (AMF 0, 2) by recursion and without a bound, so that one
//! message could use up a thread's stack, which ends the program; and it panics when there
//! are fewer than it looks for.

/// Values within values; encoders use about three.
const DEPTH: usize = 32;
/// Bytes of a message of values; encoders use about two thousand.
const LEN: usize = 64 * 1024;

/// Messages of values, those in AMF3 too, which encoders fill with AMF0 all the same (RTMP
/// 1.0, 7.1).
const DATA: u8 = 18;
const COMMAND: u8 = 20;
const DATA_3: u8 = 15;
const COMMAND_3: u8 = 17;

/// What a value is in.
enum Around {
    /// An object or an array with names, which ends with a mark.
    Named,
    /// An array with this many values to come.
    Counted(u32),
}

/// How a message begins that says what a stream is made of.
const DATA_FRAME: &[u8] = b"\x02\0\x0d@setDataFrame";
/// Values of a command and of such a message, at least.
const FEWEST: usize = 3;

/// Whether a message may be given to rml_rtmp.
pub(super) fn are_safe(kind: u8, data: &[u8]) -> bool {
    let (values, fewest) = match (kind, data) {
        (COMMAND_3, [0, values @ ..]) => (values, FEWEST),
        (COMMAND | COMMAND_3, values) => (values, FEWEST),
        (DATA | DATA_3, values) if values.starts_with(DATA_FRAME) => (values, FEWEST),
        (DATA | DATA_3, values) => (values, 0),
        _ => return true,
    };
    data.len() <= LEN && count(values).is_some_and(|count| count >= fewest)
}

/// Whole values, of which those that are within others do not count; `None` when they are
/// too deep.
fn count(values: &[u8]) -> Option<usize> {
    let mut left = values;
    let mut around = Vec::new();
    let mut count = 0;
    while around.len() <= DEPTH {
        if step(&mut around, &mut left).is_none() {
            return Some(count);
        }
        count += usize::from(around.is_empty());
    }
    None
}

/// Goes on by a value, or out of what it is in; `None` where rml_rtmp stops reading.
fn step(around: &mut Vec<Around>, left: &mut &[u8]) -> Option<()> {
    match around.last_mut() {
        Some(Around::Named) => {
            let [high, low] = take(left)?;
            let name = usize::from(u16::from_be_bytes([high, low]));
            if name == 0 {
                take::<1>(left)?;
                around.pop();
                return Some(());
            }
            *left = left.get(name..)?;
        }
        Some(Around::Counted(0)) => {
            around.pop();
            return Some(());
        }
        Some(Around::Counted(more)) => *more -= 1,
        None => {}
    }
    let [mark] = take(left)?;
    match mark {
        // A number, a boolean, a string, null and undefined.
        0 => *left = left.get(8..)?,
        1 => *left = left.get(1..)?,
        2 => {
            let [high, low] = take(left)?;
            *left = left.get(usize::from(u16::from_be_bytes([high, low]))..)?;
        }
        5 | 6 => {}
        3 => around.push(Around::Named),
        8 => {
            take::<4>(left)?;
            around.push(Around::Named);
        }
        10 => around.push(Around::Counted(u32::from_be_bytes(take(left)?))),
        // The end of an object ends an array too, wherever it stands.
        9 if matches!(around.last(), Some(Around::Counted(_))) => drop(around.pop()),
        _ => return None,
    }
    Some(())
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A string, a number, and an object that holds a number, an array and, with a name for
    /// each of its values, another one.
    const USUAL: &[u8] = b"\x02\0\x01a\0\0\0\0\0\0\0\0\0\
        \x03\0\x01n\0\0\0\0\0\0\0\0\0\0\x01l\x0a\0\0\0\x02\x01\x01\x05\
        \0\x01m\x08\0\0\0\x01\0\x01x\x02\0\x01y\0\0\x09\0\0\x09";

    #[test]
    fn what_encoders_say_is_safe() {
        assert_eq!(count(USUAL), Some(3));
        assert!(are_safe(COMMAND, USUAL));
        for len in 0..=USUAL.len() {
            assert!(are_safe(DATA, &USUAL[..len]), "{len}");
        }
        // What has ended does not count as something around the rest.
        assert!(are_safe(DATA, &USUAL.repeat(DEPTH * 2)));
        assert!(are_safe(DATA, &b"\x0a\0\0\0\x05\x09".repeat(DEPTH * 2)));
    }

    #[test]
    fn fewer_values_than_are_looked_for_are_not() {
        for kind in [COMMAND, COMMAND_3] {
            assert!(!are_safe(kind, &USUAL[..USUAL.len() - 1]));
            assert!(!are_safe(kind, &[]));
        }
        let frame = [DATA_FRAME, b"\x02\0\x0aonMetaData"].concat();
        assert!(!are_safe(DATA, &frame));
        assert!(are_safe(
            DATA,
            &[&frame[..], b"\x08\0\0\0\0\0\0\x09"].concat()
        ));
    }

    #[test]
    fn values_within_too_many_values_are_not() {
        for one in [
            &b"\x03\0\x01a"[..],
            b"\x08\0\0\0\x01\0\x01a",
            b"\x0a\0\0\0\x01",
            b"\x03\0\x01b\x05\0\x01a",
        ] {
            assert!(are_safe(DATA, &one.repeat(DEPTH)));
            for kind in [DATA, COMMAND, DATA_3, COMMAND_3] {
                assert!(!are_safe(kind, &one.repeat(DEPTH + 1)), "{one:?}");
            }
            let with_a_zero = [&[0][..], &one.repeat(DEPTH + 1)].concat();
            assert!(!are_safe(COMMAND_3, &with_a_zero), "{one:?}");
        }
    }

    #[test]
    fn neither_are_very_many() {
        assert!(are_safe(COMMAND, &[5; LEN]));
        assert!(!are_safe(COMMAND, &[5; LEN + 1]));
        // A picture is no values.
        assert!(are_safe(9, &[3; LEN + 1]));
    }
}
