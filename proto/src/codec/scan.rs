//! Holds bytes against the schema before anything is built from them.
//!
//! A protobuf reader builds every element of a repeated field, merges fields that stand
//! twice, takes the last of two bodies, and skips any amount of what it does not know.
//! Here all that is counted first, over the bytes alone: no memory is taken.

use crate::{
    error::DecodeError,
    limits::{self, MAX_UNKNOWN_BYTES},
};

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The fields of one message.
#[derive(Debug)]
pub(super) struct Shape(&'static [Field]);

#[derive(Debug)]
struct Field {
    number: u64,
    name: &'static str,
    kind: Kind,
    /// Fields that exclude each other have one group, its number below [`GROUPS`].
    group: usize,
    /// How many of the group there may be.
    max: usize,
}

#[derive(Debug)]
enum Kind {
    Varint,
    Fixed64,
    Bytes,
    Message(&'static Shape),
}

/// More than the fields of any message.
const GROUPS: usize = 32;

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Within all bounds.
    Known,
    /// It has not one field of the shape.
    Unknown,
}

/// Checks that a message has each field at most as often as it may, and not too much
/// that is in no schema. Bounds on values are not its business.
///
/// # Errors
/// When it does not, or is no protobuf.
pub(super) fn scan(bytes: &[u8], shape: &Shape) -> Result<Seen, DecodeError> {
    let mut unknown = 0;
    if message(bytes, shape, &mut unknown)? == Seen::Unknown {
        return Ok(Seen::Unknown);
    }
    if unknown > MAX_UNKNOWN_BYTES {
        return Err(DecodeError::OutOfBounds("unknown"));
    }
    Ok(Seen::Known)
}

fn message(mut bytes: &[u8], shape: &Shape, unknown: &mut usize) -> Result<Seen, DecodeError> {
    let mut counts = [0_usize; GROUPS];
    let mut seen = Seen::Unknown;
    while !bytes.is_empty() {
        let before = bytes.len();
        let (number, value) = next(&mut bytes)?;
        let Some(field) = shape.0.iter().find(|field| field.number == number) else {
            *unknown += before - bytes.len();
            continue;
        };
        seen = Seen::Known;
        let count = counts.get_mut(field.group).ok_or(DecodeError::Malformed)?;
        *count = count.saturating_add(elements(field, value)?);
        if *count > field.max {
            return Err(DecodeError::OutOfBounds(field.name));
        }
        if let (Kind::Message(inner), Value::Bytes(body)) = (&field.kind, value) {
            message(body, inner, unknown)?;
        }
    }
    Ok(seen)
}

/// How many elements one occurrence of a field adds; numbers may come packed.
fn elements(field: &Field, value: Value<'_>) -> Result<usize, DecodeError> {
    let repeated = field.max > 1;
    match (&field.kind, value) {
        (Kind::Varint, Value::Varint)
        | (Kind::Fixed64, Value::Fixed64)
        | (Kind::Bytes | Kind::Message(_), Value::Bytes(_)) => Ok(1),
        // Each varint ends in a byte without its high bit.
        (Kind::Varint, Value::Bytes(packed)) if repeated => {
            Ok(packed.iter().filter(|byte| **byte < 0x80).count())
        }
        (Kind::Fixed64, Value::Bytes(packed)) if repeated => Ok(packed.len().div_ceil(8)),
        (
            Kind::Varint | Kind::Fixed64 | Kind::Bytes | Kind::Message(_),
            Value::Varint | Value::Fixed64 | Value::Fixed32 | Value::Bytes(_),
        ) => Err(DecodeError::Malformed),
    }
}

/// A field's value as far as the wire tells its type.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint,
    Fixed64,
    Fixed32,
    Bytes(&'a [u8]),
}

/// Takes one field off the front.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Value<'a>), DecodeError> {
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        0 => {
            varint(bytes)?;
            Value::Varint
        }
        1 => {
            take(bytes, 8)?;
            Value::Fixed64
        }
        2 => {
            let len = usize::try_from(varint(bytes)?).map_err(|_| DecodeError::Malformed)?;
            Value::Bytes(take(bytes, len)?)
        }
        5 => {
            take(bytes, 4)?;
            Value::Fixed32
        }
        // Groups are of an older protobuf; the rest is nothing.
        _ => return Err(DecodeError::Malformed),
    };
    Ok((tag >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(DecodeError::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` empty elements of field `number`.
    fn repeated(number: u8, count: usize) -> Vec<u8> {
        [number << 3 | 2, 0].repeat(count)
    }

    fn packed(number: u8, values: &[u8]) -> Vec<u8> {
        let len = u8::try_from(values.len()).unwrap();
        [&[number << 3 | 2, len], values].concat()
    }

    #[test]
    fn every_shape_fits_the_counters() {
        fn check(shape: &Shape) {
            for field in shape.0 {
                assert!(field.group < GROUPS, "{}", field.name);
                assert!(field.max > 0, "{}", field.name);
                if let Kind::Message(inner) = &field.kind {
                    check(inner);
                }
            }
        }
        let statements = [
            &PART_HEADER,
            &STREAM_END,
            &MASTER_PLAYLIST,
            &NODE_STATUS,
            &TRANSCODE_RESULT,
            &RECEIPTS_WANTED,
            &RECEIPT_LIST,
        ];
        check(&ENVELOPE);
        statements.into_iter().for_each(check);
    }

    #[test]
    fn elements_are_counted_however_they_are_written() {
        let max = limits::MAX_REDIRECT_NODES;
        assert_eq!(scan(&repeated(2, max), &REDIRECT), Ok(Seen::Known));
        let beyond = Err(DecodeError::OutOfBounds("nodes"));
        assert_eq!(scan(&repeated(2, max + 1), &REDIRECT), beyond);

        let path = packed(5, &[0; 8 * 15]);
        assert_eq!(scan(&path, &SUB_ACK), Ok(Seen::Known));
        let beyond = Err(DecodeError::OutOfBounds("path"));
        assert_eq!(scan(&path.repeat(3), &SUB_ACK), beyond);

        let chunks = packed(3, &[1; 100]);
        assert_eq!(scan(&chunks.repeat(2), &NACK), Ok(Seen::Known));
        let beyond = Err(DecodeError::OutOfBounds("chunks"));
        assert_eq!(scan(&chunks.repeat(3), &NACK), beyond);
        assert_eq!(scan(&[3 << 3, 1].repeat(257), &NACK), beyond);
    }

    #[test]
    fn a_single_field_stands_once_and_a_oneof_has_one_member() {
        let nonce = [1 << 3, 7];
        assert_eq!(scan(&nonce, &PING), Ok(Seen::Known));
        let twice = Err(DecodeError::OutOfBounds("nonce"));
        assert_eq!(scan(&nonce.repeat(2), &PING), twice);

        let init_and_part = [&[1 << 3, 1][..], &packed(2, &[])].concat();
        let twice = Err(DecodeError::OutOfBounds("part"));
        assert_eq!(scan(&init_and_part, &SLOT), twice);
    }

    #[test]
    fn what_no_schema_has_is_skipped_within_its_bound() {
        let nonce = [1 << 3, 7];
        let padding = [&[9 << 3 | 2, 100][..], &[0; 100]].concat();
        let message = |count| [&nonce[..], &padding.repeat(count)].concat();
        assert_eq!(scan(&message(10), &PING), Ok(Seen::Known));
        let beyond = Err(DecodeError::OutOfBounds("unknown"));
        assert_eq!(scan(&message(11), &PING), beyond);
        assert_eq!(scan(&padding.repeat(600), &PING), Ok(Seen::Unknown));
    }

    #[test]
    fn what_is_no_protobuf_is_malformed() {
        for bad in [
            &[0x80][..],
            &[1 << 3],
            &[1 << 3 | 2, 0],
            &[1 << 3 | 3],
            &[9 << 3 | 7],
            &[9 << 3 | 1, 0, 0],
            &[
                9 << 3 | 2,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                1,
            ],
            &[
                9 << 3,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                1,
            ],
        ] {
            assert_eq!(scan(bad, &PING), Err(DecodeError::Malformed), "{bad:?}");
        }
    }
}
