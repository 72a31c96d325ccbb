//! Many processes on one store for as long as one likes: builds in several worktrees, two in each, of few states, so that
//! most keys are wanted by several at once; collection down to nothing, verification, `path`, `clean`; and some are killed.
//!
//! `cargo test --test soak` does it for some seconds with a seed of its own, which it prints; `cargo bcache run soak --
//! --minutes 10 --processes 8` for long.
//!
//! What must hold:
//! - No two runs of one key at the same time, by the journal that each run begins and ends a line in ([`journal`]).
//! - No result comes into the store while the store has one of its key, by what the kernel tells of its directories
//!   ([`watch`]): a key runs again only when its result was collected, or its run was killed before there was one.
//! - Whoever was not killed ends well, and what a build leaves is right.
//! - Verification finds nothing, at any time.
//!
//! In a worktree nobody edits while somebody builds: then a run would not be of one key. `tests/rounds.rs` and the model do that.

mod journal;
mod players;
#[path = "../random/mod.rs"]
mod random;
mod watch;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use players::Score;
use random::Random;
use watch::Watch;
use world::World;

struct Options {
    time: Duration,
    processes: usize,
    seed: u64,
}

fn main() -> ExitCode {
    match options() {
        Some(options) => soak(&options),
        None => ExitCode::SUCCESS,
    }
}

/// `None` where libtest's words choose other tests, or only ask.
fn options() -> Option<Options> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 % 1_000_000_000);
    let mut options = Options { time: Duration::from_secs(4), processes: 8, seed };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("{arg} wants a number"));
        match arg.as_str() {
            "--minutes" => options.time = Duration::from_secs(60 * number()),
            "--seconds" => options.time = Duration::from_secs(number()),
            "--processes" => options.processes = number().max(3) as usize,
            "--seed" => options.seed = number(),
            "--list" => {
                println!("soak: test");
                return None;
            }
            "--ignored" => return None,
            "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(args.next()),
            word if !word.starts_with('-') && !"soak".contains(word) => return None,
            _ => {}
        }
    }
    Some(options)
}

fn soak(options: &Options) -> ExitCode {
    let Options { time, processes, seed } = options;
    println!("soak: {processes} processes for {time:?}, seed {seed}");
    let mut random = Random::new(*seed);
    let world = World::new((processes - 2).div_ceil(2), &mut random);
    let watch = Watch::of(&world.results());
    let end = Instant::now() + *time;
    let score = Score::default();
    std::thread::scope(|scope| {
        let (world, score) = (&world, &score);
        for at in 0..*processes {
            let random = random.fork();
            scope.spawn(move || match at {
                0 => players::collect(world, score, end, random),
                1 => players::verify(world, score, end, random),
                _ => players::build(world, &world.worktrees[(at - 2) / 2], score, end, random),
            });
        }
    });
    players::settle(&world, &score);
    let stored = watch.end();
    let runs = journal::read(&world.journal());
    let mut wrong = score.wrong();
    wrong.extend(runs.twice.iter().map(|key| format!("ran twice at the same time: {key}")));
    wrong.extend(stored.twice.iter().map(|key| format!("ran while its result was in the store: {key}")));
    // A build that was killed may have been about to store what each of its jobs had ended.
    let unkept = runs.ended.saturating_sub(stored.came);
    let kills = score.kills();
    if unkept > kills * world::MOST_JOBS {
        wrong.push(format!("{unkept} runs ended and were not stored, with {kills} kills"));
    }
    println!(
        "soak: {score}; {} runs of {} keys, {} not ended; {} results came, {} went; {} wrong",
        runs.ended,
        runs.keys,
        runs.begun - runs.ended,
        stored.came,
        stored.went,
        wrong.len()
    );
    wrong.iter().take(20).for_each(|what| println!("soak: WRONG: {what}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
