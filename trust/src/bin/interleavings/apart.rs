//! A job in a process of its own: a checker's state is the process's, and a panic in a panic ends it.

use std::process::{Command, Stdio};

/// What a job's process has said.
pub struct Apart {
    /// Its line, if it came to that.
    pub line: String,
    /// The count in its line, which follows the first colon.
    pub count: Option<usize>,
    pub clean: bool,
    #[cfg_attr(firstclaim_shuttle, allow(dead_code))] // shuttle's line has it all
    pub errors: String,
}

/// Runs this program with `--job` and `args`.
pub fn run(args: &[&str]) -> Apart {
    let output = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .arg("--job")
            .args(args)
            .stdin(Stdio::null())
            .output()
    });
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            return Apart {
                line: String::new(),
                count: None,
                clean: false,
                errors: error.to_string(),
            };
        }
    };
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let after_colon = line.split(": ").nth(1);
    let count = after_colon.and_then(|rest| rest.split(' ').next()?.parse().ok());
    Apart {
        clean: output.status.success() && count.is_some(),
        count,
        line,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
