//! Runs the programs under shuttle, each with two kinds of schedulers: one that picks at random at
//! every step, and PCT, which picks few steps at which to change who comes first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::apart;
use crate::programs::{PROGRAMS, Program};

/// Schedules of each kind, over all programs.
const SCHEDULES: usize = 100_000;
/// A schedule that takes more steps does not end.
const MOST_STEPS: usize = 50_000;
/// How many changes of priority PCT makes, and one more.
const PCT_DEPTHS: [usize; 3] = [2, 3, 5];
const SEED: u64 = 1;
const KINDS: [&str; 2] = ["random", "pct"];
/// The core count of the machine CI is meant for.
const WORKERS: usize = 2;

#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    program: Program,
    kind: &'static str,
    schedules: usize,
}

pub fn main(args: &[String]) -> ExitCode {
    match args {
        [flag, name, file] if flag == "--replay" => replay(name, file),
        [flag, name, kind, schedules, seed] if flag == "--job" => {
            let (schedules, seed) = (schedules.parse().ok(), seed.parse().ok());
            match (job(name, kind, schedules.unwrap_or(0)), seed) {
                (Some(job), Some(seed)) => run(job, seed),
                _ => ExitCode::FAILURE,
            }
        }
        _ => run_all(args),
    }
}

fn job(name: &str, kind: &str, schedules: usize) -> Option<Job> {
    let (name, program) = PROGRAMS.into_iter().find(|(known, _)| *known == name)?;
    let kind = KINDS.into_iter().find(|known| *known == kind)?;
    Some(Job {
        name,
        program,
        kind,
        schedules,
    })
}

/// What was asked for.
struct Wish {
    names: Vec<&'static str>,
    /// Random ones, and PCT's.
    schedules: [usize; 2],
    seed: u64,
}

impl Wish {
    fn parse(args: &[String]) -> Result<Self, String> {
        let (mut names, mut schedules, mut seed) = (Vec::new(), [SCHEDULES; 2], SEED);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                let number = args.next().and_then(|n| n.parse().ok());
                number.ok_or_else(|| format!("{arg} needs a number"))
            };
            match arg.as_str() {
                "--random" => schedules[0] = number()?,
                "--pct" => schedules[1] = number()?,
                "--seed" => seed = number()? as u64,
                "--long" => schedules = schedules.map(|n| 10 * n),
                name => {
                    let known = PROGRAMS.iter().find(|(known, _)| *known == name);
                    let known = known.ok_or_else(|| format!("no program or option {name}"))?;
                    names.push(known.0);
                }
            }
        }
        if schedules == [0, 0] {
            return Err("no schedules".to_owned());
        }
        if names.is_empty() {
            names = PROGRAMS.map(|(name, _)| name).into();
        }
        Ok(Wish {
            names,
            schedules,
            seed,
        })
    }
}

/// Runs every program that is named, or all, with both kinds of schedulers, two at a time.
fn run_all(args: &[String]) -> ExitCode {
    let Wish {
        names,
        schedules,
        seed,
    } = match Wish::parse(args) {
        Ok(wish) => wish,
        Err(problem) => {
            eprintln!("interleavings: {problem}");
            return ExitCode::from(2);
        }
    };
    let share = |kind: usize| schedules[kind].div_ceil(names.len());
    let jobs = names
        .iter()
        .flat_map(|name| [0, 1].map(|kind| job(name, KINDS[kind], share(kind))));
    let jobs: Vec<Job> = jobs.flatten().filter(|job| job.schedules > 0).collect();

    let begin = Instant::now();
    let counts = [const { AtomicUsize::new(0) }; 2];
    let violations = AtomicUsize::new(0);
    let left = Mutex::new(jobs.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(job) = next(&left) {
                    let (count, clean) = run_apart(job, seed);
                    counts[usize::from(job.kind == KINDS[1])].fetch_add(count, SeqCst);
                    violations.fetch_add(usize::from(!clean), SeqCst);
                }
            });
        }
    });
    let violations = violations.into_inner();
    println!(
        "shuttle: {} random and {} PCT schedules, {violations} violations ({:.0} s, seed {seed})",
        counts[0].load(SeqCst),
        counts[1].load(SeqCst),
        begin.elapsed().as_secs_f64(),
    );
    match violations {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn next(jobs: &Mutex<std::vec::IntoIter<Job>>) -> Option<Job> {
    jobs.lock().ok()?.next()
}

/// How many schedules there were, and whether all were clean.
fn run_apart(job: Job, seed: u64) -> (usize, bool) {
    let (schedules, seed) = (job.schedules.to_string(), seed.to_string());
    let apart = apart::run(&[job.name, job.kind, &schedules, &seed]);
    match apart.count {
        Some(_) => print!("{}", apart.line),
        None => println!("shuttle {} {}: the process ended", job.name, job.kind),
    }
    (apart.count.unwrap_or(0), apart.clean)
}

/// Runs a program's schedules up to the first that fails.
fn run(job: Job, seed: u64) -> ExitCode {
    let begin = Instant::now();
    // No two programs go through the same random numbers.
    let seed = job.name.bytes().fold(seed, |seed, byte| {
        seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    let place = Place::of(job);
    let count = Arc::new(AtomicUsize::new(0));
    let run = |scheduler| run_with(scheduler, job.program, &place, &count);
    let failed = match job.kind {
        "random" => run(Box::new(RandomScheduler::new_from_seed(
            seed,
            job.schedules,
        ))),
        _ => PCT_DEPTHS.iter().find_map(|depth| {
            let schedules = job.schedules.div_ceil(PCT_DEPTHS.len());
            let seed = seed ^ *depth as u64;
            run(Box::new(PctScheduler::new_from_seed(
                seed, *depth, schedules,
            )))
        }),
    };
    println!(
        "shuttle {} {}: {} schedules, {} violations ({:.1} s)",
        job.name,
        job.kind,
        count.load(SeqCst),
        usize::from(failed.is_some()),
        begin.elapsed().as_secs_f64(),
    );
    let Some(what) = failed else {
        return ExitCode::SUCCESS;
    };
    println!("  first: {what}");
    println!(
        "  again: .ci/interleavings --replay {} {}",
        job.name,
        place.schedule().display()
    );
    ExitCode::FAILURE
}

/// Runs the schedules that the scheduler gives; what went wrong with the last, if anything did.
fn run_with(
    scheduler: Box<dyn Scheduler + Send>,
    program: Program,
    place: &Place,
    count: &Arc<AtomicUsize>,
) -> Option<String> {
    let runner = Runner::new(
        scheduler,
        config(FailurePersistence::File(Some(place.0.clone()))),
    );
    let count = count.clone();
    let run = AssertUnwindSafe(|| {
        runner.run(move || {
            count.fetch_add(1, SeqCst);
            program();
        })
    });
    catch_unwind(run).err().map(|payload| text(&*payload))
}

fn config(persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    config.failure_persistence = persistence;
    config
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "a panic".to_owned())
        .replace('\n', " ")
}

/// Where the schedule of a failure is written.
struct Place(PathBuf);

impl Place {
    fn of(job: Job) -> Self {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let directory = Path::new(&target).join("schedules");
        let place = Place(directory.join(format!("{}-{}", job.name, job.kind)));
        let _ = std::fs::remove_dir_all(&place.0);
        let _ = std::fs::create_dir_all(&place.0);
        place
    }

    /// The schedule of the last failure. Contained panics may have left others before it.
    fn schedule(&self) -> PathBuf {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        files.map(|file| file.path()).max().unwrap_or_default()
    }
}

fn replay(name: &str, file: &str) -> ExitCode {
    let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| known == &name) else {
        eprintln!("no program {name}");
        return ExitCode::FAILURE;
    };
    let scheduler = match ReplayScheduler::new_from_file(file) {
        Ok(scheduler) => scheduler,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let program = *program;
    let runner = Runner::new(scheduler, config(FailurePersistence::None));
    match catch_unwind(AssertUnwindSafe(|| runner.run(program))) {
        Ok(_) => {
            println!("shuttle {name}: the schedule passes");
            ExitCode::SUCCESS
        }
        Err(payload) => {
            println!("shuttle {name}: {}", text(&*payload));
            ExitCode::FAILURE
        }
    }
}
