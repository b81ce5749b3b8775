//! Playlists and media.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use headwater_proto::{MediaId, StreamId};

use super::{
    Public,
    error::{bad_id, error, no_such_page, play_error},
    range::{Selection, cut, is_known, select},
};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const NO_CACHE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-cache");
const IMMUTABLE: (HeaderName, &str) =
    (header::CACHE_CONTROL, "public, max-age=31536000, immutable");

pub(super) fn router(state: Public) -> Router {
    Router::new()
        .route("/stream/{file}", get(playlist))
        .route("/stream/{stream}/{file}", get(media_file))
        .route("/live/{file}", get(by_name))
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
                NO_CACHE,
                (header::ACCEPT_RANGES, "none"),
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
    method: Method,
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
    let (kind, pieces) = if let Some(index) = init.and_then(number::<u32>) {
        let init = state.library.init(&stream, index);
        ("video/mp4", init.map(|init| vec![init]))
    } else if let Some(segment) = file.strip_suffix(".m4s").and_then(number::<u64>) {
        let segment = state.library.segment(&stream, segment).await;
        ("video/iso.segment", segment)
    } else {
        return no_such_page().await;
    };
    match pieces {
        Ok(pieces) => media((kind, &file), pieces, &method, &headers),
        Err(reason) => play_error(&reason),
    }
}

/// Media bytes, or the range of them that is asked for. Under one name there are never
/// other bytes, so the name and the length are tag enough.
fn media(
    (kind, name): (&'static str, &str),
    pieces: Vec<Bytes>,
    method: &Method,
    asked: &HeaderMap,
) -> Response {
    let len = pieces.iter().map(Bytes::len).sum::<usize>();
    let tag = format!("\"{name}-{len}\"");
    let kept = [
        IMMUTABLE,
        (header::ETAG, tag.as_str()),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    if is_known(asked, &tag) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let kind = [(header::CONTENT_TYPE, kind)];
    match select(method, asked, &tag, len) {
        Selection::Whole => (kept, kind, sized(pieces, len)).into_response(),
        Selection::Part { from, to } => {
            let range = [(header::CONTENT_RANGE, format!("bytes {from}-{to}/{len}"))];
            let body = sized(cut(pieces, from, to), to + 1 - from);
            (StatusCode::PARTIAL_CONTENT, kept, kind, range, body).into_response()
        }
        Selection::Outside => {
            let refused = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "the range lies outside the segment",
                "ask for less, or for all of it",
            );
            ([(header::CONTENT_RANGE, format!("bytes */{len}"))], refused).into_response()
        }
    }
}

/// A body of pieces whose length is known.
fn sized(pieces: Vec<Bytes>, len: usize) -> Response {
    let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    let mut response = Body::from_stream(pieces).into_response();
    let len = HeaderValue::from(len);
    response.headers_mut().insert(header::CONTENT_LENGTH, len);
    response
}

/// `/live/{name}.m3u8` leads to the name's current broadcast.
async fn by_name(State(state): State<Public>, Path(file): Path<String>) -> Response {
    let manifest = file
        .strip_suffix(".m3u8")
        .and_then(|name| state.broadcasts.as_ref()?.manifest(name));
    match manifest {
        Some(manifest) => {
            let there = Redirect::temporary(&format!("/stream/{manifest}.m3u8"));
            ([NO_CACHE], there).into_response()
        }
        None => error(
            StatusCode::NOT_FOUND,
            "nothing is published under this name now",
            "names are answered by the broadcaster's own node",
        ),
    }
}
