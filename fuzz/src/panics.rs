//! Which panics are findings.
//!
//! libFuzzer's hook ends the process at any panic. But redb may panic on a damaged page, and the
//! store promises to contain that: so a panic of redb is a finding only if it reaches the target,
//! and a panic anywhere else, the store's own code included, is one at once.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

/// The latest panic that was let pass.
static PASSED: Mutex<String> = Mutex::new(String::new());

/// Runs one input.
pub fn contained(run: impl FnOnce()) {
    static HOOK: Once = Once::new();
    HOOK.call_once(let_redb_pass);
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        eprintln!("a panic was not contained: {}", locked());
        std::process::abort();
    }
}

fn let_redb_pass() {
    let at_once = take_hook();
    set_hook(Box::new(move |panic| {
        // The standard library's own places are those of redb's calls into it.
        let passes = panic
            .location()
            .is_some_and(|at| at.file().contains("/redb-") || at.file().starts_with("/rustc/"));
        if passes {
            *locked() = panic.to_string();
        } else {
            at_once(panic);
        }
    }));
}

fn locked() -> std::sync::MutexGuard<'static, String> {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner)
}
