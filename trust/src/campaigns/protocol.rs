//! The protocol as a model: every order of its steps, within bounds, by a model checker.
//!
//! Three clients and a reader use two keys. The clients claim, resolve, forget, renew, release,
//! complete and drop; calls gather in the queue while a batch is committed; a commit writes a
//! frame, syncs it, shows it and answers; checkpoints freeze, write the base a transaction a key,
//! publish and let go; sweeps remove what has expired; time passes; the process is killed or the
//! power cut at every step, also in recovery, with the unsynced frame lost, kept or only in the
//! page cache, and the clock may be set back meanwhile. What is decided is decided by the store's
//! own `step`. Each of the four policies is the policy of one key of one of the runs.
//!
//! The bounds, see [`Bounds`]: so many leases, ticks of the clock, crashes and checkpoints. A lease
//! runs for one tick, and so long is a response kept. Calls are not bounded otherwise. Clients are
//! alike, so states that differ in which of them does what are one state. Not in the model: limits
//! and waits that run out, recovery points, fingerprints, damage, failing disks.
//!
//! The checker is stateright, breadth first: a counterexample is among the shortest. The model can
//! fail: for every [`Fault`](fault::Fault) a test demands that it does.

mod fault;
mod record;
mod rules;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use firstclaim::internals::record::Takeover;
use stateright::{Checker, HasDiscoveries, Model, Property};

use self::record::{Call, KEYS, Key, Lease};
use self::rules::Rule;
use self::state::{Cut, Setting, State};
use super::{Effort, Report};

/// Clients, the reader not among them.
const CLIENTS: usize = 3;

/// The policies of the two keys, one run each.
const POLICIES: [[Takeover; KEYS]; 2] = [
    [Takeover::Gone, Takeover::Expired],
    [Takeover::GoneOrExpired, Takeover::Never],
];

/// How far a run goes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Leases given.
    leases: u8,
    /// The last tick of the clock.
    ticks: u8,
    crashes: u8,
    /// Checkpoints begun.
    freezes: u8,
}

const USUAL: Bounds = Bounds {
    leases: 3,
    ticks: 2,
    crashes: 1,
    freezes: 1,
};

const LONG: Bounds = Bounds {
    leases: 3,
    ticks: 3,
    crashes: 2,
    freezes: 2,
};

/// Explores the whole space; the effort's cases are no limit, but many ask for wider bounds.
pub fn run(effort: Effort) -> Report {
    let b: Vec<u8> = std::env::var("B").unwrap().split(',').map(|n| n.parse().unwrap()).collect();
    let bounds = Bounds { leases: b[0], ticks: b[1], crashes: b[2], freezes: b[3] };
    let mut report = Report::default();
    for policies in POLICIES {
        let fault = None;
        let protocol = Protocol {
            setting: Setting { policies, fault },
            bounds,
        };
        let finish = if effort.first_only {
            HasDiscoveries::Any
        } else {
            HasDiscoveries::All
        };
        let checked = protocol.checker().finish_when(finish).timeout(std::time::Duration::from_secs(40)).spawn_bfs().join();
        report.cases += checked.unique_state_count() as u64;
        for (name, path) in checked.discoveries() {
            let mut steps = String::new();
            for action in path.into_actions() {
                let _ = write!(steps, " {action:?}");
            }
            report.violate(format!("{policies:?}, not so: {name}:{steps}"));
        }
        report.notes.push(format!(
            "{policies:?}: {} states, {} steps, depth {}",
            checked.unique_state_count(),
            checked.state_count(),
            checked.max_depth()
        ));
    }
    report
}

/// One run.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    setting: Setting,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A client makes a call; under a lease that it holds, if it is such a call.
    Call(Call),
    Drop(Lease),
    Commit,
    Sync,
    Show,
    Answer,
    Freeze,
    Checkpoint,
    SweepDone,
    SweepUnfinished,
    BeginRead(Key),
    EndRead,
    Tick,
    Crash(Cut),
    Settle(u8),
    Replay,
}

impl Protocol {
    fn client_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(memory) = &state.memory else { return };
        let in_batch = state.batch.as_ref().map_or(0, |batch| batch.calls.len());
        let busy = state.queue.len() + state.leases.len() + in_batch;
        if busy < CLIENTS {
            let asked = state.queue.iter().filter(|call| call.asks()).count();
            let may_ask = usize::from(memory.fence) + asked < self.bounds.leases.into();
            for key in 0..KEYS {
                if may_ask {
                    actions.push(Action::Call(Call::Claim(key)));
                    actions.push(Action::Call(Call::Resolve(key)));
                }
                actions.push(Action::Call(Call::Forget(key)));
            }
        }
        for lease in &state.leases {
            actions.push(Action::Call(Call::Complete(*lease)));
            actions.push(Action::Call(Call::Renew(*lease)));
            actions.push(Action::Call(Call::Release(*lease)));
            actions.push(Action::Drop(*lease));
        }
        match &state.reader {
            Some(_) => actions.push(Action::EndRead),
            None => {
                let misses = |key: &Key| memory.overlay(*key, self.setting.fault).is_none();
                actions.extend((0..KEYS).filter(misses).map(Action::BeginRead));
            }
        }
    }

    fn store_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(memory) = &state.memory else { return };
        match &state.batch {
            None => {
                if !state.queue.is_empty() {
                    actions.push(Action::Commit);
                }
                if memory.can_freeze() && state.freezes < self.bounds.freezes {
                    actions.push(Action::Freeze);
                }
                if !self.expired(state).is_empty() {
                    actions.push(Action::SweepUnfinished);
                }
            }
            Some(batch) => {
                let early = self.setting.fault == Some(fault::Fault::AnswerBeforeSync);
                if !batch.synced && (!early || batch.answered) {
                    actions.push(Action::Sync);
                }
                if !batch.shown && (batch.synced || early) {
                    actions.push(Action::Show);
                }
                if batch.shown && !batch.answered {
                    actions.push(Action::Answer);
                }
            }
        }
        if memory.frozen.is_some() {
            actions.push(Action::Checkpoint);
        }
        if state.disk.base.can_be_swept(state.now) {
            actions.push(Action::SweepDone);
        }
        if state.now < self.bounds.ticks {
            actions.push(Action::Tick);
        }
    }

    fn crash_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.memory.is_none() {
            match state.recovering {
                Some(_) => actions.push(Action::Replay),
                None => {
                    let times = state.disk.persisted_time()..=state.now;
                    actions.extend(times.map(Action::Settle));
                }
            }
        }
        if state.crashes < self.bounds.crashes {
            actions.push(Action::Crash(Cut::Lost));
            let unsynced = state.batch.as_ref().is_some_and(|batch| !batch.synced);
            if unsynced || state.disk.cached.is_some() {
                actions.push(Action::Crash(Cut::Kept));
                actions.push(Action::Crash(Cut::Cached));
            }
        }
    }

    /// What a sweep would remove from the unfinished records.
    fn expired(&self, state: &State) -> Vec<Call> {
        let Some(memory) = &state.memory else {
            return Vec::new();
        };
        let expired = (0..KEYS).filter(|key| {
            memory.expired_unfinished(*key, self.setting.policies[*key], state.now)
        });
        expired.map(Call::Expire).collect()
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            self.client_actions(state, actions);
            self.store_actions(state, actions);
            self.crash_actions(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let setting = &self.setting;
        match action {
            Action::Call(call) => {
                next.leases.retain(|lease| call.lease() != Some(*lease));
                next.queue.push(call);
            }
            Action::Drop(lease) => next.drop_lease(setting, lease),
            Action::Commit => {
                let calls = std::mem::take(&mut next.queue);
                next.commit(setting, calls);
            }
            Action::Sync => next.sync(),
            Action::Show => next.show(setting),
            Action::Answer => next.answer(setting),
            Action::Freeze => next.freeze(),
            Action::Checkpoint => next.checkpoint(setting),
            Action::SweepDone => next.disk.base.sweep(state.now, setting.fault),
            Action::SweepUnfinished => next.commit(setting, self.expired(state)),
            Action::BeginRead(key) => next.begin_read(key),
            Action::EndRead => next.end_read(setting),
            Action::Tick => next.now += 1,
            Action::Crash(cut) => next.crash(cut),
            Action::Settle(now) => next.settle(setting, now),
            Action::Replay => next.replay(setting),
        }
        next.broken = next.broken.or_else(|| next.shows(setting));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// Conditions are plain functions, so there is one for each rule.
        macro_rules! holds {
            ($($rule:ident),*) => {
                vec![$(Property::always(Rule::$rule.name(), |_: &Self, state: &State| {
                    state.broken != Some(Rule::$rule)
                })),*]
            };
        }
        holds![
            OneLiveLease,
            FencesRise,
            DoneIsNotClaimed,
            NothingLost,
            StaleRefused,
            InterruptionShown,
            SeenIsDurable,
            SeenWasSo,
            LiveSeenLive,
            AnswersFollow
        ]
    }
}
