//! Payments that are charged once each, while the process that charges them is killed again and
//! again.
//!
//! ```text
//! cargo run --release --example payments -- [--quick] [--seed N] [--dir DIR]
//! ```
//!
//! The parent owns a list of payments. It starts a child of itself that works on them, kills it
//! with SIGKILL at random moments, and starts it again, until every payment is answered. The child
//! claims each payment under `Takeover::Never`, so that an attempt that was cut short waits until
//! it is settled against the provider's charge log. What counts in the end is that log alone.
//!
//! | file | idea |
//! |---|---|
//! | `service.rs` | **the part to read**: pay once, settle what was cut short |
//! | `provider.rs` | a flaky charge routine with a log of its own |
//! | `clients.rs` | clients that lose patience and send again |
//! | `child.rs` | one life of the working process |
//! | `parent.rs` | starts it, kills it, listens to it |
//! | `tally.rs` | what the parent heard, the table, the verdict |

mod child;
mod clients;
mod options;
mod parent;
mod payment;
mod provider;
mod random;
mod report;
mod service;
mod tally;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use options::{Mode, Options};

fn main() -> ExitCode {
    let outcome = match Options::parse(env::args().skip(1)) {
        Ok(Mode::Parent(options)) => demonstrate(&options),
        Ok(Mode::Child(orders)) => child::run(&orders).map(|()| true),
        Err(message) => Err(message.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("payments: {error}");
            ExitCode::from(child::FAILED)
        }
    }
}

/// Runs the whole demonstration; whether every promise held.
fn demonstrate(options: &Options) -> Result<bool, Box<dyn Error>> {
    let directory = Directory::create(options)?;
    println!(
        "{} payments, {} kills, seed {}, in {}\n",
        options.payments,
        options.kills,
        options.seed,
        directory.path().display()
    );
    let tally = parent::run(options, directory.path())?;
    let charges = provider::read_log(&provider::log_path(directory.path()))?;
    Ok(tally.print_verdict(&charges, options.kills))
}

/// Where the store and the charge log are: the one asked for, or a temporary one that is removed
/// at the end.
enum Directory {
    Given(PathBuf),
    Temporary(PathBuf),
}

impl Directory {
    fn create(options: &Options) -> Result<Self, Box<dyn Error>> {
        let directory = match &options.dir {
            Some(dir) => Directory::Given(dir.clone()),
            None => Directory::Temporary(env::temp_dir().join(format!(
                "firstclaim-payments-{}-{:x}",
                std::process::id(),
                options.seed
            ))),
        };
        fs::create_dir_all(directory.path())?;
        if fs::read_dir(directory.path())?.next().is_some() {
            return Err(format!("{} is not empty", directory.path().display()).into());
        }
        Ok(directory)
    }

    fn path(&self) -> &Path {
        match self {
            Directory::Given(path) | Directory::Temporary(path) => path,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Directory::Temporary(path) = self {
            // Nothing depends on it: at worst the system's temporary directory keeps a few files.
            let _ = fs::remove_dir_all(path);
        }
    }
}
