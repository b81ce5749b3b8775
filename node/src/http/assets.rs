//! The pages, which need no other host.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    sync::LazyLock,
};

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::range::is_known;

/// Everything a page loads comes from this node, hls.js's worker too; what hls.js plays is
/// a blob that the page made.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; \
     style-src 'self'; img-src 'self'; media-src 'self' blob:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'";

struct Asset {
    path: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 8] = [
    Asset {
        path: "player.js",
        kind: SCRIPT,
        body: include_bytes!("../../web/player.js"),
    },
    Asset {
        path: "controls.js",
        kind: SCRIPT,
        body: include_bytes!("../../web/controls.js"),
    },
    Asset {
        path: "index.js",
        kind: SCRIPT,
        body: include_bytes!("../../web/index.js"),
    },
    Asset {
        path: "style.css",
        kind: "text/css; charset=utf-8",
        body: include_bytes!("../../web/style.css"),
    },
    Asset {
        path: "icon.svg",
        kind: "image/svg+xml",
        body: include_bytes!("../../web/icon.svg"),
    },
    Asset {
        path: "hls.js",
        kind: SCRIPT,
        body: include_bytes!(concat!(
            env!("OUT_DIR"),
            "/node_modules/hls.js/dist/hls.min.js"
        )),
    },
    Asset {
        path: "hls.worker.js",
        kind: SCRIPT,
        body: include_bytes!(concat!(
            env!("OUT_DIR"),
            "/node_modules/hls.js/dist/hls.worker.js"
        )),
    },
    Asset {
        path: "licenses.txt",
        kind: "text/plain; charset=utf-8",
        body: include_bytes!(concat!(env!("OUT_DIR"), "/node_modules/hls.js/LICENSE")),
    },
];

/// The assets' tags, in their order. Weak: what is sent may be compressed.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let mut hasher = DefaultHasher::new();
        asset.body.hash(&mut hasher);
        format!("W/\"{:016x}\"", hasher.finish())
    };
    ASSETS.iter().map(tag).collect()
});

pub(super) fn router() -> Router {
    Router::new()
        .route(
            "/",
            get(async || page(include_str!("../../web/index.html"), "'none'")),
        )
        .route(
            "/watch/{id}",
            get(async || page(include_str!("../../web/player.html"), "*")),
        )
        .route("/assets/{path}", get(asset))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
}

/// A page, and who may show it in a frame.
fn page(html: &'static str, ancestors: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (
            header::CONTENT_SECURITY_POLICY,
            format!("{POLICY}; frame-ancestors {ancestors}"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, html).into_response()
}

async fn asset(Path(path): Path<String>, asked: HeaderMap) -> Response {
    let found = ASSETS.iter().zip(TAGS.iter());
    let found = found.into_iter().find(|(asset, _)| asset.path == path);
    let Some((asset, tag)) = found else {
        return super::error::no_such_page().await;
    };
    let kept = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, tag.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if is_known(&asked, tag) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    (kept, [(header::CONTENT_TYPE, asset.kind)], asset.body).into_response()
}
