//! The client's half: one key for one operation, kept over its retries.
//!
//! A tower layer around any HTTP client that is a tower service, rather than a middleware of one
//! client: it adds five small crates, of which a program with hyper or reqwest has all, and no
//! client. With reqwest:
//!
//! ```no_run
//! use bytes::Bytes;
//! use firstclaim::client::RetryLayer;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # async fn example() -> Result<(), reqwest::Error> {
//! let http = reqwest::Client::new();
//! let client = ServiceBuilder::new()
//!     .layer(RetryLayer::new())
//!     .service(service_fn(move |request: http::Request<Bytes>| {
//!         let http = http.clone();
//!         async move {
//!             let response = http.execute(request.try_into()?).await?;
//!             Ok::<_, reqwest::Error>(http::Response::<reqwest::Body>::from(response))
//!         }
//!     }));
//! let order = Bytes::from_static(br#"{"product_id":42,"quantity":1}"#);
//! let request = http::Request::post("http://127.0.0.1:3000/orders").body(order).unwrap();
//! let response = client.oneshot(request).await?;
//! # Ok(())
//! # }
//! ```

mod retry;
mod wait;

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tower_layer::Layer;

pub use self::retry::Retry;
use crate::engine::entropy::fresh_u64;

/// A tower layer that gives each POST and PATCH request an `Idempotency-Key`, a random UUID in the
/// draft's form (a structured field string), and sends it again with the same key if it failed for
/// now.
///
/// A request that has the header keeps it: for an operation that outlives the program, make the key
/// yourself and store it before the first try.
///
/// **Sent again** is what got no answer, and 408, 425, 429, 500, 502, 503 and 504, and 409 if it has
/// `Retry-After`: the operation is running. **Not sent again** is everything else, above all 400,
/// 410 and 422, and any answer marked as replayed: that is the operation's own, and will be again.
///
/// It waits as long as `Retry-After` says, in seconds or as a date, and otherwise twice as long each
/// time, half of it by chance. If `Retry-After` says more than [`wait_at_most`](Self::wait_at_most),
/// the answer is given back at once.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is part of a service"]
pub struct RetryLayer {
    tries: u32,
    first_wait: Duration,
    longest_wait: Duration,
    methods: Vec<Method>,
    key_header: HeaderName,
    replayed_header: HeaderName,
}

impl RetryLayer {
    /// A layer with the defaults.
    pub fn new() -> Self {
        RetryLayer {
            tries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            methods: vec![Method::POST, Method::PATCH],
            key_header: HeaderName::from_static("idempotency-key"),
            replayed_header: HeaderName::from_static("idempotency-replayed"),
        }
    }

    /// How often a request is sent at the most, at least once; 5 times.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How long to wait before the second try if the server does not say; 500 ms. It doubles from
    /// try to try.
    pub fn first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    /// The longest wait between two tries; 60 s.
    pub fn wait_at_most(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// The methods that get a key and are sent again; POST and PATCH. All others pass through
    /// untouched.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// The header of the key; `Idempotency-Key`.
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.key_header = name;
        self
    }

    /// The header that marks a replay with the value `true`; `Idempotency-Replayed`.
    pub fn replayed_header(mut self, name: HeaderName) -> Self {
        self.replayed_header = name;
        self
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, self.clone())
    }
}

/// A random UUID (RFC 9562, version 4).
struct Key(u128);

impl Key {
    fn fresh() -> Self {
        let random = u128::from(fresh_u64()) << 64 | u128::from(fresh_u64());
        let version = 4 << 76;
        let variant = 2 << 62;
        Key(random & !(0xf << 76) & !(3 << 62) | version | variant)
    }

    /// As a structured field string.
    fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("\"{self}\"")).ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |from: u32, digits: u32| (self.0 >> from) & ((1 << (4 * digits)) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_uuids() {
        let keys: Vec<String> = (0..1_000).map(|_| Key::fresh().to_string()).collect();
        for key in &keys {
            let uuid = uuid::Uuid::parse_str(key).unwrap();
            assert_eq!(uuid.get_version_num(), 4);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(uuid.to_string(), *key);
        }
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
}
