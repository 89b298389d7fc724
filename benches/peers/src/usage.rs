//! What processes have used, as Linux counts it.

use std::fs;

/// Of one or more processes, since they started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_us: u64,
    /// Bytes given to write calls, sockets included.
    pub written_bytes: u64,
    /// Bytes that the block device has written, for whomever.
    pub device_bytes: u64,
}

const TICKS_PER_SECOND: u64 = 100;
const SECTOR_BYTES: u64 = 512;

impl Usage {
    /// Of this process and `others` together.
    pub fn of_self_and(others: &[u32]) -> Self {
        let mut usage = Usage {
            device_bytes: device_bytes(),
            ..Usage::default()
        };
        let all = others.iter().map(u32::to_string);
        for pid in all.chain(["self".to_owned()]) {
            usage.cpu_us += cpu_us(&pid).unwrap_or(0);
            usage.written_bytes += number_in(&format!("/proc/{pid}/io"), "wchar:").unwrap_or(0);
        }
        usage
    }

    pub fn since(self, before: Usage) -> Self {
        Usage {
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            device_bytes: self.device_bytes.saturating_sub(before.device_bytes),
        }
    }
}

fn cpu_us(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in parentheses; user and system time are the 12th and 13th from there.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks * (1_000_000 / TICKS_PER_SECOND))
}

/// The sum over whole disks: a partition's sectors are its disk's too.
fn device_bytes() -> u64 {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let sectors = disks.filter_map(|disk| {
        let name = disk.file_name();
        let name = name.to_str()?;
        if ["loop", "ram", "zram", "dm-"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            return None;
        }
        let stat = fs::read_to_string(disk.path().join("stat")).ok()?;
        stat.split_whitespace().nth(6)?.parse::<u64>().ok()
    });
    sectors.sum::<u64>() * SECTOR_BYTES
}

/// The memory of this process and `others` at its highest since [`reset_peak_rss`].
pub fn peak_rss_bytes(others: &[u32]) -> u64 {
    let all = others.iter().map(u32::to_string).chain(["self".to_owned()]);
    let kib = all.filter_map(|pid| number_in(&format!("/proc/{pid}/status"), "VmHWM:"));
    kib.sum::<u64>() * 1024
}

pub fn reset_peak_rss(others: &[u32]) {
    let all = others.iter().map(u32::to_string).chain(["self".to_owned()]);
    for pid in all {
        // Not permitted for every server; then it is the highest ever.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

fn number_in(file: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}
