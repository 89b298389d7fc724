//! The service: one request, sent until there is an answer for good.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{Key, RetryLayer};

/// A client in a [`RetryLayer`]. Bodies must be such that they can be sent again.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    layer: RetryLayer,
}

impl<S> Retry<S> {
    pub(super) fn new(inner: S, layer: RetryLayer) -> Self {
        Retry { inner, layer }
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let next = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, next);
        if !self.layer.methods.contains(request.method()) {
            return Box::pin(ready.call(request));
        }
        let headers = request.headers_mut();
        if !headers.contains_key(&self.layer.key_header) {
            // A UUID in quotes is always a header's value.
            if let Some(key) = Key::fresh().to_header() {
                headers.insert(self.layer.key_header.clone(), key);
            }
        }
        Box::pin(send(self.layer.clone(), ready, request))
    }
}

/// Dropping this gives the operation up at the server's side of it: whether it ran is unknown then.
async fn send<S, B, R>(
    layer: RetryLayer,
    mut ready: S,
    request: Request<B>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Clone,
{
    let mut tried = 1;
    loop {
        let answer = ready.call(request.clone()).await;
        let wait = match &answer {
            Ok(answer) => layer.wait_after_answer(tried, answer.status(), answer.headers()),
            Err(_) => layer.wait_after_failure(tried),
        };
        let Some(wait) = wait else {
            return answer;
        };
        // The body of an answer that is not kept goes, and with it perhaps its connection.
        drop(answer);
        tokio::time::sleep(wait).await;
        poll_fn(|cx| ready.poll_ready(cx)).await?;
        tried += 1;
    }
}
