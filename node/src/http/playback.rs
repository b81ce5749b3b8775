//! Playlists, segments, and lists of streams.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use headwater_proto::{MediaId, StreamId};
use serde_json::json;

use super::{
    Public,
    error::{bad_id, error, no_such_page, play_error},
};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) fn router(state: Public) -> Router {
    Router::new()
        .route("/stream/{file}", get(playlist))
        .route("/stream/{stream}/{file}", get(media_file))
        .route("/live/{file}", get(by_name))
        .route("/streams.json", get(list))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async || "ok\n"))
        .with_state(state)
}

/// `/stream/{manifest id}.m3u8` and `/stream/{stream id}.m3u8`.
async fn playlist(State(state): State<Public>, Path(file): Path<String>) -> Response {
    let Some(id) = file.strip_suffix(".m3u8") else {
        return no_such_page().await;
    };
    let text = match id.parse() {
        Ok(MediaId::Manifest(manifest)) => state.library.master(manifest).await,
        Ok(MediaId::Stream(stream)) => state.library.media(&stream).await,
        Err(reason) => return bad_id(&reason),
    };
    match text {
        Ok(text) => {
            let headers = [
                (header::CONTENT_TYPE, PLAYLIST),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, text).into_response()
        }
        Err(reason) => play_error(&reason),
    }
}

/// `/stream/{stream id}/init-{n}.mp4` and `/stream/{stream id}/{number}.m4s`.
async fn media_file(
    State(state): State<Public>,
    Path((stream, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let stream: StreamId = match stream.parse() {
        Ok(stream) => stream,
        Err(reason) => return bad_id(&reason),
    };
    // One number has one address, since what is found there is cached.
    fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
        text.parse()
            .ok()
            .filter(|number: &T| number.to_string() == text)
    }
    let init = file
        .strip_prefix("init-")
        .and_then(|f| f.strip_suffix(".mp4"));
    let (kind, bytes) = if let Some(index) = init.and_then(number::<u32>) {
        (
            "video/mp4",
            state.library.init(&stream, index).map(|init| vec![init]),
        )
    } else if let Some(segment) = file.strip_suffix(".m4s").and_then(number::<u64>) {
        ("video/iso.segment", state.library.segment(&stream, segment))
    } else {
        return no_such_page().await;
    };
    match bytes {
        Ok(pieces) => media(kind, pieces, headers.get(header::RANGE)),
        Err(reason) => play_error(&reason),
    }
}

/// Media bytes, or the range of them that is asked for.
fn media(kind: &'static str, pieces: Vec<Bytes>, range: Option<&HeaderValue>) -> Response {
    let len = pieces.iter().map(Bytes::len).sum::<usize>();
    let range = range
        .and_then(|range| range.to_str().ok())
        .and_then(parse_range);
    let mut response = match range.map(|range| resolve(range, len)) {
        None => {
            let mut response = Body::from_stream(pieces_stream(pieces)).into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, len.into());
            response
        }
        Some(Some((from, to))) => {
            let bytes = Bytes::from(pieces.concat()).slice(from..=to);
            let mut response = (StatusCode::PARTIAL_CONTENT, bytes).into_response();
            let text = format!("bytes {from}-{to}/{len}");
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            response
        }
        Some(None) => {
            let mut response = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "the range lies outside the segment",
                "",
            );
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{len}")) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return response;
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn pieces_stream(
    pieces: Vec<Bytes>,
) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures::stream::iter(pieces.into_iter().map(Ok))
}

/// One range as RFC 9110 writes it; lists of ranges are answered in full.
fn parse_range(text: &str) -> Option<(Option<usize>, Option<usize>)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let range = (number(from)?, number(to)?);
    (range != (None, None)).then_some(range)
}

/// First and last byte of a range within `len` bytes.
fn resolve((from, to): (Option<usize>, Option<usize>), len: usize) -> Option<(usize, usize)> {
    let last = len.checked_sub(1)?;
    let (from, to) = match (from, to) {
        (Some(from), to) => (from, to.unwrap_or(last).min(last)),
        (None, Some(count)) => (len.saturating_sub(count), last),
        (None, None) => (0, last),
    };
    (from <= to && from < len).then_some((from, to))
}

/// `/live/{name}.m3u8` leads to the name's current broadcast.
async fn by_name(State(state): State<Public>, Path(file): Path<String>) -> Response {
    let manifest = file
        .strip_suffix(".m3u8")
        .and_then(|name| state.broadcasts.as_ref()?.manifest(name));
    match manifest {
        Some(manifest) => {
            let mut response =
                Redirect::temporary(&format!("/stream/{manifest}.m3u8")).into_response();
            let no_cache = HeaderValue::from_static("no-cache");
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, no_cache);
            response
        }
        None => error(
            StatusCode::NOT_FOUND,
            "nothing is published under this name now",
            "names are answered by the broadcaster's own node",
        ),
    }
}

/// What can be watched here, for the list at `/`.
async fn list(State(state): State<Public>) -> Response {
    let own = state
        .broadcasts
        .iter()
        .flat_map(|broadcasts| broadcasts.list());
    let own: Vec<_> = own.collect();
    let watched = state.library.list();
    let mut streams = Vec::new();
    for live in &own {
        streams.push(json!({
            "manifest": live.manifest.to_string(), "name": live.name, "live": live.connected,
        }));
    }
    for stream in watched {
        if own.iter().all(|live| live.manifest != stream.manifest) {
            streams.push(json!({
                "manifest": stream.manifest.to_string(), "live": true,
                "renditions": stream.renditions,
            }));
        }
    }
    let headers = [(header::CACHE_CONTROL, "no-cache")];
    (headers, Json(json!({ "streams": streams }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let resolved = |text: &str| resolve(parse_range(text).unwrap(), 100);
        assert_eq!(resolved("bytes=0-9"), Some((0, 9)));
        assert_eq!(resolved("bytes=90-"), Some((90, 99)));
        assert_eq!(resolved("bytes=-10"), Some((90, 99)));
        assert_eq!(resolved("bytes=90-500"), Some((90, 99)));
        assert_eq!(resolved("bytes=100-"), None);
        assert_eq!(resolved("bytes=9-3"), None);
    }

    #[test]
    fn what_is_no_single_range_is_answered_in_full() {
        for text in ["bytes=-", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", ""] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }
}
