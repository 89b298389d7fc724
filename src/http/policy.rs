//! What of a response is stored, and whether.

use http::header::CONNECTION;
use http::response::Parts;
use http::{HeaderMap, HeaderName, StatusCode};

/// Put into a response's extensions: it is stored, whatever its status says.
///
/// ```
/// # use http::Response;
/// use firstclaim::http::Stored;
///
/// # let mut response = Response::new(());
/// response.extensions_mut().insert(Stored);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored;

/// Put into a response's extensions: it is not stored and the key is released, whatever its status
/// says. It must mean that the operation did not start, since a retry will run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStored;

/// Whether a response with this status is stored unless it says otherwise itself: all are, 500
/// included, but those that mean that the operation did not start (401, 403, 404, 405, 408, 413,
/// 415, 425, 429, 503).
///
/// That errors are stored too is after Stripe's *Idempotent requests*: a retry after a failure of
/// unknown reach must not run a second time.
pub fn is_stored_by_default(status: StatusCode) -> bool {
    !matches!(
        status.as_u16(),
        401 | 403 | 404 | 405 | 408 | 413 | 415 | 425 | 429 | 503
    )
}

/// Whether a response is stored: its own word first, then the predicate's.
pub(super) fn is_stored(response: &Parts, predicate: impl FnOnce(&Parts) -> bool) -> bool {
    let extensions = &response.extensions;
    match (extensions.get::<Stored>(), extensions.get::<NotStored>()) {
        (Some(_), _) => true,
        (_, Some(_)) => false,
        _ => predicate(response),
    }
}

/// Headers for one connection, which mean nothing on another (RFC 9110, 7.6.1). `Trailer` is not
/// among them: it announces what is replayed too.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers that belong to the moment, or to the client that asked first: a replay without them is
/// as right, with them it may be wrong.
const OF_THE_FIRST_ANSWER: [&str; 3] = ["date", "set-cookie", "access-control-*"];

/// Names of headers that are not stored; with `*` at the end, all names that begin so.
#[derive(Debug, Clone)]
pub(super) struct NotStoredHeaders(Vec<Box<str>>);

impl Default for NotStoredHeaders {
    fn default() -> Self {
        Self::of(OF_THE_FIRST_ANSWER)
    }
}

impl NotStoredHeaders {
    pub(super) fn of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let lower = |name: N| name.as_ref().to_ascii_lowercase().into();
        NotStoredHeaders(names.into_iter().map(lower).collect())
    }

    /// The headers to store, in their order.
    pub(super) fn without(&self, headers: &HeaderMap) -> HeaderMap {
        let named: Vec<String> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
            .collect();
        let is_kept = |name: &HeaderName| {
            let name = name.as_str();
            !HOP_BY_HOP.contains(&name) && !named.iter().any(|n| n == name) && !self.lists(name)
        };
        let mut kept = HeaderMap::new();
        for (name, value) in headers.iter().filter(|(name, _)| is_kept(name)) {
            kept.append(name, value.clone());
        }
        kept
    }

    fn lists(&self, name: &str) -> bool {
        self.0.iter().any(|listed| match listed.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => **listed == *name,
        })
    }
}

/// The headers but those of one name, in their order, which `HeaderMap::remove` does not keep.
pub(super) fn without(headers: &HeaderMap, name: &HeaderName) -> HeaderMap {
    let others = headers.iter().filter(|(other, _)| *other != name);
    let mut kept = HeaderMap::new();
    for (name, value) in others {
        kept.append(name, value.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Response};

    fn kept(list: &NotStoredHeaders, headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let kept = list.without(&map);
        kept.iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn end_to_end_headers_are_kept_in_order_with_duplicates() {
        let all = [
            ("location", "/orders/7"),
            ("link", "a"),
            ("date", "today"),
            ("link", "b"),
            ("set-cookie", "s=1"),
            ("access-control-allow-origin", "*"),
            ("access-control-future", "?1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("etag", "\"7\""),
        ];
        let list = NotStoredHeaders::default();
        let expected = ["location=/orders/7", "link=a", "link=b", "etag=\"7\""];
        assert_eq!(kept(&list, &all), expected);
    }

    #[test]
    fn headers_that_connection_names_are_not_kept() {
        let all = [
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("x-end", "3"),
        ];
        assert_eq!(kept(&NotStoredHeaders::default(), &all), ["x-end=3"]);
    }

    #[test]
    fn as_many_as_a_response_can_have_are_kept() {
        let mut map = HeaderMap::new();
        for _ in 0..30_000 {
            map.append("link", HeaderValue::from_static("a"));
        }
        let list = NotStoredHeaders::default();
        assert_eq!(list.without(&map).len(), 30_000);
        let date = HeaderName::from_static("date");
        assert_eq!(without(&map, &date).len(), 30_000);
    }

    #[test]
    fn the_list_is_settable_but_for_hop_by_hop() {
        let list = NotStoredHeaders::of(["X-Request-Id"]);
        let all = [
            ("x-request-id", "1"),
            ("set-cookie", "s=1"),
            ("connection", "close"),
        ];
        assert_eq!(kept(&list, &all), ["set-cookie=s=1"]);
    }

    #[test]
    fn ten_statuses_mean_that_the_operation_did_not_start() {
        let all = (100..600).map(|s| StatusCode::from_u16(s).unwrap());
        let not_stored: Vec<u16> = all
            .filter(|status| !is_stored_by_default(*status))
            .map(|status| status.as_u16())
            .collect();
        let expected = [401, 403, 404, 405, 408, 413, 415, 425, 429, 503];
        assert_eq!(not_stored, expected);
    }

    #[test]
    fn a_response_has_the_last_word_about_itself() {
        let mut parts = Response::new(()).into_parts().0;
        assert!(is_stored(&parts, |_| true));
        assert!(!is_stored(&parts, |_| false));
        parts.extensions.insert(NotStored);
        assert!(!is_stored(&parts, |_| true));
        parts.extensions.remove::<NotStored>();
        parts.extensions.insert(Stored);
        assert!(is_stored(&parts, |_| false));
    }
}
