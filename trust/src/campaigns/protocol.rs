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
//! The bounds: so many leases given, ticks of the clock, crashes and checkpoints, see [`USUAL`] and
//! [`LONG`]; calls are not bounded otherwise. A lease runs for one tick, and so long is a response
//! kept. Clients are alike, so states that differ only in which of them does what are one state.
//! Calls that wait are not in a state: a commit takes any batch that clients might have sent, since
//! a call has no effect before. Not in the model: limits and waits that run out, recovery points,
//! fingerprints, damage, failing disks.
//!
//! The checker is stateright, breadth first: a counterexample is among the shortest. The model can
//! fail: for every [`Fault`] a test demands that it does.

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

use self::fault::Fault;
use self::record::{Call, KEYS, Key, Lease};
use self::rules::Rule;
use self::state::{Batch, Cut, Setting, State};
use self::store::Memory;
use super::{Effort, Report};

/// Clients, the reader not among them.
const CLIENTS: usize = 3;

/// The policies of the two keys, one run each.
const POLICIES: [[Takeover; KEYS]; 2] = [
    [Takeover::Gone, Takeover::Expired],
    [Takeover::GoneOrExpired, Takeover::Never],
];

/// How far a run goes, and which orders of steps it tries.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Leases given.
    leases: u8,
    /// The last tick of the clock.
    ticks: u8,
    crashes: u8,
    /// Checkpoints begun.
    freezes: u8,
    orders: Orders,
}

impl Bounds {
    const fn new(leases: u8, ticks: u8, crashes: u8, freezes: u8) -> Self {
        Bounds {
            leases,
            ticks,
            crashes,
            freezes,
            orders: Orders::AroundCommits,
        }
    }

    const fn in_all_orders(self) -> Self {
        Bounds {
            orders: Orders::All,
            ..self
        }
    }
}

/// Which orders of steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orders {
    All,
    /// Nothing but a crash comes between the steps of a commit. The others commute with those: a
    /// commit reads what they change when it begins, and they do not read what it writes, save for
    /// the reader, who may as well begin before or after.
    AroundCommits,
}

/// The spaces explored, under each pair of policies.
const USUAL: [Bounds; 4] = [
    Bounds::new(3, 1, 1, 0),
    Bounds::new(2, 2, 1, 0),
    Bounds::new(2, 1, 1, 1),
    Bounds::new(2, 1, 1, 0).in_all_orders(),
];

/// Those that take longer.
const LONG: [Bounds; 3] = [
    Bounds::new(3, 2, 1, 0),
    Bounds::new(2, 2, 1, 1),
    Bounds::new(2, 1, 1, 1).in_all_orders(),
];

/// Explores whole spaces; the effort's cases are no limit, but many ask for the larger ones too.
pub fn run(effort: Effort) -> Report {
    let more: &[Bounds] = if effort.cases > 1 { &LONG } else { &[] };
    let mut report = Report::default();
    for bounds in USUAL.iter().chain(more) {
        for policies in POLICIES {
            let fault = None;
            let protocol = Protocol {
                setting: Setting { policies, fault },
                bounds: *bounds,
            };
            report.add(explore(protocol));
            if effort.first_only && report.violations > 0 {
                return report;
            }
        }
    }
    report
}

/// Explores one space, to its end or to the first violation.
fn explore(protocol: Protocol) -> Report {
    let mut report = Report::default();
    let Protocol { setting, bounds } = protocol;
    let checker = protocol.checker().finish_when(HasDiscoveries::Any);
    let checked = checker.spawn_bfs().join();
    report.cases = checked.unique_state_count() as u64;
    for (name, path) in checked.discoveries() {
        let mut steps = String::new();
        for action in path.into_actions() {
            let _ = write!(steps, " {action:?}");
        }
        let policies = setting.policies;
        report.violate(format!("not so: {name}: {policies:?}, {bounds:?}:{steps}"));
    }
    report.notes.push(format!(
        "{} states in {} steps to depth {} ({} leases, {} ticks, {} crashes, {} checkpoints{})",
        checked.unique_state_count(),
        checked.state_count(),
        checked.max_depth(),
        bounds.leases,
        bounds.ticks,
        bounds.crashes,
        bounds.freezes,
        match bounds.orders {
            Orders::All => ", all orders",
            Orders::AroundCommits => "",
        }
    ));
    report
}

/// One run.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    setting: Setting,
    bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Drop(Lease),
    /// Some clients have made these calls, and whoever commits takes them.
    Commit(Vec<Call>),
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
    /// What clients and the reader may do.
    fn client_actions(&self, state: &State, memory: &Memory, actions: &mut Vec<Action>) {
        actions.extend(state.leases.iter().map(|lease| Action::Drop(*lease)));
        if state.reader.is_some() {
            actions.push(Action::EndRead);
        } else {
            let misses = |key: &Key| memory.overlay(*key, self.setting.fault).is_none();
            actions.extend((0..KEYS).filter(misses).map(Action::BeginRead));
        }
    }

    /// What may begin when no batch is being committed.
    fn commit_actions(&self, state: &State, memory: &Memory, actions: &mut Vec<Action>) {
        let asks = self.bounds.leases.saturating_sub(memory.fence);
        let idle = CLIENTS - state.leases.len();
        add_batches(&mut Vec::new(), &state.leases, idle, asks.into(), actions);
        if memory.can_freeze() && state.freezes < self.bounds.freezes {
            actions.push(Action::Freeze);
        }
        if !self.expired(state).is_empty() {
            actions.push(Action::SweepUnfinished);
        }
    }

    fn batch_actions(&self, batch: &Batch, actions: &mut Vec<Action>) {
        let early = self.setting.fault == Some(Fault::AnswerBeforeSync);
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

    /// What goes on beside commits.
    fn background_actions(&self, state: &State, memory: &Memory, actions: &mut Vec<Action>) {
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
        if state.crashes < self.bounds.crashes {
            actions.push(Action::Crash(Cut::Lost));
            let unsynced = state.batch.as_ref().is_some_and(|batch| !batch.synced);
            if unsynced || state.disk.cached.is_some() {
                actions.push(Action::Crash(Cut::Kept));
                actions.push(Action::Crash(Cut::Cached));
            }
        }
    }

    fn recovery_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.recovering.is_some() {
            actions.push(Action::Replay);
        } else {
            let times = state.disk.persisted_time()..=self.bounds.ticks;
            actions.extend(times.map(Action::Settle));
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

/// Every batch of calls that so many idle clients and the holders of `leases` can make, `asks` of
/// them for a lease, after what is in `batch`; a call each, in the order of keys, since calls on
/// different keys do not see each other.
fn add_batches(
    batch: &mut Vec<Call>,
    leases: &[Lease],
    idle: usize,
    asks: usize,
    actions: &mut Vec<Action>,
) {
    let from = batch.last().map_or(0, |call| call.key());
    for key in from..KEYS {
        let mut calls = Vec::new();
        if idle > 0 {
            calls.push(Call::Forget(key));
            if asks > 0 {
                calls.extend([Call::Claim(key), Call::Resolve(key)]);
            }
        }
        let own = leases.iter().filter(|lease| lease.key == key);
        calls.extend(own.flat_map(|l| [Call::Complete(*l), Call::Renew(*l), Call::Release(*l)]));
        for call in calls {
            batch.push(call);
            actions.push(Action::Commit(batch.clone()));
            let others: Vec<Lease> = leases.iter().copied().filter(|l| call.lease() != Some(*l)).collect();
            let idle = idle - usize::from(call.lease().is_none());
            let asks = asks - usize::from(call.asks());
            add_batches(batch, &others, idle, asks, actions);
            batch.pop();
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        self.crash_actions(state, actions);
        let Some(memory) = &state.memory else {
            self.recovery_actions(state, actions);
            return;
        };
        match &state.batch {
            Some(batch) => self.batch_actions(batch, actions),
            None => self.commit_actions(state, memory, actions),
        }
        if state.batch.is_none() || self.bounds.orders == Orders::All {
            self.client_actions(state, memory, actions);
            self.background_actions(state, memory, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let setting = &self.setting;
        match action {
            Action::Drop(lease) => next.drop_lease(setting, lease),
            Action::Commit(calls) => next.commit(setting, calls),
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
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// Conditions are plain functions, so there is one for each rule.
        macro_rules! unbroken {
            ($($rule:ident),*) => {
                vec![$(Property::always(Rule::$rule.name(), |_: &Self, state: &State| {
                    state.broken != Some(Rule::$rule)
                })),*]
            };
        }
        let mut properties = unbroken![
            OneLiveLease,
            FencesRise,
            DoneIsNotClaimed,
            NothingLost,
            StaleRefused,
            InterruptionShown,
            SeenWasSo,
            AnswersFollow
        ];
        properties.push(Property::always(
            Rule::SeenIsDurable.name(),
            |model: &Self, state: &State| state.shows_only_what_is_durable(&model.setting),
        ));
        properties.push(Property::always(
            Rule::LiveSeenLive.name(),
            |model: &Self, state: &State| state.shows_live_holders(&model.setting),
        ));
        properties
    }
}
