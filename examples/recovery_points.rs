//! An order in three phases that resumes where it stopped, through two kills.
//!
//! ```text
//! cargo run --release --example recovery_points -- [--quick]
//! ```
//!
//! The child reserves, charges and ships, and saves a recovery point after each phase. The parent
//! kills it twice: after a recovery point was saved, and in the gap between a phase's effect and
//! its recovery point. The second is the one that no store can close: there the next attempt learns
//! from [`Lease::previous`] that it was preceded, and asks the world outside before it acts.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, thread};

use firstclaim::{Claim, Lease, Previous, Store};

const PHASES: [&str; 3] = ["reserve", "charge", "ship"];
/// What the child is told when nothing is to happen to it.
const NOWHERE: &str = "nowhere";
/// What the child says where it waits to be killed.
const HERE: &str = "waiting to be killed";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", dir, stop] => child(Path::new(dir), stop).map(|()| ExitCode::SUCCESS),
        [] | ["--quick"] => parent(),
        _ => Err("usage: recovery_points [--quick]".into()),
    }
}

/// Runs the order four times: killed, killed, finished, replayed.
fn parent() -> Result<ExitCode, Box<dyn Error>> {
    let dir = TemporaryDir::create()?;
    for stop in [
        "after saving reserve",
        "before saving charge",
        NOWHERE,
        NOWHERE,
    ] {
        match stop {
            NOWHERE => println!("a run to its end"),
            _ => println!("a run to be killed {stop}"),
        }
        live_once(&dir.0, stop)?;
    }
    let effects = Outside::new(&dir.0).effects()?;
    println!("outside: {}", effects.join(", "));
    let once = effects == PHASES;
    println!("every phase once: {}", if once { "yes" } else { "NO" });
    Ok(if once {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts a child, repeats what it says, and kills it where it waits for that.
fn live_once(dir: &Path, stop: &str) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(env::current_exe()?)
        .arg("--child")
        .arg(dir)
        .arg(stop)
        .stdout(Stdio::piped())
        .spawn()?;
    let killed = listen(&mut child);
    if !matches!(killed, Ok(false)) {
        child.kill()?; // SIGKILL: nothing of the child runs after this
    }
    let status = child.wait()?;
    match killed? {
        true => println!("  killed"),
        false if status.success() => {}
        false => return Err(format!("the child failed: {status}").into()),
    }
    Ok(())
}

/// Whether the child came to where it waits to be killed; if not, it has ended.
fn listen(child: &mut Child) -> io::Result<bool> {
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == HERE {
            return Ok(true);
        }
        println!("  {line}");
    }
    Ok(false)
}

/// One life of the service: runs the order, from wherever the life before left it.
fn child(dir: &Path, stop: &str) -> Result<(), Box<dyn Error>> {
    let store = Store::open(dir.join("store"))?;
    match store.claim("shop", "order-1")? {
        Claim::Claimed(lease) => Order::new(&lease, dir, stop).run()?,
        Claim::InFlight(running) => println!("in flight since {:?}", running.since()),
        Claim::Done(response) => {
            println!("replayed: {}", String::from_utf8_lossy(response.bytes()));
        }
    }
    Ok(store.close()?)
}

/// The order under one lease.
struct Order<'a> {
    lease: &'a Lease,
    outside: Outside,
    stop: &'a str,
}

impl<'a> Order<'a> {
    fn new(lease: &'a Lease, dir: &Path, stop: &'a str) -> Self {
        let outside = Outside::new(dir);
        Order {
            lease,
            outside,
            stop,
        }
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let first = self.first_phase()?;
        println!(
            "attempt {}, from phase {:?}",
            self.lease.attempt(),
            PHASES[first]
        );
        for phase in &PHASES[first..] {
            self.perform(phase)?;
            self.die_if(&format!("before saving {phase}"));
            self.lease.save_recovery_point(phase)?;
            println!("{phase} saved");
            self.die_if(&format!("after saving {phase}"));
        }
        self.lease.complete("shipped")?;
        println!("completed");
        Ok(())
    }

    /// The index of the phase after the last saved one.
    fn first_phase(&self) -> Result<usize, Box<dyn Error>> {
        let Some(saved) = self.lease.recovery_point() else {
            return Ok(0);
        };
        let done = PHASES.iter().position(|phase| phase.as_bytes() == saved);
        // Saved after the last phase, but not completed: performing it again finds its effect.
        done.map(|index| (index + 1).min(PHASES.len() - 1))
            .ok_or_else(|| "an unknown recovery point".into())
    }

    /// Has one phase's effect, unless an attempt that was cut short already had it.
    fn perform(&self, phase: &str) -> io::Result<()> {
        let preceded = self.lease.previous() == Previous::Interrupted;
        if preceded && self.outside.effects()?.iter().any(|effect| effect == phase) {
            println!("{phase} was already done by an attempt that was cut short");
            return Ok(());
        }
        self.outside.have_effect(phase)?;
        println!("{phase} done");
        Ok(())
    }

    fn die_if(&self, here: &str) {
        if self.stop == here {
            println!("{HERE}");
            thread::sleep(Duration::from_secs(60));
        }
    }
}

/// The world outside the store: a file with one line an effect.
struct Outside {
    log: PathBuf,
}

impl Outside {
    fn new(dir: &Path) -> Self {
        Outside {
            log: dir.join("effects.log"),
        }
    }

    fn have_effect(&self, phase: &str) -> io::Result<()> {
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.log)?;
        log.write_all(format!("{phase}\n").as_bytes())?;
        log.sync_data()
    }

    fn effects(&self) -> io::Result<Vec<String>> {
        match fs::read_to_string(&self.log) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// A new directory in the system's temporary one, removed at the end.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn create() -> io::Result<Self> {
        let unique = RandomState::new().hash_one(std::process::id());
        let path = env::temp_dir().join(format!("firstclaim-recovery-{unique:016x}"));
        fs::create_dir(&path)?;
        Ok(TemporaryDir(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // Nothing depends on it: at worst a few files are left behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}
