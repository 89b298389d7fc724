//! Which panics are findings.
//!
//! libFuzzer's hook ends the process at any panic. But redb may panic on a damaged page, and the
//! store promises to contain that: so a panic of redb is a finding only if it reaches the target,
//! and a panic anywhere else, the store's own code included, is one at once.
//!
//! A second panic, in a destructor of redb during the first, nobody can contain: it ends the
//! process. No answer is wrong then; where docs/guarantees.md says that it may happen, it is
//! counted, and elsewhere it is a finding.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

/// What [`contained_or_ended`] prints of each; `.ci/fuzz` counts them.
const ENDED: &str = "redb ended the process";

/// The latest panic that was let pass, and where it came from.
static PASSED: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

thread_local! {
    /// Whom to tell that this thread cannot go on.
    static TELL: RefCell<Option<Sender<End>>> = const { RefCell::new(None) };
    static MAY_END: Cell<bool> = const { Cell::new(false) };
}

enum End {
    Returned,
    InRedb,
}

/// Runs one input.
pub fn contained(run: impl FnOnce()) {
    static HOOK: Once = Once::new();
    HOOK.call_once(let_redb_pass);
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        show_passed();
        std::process::abort();
    }
}

/// Runs one input in a thread of its own, which stands for a process: if redb ends that, and
/// [`may_end`] was called, the thread stays where it is, for good.
pub fn contained_or_ended(bytes: &[u8], run: fn(&[u8])) {
    let (tell, told) = channel();
    let bytes = bytes.to_vec();
    let thread = thread::spawn(move || {
        TELL.set(Some(tell.clone()));
        contained(|| run(&bytes));
        let _ = tell.send(End::Returned);
    });
    if let Ok(End::Returned) = told.recv() {
        thread.join().expect("it has returned");
    }
}

/// From here on in this thread redb may end the process.
pub fn may_end() {
    MAY_END.set(true);
}

fn let_redb_pass() {
    let at_once = take_hook();
    set_hook(Box::new(move |panic| {
        if cannot_unwind(panic) {
            if let Some(tell) = TELL.take().filter(|_| MAY_END.get()) {
                eprintln!("{ENDED}");
                let _ = tell.send(End::InRedb);
                loop {
                    thread::park();
                }
            }
            show_passed();
            at_once(panic);
        } else if is_of_redb(panic) {
            let passed = (panic.to_string(), Backtrace::force_capture());
            *PASSED.lock().unwrap_or_else(PoisonError::into_inner) = Some(passed);
        } else {
            at_once(panic);
        }
    }));
}

/// Places in the standard library are those of redb's calls into it.
fn is_of_redb(panic: &PanicHookInfo<'_>) -> bool {
    let at = panic.location().map_or("", |at| at.file());
    at.contains("/redb-") || at.starts_with("/rustc/")
}

/// Since a panic of the store's own code is a finding at once, both were redb's.
fn cannot_unwind(panic: &PanicHookInfo<'_>) -> bool {
    let what = panic.payload_as_str().unwrap_or_default();
    what.starts_with("panic in a ")
}

fn show_passed() {
    let passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((what, from)) = passed {
        eprintln!("a panic was not contained: {what}\n{from}");
    }
}
