//! The steps of the protocol, as the checker takes them.

use stateright::{Model, Property};

use super::batch::Batch;
use super::bounds::{Bounds, Orders};
use super::fault::Fault;
use super::record::{Call, KEYS, Key, Lease};
use super::rules::Rule;
use super::state::{Cut, Setting, State};
use super::store::Memory;

/// Clients, the reader not among them.
const CLIENTS: usize = 3;

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub setting: Setting,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
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
        let early_answer = self.setting.fault == Some(Fault::AnswerBeforeSync);
        let early_show = self.setting.fault == Some(Fault::ShowBeforeSync) || early_answer;
        if !batch.synced && (!early_answer || batch.answered) {
            actions.push(Action::Sync);
        }
        if !batch.shown && (batch.synced || early_show) {
            actions.push(Action::Show);
        }
        if batch.shown && !batch.answered && (batch.synced || early_answer) {
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
            let times = state.disk.persisted_time(self.setting.fault)..=self.bounds.ticks;
            actions.extend(times.map(Action::Settle));
        }
    }

    /// What a sweep would remove from the unfinished records.
    fn expired(&self, state: &State) -> Vec<Call> {
        let Some(memory) = &state.memory else {
            return Vec::new();
        };
        let expired = (0..KEYS)
            .filter(|key| memory.expired_unfinished(*key, self.setting.policies[*key], state.now));
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
            let others: Vec<Lease> = leases
                .iter()
                .copied()
                .filter(|l| call.lease() != Some(*l))
                .collect();
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
            Action::SweepDone => next.sweep_done(setting),
            Action::SweepUnfinished => next.commit(setting, self.expired(state)),
            Action::BeginRead(key) => next.begin_read(key),
            Action::EndRead => next.end_read(setting),
            Action::Tick => next.now += 1,
            Action::Crash(cut) => next.crash(setting, cut),
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
            ReplaysExact,
            StaleRefused,
            InterruptionShown,
            NeverMeansNever,
            SeenWasSo,
            TimeForward,
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
