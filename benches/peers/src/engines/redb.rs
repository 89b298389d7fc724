//! redb alone: one write transaction per claim, one per completion.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Client, DAY, Peer, RESPONSE, Seen};
use crate::engines::row;
use crate::key::Key;

const CLAIMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("claims");
const FILL_BATCH: u64 = 100_000;

pub struct Redb(Database);

impl Redb {
    pub fn open(directory: &Path) -> Result<Self> {
        let database = Database::builder()
            .set_cache_size(64 << 20)
            .create(directory.join("claims.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(CLAIMS)?;
        transaction.commit()?;
        Ok(Redb(database))
    }
}

impl Peer for Redb {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session(&self.0)))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let row = row::done(&RESPONSE, DAY);
        for first in (0..keys).step_by(FILL_BATCH as usize) {
            let transaction = self.0.begin_write()?;
            {
                let mut table = transaction.open_table(CLAIMS)?;
                let numbers = first..keys.min(first + FILL_BATCH);
                let mut names: Vec<_> = numbers.map(|n| Key::live(n).joined()).collect();
                names.sort();
                for name in names {
                    table.insert(name.as_bytes(), row.as_slice())?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }
}

struct Session<'d>(&'d Database);

impl Client for Session<'_> {
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()> {
        let name = key.joined();
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(CLAIMS)?;
            let taken = table
                .get(name.as_bytes())?
                .is_some_and(|row| row::is_live(row.value()));
            ensure!(!taken, "{name} is taken");
            table.insert(name.as_bytes(), row::in_flight(retain_for).as_slice())?;
        }
        Ok(transaction.commit()?)
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(CLAIMS)?;
            let row = row::done(response, retain_for);
            table.insert(key.joined().as_bytes(), row.as_slice())?;
        }
        Ok(transaction.commit()?)
    }

    fn ask(&mut self, key: &Key) -> Result<Seen> {
        let transaction = self.0.begin_read()?;
        let table = transaction.open_table(CLAIMS)?;
        let row = table.get(key.joined().as_bytes())?;
        row::seen(row.context("vacant")?.value())
    }
}
