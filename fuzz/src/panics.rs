//! Which panics are findings.
//!
//! libFuzzer's hook ends the process at any panic. But redb may panic on a damaged page, and the
//! store promises to contain that: so a panic of redb is a finding only if it reaches the target,
//! and a panic anywhere else, the store's own code included, is one at once.

use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

/// The latest panic that was let pass, and where it came from.
static PASSED: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

/// Runs one input.
pub fn contained(run: impl FnOnce()) {
    static HOOK: Once = Once::new();
    HOOK.call_once(let_redb_pass);
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        show_passed();
        std::process::abort();
    }
}

fn let_redb_pass() {
    let at_once = take_hook();
    set_hook(Box::new(move |panic| {
        if cannot_unwind(panic) {
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

/// A second panic in a destructor during the first: nobody can contain it.
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
