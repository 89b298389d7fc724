//! The orders, in a file of their own: one line of JSON each, synced before it counts.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) product_id: u64,
    pub(crate) quantity: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    account: String,
    #[serde(flatten)]
    order: Order,
}

/// All orders. One process writes them: the store's directory beside it is locked.
pub(crate) struct Ledger(Mutex<State>);

struct State {
    file: File,
    /// Whole lines; what is behind them was cut short.
    length: u64,
    by_account: HashMap<String, Vec<Order>>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        if let (true, Some(directory)) = (is_new, path.parent()) {
            File::open(directory)?.sync_all()?;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let length = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        file.set_len(length as u64)?;
        // What a killed process wrote may not be on the disk yet.
        file.sync_all()?;
        let mut by_account: HashMap<String, Vec<Order>> = HashMap::new();
        for line in text[..length].split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                let Line { account, order } = serde_json::from_slice(line)?;
                by_account.entry(account).or_default().push(order);
            }
        }
        Ok(Ledger(Mutex::new(State {
            file,
            length: length as u64,
            by_account,
        })))
    }

    /// Adds an order; it is there for good when this returns.
    pub(crate) fn add(&self, account: String, order: Order) -> io::Result<()> {
        let line = Line { account, order };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = state.length;
        // Over what an earlier one left that failed.
        state.file.set_len(start)?;
        state.file.seek(SeekFrom::Start(start))?;
        state.file.write_all(&text)?;
        state.file.sync_data()?;
        state.length = start + text.len() as u64;
        let orders = state.by_account.entry(line.account).or_default();
        orders.push(line.order);
        Ok(())
    }

    pub(crate) fn of(&self, account: &str) -> Vec<Order> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_account.get(account).cloned().unwrap_or_default()
    }

    pub(crate) fn find(&self, account: &str, id: Uuid) -> Option<Order> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = state.by_account.get(account)?;
        orders.iter().find(|order| order.id == id).cloned()
    }
}
