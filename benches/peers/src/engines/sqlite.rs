//! SQLite: WAL, synchronous=FULL, one connection for the writers behind a mutex (more would only meet
//! each other at SQLite's own), one for each reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::row::now_s;
use super::{Client, DAY, Peer, RESPONSE, Seen};
use crate::key::Key;

const SCHEMA: &str = "
    CREATE TABLE claims (
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        expires_s INTEGER NOT NULL,
        response BLOB,
        PRIMARY KEY (tenant, key)
    ) WITHOUT ROWID";
/// An expired key is vacant.
const CLAIM: &str = "
    INSERT INTO claims (tenant, key, expires_s) VALUES (?1, ?2, ?3)
    ON CONFLICT (tenant, key) DO UPDATE SET expires_s = ?3, response = NULL WHERE expires_s <= ?4";
const COMPLETE: &str =
    "UPDATE claims SET response = ?3, expires_s = ?4 WHERE tenant = ?1 AND key = ?2";
const LOOK: &str = "SELECT response FROM claims WHERE tenant = ?1 AND key = ?2";

pub struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -65_536)?; // KiB
    Ok(connection)
}

impl Sqlite {
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("claims.sqlite");
        let writer = connect(&path)?;
        writer.execute_batch(SCHEMA)?;
        Ok(Sqlite {
            path,
            writer: Mutex::new(writer),
        })
    }
}

impl Peer for Sqlite {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session {
            writer: &self.writer,
            reader: connect(&self.path)?,
        }))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let mut all: Vec<Key> = (0..keys).map(Key::live).collect();
        all.sort_by_cached_key(Key::joined);
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        {
            let mut insert = transaction.prepare(
                "INSERT INTO claims (tenant, key, expires_s, response) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let expires_s = (now_s() + DAY.as_secs()) as i64;
            for Key { tenant, key } in all {
                insert.execute(params![tenant, key, expires_s, RESPONSE])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

struct Session<'p> {
    writer: &'p Mutex<Connection>,
    reader: Connection,
}

fn expiry(retain_for: Duration) -> i64 {
    (now_s() + retain_for.as_secs().max(1)) as i64
}

impl Client for Session<'_> {
    fn claim(&mut self, Key { tenant, key }: &Key, retain_for: Duration) -> Result<()> {
        let writer = self.writer.lock();
        let mut claim = writer.prepare_cached(CLAIM)?;
        let changed = claim.execute(params![tenant, key, expiry(retain_for), now_s() as i64])?;
        ensure!(changed == 1, "{key} is taken");
        Ok(())
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        let writer = self.writer.lock();
        let mut complete = writer.prepare_cached(COMPLETE)?;
        let changed =
            complete.execute(params![key.tenant, key.key, response, expiry(retain_for)])?;
        ensure!(changed == 1, "{key:?} is lost");
        Ok(())
    }

    fn ask(&mut self, Key { tenant, key }: &Key) -> Result<Seen> {
        let mut look = self.reader.prepare_cached(LOOK)?;
        let response: Option<Option<Vec<u8>>> = look
            .query_row(params![tenant, key], |row| row.get(0))
            .optional()?;
        match response {
            Some(Some(response)) => Ok(Seen::Done {
                bytes: response.len(),
            }),
            Some(None) => Ok(Seen::InFlight),
            None => anyhow::bail!("{key} is vacant"),
        }
    }
}
