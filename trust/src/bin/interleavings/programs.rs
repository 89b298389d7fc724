//! The programs: two to four threads each, beside the store's own.

mod claims;
mod closing;
mod crowd;
mod durability;
mod reading;
mod takeover;
mod tasks;
mod trouble;
mod waiting;

/// A program; it panics where a promise does not hold.
pub type Program = fn();

pub const PROGRAMS: [(&str, Program); 27] = [
    ("claims", claims::racing_claims),
    ("completion", claims::completion_beside_readers),
    ("run", claims::operations_run_once),
    ("drop", takeover::drop_against_takeover),
    ("late-drop", takeover::late_drop_beside_a_successor),
    ("sweep", takeover::sweep_beside_claims),
    ("freeze", reading::acknowledged_across_checkpoints),
    ("stale-miss", reading::a_miss_across_a_freeze),
    ("gone", reading::gone_while_it_is_forgotten),
    ("overload", crowd::deadlines),
    ("room", crowd::a_full_queue),
    ("close", closing::close_beside_calls),
    ("close-twice", closing::close_beside_close),
    ("close-lease", closing::close_beside_lease_drops),
    ("poison", trouble::a_failed_sync_beside_calls),
    ("durable", durability::shown_is_durable),
    ("task-claims", tasks::claims),
    ("task-drop", tasks::dropped_claims),
    ("task-completion", tasks::dropped_completion),
    ("task-last", tasks::last_handle),
    ("task-room", tasks::room),
    ("wait-completion", waiting::completion),
    ("wait-turns", waiting::turns),
    ("wait-gone", waiting::gone),
    ("task-overload", crowd::deadlines_of_tasks),
    ("wait-close", waiting::close),
    ("wait-over", waiting::timeouts),
];
