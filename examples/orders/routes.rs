//! The layer, and the operation behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use firstclaim::{Attempt, IdempotencyLayer, Store};
use serde::Deserialize;
use uuid::Uuid;

use super::account::Account;
use super::ledger::{Ledger, Order};

/// The longest work that may be asked for.
const LONGEST_WORK_MS: u64 = 10 * 60 * 1_000;

#[allow(clippy::result_large_err)] // a response, as axum has it
pub(crate) fn routes(store: Store, ledger: Ledger) -> (Router, IdempotencyLayer) {
    let layer = IdempotencyLayer::new(store, |request| Account::of(request).map(Into::into));
    let routes = Router::new()
        .route("/orders", get(list).post(create))
        .route_layer(layer.clone())
        .with_state(Arc::new(ledger));
    (routes, layer)
}

#[derive(Deserialize)]
struct Work {
    #[serde(default)]
    work_ms: u64,
}

#[derive(Deserialize)]
struct NewOrder {
    product_id: u64,
    quantity: u64,
}

async fn list(State(ledger): State<Arc<Ledger>>, account: Account) -> Json<Vec<Order>> {
    Json(ledger.of(&account.to_string()))
}

/// Creates an order. An attempt that was cut short may have written it: so the order's id is saved
/// before, and the next attempt, which is given it, looks first.
async fn create(
    State(ledger): State<Arc<Ledger>>,
    account: Account,
    attempt: Attempt,
    Query(work): Query<Work>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Ok(new) = serde_json::from_slice::<NewOrder>(&body) else {
        return Err(Refusal(StatusCode::BAD_REQUEST, "no order"));
    };
    if work.work_ms > LONGEST_WORK_MS {
        return Err(Refusal(StatusCode::BAD_REQUEST, "too much work"));
    }
    let account = account.to_string();
    let saved = attempt
        .recovery_point()
        .and_then(|id| Uuid::from_slice(id).ok());
    let id = saved.unwrap_or_else(Uuid::new_v4);
    if saved.is_none() {
        let saved = attempt.save_recovery_point(id).await;
        saved.map_err(|_| Refusal(StatusCode::SERVICE_UNAVAILABLE, "try again"))?;
    }
    let written = saved.and_then(|id| ledger.find(&account, id));
    let order = match written {
        Some(order) => order,
        None => {
            let half = Duration::from_millis(work.work_ms) / 2;
            let order = Order {
                id,
                product_id: new.product_id,
                quantity: new.quantity,
            };
            tokio::time::sleep(half).await;
            add(ledger, account, order.clone()).await?;
            tokio::time::sleep(half).await;
            order
        }
    };
    Ok((StatusCode::CREATED, Json(order)).into_response())
}

async fn add(ledger: Arc<Ledger>, account: String, order: Order) -> Result<(), Refusal> {
    let added = tokio::task::spawn_blocking(move || ledger.add(account, order));
    // Perhaps written: stored as it is, and not tried again under this key.
    let failed = Refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the order was not written",
    );
    match added.await {
        Ok(Ok(())) => Ok(()),
        _ => Err(failed),
    }
}

struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
