//! Runs the hand-off's programs under loom, each in a process of its own: where a program fails, its
//! leases are dropped while loom unwinds, which can end the process.

use std::process::ExitCode;
use std::time::Instant;

use firstclaim::internals::handoff::{PROGRAMS, Program};

use crate::apart;

pub fn main(args: &[String]) -> ExitCode {
    match args {
        [flag, name] if flag == "--job" => match PROGRAMS.iter().find(|p| p.name == name) {
            Some(program) => run(program),
            None => ExitCode::FAILURE,
        },
        names => run_all(names),
    }
}

/// Runs the programs that are named, or all.
fn run_all(names: &[String]) -> ExitCode {
    if let Some(unknown) = names.iter().find(|n| PROGRAMS.iter().all(|p| p.name != *n)) {
        eprintln!("no program {unknown}");
        return ExitCode::from(2);
    }
    let begin = Instant::now();
    let (mut programs, mut executions, mut violations) = (0, 0, 0);
    for program in &PROGRAMS {
        if !names.is_empty() && !names.iter().any(|name| name == program.name) {
            continue;
        }
        let (count, clean) = run_apart(program);
        programs += 1;
        executions += count;
        violations += usize::from(!clean);
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

/// How many executions there were, if that is known, and whether all were clean.
fn run_apart(program: &Program) -> (usize, bool) {
    let name = program.name;
    let apart = apart::run(&[name]);
    match apart.count {
        Some(_) => print!("{}", apart.line),
        None => println!("loom {name}: ended by a panic in a panic, 1 violations"),
    }
    if !apart.clean {
        let lines = apart.errors.lines();
        let mut lines = lines.skip_while(|line| !line.contains("panicked at"));
        println!("  first: {}", lines.nth(1).unwrap_or("not known"));
        println!("  again: .ci/interleavings --loom {name}");
    }
    (apart.count.unwrap_or(0), apart.clean)
}

fn run(program: &Program) -> ExitCode {
    let begin = Instant::now();
    let (count, clean) = program.check();
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
    match clean {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
