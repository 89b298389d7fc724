//! Redis with an append-only file synced at every write: `SET NX EX`, then `SET XX EX` with the
//! response; a connection for each client.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::{Connection, Value};

use super::server::{REDIS_PORT, processes};
use super::{Client, DAY, Peer, RESPONSE, Seen};
use crate::key::Key;

const FILL_BATCH: u64 = 10_000;
/// What a key in flight holds; a response has a first byte of its own.
const IN_FLIGHT: &[u8] = b"0";

pub struct Redis;

fn connect() -> Result<Connection> {
    let client = redis::Client::open(("127.0.0.1", REDIS_PORT))?;
    client
        .get_connection()
        .context("servers.sh has not started it")
}

impl Redis {
    pub fn open() -> Result<Self> {
        redis::cmd("FLUSHALL").exec(&mut connect()?)?;
        Ok(Redis)
    }
}

fn done(response: &[u8]) -> Vec<u8> {
    [b"1", response].concat()
}

impl Peer for Redis {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session(connect()?)))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let mut connection = connect()?;
        for first in (0..keys).step_by(FILL_BATCH as usize) {
            let mut pipe = redis::pipe();
            for n in first..keys.min(first + FILL_BATCH) {
                let left = (DAY.as_secs() * (n + 1) / keys).max(1);
                let set = pipe.cmd("SET").arg(Key::live(n).joined());
                set.arg(done(&RESPONSE)).arg("EX").arg(left).ignore();
            }
            pipe.exec(&mut connection)?;
        }
        Ok(())
    }

    fn server(&self) -> Vec<u32> {
        processes("redis.pid")
    }
}

struct Session(Connection);

impl Client for Session {
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()> {
        let name = key.joined();
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(IN_FLIGHT).arg("NX");
        set.arg("EX").arg(retain_for.as_secs().max(1));
        let answer: Value = set.query(&mut self.0)?;
        ensure!(answer == Value::Okay, "{name} is taken");
        Ok(())
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        let name = key.joined();
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(done(response)).arg("XX");
        set.arg("EX").arg(retain_for.as_secs().max(1));
        let answer: Value = set.query(&mut self.0)?;
        ensure!(answer == Value::Okay, "{name} is lost");
        Ok(())
    }

    fn ask(&mut self, key: &Key) -> Result<Seen> {
        let mut get = redis::cmd("GET");
        let found: Option<Vec<u8>> = get.arg(key.joined()).query(&mut self.0)?;
        let found = found.context("vacant")?;
        Ok(match found.as_slice() {
            IN_FLIGHT => Seen::InFlight,
            done => Seen::Done {
                bytes: done.len() - 1,
            },
        })
    }
}
