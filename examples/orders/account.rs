//! Whose orders: the bearer token, hashed, stands in for an account id that a real service would
//! look up.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use firstclaim::{Fingerprint, Tenant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account([u8; 32]);

impl Account {
    #[allow(clippy::result_large_err)] // a response, as axum has it
    pub(crate) fn of(request: &Parts) -> Result<Self, Response> {
        let value = request.headers.get(AUTHORIZATION);
        let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
        let (scheme, token) = value.split_once(' ').unwrap_or(("", ""));
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            let challenge = [(WWW_AUTHENTICATE, "Bearer")];
            return Err((StatusCode::UNAUTHORIZED, challenge).into_response());
        }
        let hash = Fingerprint::of(["bearer token", token.trim()]);
        Ok(Account(*hash.as_bytes()))
    }
}

impl From<Account> for Tenant {
    fn from(account: Account) -> Tenant {
        Tenant::from(account.0)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<S: Sync> FromRequestParts<S> for Account {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        Account::of(parts)
    }
}
