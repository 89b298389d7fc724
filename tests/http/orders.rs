//! The example `orders`, killed and told to end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::kit::is_replayed;

#[path = "../../examples/orders/main.rs"]
#[allow(dead_code)]
mod example;

/// Set for the child alone: the directory it serves.
const DIRECTORY: &str = "FIRSTCLAIM_ORDERS_DIRECTORY";

/// The example's server in a process of its own: this test program, running [`served`] alone.
struct Served {
    child: Child,
    url: String,
}

#[test]
#[ignore = "the child of the other tests"]
fn served() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime
            .block_on(example::serve(Path::new(&directory), 0))
            .unwrap();
    }
}

impl Served {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["orders::served", "--exact", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let url = lines.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        let url = format!("{}/orders", url.expect("it listens"));
        // Or it could not write when it ends.
        let reader = std::thread::Builder::new();
        reader.spawn(move || lines.for_each(drop)).unwrap();
        Served { child, url }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[cfg(unix)]
    fn terminate(&mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().success()
    }

    fn order(
        &self,
        key: &str,
        work_ms: u64,
    ) -> impl Future<Output = reqwest::Result<reqwest::Response>> + use<> {
        reqwest::Client::new()
            .post(format!("{}?work_ms={work_ms}", self.url))
            .header("authorization", "Bearer alice")
            .header("idempotency-key", key)
            .body(r#"{"product_id":42,"quantity":1}"#)
            .send()
    }

    /// Waits until there is an order: it is written half way through its work.
    async fn written(&self) -> Vec<Value> {
        loop {
            let orders = self.orders("alice").await;
            if !orders.is_empty() {
                return orders;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn orders(&self, token: &str) -> Vec<Value> {
        let list = reqwest::Client::new().get(&self.url);
        let list = list.header("authorization", format!("Bearer {token}"));
        let text = list.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn json(response: reqwest::Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_order_is_created_once_and_listed_to_its_account_alone() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path());
    let first = served.order("k", 0).await.unwrap();
    assert_eq!(first.status(), 201);
    let first = json(first).await;
    assert!(uuid::Uuid::parse_str(first["id"].as_str().unwrap()).is_ok());
    let replay = served.order("k", 0).await.unwrap();
    assert!(is_replayed(&replay));
    assert_eq!(json(replay).await, first);
    assert_eq!(served.orders("alice").await, [first]);
    assert!(served.orders("bob").await.is_empty());
    let anonymous = reqwest::get(&served.url).await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let keyless = reqwest::Client::new().post(&served.url);
    let keyless = keyless.header("authorization", "Bearer alice").send().await;
    assert_eq!(keyless.unwrap().status(), 400);
}

#[tokio::test]
async fn killed_between_work_and_answer_a_retry_finds_the_order_that_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = Served::start(directory.path());
    let order = served.order("k", 6_000);
    let order = tokio::spawn(async move { order.await.is_ok() });
    let written = served.written().await;
    served.kill();
    assert!(!order.await.unwrap(), "it was not answered");

    let served = Served::start(directory.path());
    assert_eq!(served.orders("alice").await, written);
    let retry = served.order("k", 6_000).await.unwrap();
    assert_eq!(retry.status(), 201);
    assert!(!is_replayed(&retry), "no answer was stored");
    assert_eq!(json(retry).await, written[0]);
    assert_eq!(served.orders("alice").await, written);
    assert!(is_replayed(&served.order("k", 6_000).await.unwrap()));
}

#[tokio::test]
async fn killed_at_any_moment_every_order_is_there_once_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let moments = [5, 15, 25, 35, 45, 60, 80];
    for after in moments {
        let mut served = Served::start(directory.path());
        let keys = ["a", "b", "c"].map(|name| format!("{name}{after}"));
        let orders = keys.iter().map(|key| served.order(key, 40));
        let [a, b, c]: [_; 3] = orders.collect::<Vec<_>>().try_into().ok().unwrap();
        let sent = async { tokio::join!(a, b, c) };
        let _ = tokio::time::timeout(Duration::from_millis(after), sent).await;
        served.kill();
    }
    let served = Served::start(directory.path());
    let mut created = Vec::new();
    for after in moments {
        for name in ["a", "b", "c"] {
            let answer = served.order(&format!("{name}{after}"), 40).await.unwrap();
            assert_eq!(answer.status(), 201);
            created.push(json(answer).await.to_string());
        }
    }
    let mut listed: Vec<String> = served
        .orders("alice")
        .await
        .iter()
        .map(Value::to_string)
        .collect();
    created.sort();
    listed.sort();
    assert_eq!(listed, created);
}

#[cfg(unix)]
#[tokio::test]
async fn told_to_end_it_finishes_what_runs_though_nobody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = Served::start(directory.path());
    let order = served.order("k", 4_000);
    let order = tokio::spawn(async move { order.await.is_ok() });
    served.written().await;
    order.abort();
    assert!(order.await.is_err(), "it is still being worked on");
    assert!(served.terminate());

    let served = Served::start(directory.path());
    let replay = served.order("k", 4_000).await.unwrap();
    assert_eq!(replay.status(), 201);
    assert!(is_replayed(&replay));
    assert_eq!(served.orders("alice").await, [json(replay).await]);
}
