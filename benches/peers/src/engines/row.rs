//! A claim as a row of a store of plain bytes: expiry in seconds, state, response.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Seen;

const IN_FLIGHT: u8 = 0;
const DONE: u8 = 1;

pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn row(state: u8, response: &[u8], retain_for: Duration) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + response.len());
    row.extend_from_slice(&(now_s() + retain_for.as_secs().max(1)).to_le_bytes());
    row.push(state);
    row.extend_from_slice(response);
    row
}

pub fn in_flight(retain_for: Duration) -> Vec<u8> {
    row(IN_FLIGHT, &[], retain_for)
}

pub fn done(response: &[u8], retain_for: Duration) -> Vec<u8> {
    row(DONE, response, retain_for)
}

pub fn is_live(row: &[u8]) -> bool {
    row.first_chunk()
        .is_some_and(|expiry| u64::from_le_bytes(*expiry) > now_s())
}

pub fn seen(row: &[u8]) -> Result<Seen> {
    let (state, response) = row
        .get(8..)
        .and_then(<[u8]>::split_first)
        .context("short")?;
    Ok(match *state {
        DONE => Seen::Done {
            bytes: response.to_vec().len(),
        },
        _ => Seen::InFlight,
    })
}
