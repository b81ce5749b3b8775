//! Parts of what never changes: byte ranges, and what a client has already.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;

/// Which bytes to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of them.
    Whole,
    /// From the first to the last, both included.
    Part { from: usize, to: usize },
    /// The range lies outside.
    Outside,
}

/// The client has what `tag` names (RFC 9110, 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
    let tag = opaque(tag);
    let lists = headers.get_all(header::IF_NONE_MATCH).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .any(|list| list.trim() == "*" || list.split(',').any(|known| opaque(known.trim()) == tag))
}

/// What of `len` bytes under the strong `tag` is asked for (RFC 9110, 14.2): a range of
/// something else than the client thinks, of another unit, or one that cannot be read, is
/// answered in full.
pub(super) fn select(method: &Method, headers: &HeaderMap, tag: &str, len: usize) -> Selection {
    let stale = headers
        .get(header::IF_RANGE)
        .is_some_and(|known| known.as_bytes() != tag.as_bytes());
    if method != Method::GET || stale {
        return Selection::Whole;
    }
    let range = headers.get(header::RANGE).map(HeaderValue::to_str);
    match range {
        Some(Ok(text)) => parse(text).map_or(Selection::Whole, |range| range.resolve(len)),
        Some(Err(_)) | None => Selection::Whole,
    }
}

/// One range as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(text: &str) -> Option<Asked> {
    let (unit, range) = text.split_once('=')?;
    let (from, to) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (from, to) {
        ("", last) => number(last).map(Asked::Last),
        (from, "") => Some(Asked::From(number(from)?, None)),
        (from, to) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some(Asked::From(from, Some(to)))
        }
    }
}

/// Digits; a number too large for us is larger than anything we have.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Asked {
    fn resolve(self, len: usize) -> Selection {
        let Some(last) = len.checked_sub(1) else {
            return Selection::Outside;
        };
        let clamp = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (from, to) = match self {
            Self::Last(0) => return Selection::Outside,
            Self::Last(count) => (len.saturating_sub(clamp(count)), last),
            Self::From(from, to) => (clamp(from), to.map_or(last, clamp).min(last)),
        };
        if from > last {
            Selection::Outside
        } else {
            Selection::Part { from, to }
        }
    }
}

/// The bytes `from` to `to` of what lies in pieces; nothing is copied.
pub(super) fn cut(pieces: Vec<Bytes>, from: usize, to: usize) -> Vec<Bytes> {
    let mut at = 0;
    let mut kept = Vec::new();
    for piece in pieces {
        let end = at + piece.len();
        let (first, past) = (from.max(at), (to + 1).min(end));
        if first < past {
            kept.push(piece.slice(first - at..past - at));
        }
        at = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"7-100\"";

    fn selected(text: &str) -> Selection {
        let headers = [(header::RANGE, text.parse().unwrap())];
        select(&Method::GET, &headers.into_iter().collect(), TAG, 100)
    }

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        for (text, from, to) in [
            ("bytes=0-9", 0, 9),
            ("bytes=90-", 90, 99),
            ("bytes=-10", 90, 99),
            ("bytes=-500", 0, 99),
            ("bytes=90-500", 90, 99),
            ("bytes=90-99999999999999999999999", 90, 99),
            ("Bytes=0-0", 0, 0),
        ] {
            assert_eq!(selected(text), Selection::Part { from, to }, "{text}");
        }
    }

    #[test]
    fn ranges_outside_are_refused() {
        for text in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(selected(text), Selection::Outside, "{text}");
        }
    }

    #[test]
    fn what_is_no_single_range_is_answered_in_full() {
        for text in [
            "bytes=-",
            "bytes=a-b",
            "bytes=0-1,5-6",
            "bytes=9-3",
            "bytes=+1-3",
            "lines=0-1",
            "",
        ] {
            assert_eq!(selected(text), Selection::Whole, "{text}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_answered_in_full() {
        let with = |known: &'static str| {
            let headers = [
                (header::RANGE, HeaderValue::from_static("bytes=0-9")),
                (header::IF_RANGE, HeaderValue::from_static(known)),
            ];
            select(&Method::GET, &headers.into_iter().collect(), TAG, 100)
        };
        assert_eq!(with(TAG), Selection::Part { from: 0, to: 9 });
        assert_eq!(with("\"other\""), Selection::Whole);
        assert_eq!(with("W/\"7-100\""), Selection::Whole, "weak tags never do");
        assert_eq!(with("Sat, 21 Nov 2026 07:00:00 GMT"), Selection::Whole);
    }

    #[test]
    fn only_get_knows_ranges() {
        let headers: HeaderMap = [(header::RANGE, HeaderValue::from_static("bytes=0-9"))]
            .into_iter()
            .collect();
        let head = select(&Method::HEAD, &headers, TAG, 100);
        assert_eq!(head, Selection::Whole);
    }

    #[test]
    fn what_a_client_has_is_known_by_its_tag() {
        let known = |text: &'static str| {
            let headers = [(header::IF_NONE_MATCH, HeaderValue::from_static(text))];
            is_known(&headers.into_iter().collect(), TAG)
        };
        assert!(known("*"));
        assert!(known(TAG));
        assert!(known("\"a\", W/\"7-100\""));
        assert!(!known("\"a\", \"b\""));
        assert!(!is_known(&HeaderMap::new(), TAG));
    }

    #[test]
    fn a_cut_through_pieces_has_the_bytes_of_the_whole() {
        let pieces = vec![
            Bytes::from_static(b"0123"),
            Bytes::from_static(b""),
            Bytes::from_static(b"4567"),
            Bytes::from_static(b"89"),
        ];
        for from in 0..10 {
            for to in from..10 {
                let cut = cut(pieces.clone(), from, to).concat();
                assert_eq!(cut, &b"0123456789"[from..=to]);
            }
        }
    }
}
