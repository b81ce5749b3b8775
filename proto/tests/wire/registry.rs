//! Numbers and bytes that never change.

use std::{collections::BTreeSet, fmt::Write as _};

use headwater_proto::decode;

use crate::{
    examples::{all, bytes, kind, schema},
    generated,
};

const VECTORS: &str = include_str!("../vectors.txt");
const SPEC: &str = include_str!("../../SPEC.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn golden_bytes_are_written_and_read_as_ever() {
    let vectors: Vec<_> = VECTORS.lines().collect();
    assert_eq!(vectors.len(), all().len(), "a line for each");
    for (line, (name, message)) in vectors.into_iter().zip(all()) {
        let written = format!("{name} {}", hex(&bytes(&message)));
        assert_eq!(written, line, "a changed wire is another version");
        let (_, text) = line.split_once(' ').unwrap();
        assert_eq!(decode(unhex(text).into()), Ok(message), "{name}");
    }
}

#[test]
fn every_kind_of_the_schema_has_golden_bytes_and_is_generated() {
    let kinds: BTreeSet<_> = schema().into_iter().map(|(_, number)| number).collect();
    assert_eq!(kinds.len(), schema().len(), "no number stands twice");

    let golden: BTreeSet<_> = all().iter().map(|(_, message)| kind(message)).collect();
    assert_eq!(golden, kinds);
    let generated: BTreeSet<_> = generated::kinds().into_iter().map(|(k, _)| k).collect();
    assert_eq!(generated, kinds);
}

#[test]
fn every_kind_of_the_schema_is_in_the_specification() {
    for (name, number) in schema() {
        let title: String = name
            .split('_')
            .flat_map(|word| [word[..1].to_uppercase(), word[1..].to_owned()])
            .collect();
        let row = format!("\n| {number} | {title} |");
        assert!(SPEC.contains(&row), "no row for {number} {title}");
    }
}
