//! PostgreSQL with its default durability: a unique index, and `ON CONFLICT` in place of a look before
//! the insert; prepared statements, a connection for each client.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postgres::{Client as Connection, NoTls, Statement};

use super::server::{POSTGRES_PORT, processes};
use super::{Client, DAY, Peer, RESPONSE, Seen};
use crate::cell::Cell;
use crate::key::Key;

const SCHEMA: &str = "
    DROP TABLE IF EXISTS claims;
    CREATE TABLE claims (
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        expires TIMESTAMPTZ NOT NULL,
        response BYTEA,
        PRIMARY KEY (tenant, key)
    )";
const CLAIM: &str = "
    INSERT INTO claims (tenant, key, expires)
    VALUES ($1, $2, now() + $3 * interval '1 second')
    ON CONFLICT DO NOTHING";
const COMPLETE: &str = "
    UPDATE claims SET response = $3, expires = now() + $4 * interval '1 second'
    WHERE tenant = $1 AND key = $2";
const FILL: &str = "
    INSERT INTO claims (tenant, key, expires, response)
    SELECT tenant, key, now() + seconds * interval '1 second', $4
    FROM unnest($1::text[], $2::text[], $3::float8[]) AS new (tenant, key, seconds)";
const FILL_BATCH: u64 = 10_000;
const LOOK: &str = "SELECT response FROM claims WHERE tenant = $1 AND key = $2";

pub struct Postgres;

fn connect() -> Result<Connection> {
    let parameters = format!("host=127.0.0.1 port={POSTGRES_PORT} user=peers dbname=peers");
    Connection::connect(&parameters, NoTls).context("servers.sh has not started it")
}

impl Postgres {
    pub fn open() -> Result<Self> {
        connect()?.batch_execute(SCHEMA)?;
        Ok(Postgres)
    }
}

impl Peer for Postgres {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        let mut connection = connect()?;
        Ok(Box::new(Session {
            claim: connection.prepare(CLAIM)?,
            complete: connection.prepare(COMPLETE)?,
            look: connection.prepare(LOOK)?,
            connection,
        }))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let mut connection = connect()?;
        let insert = connection.prepare(FILL)?;
        for first in (0..keys).step_by(FILL_BATCH as usize) {
            let numbers = first..keys.min(first + FILL_BATCH);
            let left = |n| DAY.as_secs_f64() * (n + 1) as f64 / keys as f64;
            let lefts: Vec<f64> = numbers.clone().map(left).collect();
            let (tenants, names): (Vec<_>, Vec<_>) = numbers
                .map(Key::live)
                .map(|key| (key.tenant, key.key))
                .unzip();
            connection.execute(&insert, &[&tenants, &names, &lefts, &RESPONSE.as_slice()])?;
        }
        connection.batch_execute("VACUUM ANALYZE claims")?;
        Ok(connection.batch_execute("CHECKPOINT")?)
    }

    fn tidy(&self, _: Cell) -> Result<()> {
        Ok(connect()?.batch_execute("DELETE FROM claims WHERE expires < now()")?)
    }

    fn server(&self) -> Vec<u32> {
        processes("postgres.pid")
    }
}

struct Session {
    connection: Connection,
    claim: Statement,
    complete: Statement,
    look: Statement,
}

impl Client for Session {
    fn claim(&mut self, Key { tenant, key }: &Key, retain_for: Duration) -> Result<()> {
        let seconds = retain_for.as_secs_f64();
        let changed = self
            .connection
            .execute(&self.claim, &[tenant, key, &seconds])?;
        ensure!(changed == 1, "{key} is taken");
        Ok(())
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        let seconds = retain_for.as_secs_f64();
        let changed = self.connection.execute(
            &self.complete,
            &[&key.tenant, &key.key, &response, &seconds],
        )?;
        ensure!(changed == 1, "{key:?} is lost");
        Ok(())
    }

    fn ask(&mut self, Key { tenant, key }: &Key) -> Result<Seen> {
        let row = self.connection.query_one(&self.look, &[tenant, key])?;
        let response: Option<&[u8]> = row.try_get(0)?;
        Ok(response.map_or(Seen::InFlight, |response| Seen::Done {
            bytes: response.to_vec().len(),
        }))
    }
}
