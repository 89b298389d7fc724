//! The layer's own answers, as problem documents (RFC 9457).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Uri};
use serde::Serialize;

use crate::error::Error;

/// The cases in which the layer answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// 400: the key is required and missing.
    KeyMissing,
    /// 400: the key is repeated, comma-joined, empty, malformed or over-long.
    KeyInvalid,
    /// 400: the request's body broke off. Nothing was claimed.
    BodyBrokenOff,
    /// 413: the request's body is over the limit. Nothing was claimed.
    BodyTooLarge,
    /// 422, settable: the key is in use for another request.
    KeyReused,
    /// 409 with `Retry-After`: the operation is running, and was still when the wait for it ended.
    InFlight,
    /// 409 without `Retry-After`: an earlier attempt was cut short, and by policy the key waits for
    /// somebody to find out what it did ([`Takeover::Never`](crate::Takeover::Never)).
    Interrupted,
    /// 410: the operation was carried out, and its answer could not be kept.
    NotReplayable,
    /// 503 with `Retry-After`: as many operations run as may. Nothing was done.
    TooManyRunning,
    /// 503 with `Retry-After`: the store could not be asked, or the key not be released.
    StoreUnavailable,
    /// 503 with `Retry-After`: the operation was carried out, and its answer could not be stored,
    /// or is stored and could not be told.
    NotRecorded,
    /// 500, stored: the operation's code panicked or failed without an answer.
    OperationFailed,
    /// 500: what is stored for the key is no answer of this layer's.
    Unreadable,
}

impl ProblemKind {
    /// The fragment of the documentation's URL, and the end of the type without one.
    pub fn fragment(self) -> &'static str {
        self.facts().0
    }

    /// The status it is answered with, unless set otherwise.
    pub fn status(self) -> StatusCode {
        self.facts().1
    }

    /// What happened, in a few words; the same for every occurrence.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::KeyMissing => (
                "key-missing",
                S::BAD_REQUEST,
                "The idempotency key is missing",
            ),
            Self::KeyInvalid => (
                "key-invalid",
                S::BAD_REQUEST,
                "The idempotency key is not valid",
            ),
            Self::BodyBrokenOff => ("body-broken-off", S::BAD_REQUEST, "The body broke off"),
            Self::BodyTooLarge => (
                "body-too-large",
                S::PAYLOAD_TOO_LARGE,
                "The body is too large",
            ),
            Self::KeyReused => (
                "key-reused",
                S::UNPROCESSABLE_ENTITY,
                "The idempotency key is in use for another request",
            ),
            Self::InFlight => (
                "in-flight",
                S::CONFLICT,
                "A request with this idempotency key is being worked on",
            ),
            Self::Interrupted => (
                "interrupted",
                S::CONFLICT,
                "An earlier request with this idempotency key was cut short",
            ),
            Self::NotReplayable => (
                "not-replayable",
                S::GONE,
                "The request was carried out, and its answer was not kept",
            ),
            Self::TooManyRunning => (
                "too-many-running",
                S::SERVICE_UNAVAILABLE,
                "Too many requests are being worked on",
            ),
            Self::StoreUnavailable => (
                "store-unavailable",
                S::SERVICE_UNAVAILABLE,
                "Idempotency keys cannot be looked up now",
            ),
            Self::NotRecorded => (
                "not-recorded",
                S::SERVICE_UNAVAILABLE,
                "The outcome of the request could not be recorded",
            ),
            Self::OperationFailed => (
                "operation-failed",
                S::INTERNAL_SERVER_ERROR,
                "The request failed while it was worked on",
            ),
            Self::Unreadable => (
                "unreadable",
                S::INTERNAL_SERVER_ERROR,
                "What is stored for this idempotency key is not an answer",
            ),
        }
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyRunning | Self::StoreUnavailable | Self::NotRecorded => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

/// One occurrence, as it is told to the client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Problem {
    /// Which case it is.
    pub kind: ProblemKind,
    /// The status it is answered with.
    pub status: StatusCode,
    /// What the client should know or do; nothing of the store's insides.
    pub detail: String,
    /// How long the client should wait before it asks again, if that can help.
    pub retry_after: Option<Duration>,
    /// What the store said, for the service's own log: the client is not told.
    pub error: Option<Error>,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            status: kind.status(),
            detail: detail.into(),
            retry_after: kind.retry_after(),
            error: None,
        }
    }

    pub(super) fn error(mut self, error: Error) -> Self {
        self.error = Some(error);
        self
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// A problem document's members.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

pub(super) type Reshape = dyn Fn(&Problem, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// How problems are written.
#[derive(Clone, Default)]
pub(super) struct Writer {
    pub(super) documentation: Option<Uri>,
    pub(super) reshape: Option<Arc<Reshape>>,
}

impl Writer {
    pub(super) fn write(&self, problem: &Problem) -> Response<Bytes> {
        let plain = self.plain(problem);
        let Some(reshape) = &self.reshape else {
            return plain;
        };
        // A closure that panics must not keep the answer from being stored.
        catch_unwind(AssertUnwindSafe(|| reshape(problem, plain.clone()))).unwrap_or(plain)
    }

    fn plain(&self, problem: &Problem) -> Response<Bytes> {
        let fragment = problem.kind.fragment();
        let kind = match &self.documentation {
            Some(url) => format!("{url}#{fragment}"),
            None => format!("urn:firstclaim:problem:{fragment}"),
        };
        let document = Document {
            kind: &kind,
            title: problem.kind.title(),
            status: problem.status.as_u16(),
            detail: &problem.detail,
        };
        // Strings and a number can always be written.
        let document = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Bytes::from(document));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        if let Some(wait) = problem.retry_after {
            headers.insert(RETRY_AFTER, whole_seconds(wait).into());
        }
        let link = self.documentation.as_ref().and_then(|url| {
            let link = format!("<{url}>; rel=\"describedby\"; type=\"text/html\"");
            HeaderValue::try_from(link).ok()
        });
        if let Some(link) = link {
            headers.insert(LINK, link);
        }
        response
    }
}

/// Upwards: who comes back too early has come for nothing.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
