//! Behind a load balancer each replica has its own store, so a client's keys must be routed to one
//! replica, or a shared engine be used.
//!
//! A tower layer that makes routes idempotent, on axum, hyper or any tower stack, after *The
//! Idempotency-Key HTTP Header Field* (draft-ietf-httpapi-idempotency-key-header-07).
//!
#![cfg_attr(
    feature = "axum",
    doc = r#"
```
use axum::{Router, http::StatusCode, response::IntoResponse, routing::post};
use firstclaim::Store;
use firstclaim::http::{IdempotencyLayer, Tenant};

# fn account_of(_: &axum::http::request::Parts) -> Option<u64> { Some(42) }
# let directory = tempfile::tempdir()?;
# let path = directory.path().join("orders.fc");
let layer = IdempotencyLayer::new(Store::open(path)?, |request| {
    account_of(request).map(Tenant::from).ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())
});
let routes: Router = Router::new()
    .route("/orders", post(async || (StatusCode::CREATED, "order 7")))
    .route_layer(layer.clone());
// serve them; at shutdown, after the server has stopped:
# async {
layer.drain(std::time::Duration::from_secs(30)).await;
# };
# Ok::<(), firstclaim::Error>(())
```
"#
)]
//! # What becomes of a request
//!
//! 1. A method that is not protected passes through; POST and PATCH are protected.
//! 2. The tenant closure says whose keys these are, or answers.
//! 3. The key's header is read: a structured field string (RFC 9651; parameters are ignored) or,
//!    as most clients send it, 1 to 255 visible ASCII characters without `"`, `,`, `;` and `\`.
//!    Both forms mean the same key. Missing, repeated, comma-joined, empty, malformed or over-long:
//!    400.
//! 4. The body is read into memory: 413 over the limit, 400 if it breaks off. Nothing is claimed.
//! 5. The [`fingerprint`] is taken, and the key is claimed, waiting for one that is running:
//!    * claimed: the operation runs, and its answer is stored and sent;
//!    * another request has the key: 422, before anything of its record is shown, even in flight;
//!    * still running: 409 with `Retry-After`;
//!    * cut short, under [`Takeover::Never`](crate::Takeover::Never): 409 of another type, without;
//!    * done: the answer again, with `Idempotency-Replayed: true`, or 410 if it was not kept;
//!    * trouble in the store: 503. Running unprotected is the service's explicit choice.
//!
//! The layer's own answers are [problem documents](ProblemKind) (RFC 9457).
//!
//! # What is stored
//!
//! Every response, 500 included, but those that mean that the operation did not start: 401, 403,
//! 404, 405, 408, 413, 415, 425, 429, 503. For these the key is released before the answer is sent;
//! if that cannot be written, 503 is sent instead, and the key counts as interrupted. A predicate,
//! or [`Stored`] and [`NotStored`] in a response's extensions, decides otherwise. An operation that
//! panics stores a 500; so does one whose service fails without an answer, and the failure goes to
//! the layers outside.
//!
//! A replay has the status, the end-to-end headers in their order, duplicates included, the body
//! and the trailers of the first answer. (HTTP/1.1 carries trailers if `Trailer` announces them
//! and the client said `TE: trailers`.) Hop-by-hop headers, those that `Connection` names, `Date`,
//! `Set-Cookie` and CORS headers are not stored; the list is settable. A `Content-Length` that does
//! not fit the body is left out, except in answers to HEAD and with 304, where it tells of another.
//!
//! A response over the limit, or one whose body breaks off, is sent as it comes, after the record
//! says durably that it cannot be replayed; a later duplicate gets 410, never a second execution.
//! A body that never ends is read up to the limit before it is sent, so do not protect event
//! streams. If the answer cannot be stored, it is not sent: 503, and the key stays held to the end
//! of its lease.
//!
//! # What runs
//!
//! An operation runs in a tokio task of its own: the client's disconnect does not stop it, and its
//! answer is stored. Their number is bounded ([`IdempotencyLayer::running_at_most`]), and their
//! leases are kept alive up to a set time ([`IdempotencyLayer::keep_alive_for`]).
//! [`IdempotencyLayer::drain`] awaits them at shutdown. Of an operation whose process was killed,
//! the next attempt is told so: see [`Attempt`].
//!
//! # Its place in the stack
//!
//! * `Router::route_layer`, not `Router::layer`: a path that no route has is then no operation.
//! * Authentication in the tenant closure, or in a layer outside that leaves the account in the
//!   request's extensions. Inside, a replay would not be authenticated.
//! * CORS, compression, timeouts and request ids outside: they belong to one connection, and a
//!   replay gets its own.
//! * Rate limits outside: an answer from inside that is not stored leaves its key *released* until that
//!   expires, and all unfinished keys count against [`Limits::unfinished`](crate::Limits::unfinished).
//! * A time limit on requests outside: the layer waits for a body as long as its client sends.
//! * Validation inside: with 400 or 422 it is stored like any other answer.
//! * One layer to a request: an inner one would wait for the outer one's claim.

mod attempt;
mod body;
mod canonical;
#[cfg(feature = "axum")]
mod extract;
pub mod fingerprint;
mod key;
mod layer;
mod panics;
mod policy;
mod problem;
mod renewal;
mod run;
mod running;
mod service;
mod stored;
mod tenant;

pub use self::attempt::Attempt;
pub use self::body::{Body, BoxError};
#[cfg(feature = "axum")]
pub use self::extract::NoAttempt;
pub use self::layer::IdempotencyLayer;
pub use self::policy::{NotStored, Stored, is_stored_by_default};
pub use self::problem::{Problem, ProblemKind};
pub use self::service::Idempotency;
pub use self::tenant::{Tenant, single_tenant};
