//! The layer's types as axum knows them.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, IntoResponseParts, ResponseParts};
use http::StatusCode;
use http::request::Parts;

use super::{Attempt, NotStored, Stored};

/// The request has no attempt: the route is not in an [`IdempotencyLayer`](super::IdempotencyLayer),
/// or its method is not protected, or the request has no key and needs none, or it runs unprotected
/// without the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is not protected by an idempotency key")]
pub struct NoAttempt;

impl IntoResponse for NoAttempt {
    fn into_response(self) -> axum::response::Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Attempt {
    type Rejection = NoAttempt;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoAttempt> {
        parts.extensions.get().cloned().ok_or(NoAttempt)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Attempt {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Option<Self>, std::convert::Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

macro_rules! response_part {
    ($($mark:ident)*) => {$(
        impl IntoResponseParts for $mark {
            type Error = std::convert::Infallible;

            fn into_response_parts(
                self,
                mut response: ResponseParts,
            ) -> Result<ResponseParts, std::convert::Infallible> {
                response.extensions_mut().insert(self);
                Ok(response)
            }
        }
    )*};
}

response_part!(Stored NotStored);
