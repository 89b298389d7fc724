//! Where `servers.sh` has put the two servers.

use std::fs;
use std::path::PathBuf;

/// The ports of `servers.sh`.
pub const POSTGRES_PORT: u16 = 15_432;
pub const REDIS_PORT: u16 = 16_379;

fn directory() -> PathBuf {
    std::env::var_os("PEERS_SERVERS").map_or_else(|| "target/peers/servers".into(), PathBuf::from)
}

/// The process whose id is in that file, and its children.
pub fn processes(pid_file: &str) -> Vec<u32> {
    let text = fs::read_to_string(directory().join(pid_file)).unwrap_or_default();
    let Some(server) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
    else {
        return Vec::new();
    };
    let children = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = children.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name in parentheses: state, then the parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        (parent.parse() == Ok(server)).then_some(pid)
    });
    std::iter::once(server).chain(children).collect()
}
