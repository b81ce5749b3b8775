//! What is looked at before a request reaches its route: the path, where an answer may be
//! read, and at the admin address who asks.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;

use super::error::{PUBLIC_METHODS, error};

/// Bytes of a path and its query. The longest real path is under 200.
const MAX_TARGET: usize = 1024;

/// What a browser tells of the page that asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What may be read by pages of this node only: it tells what this machine watches.
pub(super) const PRIVATE: &str = "/streams.json";

/// Refuses paths that no route could read.
pub(super) async fn readable_path(request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return error(
            StatusCode::URI_TOO_LONG,
            "the address is too long",
            "copy it again",
        );
    }
    if percent_decode_str(request.uri().path())
        .decode_utf8()
        .is_err()
    {
        return error(
            StatusCode::BAD_REQUEST,
            "the address is not UTF-8",
            "copy it again",
        );
    }
    next.run(request).await
}

/// Lets pages everywhere read what players need, and answers their preflights.
pub(super) async fn cross_origin(request: Request, next: Next) -> Response {
    let private = request.uri().path() == PRIVATE;
    let mut response = if request.method() == axum::http::Method::OPTIONS {
        (StatusCode::NO_CONTENT, [(header::ALLOW, PUBLIC_METHODS)]).into_response()
    } else {
        next.run(request).await
    };
    let preflight = response.status() == StatusCode::NO_CONTENT
        && response.headers().contains_key(header::ALLOW);
    let headers = response.headers_mut();
    if private {
        let own = HeaderValue::from_static("same-origin");
        headers.insert("cross-origin-resource-policy", own);
        return response;
    }
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Retry-After",
    );
    if preflight {
        set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
        set(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, If-None-Match, If-Range, Range",
        );
        set(header::ACCESS_CONTROL_MAX_AGE, "86400");
    }
    response
}

/// Refuses what a web page elsewhere asks: under a name that it made lead here, or openly.
pub(super) async fn local_host_only(request: Request, next: Next) -> Response {
    if is_local_host(request.uri(), request.headers()) && !is_foreign_page(request.headers()) {
        next.run(request).await
    } else {
        error(
            StatusCode::FORBIDDEN,
            "this address is for this machine only",
            "ask by IP address or as localhost",
        )
    }
}

/// The host that was asked for is this machine by its number or as localhost: in HTTP/2
/// and in full addresses the target says it, else the one `Host`.
pub(super) fn is_local_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let (named, more) = (named.next(), named.next());
    let named = named.map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    match (uri.authority(), named, more) {
        (_, _, Some(_)) | (_, Some(None), _) | (None, None, None) => false,
        (Some(target), None, None) => is_local(target),
        (None, Some(Some(host)), None) => is_local(&host),
        // They name the same host, or somebody means to confuse us.
        (Some(target), Some(Some(host)), None) => is_local(target) && is_local(&host),
    }
}

fn is_local(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let known = host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok();
    known && !authority.as_str().contains('@')
}

fn is_foreign_page(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let foreign_site = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let origin = headers.get(header::ORIGIN);
    let foreign_origin = origin.is_some_and(|origin| {
        let uri = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
        !uri.as_ref().and_then(Uri::authority).is_some_and(is_local)
    });
    foreign_site || foreign_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        is_local_host(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn this_machine_is_known_by_number_and_as_localhost_in_any_case() {
        for host in [
            "localhost",
            "LocalHost:7935",
            "LOCALHOST",
            "127.0.0.1",
            "127.0.0.1:7935",
            "[::1]:7935",
            "[::1]",
            "192.168.1.7:80",
        ] {
            assert!(asked("/", &[host]), "{host}");
            assert!(asked(&format!("http://{host}/"), &[]), "{host}");
        }
    }

    #[test]
    fn other_names_two_names_and_no_name_are_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7935",
            "evil@localhost",
            "localhost:x:y",
            "",
        ] {
            assert!(!asked("/", &[host]), "{host}");
        }
        assert!(!asked("/", &[]));
        assert!(!asked("/", &["localhost", "evil.example"]));
        assert!(!asked("/", &["localhost", "localhost"]));
        assert!(!asked("http://evil.example/", &["localhost"]));
        assert!(!asked("http://localhost/", &["evil.example"]));
    }

    #[test]
    fn a_page_of_another_site_is_known_by_what_its_browser_says() {
        let page = |name: &'static str, value: &'static str| {
            let headers = [(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )];
            is_foreign_page(&headers.into_iter().collect())
        };
        assert!(page("sec-fetch-site", "cross-site"));
        assert!(page("sec-fetch-site", "same-site"));
        assert!(!page("sec-fetch-site", "same-origin"));
        assert!(!page("sec-fetch-site", "none"));
        assert!(page("origin", "https://evil.example"));
        assert!(page("origin", "null"));
        assert!(!page("origin", "http://127.0.0.1:7935"));
        assert!(!is_foreign_page(&HeaderMap::new()));
    }
}
