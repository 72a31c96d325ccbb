//! On whose behalf files are looked at: of a path that changed while a build went on it has to be known who judged by
//! what it was before.

use std::cell::Cell;

use crate::base::ids::StepIx;

/// Who has looked at a path, as far as it matters: one step alone, or more than one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Looker {
    Step(StepIx),
    /// Several steps; or the build, which remembers some answers for all of them.
    #[default]
    Many,
}

impl Looker {
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Many }
    }
}

thread_local! {
    /// A step is judged, run and put in place by one thread; what other threads look at is of many.
    static CURRENT: Cell<Looker> = const { Cell::new(Looker::Many) };
}

pub fn current() -> Looker {
    CURRENT.get()
}

/// Whatever `act` looks at in this thread is looked at by `looker`.
pub fn looking_as<T>(looker: Looker, act: impl FnOnce() -> T) -> T {
    let _before = Before(CURRENT.replace(looker));
    act()
}

/// Comes back when it is dropped.
struct Before(Looker);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_within_anothers_look_leaves_it_as_it_was() {
        let [one, other] = [1, 2].map(|ix| Looker::Step(StepIx(ix)));
        looking_as(one, || {
            looking_as(other, || assert_eq!(current(), other));
            assert_eq!(current(), one);
        });
        assert_eq!((current(), one.and(one), one.and(other)), (Looker::Many, one, Looker::Many));
    }
}
