//! fjall: looked up and inserted under a lock striped by key, then a synced commit per claim.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use super::{Client, DAY, Peer, RESPONSE, Seen, row};
use crate::key::Key;

const STRIPES: usize = 256;

pub struct Fjall {
    database: Database,
    claims: Keyspace,
    hasher: RandomState,
    stripes: Vec<Mutex<()>>,
}

impl Fjall {
    pub fn open(directory: &Path) -> Result<Self> {
        let database = Database::builder(directory.join("fjall"))
            .cache_size(64 << 20)
            .open()?;
        let claims = database.keyspace("claims", KeyspaceCreateOptions::default)?;
        Ok(Fjall {
            database,
            claims,
            hasher: RandomState::new(),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
        })
    }
}

impl Peer for Fjall {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session(self)))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let row = row::done(&RESPONSE, DAY);
        for n in 0..keys {
            self.claims.insert(Key::live(n).joined(), &row)?;
        }
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

struct Session<'p>(&'p Fjall);

impl Client for Session<'_> {
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()> {
        let name = key.joined();
        {
            let stripe = self.0.hasher.hash_one(&name) as usize % STRIPES;
            let _alone = self.0.stripes[stripe].lock();
            let found = self.0.claims.get(&name)?;
            ensure!(
                !found.is_some_and(|row| row::is_live(&row)),
                "{name} is taken"
            );
            self.0.claims.insert(&name, row::in_flight(retain_for))?;
        }
        Ok(self.0.database.persist(PersistMode::SyncData)?)
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        self.0
            .claims
            .insert(key.joined(), row::done(response, retain_for))?;
        Ok(self.0.database.persist(PersistMode::SyncData)?)
    }

    fn ask(&mut self, key: &Key) -> Result<Seen> {
        row::seen(&self.0.claims.get(key.joined())?.context("vacant")?)
    }
}
