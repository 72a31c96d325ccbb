//! The model test: random worlds of steps, random edits of every kind, kills, losses; and an oracle that knows what each
//! build should have done and left. It searches for a stale hit, a needless run and a torn entry.
//!
//! `cargo test --test model` plays a few worlds with a seed of its own, which it prints. `cargo bcache run model --
//! --seeds 1000` plays for long; `--seed N` plays one again and makes it short.

mod ask;
mod damage;
mod edits;
mod fork;
mod oracle;
mod play;
#[path = "../random/mod.rs"]
mod random;
mod rig;
mod step;
mod tree;
mod trouble;
mod underfoot;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use play::{Played, Score, play};

/// What a plain `cargo test` plays.
const WORLDS: u64 = 6;
const EDITS: usize = 40;
/// How long a player says nothing, at most.
const SILENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Options {
    /// What to try instead of our own program.
    program: PathBuf,
    first: u64,
    seeds: u64,
    edits: usize,
    jobs: usize,
    /// Is a seed with a lie played again, with fewer moves?
    shorten: bool,
}

fn main() -> ExitCode {
    let me = std::env::args().next().unwrap_or_default();
    if me.rsplit('/').next() == Some("mk") {
        return step::main();
    }
    let Some(options) = options() else { return ExitCode::SUCCESS };
    rig::PROGRAM.set(options.program.clone()).expect("nobody else sets it");
    run(&options)
}

/// `None` where libtest's words choose other tests, or only ask.
fn options() -> Option<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let program = PathBuf::from(env!("CARGO_BIN_EXE_cargo-bcache"));
    let first = now % 1_000_000_000;
    let mut options = Options { program, first, seeds: WORLDS, edits: EDITS, jobs: 2, shorten: true };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--program" {
            options.program = args.next().map(PathBuf::from).expect("a path");
            continue;
        }
        let mut number =
            || args.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{arg} wants a number"));
        match arg.as_str() {
            "--seeds" => options.seeds = number(),
            "--seed" => (options.first, options.seeds) = (number(), 1),
            "--from" => options.first = number(),
            "--edits" => options.edits = number() as usize,
            "--jobs" => options.jobs = number() as usize,
            "--as-it-is" => options.shorten = false,
            "--list" => {
                println!("model: test");
                return None;
            }
            "--ignored" => return None,
            "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(args.next()),
            word if !word.starts_with('-') && !"model".contains(word) => return None,
            _ => {}
        }
    }
    Some(options)
}

fn run(options: &Options) -> ExitCode {
    let begun = Instant::now();
    println!("model: seeds {} to {}, {} edits each", options.first, options.first + options.seeds - 1, options.edits);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Score::default(), 0_u64, begun));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = options.first + number;
                    let played = play(seed, options.edits, &|_| true);
                    let mut total = total.lock().expect("nobody panics with it");
                    total.0.add(&played.score);
                    total.1 += 1;
                    if total.2.elapsed() > SILENCE {
                        total.2 = Instant::now();
                        println!("model: {} worlds, {}", total.1, said(&total.0, begun));
                    }
                    drop(total);
                    if played.lie.is_some() && !failed.swap(true, Ordering::Relaxed) {
                        tell(seed, options, played);
                    }
                }
            });
        }
    });
    let total = total.lock().expect("nobody panics with it");
    println!("model: {} worlds, {}", total.1, said(&total.0, begun));
    if let Some(shim) = rig::shim() {
        let _ = std::fs::remove_file(shim);
    }
    if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn said(score: &Score, begun: Instant) -> String {
    format!(
        "{} edits, {} builds, {} kills: {} fresh, {} restored, {} ran, {} failed, {} repeated after a kill; {} s",
        score.edits,
        score.builds,
        score.kills,
        score.fresh,
        score.restored,
        score.ran,
        score.failed,
        score.repeated,
        begun.elapsed().as_secs()
    )
}

/// Says what was found; before that, looks for the fewest moves that still show it.
fn tell(seed: u64, options: &Options, played: Played) {
    let lie = played.lie.clone().unwrap_or_default();
    println!("model: seed {seed} after {} edits: {lie}", played.score.edits);
    let played = if options.shorten { shortened(seed, options.edits, played) } else { played };
    println!("model: the moves that lead there:\n  {}", played.log.join("\n  "));
    println!("model: {}", played.lie.unwrap_or_default());
    println!("model: once more: cargo test --test model -- --seed {seed} --edits {}", options.edits);
}

/// Leaves out moves, first many at once, as long as there is a lie at the end.
fn shortened(seed: u64, edits: usize, played: Played) -> Played {
    let mut best = played;
    let mut kept: Vec<usize> = (0..best.moves).collect();
    let mut chunk = kept.len().div_ceil(2);
    let mut tries = 0;
    while chunk > 0 && tries < 400 {
        let mut at = 0;
        while at < kept.len() && tries < 400 {
            let end = (at + chunk).min(kept.len());
            let fewer: Vec<usize> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            let last = fewer.last().copied().unwrap_or(0);
            let again = play(seed, edits, &|number| number <= last && fewer.binary_search(&number).is_ok());
            tries += 1;
            if again.lie.is_some() {
                (kept, best) = (fewer, again);
            } else {
                at = end;
            }
        }
        chunk /= 2;
    }
    println!("model: {} of its moves are enough", kept.len());
    best
}
