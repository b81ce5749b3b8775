//! The pages, which need no other host.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// Everything a page loads comes from this node; hls.js plays from blobs and works in a
/// worker made of one.
const POLICY: &str = "default-src 'none'; script-src 'self' blob:; style-src 'self'; \
     img-src 'self' data:; media-src blob: 'self'; connect-src 'self'; worker-src blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors *";

struct Asset {
    path: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

const ASSETS: [Asset; 5] = [
    Asset {
        path: "player.js",
        kind: "text/javascript; charset=utf-8",
        body: include_bytes!("../../web/player.js"),
    },
    Asset {
        path: "index.js",
        kind: "text/javascript; charset=utf-8",
        body: include_bytes!("../../web/index.js"),
    },
    Asset {
        path: "style.css",
        kind: "text/css; charset=utf-8",
        body: include_bytes!("../../web/style.css"),
    },
    Asset {
        path: "hls.js",
        kind: "text/javascript; charset=utf-8",
        body: include_bytes!(concat!(
            env!("OUT_DIR"),
            "/node_modules/hls.js/dist/hls.min.js"
        )),
    },
    Asset {
        path: "licenses.txt",
        kind: "text/plain; charset=utf-8",
        body: include_bytes!(concat!(env!("OUT_DIR"), "/node_modules/hls.js/LICENSE")),
    },
];

pub(super) fn router() -> Router {
    Router::new()
        .route(
            "/",
            get(async || page(include_str!("../../web/index.html"))),
        )
        .route(
            "/watch/{id}",
            get(async || page(include_str!("../../web/player.html"))),
        )
        .route("/assets/{path}", get(asset))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
}

fn page(html: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, html).into_response()
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return super::error::no_such_page().await;
    };
    // The files change only with the program.
    let tag = HeaderValue::from_static(concat!(
        "\"",
        env!("CARGO_PKG_VERSION"),
        "-",
        env!("ASSETS_TAG"),
        "\""
    ));
    if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let mut response = asset.body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag);
    response
}
