//! The service: what becomes of a request.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tokio::runtime::Handle;
use tower_service::Service;

use super::body::{Read, Whole};
use super::key::{Key, NoKey};
use super::layer::Settings;
use super::problem::{Problem, ProblemKind};
use super::stored::Stored;
use super::{Body, BoxError, IdempotencyLayer, Tenant, run};
use crate::claim::{Claim, InFlight, StoredResponse};
use crate::error::Error;
use crate::fingerprint::Fingerprint;

/// How much of a body that is too large is read before that is said, and for how long at most. A client
/// that is still sending when the connection is closed may never see the answer; one that asks first, by
/// `Expect`, is told at once.
const DISCARDED_BYTES: usize = 16 << 20;
const DISCARDED_FOR: Duration = Duration::from_secs(2);

/// A service in an [`IdempotencyLayer`].
///
/// It takes requests with any body and hands on requests with [`Body`], so the inner service must
/// take these: axum's does. (One that takes another body takes it after
/// `map_request(|request| request.map(TheBody::new))`.)
#[derive(Debug, Clone)]
pub struct Idempotency<S> {
    inner: S,
    layer: IdempotencyLayer,
}

impl<S> Idempotency<S> {
    pub(super) fn new(inner: S, layer: IdempotencyLayer) -> Self {
        Idempotency { inner, layer }
    }
}

impl<S, B, R> Service<Request<B>> for Idempotency<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes with the request; the clone is made ready for the next.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let request = request.map(Body::new);
        if !self.layer.settings.methods.contains(request.method()) {
            return Box::pin(pass(inner, request));
        }
        Box::pin(protected(self.layer.clone(), inner, request))
    }
}

/// Without a claim.
async fn pass<S, R>(mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body + Send + 'static,
    R::Error: Into<BoxError>,
{
    Ok(inner.call(request).await?.map(Body::new))
}

/// With a claim. Wherever this future is dropped, by a client that went away, nothing is left
/// behind: before the claim there is nothing, the claim itself gives its lease back, and from then
/// on the operation is a task of its own.
async fn protected<S, R>(
    layer: IdempotencyLayer,
    inner: S,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: http_body::Body + Send + 'static,
    R::Error: Into<BoxError>,
{
    let settings = layer.settings.clone();
    let (parts, body) = request.into_parts();
    let tenant = match (settings.tenant)(&parts) {
        Ok(tenant) => tenant,
        Err(refusal) => return Ok(refusal),
    };
    let key = match Key::of(&parts.headers, &settings.key_header) {
        Ok(key) => key,
        Err(NoKey::Missing) if !settings.required => {
            return pass(inner, Request::from_parts(parts, body)).await;
        }
        Err(no_key) => return Ok(settings.answer(&settings.without_key(no_key))),
    };
    let whole = match body.read(settings.request_bytes).await {
        Read::Whole(whole) => whole,
        read => {
            let problem = settings.unread(&read);
            if let (Read::TooLarge(rest), false) = (read, parts.headers.contains_key(EXPECT)) {
                discard(rest).await;
            }
            return Ok(settings.answer(&problem));
        }
    };
    let fingerprint = (settings.fingerprint)(&parts, &whole.data);
    match settings.claim(&tenant, &key, fingerprint).await {
        Ok(Claim::Claimed(lease)) => {
            let request = Request::from_parts(parts, whole.into());
            run::detached(layer, lease, inner, request).await
        }
        Ok(Claim::InFlight(running)) => Ok(settings.answer(&in_flight(&running))),
        Ok(Claim::Done(response)) => Ok(settings.replay(&response)),
        Err(error) => match settings.refused(error) {
            Some(problem) => Ok(settings.answer(&problem)),
            None => pass(inner, unprotected(parts, whole)).await,
        },
    }
}

async fn discard(rest: Body) {
    if Handle::try_current().is_ok() {
        let _ = tokio::time::timeout(DISCARDED_FOR, rest.discard(DISCARDED_BYTES)).await;
    }
}

fn unprotected(parts: Parts, whole: Whole) -> Request<Body> {
    Request::from_parts(parts, whole.into())
}

impl Settings {
    async fn claim(
        &self,
        tenant: &Tenant,
        key: &Key,
        fingerprint: Fingerprint,
    ) -> Result<Claim, Error> {
        let mut request = self.store.request(tenant.as_bytes(), key.as_str());
        request = request.fingerprint(fingerprint);
        if let Some(lease_for) = self.lease_for {
            request = request.lease_for(lease_for);
        }
        if let Some(retain_for) = self.retain_for {
            request = request.retain_for(retain_for);
        }
        if let Some(takeover) = self.takeover {
            request = request.takeover(takeover);
        }
        request.claim_or_wait_async(self.wait).await
    }

    fn without_key(&self, no_key: NoKey) -> Problem {
        let header = &self.key_header;
        match no_key {
            NoKey::Missing => Problem::new(
                ProblemKind::KeyMissing,
                format!("this operation needs a key in the header {header}"),
            ),
            NoKey::Malformed(why) => {
                Problem::new(ProblemKind::KeyInvalid, format!("header {header}: {why}"))
            }
        }
    }

    fn unread(&self, read: &Read) -> Problem {
        match read {
            Read::TooLarge(_) => Problem::new(
                ProblemKind::BodyTooLarge,
                format!("it may have {} bytes at the most", self.request_bytes),
            ),
            _ => Problem::new(
                ProblemKind::BodyBrokenOff,
                "the body did not arrive as a whole; nothing was done",
            ),
        }
    }

    /// What a failed claim is answered with; nothing if the request is to run unprotected.
    fn refused(&self, error: Error) -> Option<Problem> {
        let problem = match error {
            Error::FingerprintMismatch => Problem::new(
                ProblemKind::KeyReused,
                "the key was first used for another request; use a new key for a new request",
            )
            .status(self.mismatch),
            Error::InvalidKey(_) => Problem::new(
                ProblemKind::KeyInvalid,
                "the key is longer than this service takes",
            ),
            Error::Corrupt { .. } => Problem::new(
                ProblemKind::Unreadable,
                "what is known of the key is damaged; a retry cannot help",
            ),
            _ if self.runs_unprotected => return None,
            _ => Problem::new(
                ProblemKind::StoreUnavailable,
                "nothing was done for this request; try again with the same key",
            ),
        };
        Some(problem.error(error))
    }

    fn replay(&self, response: &StoredResponse) -> Response<Body> {
        let answer = match Stored::decode(response.bytes()) {
            Some(Stored::Answer(answer)) => answer,
            Some(Stored::NotReplayable(status)) => {
                let detail = format!("the answer had the status {}", status.as_u16());
                return self.answer(&Problem::new(ProblemKind::NotReplayable, detail));
            }
            None => {
                let detail = "the key is in use outside of this operation";
                return self.answer(&Problem::new(ProblemKind::Unreadable, detail));
            }
        };
        let mut response = Response::new(Body::whole(answer.body, answer.trailers));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let replayed = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert(self.replayed_header.clone(), replayed);
        response
    }
}

fn in_flight(running: &InFlight) -> Problem {
    if running.waits_for_a_decision() {
        return Problem::new(
            ProblemKind::Interrupted,
            "what it did is being found out; a retry cannot help until then",
        );
    }
    let detail = "try again with the same key to get its answer";
    Problem::new(ProblemKind::InFlight, detail).retry_after(running.retry_after())
}
