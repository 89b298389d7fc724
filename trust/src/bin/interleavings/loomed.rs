//! Runs the hand-off's programs under loom.

use std::process::ExitCode;
use std::time::Instant;

use firstclaim::internals::handoff::PROGRAMS;

/// Runs the programs that are named, or all.
pub fn main(args: &[String]) -> ExitCode {
    let begin = Instant::now();
    let (mut programs, mut executions, mut violations) = (0, 0, 0);
    for program in &PROGRAMS {
        if !args.is_empty() && !args.iter().any(|arg| arg == program.name) {
            continue;
        }
        let begin = Instant::now();
        let (count, clean) = program.check();
        programs += 1;
        executions += count;
        violations += usize::from(!clean);
        let scope = match program.preemptions {
            None => "exhaustive".to_owned(),
            Some(most) => format!("exhaustive up to {most} preemptions"),
        };
        println!(
            "loom {}: {count} executions explored, {scope}, {} violations ({:.1} s)",
            program.name,
            usize::from(!clean),
            begin.elapsed().as_secs_f64(),
        );
        if !clean {
            println!("  again: .ci/interleavings --loom {}", program.name);
        }
    }
    println!(
        "loom: {executions} executions of {programs} programs, {violations} violations ({:.0} s)",
        begin.elapsed().as_secs_f64(),
    );
    match (programs, violations) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
