//! The layer and its settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, Response, StatusCode, Uri, response};
use tower_layer::Layer;

use super::policy::{self, NotStoredHeaders};
use super::problem::{Problem, Writer};
use super::running::Running;
use super::{Body, BoxError, Idempotency, Tenant, fingerprint};
use crate::fingerprint::Fingerprint;
use crate::record::Takeover;
use crate::store::Store;
use crate::time::{MAX_DURATION, MIN_DURATION};

type TenantOf = dyn Fn(&Parts) -> Result<Tenant, Response<Body>> + Send + Sync;
type FingerprintOf = dyn Fn(&Parts, &[u8]) -> Fingerprint + Send + Sync;
type IsStored = dyn Fn(&response::Parts) -> bool + Send + Sync;

/// Behind a load balancer each replica has its own store, so a client's keys must be routed to one
/// replica, or a shared engine be used.
///
/// A tower layer that carries out each POST and PATCH request once per `Idempotency-Key`, stores
/// the answer, and replays it to every retry. See the [module](super) for what it does with a
/// request, and for its place in the stack. Cheap to clone; clones share the store and the bound on
/// what is running. Settings out of their bounds are brought to the nearest.
///
/// After *The Idempotency-Key HTTP Header Field* (draft-ietf-httpapi-idempotency-key-header-07).
///
/// ```
/// use firstclaim::Store;
/// use firstclaim::http::{IdempotencyLayer, Tenant};
///
/// # fn account_of(_: &http::request::Parts) -> Option<u64> { Some(42) }
/// let layer = IdempotencyLayer::new(Store::in_memory()?, |request| match account_of(request) {
///     Some(account) => Ok(Tenant::from(account)),
///     None => {
///         let mut refusal = http::Response::new(String::new());
///         *refusal.status_mut() = http::StatusCode::UNAUTHORIZED;
///         Err(refusal)
///     }
/// });
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it is part of a service"]
pub struct IdempotencyLayer {
    pub(super) settings: Arc<Settings>,
    pub(super) running: Running,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) store: Store,
    pub(super) tenant: Arc<TenantOf>,
    pub(super) methods: Vec<Method>,
    pub(super) required: bool,
    pub(super) key_header: HeaderName,
    pub(super) replayed_header: HeaderName,
    pub(super) fingerprint: Arc<FingerprintOf>,
    pub(super) mismatch: StatusCode,
    pub(super) wait: Duration,
    pub(super) request_bytes: usize,
    pub(super) response_bytes: usize,
    pub(super) lease_for: Option<Duration>,
    pub(super) retain_for: Option<Duration>,
    pub(super) takeover: Option<Takeover>,
    pub(super) keep_alive_for: Duration,
    pub(super) not_stored: NotStoredHeaders,
    pub(super) is_stored: Arc<IsStored>,
    pub(super) runs_unprotected: bool,
    pub(super) problems: Writer,
}

const MIB: usize = 1 << 20;

impl IdempotencyLayer {
    /// A layer over `store`. `tenant` says whose keys a request's are, or answers the request, with
    /// 401 for one. It sees every protected request before anything else of it is looked at.
    ///
    /// A tenant is a stable account id, never the credential itself, which would be written to disk
    /// and change on refresh. A service whose clients are all one says so: [`single_tenant`]. (A closure
    /// that never refuses must name what it would refuse with: `Ok::<_, http::Response<Body>>(tenant)`.)
    ///
    /// [`single_tenant`]: super::single_tenant
    pub fn new<F, B>(store: Store, tenant: F) -> Self
    where
        F: Fn(&Parts) -> Result<Tenant, Response<B>> + Send + Sync + 'static,
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        #[allow(clippy::result_large_err)] // a response, as users have it
        let tenant =
            move |request: &Parts| tenant(request).map_err(|refusal| refusal.map(Body::new));
        IdempotencyLayer {
            settings: Arc::new(Settings {
                store,
                tenant: Arc::new(tenant),
                methods: vec![Method::POST, Method::PATCH],
                required: true,
                key_header: HeaderName::from_static("idempotency-key"),
                replayed_header: HeaderName::from_static("idempotency-replayed"),
                fingerprint: Arc::new(fingerprint::exact),
                mismatch: StatusCode::UNPROCESSABLE_ENTITY,
                wait: Duration::from_secs(5),
                request_bytes: MIB,
                response_bytes: MIB,
                lease_for: None,
                retain_for: None,
                takeover: None,
                keep_alive_for: Duration::from_secs(15 * 60),
                not_stored: NotStoredHeaders::default(),
                is_stored: Arc::new(|response| policy::is_stored_by_default(response.status)),
                runs_unprotected: false,
                problems: Writer::default(),
            }),
            running: Running::at_most(1024),
        }
    }

    /// The methods that are protected; POST and PATCH. All others pass through untouched.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = methods.into_iter().collect())
    }

    /// Whether a protected request must have a key; true. Otherwise one without passes through,
    /// unprotected.
    pub fn required(self, required: bool) -> Self {
        self.with(|settings| settings.required = required)
    }

    /// The header of the key; `Idempotency-Key`.
    pub fn key_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.key_header = name)
    }

    /// The header that a replay has, with the value `true`; `Idempotency-Replayed`. A first answer
    /// never has it.
    pub fn replayed_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.replayed_header = name)
    }

    /// What makes two requests with one key the same, from the request without its body and the
    /// body's bytes; [`fingerprint::exact`]. Ready ones are in [`fingerprint`].
    pub fn fingerprint<F>(self, fingerprint: F) -> Self
    where
        F: Fn(&Parts, &[u8]) -> Fingerprint + Send + Sync + 'static,
    {
        self.with(|settings| settings.fingerprint = Arc::new(fingerprint))
    }

    /// The status for a key that is in use for another request; 422.
    pub fn mismatch_status(self, status: StatusCode) -> Self {
        self.with(|settings| settings.mismatch = status)
    }

    /// How long a duplicate waits for the answer of the one that is running, up to 366 days; 5 s.
    /// Zero: not at all.
    pub fn wait_for(self, wait: Duration) -> Self {
        self.with(|settings| settings.wait = wait.min(MAX_DURATION))
    }

    /// The longest body of a protected request, in bytes; 1 MiB. It is held in memory as a whole.
    /// Beyond: 413, and nothing is claimed.
    pub fn request_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.request_bytes = bytes)
    }

    /// The longest body of a response that is stored, in bytes; 1 MiB. With its status and headers
    /// it must also fit the store's own limit
    /// ([`Limits::response_bytes`](crate::Limits::response_bytes)). A longer one streams through,
    /// after the record says that it cannot be replayed.
    pub fn response_bytes(self, bytes: usize) -> Self {
        self.with(|settings| settings.response_bytes = bytes)
    }

    /// How long a lease runs between renewals, 1 ms to 366 days; as the store says.
    pub fn lease_for(self, lease_for: Duration) -> Self {
        self.with(|settings| settings.lease_for = Some(within_bounds(lease_for)))
    }

    /// How long an answer is kept, 1 ms to 366 days; as the store says. Publish it: the draft
    /// requires that clients can know it.
    pub fn retain_for(self, retain_for: Duration) -> Self {
        self.with(|settings| settings.retain_for = Some(within_bounds(retain_for)))
    }

    /// When a key may be taken over; as the store says.
    pub fn takeover(self, takeover: Takeover) -> Self {
        self.with(|settings| settings.takeover = Some(takeover))
    }

    /// For how long a lease is kept renewed while its operation runs; 15 minutes. The last renewal
    /// may outlast it by one lease.
    pub fn keep_alive_for(self, at_most: Duration) -> Self {
        self.with(|settings| settings.keep_alive_for = at_most)
    }

    /// The most operations that run at a time, 1 to 65,536; 1024. Beyond: 503, and the key is
    /// released. Replays, refusals and requests that wait do not count.
    ///
    /// Clones made before this call keep a bound of their own.
    pub fn running_at_most(mut self, operations: usize) -> Self {
        self.running = Running::at_most(operations);
        self
    }

    /// Headers that are not stored, by name, or by the beginning of names with `*` at the end:
    /// `Date`, `Set-Cookie` and `Access-Control-*`. Hop-by-hop headers and those that `Connection`
    /// names are never stored, whatever this says.
    pub fn headers_not_stored<N: AsRef<str>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|settings| settings.not_stored = NotStoredHeaders::of(names))
    }

    /// Whether a response is stored, if it does not say so itself
    /// ([`Stored`](super::Stored), [`NotStored`](super::NotStored));
    /// [`is_stored_by_default`](super::is_stored_by_default) of its status.
    pub fn store_if<F>(self, is_stored: F) -> Self
    where
        F: Fn(&response::Parts) -> bool + Send + Sync + 'static,
    {
        self.with(|settings| settings.is_stored = Arc::new(is_stored))
    }

    /// Whether requests run unprotected, perhaps twice, when the store cannot claim their keys, for
    /// whatever reason but a damaged record: a failing disk, a full one, too much at a time. They have
    /// no [`Attempt`](super::Attempt) then. False: they are answered with 503.
    pub fn run_unprotected_without_store(self, unprotected: bool) -> Self {
        self.with(|settings| settings.runs_unprotected = unprotected)
    }

    /// Where the service's documentation says how keys are used and how long answers are kept. With
    /// the case as its fragment it is the `type` of every problem, and it is the `describedby` link
    /// of each, as in the draft.
    pub fn documentation(self, url: Uri) -> Self {
        self.with(|settings| settings.problems.documentation = Some(url))
    }

    /// Changes the layer's own answers before they are sent, or stored.
    ///
    /// ```
    /// # use firstclaim::{Store, http::{IdempotencyLayer, single_tenant}};
    /// # let layer = IdempotencyLayer::new(Store::in_memory()?, single_tenant());
    /// let layer = layer.problems(|problem, mut response| {
    ///     if let Some(error) = &problem.error {
    ///         eprintln!("the store says: {error}");
    ///     }
    ///     *response.body_mut() = problem.kind.title().into();
    ///     response
    /// });
    /// # Ok::<(), firstclaim::Error>(())
    /// ```
    pub fn problems<F>(self, reshape: F) -> Self
    where
        F: Fn(&Problem, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.with(|settings| settings.problems.reshape = Some(Arc::new(reshape)))
    }

    /// Waits until no operation runs, for at most `timeout`; whether that came to be. While it
    /// waits, none starts. For shutdown, after the server has stopped and before the store is
    /// closed: operations whose clients have gone run on without a connection.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn drain(&self, timeout: Duration) -> bool {
        self.running.drain(timeout).await
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Settings {
    pub(super) fn answer(&self, problem: &Problem) -> Response<Body> {
        self.problems.write(problem).map(Body::from)
    }
}

fn within_bounds(duration: Duration) -> Duration {
    duration.clamp(MIN_DURATION, MAX_DURATION)
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, self.clone())
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("methods", &self.settings.methods)
            .field("required", &self.settings.required)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}
