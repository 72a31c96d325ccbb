//! Two threads over a shared list of jobs: what the disk and a small machine can use.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const THREADS: usize = 2;

/// Runs `job(context, 0..count)` on up to two threads, each with a context of its own, and returns what
/// they gave, in order. After a failure no further job begins.
pub(super) fn spread<C, T: Send, E: Send>(
    count: usize,
    context: impl Fn() -> Result<C, E> + Sync,
    job: impl Fn(&mut C, usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if count <= 1 {
        let mut context = context()?;
        return (0..count).map(|i| job(&mut context, i)).collect();
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let work = || -> Result<(), E> {
        let mut context = context()?;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Ok(());
            }
            match job(&mut context, i) {
                Ok(made) => *slots[i].lock().expect("BUG: a job panicked") = Some(made),
                Err(e) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others.into_iter().map(|t| t.join().expect("BUG: a job panicked")).fold(mine, Result::and)
    })?;
    let made = |slot: Mutex<Option<T>>| slot.into_inner().ok().flatten().expect("BUG: every job was done");
    Ok(slots.into_iter().map(made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_failure_stops_the_rest() {
        let squares = spread(1000, || Ok::<_, ()>(()), |(), i| Ok(i * i)).unwrap();
        assert!(squares.iter().enumerate().all(|(i, s)| *s == i * i) && squares.len() == 1000);
        let done = AtomicUsize::new(0);
        let failed = spread(
            1_000_000,
            || Ok(()),
            |(), i| {
                done.fetch_add(1, Ordering::Relaxed);
                if i == 10 { Err(i) } else { Ok(()) }
            },
        );
        assert_eq!(failed, Err(10));
        assert!(done.into_inner() < 1_000_000);
    }
}
