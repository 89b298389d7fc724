//! Fingerprints of requests: what makes two requests with one key the same.
//!
//! All of them are over a version, the method, the path and query as the client sent them, and the
//! content type without its parameters, in lower case; they differ in what they take of the body.
//! (That axum's nested routers cut the path is known to them with the feature `axum`.)

use http::header::CONTENT_TYPE;
use http::request::Parts;

use super::canonical::Json;
use crate::fingerprint::Fingerprint;

/// Of the whole of what is hashed, so that another version never meets this one's by chance.
const VERSION: &[u8] = b"firstclaim http 1";

/// The default: over the body's bytes as they are.
///
/// ```
/// # let request = http::Request::post("/orders?dry=1").body(()).unwrap();
/// use firstclaim::http::fingerprint;
///
/// let (parts, ()) = request.into_parts();
/// assert_ne!(
///     fingerprint::exact(&parts, b"{\"quantity\":1}"),
///     fingerprint::exact(&parts, b"{\"quantity\":2}"),
/// );
/// ```
pub fn exact(request: &Parts, body: &[u8]) -> Fingerprint {
    of(request, b"bytes", [body])
}

/// Over the body as JSON: the order of an object's members, white space, and the spelling of
/// strings and numbers do not count. Numbers count as decimals (after RFC 8785, which takes the
/// nearest double). A body that is not JSON, that names a member of an object twice, or that is
/// nested deeper than 127 levels counts with its bytes.
///
/// ```
/// # let (parts, ()) = http::Request::post("/orders").body(()).unwrap().into_parts();
/// use firstclaim::http::fingerprint::canonical_json;
///
/// let one = canonical_json(&parts, br#"{"product_id": 42, "quantity": 1}"#);
/// assert_eq!(one, canonical_json(&parts, br#"{"quantity":1.0,"product_id":42}"#));
/// ```
pub fn canonical_json(request: &Parts, body: &[u8]) -> Fingerprint {
    let Some(json) = Json::parse(body) else {
        return exact(request, body);
    };
    let mut canonical = Vec::with_capacity(body.len());
    json.write(&mut canonical);
    of(request, b"json", [canonical])
}

/// Over chosen fields of a JSON body alone, each the name of a member or, beginning with `/`, a
/// JSON pointer (RFC 6901). A field that is missing differs from every value. A body that is not
/// JSON, as for [`canonical_json`], counts with its bytes.
///
/// ```
/// # let (parts, ()) = http::Request::post("/orders").body(()).unwrap().into_parts();
/// use firstclaim::http::fingerprint::json_fields;
///
/// let chosen = json_fields(["product_id", "/buyer/id"]);
/// let one = chosen(&parts, br#"{"product_id":42,"buyer":{"id":7},"sent_at":1}"#);
/// assert_eq!(one, chosen(&parts, br#"{"product_id":42,"buyer":{"id":7},"sent_at":2}"#));
/// ```
pub fn json_fields<N: Into<String>>(
    fields: impl IntoIterator<Item = N>,
) -> impl Fn(&Parts, &[u8]) -> Fingerprint + Clone + Send + Sync + 'static {
    let fields: Vec<String> = fields.into_iter().map(Into::into).collect();
    move |request, body| {
        let Some(json) = Json::parse(body) else {
            return exact(request, body);
        };
        let chosen = fields.iter().flat_map(|field| {
            let mut value = Vec::new();
            if let Some(json) = json.find(field) {
                json.write(&mut value);
            }
            [field.clone().into_bytes(), value]
        });
        of(request, b"fields", chosen)
    }
}

fn of<P: AsRef<[u8]>>(
    request: &Parts,
    taken: &[u8],
    body: impl IntoIterator<Item = P>,
) -> Fingerprint {
    let head = [
        VERSION.to_vec(),
        request.method.as_str().into(),
        path_and_query(request).into(),
        content_type(request),
        taken.to_vec(),
    ];
    let body = body.into_iter().map(|part| part.as_ref().to_vec());
    Fingerprint::of(head.into_iter().chain(body))
}

/// As the client sent them, whatever a nested router has cut since.
fn path_and_query(request: &Parts) -> String {
    #[cfg(feature = "axum")]
    let original = request.extensions.get::<axum::extract::OriginalUri>();
    #[cfg(feature = "axum")]
    let uri = original.map_or(&request.uri, |original| &original.0);
    #[cfg(not(feature = "axum"))]
    let uri = &request.uri;
    uri.path_and_query()
        .map_or("", |whole| whole.as_str())
        .to_owned()
}

fn content_type(request: &Parts) -> Vec<u8> {
    let value = request.headers.get(CONTENT_TYPE);
    let value = value.map_or(&b""[..], |value| value.as_bytes());
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, content_type: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_part_of_the_request_counts() {
        let base = exact(&parts("POST", "/a?b=1", Some("text/plain")), b"x");
        for other in [
            exact(&parts("PATCH", "/a?b=1", Some("text/plain")), b"x"),
            exact(&parts("POST", "/a/?b=1", Some("text/plain")), b"x"),
            exact(&parts("POST", "/a?b=2", Some("text/plain")), b"x"),
            exact(&parts("POST", "/a", Some("text/plain")), b"x"),
            exact(&parts("POST", "/a?b=1", Some("text/html")), b"x"),
            exact(&parts("POST", "/a?b=1", None), b"x"),
            exact(&parts("POST", "/a?b=1", Some("text/plain")), b"y"),
            exact(&parts("POST", "/a?b=1", Some("text/plainx")), b""),
        ] {
            assert_ne!(other, base);
        }
    }

    #[test]
    fn parameters_and_case_of_the_content_type_do_not_count() {
        let of = |content_type| exact(&parts("POST", "/a", Some(content_type)), b"x");
        assert_eq!(of("text/plain; charset=utf-8"), of("Text/PLAIN"));
        assert_eq!(of("text/plain ;charset=utf-8"), of("text/plain"));
    }

    #[test]
    fn the_ready_ones_never_meet() {
        let parts = parts("POST", "/a", Some("application/json"));
        let json = canonical_json(&parts, b"1");
        assert_ne!(json, exact(&parts, b"1"));
        let mut written = Vec::new();
        Json::parse(b"1").unwrap().write(&mut written);
        assert_ne!(json, exact(&parts, &written));
        assert_ne!(json, json_fields(["a"])(&parts, b"1"));
    }

    #[test]
    fn what_is_not_json_counts_with_its_bytes() {
        let parts = parts("POST", "/a", None);
        let twice = br#"{"a":1,"a":2}"#;
        assert_eq!(canonical_json(&parts, twice), exact(&parts, twice));
        let chosen = json_fields(["a"]);
        assert_eq!(chosen(&parts, b"a=1"), exact(&parts, b"a=1"));
    }

    #[test]
    fn chosen_fields_count_and_others_do_not() {
        let parts = parts("POST", "/a", None);
        let chosen = json_fields(["a", "/b/c"]);
        let of = |body: &str| chosen(&parts, body.as_bytes());
        assert_eq!(
            of(r#"{"a":1,"b":{"c":2,"d":3}}"#),
            of(r#"{"b":{"c":2},"a":1.0,"e":4}"#)
        );
        assert_ne!(of(r#"{"a":1,"b":{"c":2}}"#), of(r#"{"a":1,"b":{"c":3}}"#));
        assert_ne!(of(r#"{"a":null}"#), of("{}"));
    }
}
