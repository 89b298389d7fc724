//! An engine in a process of its own, so that its memory and its CPU time are its own; it measures one
//! cell after the other as it is told. While the others have their turn it is stopped: what it still
//! has to do, such as sweeping, it does in its own.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::cell::{self, Cell, Filled, Row};
use crate::engines;

#[derive(Serialize, Deserialize)]
struct Order {
    cell: Cell,
    round: usize,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    /// It is open and filled.
    Ready,
    /// It cannot be opened here.
    Absent(String),
    Row(Row),
    Failed(String),
}

/// The child's side: orders on the standard input, answers on the standard output.
pub fn serve(filled: &Filled, directory: &Path) -> Result<()> {
    let mut peer = match engines::open(&filled.engine, directory) {
        Ok(peer) => peer,
        Err(error) => return say(&Answer::Absent(format!("{error:#}"))),
    };
    if let Err(error) = peer.fill(filled.live_keys) {
        return say(&Answer::Failed(format!("{error:#}")));
    }
    say(&Answer::Ready)?;
    for line in io::stdin().lines() {
        let Order { cell, round } = serde_json::from_str(&line?)?;
        say(&match cell::run(filled, &*peer, cell, round) {
            Ok(row) => Answer::Row(row),
            Err(error) => Answer::Failed(format!("{error:#}")),
        })?;
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// The run's side.
pub struct Engine {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts an engine in an empty directory; it is being filled.
    pub fn start(engine: &str, directory: &Path, live_keys: u64) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(engine)
            .arg("--dir")
            .arg(directory)
            .arg("--live")
            .arg(live_keys.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        Ok(Engine {
            child,
            orders,
            answers: BufReader::new(answers.context("no pipe")?),
        })
    }

    /// Waits until it is filled; if it cannot be opened here, says why.
    pub fn wait_ready(&mut self) -> Result<Option<String>> {
        match self.answer()? {
            Answer::Ready => Ok(None),
            Answer::Absent(why) => Ok(Some(why)),
            Answer::Row(_) => bail!("a row that nobody asked for"),
            Answer::Failed(why) => bail!(why),
        }
    }

    pub fn measure(&mut self, cell: Cell, round: usize) -> Result<Row> {
        self.signal("CONT")?;
        let row = self.measure_running(cell, round);
        self.signal("STOP")?;
        row
    }

    fn measure_running(&mut self, cell: Cell, round: usize) -> Result<Row> {
        let order = serde_json::to_string(&Order { cell, round })?;
        let orders = self.orders.as_mut().context("it has ended")?;
        writeln!(orders, "{order}")?;
        orders.flush()?;
        match self.answer()? {
            Answer::Row(row) => Ok(row),
            Answer::Ready | Answer::Absent(_) => bail!("opened twice"),
            Answer::Failed(why) => bail!(why),
        }
    }

    fn signal(&self, name: &str) -> Result<()> {
        let mut kill = Command::new("kill");
        let sent = kill
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string());
        ensure!(sent.status()?.success(), "signal {name} was not sent");
        Ok(())
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Engine {
    /// It ends at the end of its orders.
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.signal("CONT");
        let _ = self.child.wait();
    }
}
