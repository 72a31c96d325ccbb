//! Which step is tried when: needs first, then the longest path by what earlier runs took.
//!
//! The scheduler knows steps by number and by their needs, nothing else. Its workers are the threads of
//! a rayon pool of its own; each pops the most urgent step that is ready and tries it. A try that meets a
//! lock, or finds no token free, gives the step back: no worker waits for another process.

use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::StepIx;

/// How long a step that found no token is left alone, unless a step of ours ends before.
const PAUSE: Duration = Duration::from_millis(2);
/// And one that found a lock, at most: another process may hold it for minutes, and each try costs a judgement.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a try came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// Fresh, restored or run.
    Done,
    Failed,
    /// Interrupted: neither done nor failed.
    Stopped,
    /// Something that others hold is missing: again later.
    Later(Wait),
}

/// What a step waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// A token of the jobserver, which a child's make may give back at any moment. To look is cheap.
    Token,
    /// A lock of another process, or memory.
    Lock,
}

/// What a step may do while it is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Company {
    /// Nothing else runs or could run: the terminal is free.
    Alone,
    Others,
}

/// How each step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Done,
    Failed,
    /// Not tried: the need that failed, or `None` when the build stopped before.
    Skipped(Option<StepIx>),
}

/// A step to be scheduled.
#[derive(Clone, Debug)]
pub struct Planned {
    pub step: StepIx,
    /// Places in the list of planned steps, all before this one.
    pub needs: Vec<usize>,
    /// What it took last time, in milliseconds.
    pub cost: u64,
}

/// What the workers do.
pub trait Work: Sync {
    fn attempt(&self, step: StepIx, company: Company) -> Attempt;
    /// Has the build been told to stop?
    fn is_stopped(&self) -> bool;
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    urgency: u64,
    /// Among equals the first of the manifest.
    place: std::cmp::Reverse<usize>,
}

struct State {
    ready: BinaryHeap<Ready>,
    delayed: Vec<(Instant, Ready)>,
    missing_needs: Vec<usize>,
    /// How often each step found a lock.
    tries: Vec<u32>,
    ends: Vec<Option<End>>,
    running: usize,
    left: usize,
    stopping: bool,
}

struct Shared<'a> {
    planned: &'a [Planned],
    dependents: Vec<Vec<usize>>,
    urgency: Vec<u64>,
    keep_going: bool,
    state: Mutex<State>,
    changed: Condvar,
    work: &'a dyn Work,
}

/// Tries every step, on `workers` threads; gives how each ended, in the order of `planned`.
/// Without `keep_going` nothing new begins after a failure.
pub fn run(planned: &[Planned], workers: usize, keep_going: bool, work: &dyn Work) -> Vec<End> {
    let shared = Shared::new(planned, keep_going, work);
    let workers = workers.min(planned.len()).max(1);
    if workers == 1 {
        shared.work_until_done();
    } else {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(|n| format!("step-{n}")).build();
        match pool {
            Ok(pool) => {
                pool.broadcast(|_| shared.work_until_done());
            }
            // No threads to be had: slower, not wrong.
            Err(_) => shared.work_until_done(),
        }
    }
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.ends.into_iter().map(|end| end.unwrap_or(End::Skipped(None))).collect()
}

/// The longest path from each step to the end, its own cost included.
fn urgencies(planned: &[Planned], dependents: &[Vec<usize>]) -> Vec<u64> {
    let mut urgency = vec![0; planned.len()];
    for at in (0..planned.len()).rev() {
        let after = dependents[at].iter().map(|d| urgency[*d]).max().unwrap_or(0);
        urgency[at] = planned[at].cost.saturating_add(1).saturating_add(after);
    }
    urgency
}

impl<'a> Shared<'a> {
    fn new(planned: &'a [Planned], keep_going: bool, work: &'a dyn Work) -> Self {
        let mut dependents = vec![Vec::new(); planned.len()];
        for (at, step) in planned.iter().enumerate() {
            for need in &step.needs {
                assert!(*need < at, "BUG: a need comes after its step");
                dependents[*need].push(at);
            }
        }
        let urgency = urgencies(planned, &dependents);
        let missing_needs: Vec<usize> = planned.iter().map(|p| p.needs.len()).collect();
        let ready = missing_needs.iter().enumerate().filter(|(_, n)| **n == 0);
        let ready = ready.map(|(at, _)| Ready { urgency: urgency[at], place: std::cmp::Reverse(at) }).collect();
        let state = State {
            ready,
            delayed: Vec::new(),
            missing_needs,
            tries: vec![0; planned.len()],
            ends: vec![None; planned.len()],
            running: 0,
            left: planned.len(),
            stopping: false,
        };
        Self { planned, dependents, urgency, keep_going, state: Mutex::new(state), changed: Condvar::new(), work }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_until_done(&self) {
        let mut state = self.lock();
        loop {
            if self.work.is_stopped() {
                state.stopping = true;
            }
            if state.left == 0 || state.stopping && state.running == 0 {
                self.changed.notify_all();
                return;
            }
            let next = if state.stopping { None } else { state.pop() };
            let Some(next) = next else {
                state = self.wait(state);
                continue;
            };
            let at = next.place.0;
            let alone = state.running == 0 && state.ready.is_empty() && state.delayed.is_empty();
            state.running += 1;
            drop(state);
            let company = if alone { Company::Alone } else { Company::Others };
            let attempt = self.work.attempt(self.planned[at].step, company);
            state = self.lock();
            state.running -= 1;
            self.settle(&mut state, at, next, attempt);
        }
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        // A signal does not wake us: look now and then.
        let now = Instant::now();
        let due = state.delayed.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
        let limit = due.map_or(Duration::from_millis(50), |due| due.clamp(Duration::from_micros(100), LONGEST_PAUSE));
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    fn settle(&self, state: &mut State, at: usize, ready: Ready, attempt: Attempt) {
        match attempt {
            Attempt::Later(wait) => {
                let pause = match wait {
                    Wait::Token => PAUSE,
                    Wait::Lock => {
                        state.tries[at] += 1;
                        PAUSE.saturating_mul(1 << state.tries[at].min(10)).min(LONGEST_PAUSE)
                    }
                };
                state.delayed.push((Instant::now() + pause, ready));
                return;
            }
            Attempt::Done => {
                state.end(at, End::Done);
                for dependent in &self.dependents[at] {
                    state.missing_needs[*dependent] -= 1;
                    if state.missing_needs[*dependent] == 0 && state.ends[*dependent].is_none() {
                        state
                            .ready
                            .push(Ready { urgency: self.urgency[*dependent], place: std::cmp::Reverse(*dependent) });
                    }
                }
            }
            Attempt::Stopped => {
                state.end(at, End::Skipped(None));
                state.stopping = true;
            }
            Attempt::Failed => {
                state.end(at, End::Failed);
                self.skip_dependents(state, at);
                state.stopping |= !self.keep_going;
            }
        }
        // What was given back may be just what a delayed step waits for.
        let woken = std::mem::take(&mut state.delayed).into_iter().map(|(_, ready)| ready);
        state.ready.extend(woken);
        self.changed.notify_all();
    }

    fn skip_dependents(&self, state: &mut State, failed: usize) {
        let mut stack = self.dependents[failed].clone();
        while let Some(at) = stack.pop() {
            if state.ends[at].is_none() {
                state.end(at, End::Skipped(Some(self.planned[failed].step)));
                stack.extend(&self.dependents[at]);
            }
        }
    }
}

impl State {
    fn pop(&mut self) -> Option<Ready> {
        let now = Instant::now();
        let (due, delayed) = std::mem::take(&mut self.delayed).into_iter().partition(|(at, _)| *at <= now);
        self.delayed = delayed;
        self.ready.extend(due.into_iter().map(|(_, ready): (Instant, Ready)| ready));
        self.ready.pop()
    }

    fn end(&mut self, at: usize, end: End) {
        assert!(self.ends[at].is_none(), "BUG: a step ends twice");
        self.ends[at] = Some(end);
        self.left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Recorder<F: Fn(usize, usize) -> Attempt + Sync> {
        tried: Mutex<Vec<usize>>,
        answer: F,
    }

    impl<F: Fn(usize, usize) -> Attempt + Sync> Work for Recorder<F> {
        fn attempt(&self, step: StepIx, _: Company) -> Attempt {
            let mut tried = self.tried.lock().unwrap();
            tried.push(step.index());
            let times = tried.iter().filter(|s| **s == step.index()).count();
            drop(tried);
            (self.answer)(step.index(), times)
        }

        fn is_stopped(&self) -> bool {
            false
        }
    }

    fn plan(needs: &[&[usize]], costs: &[u64]) -> Vec<Planned> {
        let step =
            |(i, needs): (usize, &&[usize])| Planned { step: StepIx(i as u32), needs: needs.to_vec(), cost: costs[i] };
        needs.iter().enumerate().map(step).collect()
    }

    fn go(
        planned: &[Planned],
        workers: usize,
        keep_going: bool,
        answer: impl Fn(usize, usize) -> Attempt + Sync,
    ) -> (Vec<usize>, Vec<End>) {
        let recorder = Recorder { tried: Mutex::default(), answer };
        let ends = run(planned, workers, keep_going, &recorder);
        (recorder.tried.into_inner().unwrap(), ends)
    }

    #[test]
    fn the_longest_path_goes_first_and_needs_before_that() {
        // 0 (1 ms); 1 (5 ms) -> 2 (50 ms); 3 (20 ms)
        let planned = plan(&[&[], &[], &[1], &[]], &[1, 5, 50, 20]);
        let (tried, ends) = go(&planned, 1, false, |_, _| Attempt::Done);
        assert_eq!(tried, [1, 2, 3, 0]);
        assert_eq!(ends, [End::Done; 4]);
    }

    #[test]
    fn a_failure_skips_what_needs_it_and_keep_going_runs_the_rest() {
        let planned = plan(&[&[], &[0], &[1], &[]], &[9, 1, 1, 1]);
        let fail = |step, _| if step == 0 { Attempt::Failed } else { Attempt::Done };
        let (tried, ends) = go(&planned, 1, true, fail);
        assert_eq!(tried, [0, 3]);
        let because = Some(StepIx(0));
        assert_eq!(ends, [End::Failed, End::Skipped(because), End::Skipped(because), End::Done]);
        let (tried, ends) = go(&planned, 1, false, fail);
        assert_eq!(tried, [0]);
        assert_eq!(ends[3], End::Skipped(None));
    }

    #[test]
    fn a_step_that_is_put_off_is_tried_again_and_others_go_on_meanwhile() {
        let planned = plan(&[&[], &[]], &[9, 1]);
        let (tried, ends) =
            go(
                &planned,
                1,
                false,
                |step, times| if step == 0 && times < 3 { Attempt::Later(Wait::Lock) } else { Attempt::Done },
            );
        assert_eq!(tried[..2], [0, 1]);
        assert_eq!(tried.iter().filter(|s| **s == 0).count(), 3);
        assert_eq!(ends, [End::Done; 2]);
    }

    #[test]
    fn a_thousand_steps_on_eight_workers_each_run_once_after_their_needs() {
        let needs: Vec<Vec<usize>> =
            (0..1000usize).map(|i| (1..4).filter_map(|k| i.checked_sub(k * k * 7)).collect()).collect();
        let needs: Vec<&[usize]> = needs.iter().map(Vec::as_slice).collect();
        let planned = plan(&needs, &vec![1; 1000]);
        let (tried, ends) = go(&planned, 8, false, |_, _| Attempt::Done);
        let mut place = vec![usize::MAX; 1000];
        tried.iter().enumerate().for_each(|(i, s)| place[*s] = i);
        assert_eq!(tried.len(), 1000);
        for step in &planned {
            assert!(step.needs.iter().all(|n| place[*n] < place[step.step.index()]));
        }
        assert!(ends.iter().all(|e| *e == End::Done));
    }
}
