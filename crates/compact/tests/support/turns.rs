//! Two compactors that take turns at one bucket, operation by operation, in an order that a seed
//! decides: one of them may stand still between any two requests while the other does much.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use synthetic::Rng;
use testkit::{Fault, FaultPlan, ObjectCall, Op};

/// How many requests one may make before it is drawn anew whose turn it is: mostly a few, sometimes
/// as many as a whole compaction takes.
const STRETCHES: [u64; 5] = [1, 3, 12, 60, 400];

/// Cloning shares them.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    passed: Condvar,
    /// Looks at the bucket after each change of what blocks there are; says what is wrong.
    look: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

struct State {
    rng: Rng,
    turn: usize,
    /// Requests until it is drawn again.
    left: u64,
    ended: [bool; 2],
    /// The last request was one that changed what blocks there are.
    is_changed: bool,
    defect: Option<String>,
}

impl Turns {
    pub(crate) fn new(
        seed: u64,
        look: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Turns {
        let state = State {
            rng: Rng::new(seed),
            turn: 0,
            left: 0,
            ended: [false; 2],
            is_changed: true,
            defect: None,
        };
        let (state, passed) = (Mutex::new(state), Condvar::new());
        Turns(Arc::new(Shared { state, passed, look: Box::new(look) }))
    }

    /// Makes every request of one of the two wait for its turn. After `alive` requests nothing more
    /// happens, as if it had been killed.
    pub(crate) fn plan(&self, player: usize, alive: u64) -> FaultPlan {
        let turns = self.clone();
        FaultPlan::new(move |call| {
            turns.wait(player, call);
            (call.number >= alive).then_some(Fault::Unavailable)
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, player: usize, call: &ObjectCall<'_>) {
        let mut state = self.lock();
        while state.turn != player && !state.ended[state.turn] {
            state = self.0.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.turn == player {
            self.draw(&mut state);
        }
        while state.turn != player {
            self.0.passed.notify_all();
            state = self.0.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.look(&mut state);
        let names_a_block =
            call.key.ends_with("/meta.json") || call.key.ends_with("/deletion-mark.json");
        state.is_changed = names_a_block && call.op.writes() && call.op != Op::PutPart;
    }

    fn draw(&self, state: &mut State) {
        if state.left > 0 {
            state.left -= 1;
            return;
        }
        state.turn = (state.rng.next_u64() % 2) as usize;
        if state.ended[state.turn] {
            state.turn = 1 - state.turn;
        }
        let longest = STRETCHES[(state.rng.next_u64() % STRETCHES.len() as u64) as usize];
        state.left = state.rng.next_u64() % longest;
    }

    fn look(&self, state: &mut State) {
        if std::mem::take(&mut state.is_changed) && state.defect.is_none() {
            state.defect = (self.0.look)().err();
        }
    }

    /// One of the two makes no more requests.
    pub(crate) fn end(&self, player: usize) {
        let mut state = self.lock();
        state.ended[player] = true;
        if state.turn == player {
            state.turn = 1 - player;
        }
        self.0.passed.notify_all();
    }

    /// What was wrong at first, if anything ever was.
    pub(crate) fn defect(&self) -> Option<String> {
        let mut state = self.lock();
        self.look(&mut state);
        state.defect.clone()
    }
}
