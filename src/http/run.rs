//! An operation that was claimed: it runs detached from its connection, and its answer is stored.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode, response};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tower_service::Service;

use super::body::{Read, Whole};
use super::layer::Settings;
use super::panics::caught;
use super::problem::{Problem, ProblemKind};
use super::renewal::KeptAlive;
use super::stored::{Answer, Stored};
use super::{Attempt, Body, BoxError, IdempotencyLayer, policy};
use crate::claim::Lease;
use crate::error::{Error, Result};
use crate::store::StoreFuture;

/// Pauses between the tries to write what came of an operation: it is worth some.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Runs the operation in a task of its own and waits for the answer. Dropping this future stops
/// the waiting alone.
pub(super) async fn detached<S, R>(
    layer: IdempotencyLayer,
    lease: Lease,
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
    let settings = layer.settings;
    let Ok(runtime) = Handle::try_current() else {
        let why = "the service has no runtime for its operations";
        let problem = Problem::new(ProblemKind::StoreUnavailable, why);
        return Ok(settings.give_back(lease, problem).await);
    };
    let Some(slot) = layer.running.slot() else {
        let why = "nothing was done for this request; try again with the same key";
        let problem = Problem::new(ProblemKind::TooManyRunning, why);
        return Ok(settings.give_back(lease, problem).await);
    };
    let (tell, told) = oneshot::channel();
    let lease = Arc::new(lease);
    let operation = Operation {
        _kept_alive: KeptAlive::start(&runtime, &lease, &settings),
        lease,
        method: request.method().clone(),
        settings: settings.clone(),
    };
    runtime.spawn(async move {
        let answer = operation.run(inner, request).await;
        // Before the answer: whoever has it finds a slot.
        drop(slot);
        // If nobody waits any more, it is stored all the same.
        let _ = tell.send(answer);
    });
    told.await.unwrap_or_else(|_| {
        let why = "the service is stopping; try again with the same key";
        Ok(settings.answer(&Problem::new(ProblemKind::NotRecorded, why)))
    })
}

impl Settings {
    /// For an operation that will not start.
    async fn give_back(&self, lease: Lease, problem: Problem) -> Response<Body> {
        match insistently(|| lease.release_async()).await {
            Ok(()) => self.answer(&problem),
            Err(error) => self.answer(&not_released(error)),
        }
    }
}

/// A claimed operation and what belongs to it.
struct Operation {
    lease: Arc<Lease>,
    settings: Arc<Settings>,
    method: Method,
    _kept_alive: KeptAlive,
}

/// What an operation answered.
enum Came {
    /// An answer that says that it did not start.
    NotStored(Response<Body>),
    Whole(response::Parts, Whole),
    /// One that cannot be kept: the beginning of one that is too large or broke off, or no answer at
    /// all but an upgrade.
    Part(response::Parts, Body),
}

impl Operation {
    async fn run<S, R>(
        self,
        inner: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<R>>,
        R: http_body::Body + Send + 'static,
        R::Error: Into<BoxError>,
    {
        request.extensions_mut().insert(Attempt::of(&self.lease));
        match caught(answer_of(self.settings.clone(), inner, request)).await {
            Ok(Ok(came)) => Ok(match caught(self.settle(came)).await {
                Ok(response) => response,
                Err(_) => self.settle_failed().await,
            }),
            Ok(Err(error)) => {
                self.settle_failed().await;
                Err(error)
            }
            Err(_) => Ok(self.settle_failed().await),
        }
    }

    /// Writes what came of it to the record; only then it may be answered.
    async fn settle(&self, came: Came) -> Response<Body> {
        let (parts, written, body) = match came {
            Came::NotStored(response) => {
                return match insistently(|| self.lease.release_async()).await {
                    // Fenced: it is another attempt's to release.
                    Ok(()) | Err(Error::Fenced) => response,
                    Err(error) => self.settings.answer(&not_released(error)),
                };
            }
            Came::Whole(mut parts, whole) => {
                self.correct_length(&mut parts, &whole);
                let written = self.record(&self.stored(&parts, &whole)).await;
                (parts, written, Body::from(whole))
            }
            Came::Part(parts, body) => {
                let written = self.record(&Stored::NotReplayable(parts.status)).await;
                (parts, written, body)
            }
        };
        match written {
            Ok(()) => Response::from_parts(parts, body),
            Err(error) => self.settings.answer(&not_recorded(error)),
        }
    }

    /// It ran and gave no answer: what it did is as unknown as behind any 500.
    async fn settle_failed(&self) -> Response<Body> {
        let why = "what it did is not known; a retry with the same key gets this answer again";
        let problem = Problem::new(ProblemKind::OperationFailed, why);
        let (parts, data) = self.settings.problems.write(&problem).into_parts();
        let trailers = HeaderMap::new();
        self.settle(Came::Whole(parts, Whole { data, trailers }))
            .await
    }

    fn stored(&self, parts: &response::Parts, whole: &Whole) -> Stored {
        let not_stored = &self.settings.not_stored;
        let answer = Answer {
            status: parts.status,
            headers: not_stored.without(&parts.headers),
            trailers: not_stored.without(&whole.trailers),
            body: whole.data.clone(),
        };
        if answer.encoded_len() > self.settings.store.limits().response_bytes {
            return Stored::NotReplayable(parts.status);
        }
        Stored::Answer(answer)
    }

    async fn record(&self, stored: &Stored) -> Result<()> {
        let bytes = stored.encode();
        insistently(|| self.lease.complete_async(&bytes)).await
    }

    /// A length that does not fit would break every replay. Where there is no body it tells of
    /// another's.
    fn correct_length(&self, parts: &mut response::Parts, whole: &Whole) {
        if self.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
            return;
        }
        let right = whole.data.len().to_string();
        let said = parts.headers.get(CONTENT_LENGTH);
        if said.is_some_and(|said| said.as_bytes() != right.as_bytes()) {
            parts.headers = policy::without(&parts.headers, &CONTENT_LENGTH);
        }
    }
}

/// Tries again what may go well a moment later.
async fn insistently(write: impl Fn() -> StoreFuture<Result<()>>) -> Result<()> {
    for pause in PAUSES {
        match write().await {
            Err(Error::Overloaded | Error::NoSpace | Error::Indeterminate | Error::Io(_)) => {
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
    }
    write().await
}

/// Runs the operation to its answer.
async fn answer_of<S, R>(
    settings: Arc<Settings>,
    mut inner: S,
    request: Request<Body>,
) -> Result<Came, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body + Send + 'static,
    R::Error: Into<BoxError>,
{
    let response = inner.call(request).await?;
    let (mut parts, body) = response.map(Body::new).into_parts();
    if parts.headers.contains_key(&settings.replayed_header) {
        parts.headers = policy::without(&parts.headers, &settings.replayed_header);
    }
    if parts.status.is_informational() {
        // The connection becomes something else; there is nothing to give again.
        return Ok(Came::Part(parts, body));
    }
    if !policy::is_stored(&parts, &*settings.is_stored) {
        return Ok(Came::NotStored(Response::from_parts(parts, body)));
    }
    Ok(match body.read(settings.response_bytes).await {
        Read::Whole(whole) => Came::Whole(parts, whole),
        Read::TooLarge(body) | Read::BrokenOff(body) => Came::Part(parts, body),
    })
}

/// The key could not be released: it counts as interrupted, and the client may ask again.
fn not_released(error: Error) -> Problem {
    let why = "the operation did not start; try again with the same key";
    Problem::new(ProblemKind::StoreUnavailable, why).error(error)
}

/// Not the operation's answer: a retry may get another, and both would be told.
fn not_recorded(error: Error) -> Problem {
    let why = "the operation ran; ask again with the same key, or find out what it did";
    Problem::new(ProblemKind::NotRecorded, why).error(error)
}
