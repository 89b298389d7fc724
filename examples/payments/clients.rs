//! Clients that send payments until they have a receipt, and the threads that serve them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::payment::Payment;
use crate::random::Random;
use crate::report::Report;
use crate::service::{Answer, Fatal, Service};

const CLIENTS: u64 = 64;
/// More than clients: a request whose client gave up still occupies a server.
const SERVERS: u64 = 96;
/// How long a client waits for an answer before it sends the request again.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a client waits after an answer that was not a receipt, in microseconds. Real clients
/// would wait for `InFlight::retry_after`; these are impatient.
const BACKOFF_US: std::ops::Range<u64> = 5_000..30_000;
/// A client that has its receipt asks again this often, and must get the same one.
const AGAIN_PERCENT: u64 = 15;
/// How often interrupted payments are settled while the service runs.
const SETTLE_EVERY: Duration = Duration::from_millis(50);

/// A payment on its way to a server, with the way back.
struct Request {
    payment: Payment,
    reply: Sender<Answer>,
}

/// Has every payment in `list` sent until its client holds a receipt.
pub(crate) fn send_all(service: &Service, list: &[Payment], seed: u64) {
    let (to_servers, requests) = mpsc::channel();
    let requests = Mutex::new(requests);
    let next = AtomicUsize::new(0);
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        for server in 0..SERVERS {
            let mut random = Random::seeded(seed ^ (1_000 + server));
            let requests = &requests;
            scope.spawn(move || serve(service, requests, &mut random));
        }
        scope.spawn(|| settle_until(&answered, service, &mut Random::seeded(seed ^ 2_000)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let mut random = Random::seeded(seed ^ (3_000 + client));
                let (to_servers, next) = (to_servers.clone(), &next);
                scope.spawn(move || {
                    while let Some(&payment) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                        send_until_paid(payment, &to_servers, &mut random);
                    }
                })
            })
            .collect();
        drop(to_servers); // The servers end when the last client has.
        for client in clients {
            if client.join().is_err() {
                stop("a client panicked");
            }
        }
        answered.store(true, Ordering::Release);
    });
}

/// One client with one payment: sends, waits a little, sends again.
fn send_until_paid(payment: Payment, to_servers: &Sender<Request>, random: &mut Random) {
    loop {
        let (reply, answer) = mpsc::channel();
        if to_servers.send(Request { payment, reply }).is_err() {
            stop("the servers are gone");
        }
        match answer.recv_timeout(PATIENCE) {
            Ok(Answer::Paid(receipt)) => {
                Report::Answered(payment, receipt).send();
                if !random.chance(AGAIN_PERCENT) {
                    return;
                }
            }
            Ok(Answer::TryAgain) => thread::sleep(random.micros(BACKOFF_US)),
            Err(_) => Report::TimedOut(payment).send(),
        }
    }
}

/// One server thread: takes requests until there are no clients left.
fn serve(service: &Service, requests: &Mutex<Receiver<Request>>, random: &mut Random) {
    loop {
        let request = match requests.lock() {
            Ok(requests) => requests.recv(),
            Err(_) => stop("a server panicked"),
        };
        let Ok(Request { payment, reply }) = request else {
            return;
        };
        let answer = or_stop(service.pay(payment, random));
        // The client may have lost patience; it will come again.
        let _ = reply.send(answer);
    }
}

fn settle_until(answered: &AtomicBool, service: &Service, random: &mut Random) {
    while !answered.load(Ordering::Acquire) {
        thread::sleep(SETTLE_EVERY);
        or_stop(service.settle(random));
    }
}

fn or_stop<T>(outcome: Result<T, Fatal>) -> T {
    outcome.unwrap_or_else(|fatal| stop(fatal))
}

/// Ends the child at once, as a service that can no longer record what it does should.
fn stop(why: impl std::fmt::Display) -> ! {
    eprintln!("payments, child: {why}");
    std::process::exit(i32::from(crate::child::FAILED))
}
