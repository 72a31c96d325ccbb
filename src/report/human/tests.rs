use super::*;
use crate::event::{Counts, Failure, Outcome, Stream, Why};
use crate::report::terminal::fake::{self, Paper};

fn step(text: &str) -> StepId {
    let (task, target) = text.split_once('@').unwrap();
    StepId::new(task, target)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn running(name: &str) -> Event {
    Event::Running { step: step(name), last: None, attached: false, uncached: false }
}

fn attached(name: &str) -> Event {
    Event::Running { step: step(name), last: None, attached: true, uncached: true }
}

fn ran(name: &str, took: u64, stderr: &str) -> Event {
    Event::Ran { step: step(name), took: millis(took), uncached: false, stored: true, stderr: stderr.as_bytes().into() }
}

fn stale(name: &str, reasons: &[&str]) -> Event {
    let why = |text: &&str| Why { code: "input-changed", text: (*text).to_owned() };
    Event::Stale { step: step(name), reasons: reasons.iter().map(why).collect() }
}

fn output(name: &str, text: &str) -> Event {
    Event::Output { step: step(name), stream: Stream::Stdout, bytes: text.as_bytes().into() }
}

fn warning(text: &str) -> Event {
    Event::Warning { text: text.into() }
}

fn failed(name: &str, log: &str) -> Event {
    let failure = Failure {
        headline: "the command ended with exit code 2".into(),
        command: Some("make\nmake install".into()),
        log: log.as_bytes().into(),
        log_file: Some(".bcache/logs/a b".into()),
        advice: vec!["look around with `cargo bcache shell glib`".into()],
    };
    Event::Failed { step: step(name), took: millis(1200), failure }
}

fn skipped(name: &str, because: Option<&str>) -> Event {
    Event::Skipped { step: step(name), because: because.map(step) }
}

fn finished(outcome: Outcome, counts: [usize; 5]) -> Event {
    let [fresh, restored, ran, failed, skipped] = counts;
    let counts = Counts { fresh, restored, ran, failed, skipped };
    Event::Finished { label: "utm@host".into(), counts, took: millis(846_000), outcome }
}

fn told(verbosity: Verbosity, color: bool, events: Vec<Event>) -> String {
    let paper = Paper::default();
    let human = Human::new(fake::file(paper.clone(), color), verbosity, Pace::default());
    events.into_iter().for_each(|event| human.on(event));
    drop(human);
    paper.text()
}

/// The example of the design, with everything else that can go well.
fn a_good_build() -> Vec<Event> {
    let last = Some(Duration::from_secs(846));
    vec![
        Event::Started { steps: 30 },
        Event::Fresh { step: step("pixman@host") },
        Event::Restored { step: step("libpng@host"), files: 31, bytes: 1_400_000, took: millis(12) },
        stale("glib@host", &["meson.build changed"]),
        running("glib@host"),
        ran("glib@host", 250, ""),
        stale("qemu@host", &["patches/qemu-10.patch changed", "glib@host's output changed (lib/libglib-2.0.so.0)"]),
        Event::Running { step: step("qemu@host"), last, attached: false, uncached: false },
        ran("qemu@host", 842_000, "ld: warning: a\nld: warning: b"),
        Event::Note { text: "moved `dl/x` to `.bcache/aside/x`".into() },
        finished(Outcome::Success, [27, 1, 2, 0, 0]),
    ]
}

#[test]
fn a_good_build_reads_as_in_the_design() {
    assert_eq!(
        told(Verbosity::Normal, false, a_good_build()),
        "    Restored libpng@host (31 files, 1.4 MB) in 12 ms
       Stale glib@host: meson.build changed
     Running glib@host
       Stale qemu@host: patches/qemu-10.patch changed; glib@host's output changed (lib/libglib-2.0.so.0)
     Running qemu@host (last time 14 min)
         Ran qemu@host in 14m 02s
  stderr of qemu@host:
ld: warning: a
ld: warning: b
note: moved `dl/x` to `.bcache/aside/x`
    Finished utm@host in 14m 06s: 27 fresh, 1 restored, 2 ran
"
    );
}

#[test]
fn with_color_the_same_words_are_painted() {
    let plain = told(Verbosity::Normal, false, a_good_build());
    let painted = told(Verbosity::Normal, true, a_good_build());
    let green = "\x1b[1m\x1b[92m";
    let cyan = "\x1b[1m\x1b[96m";
    let yellow = "\x1b[1m\x1b[93m";
    let off = "\x1b[0m";
    let by_hand: String = plain
        .lines()
        .map(|line| match line.get(..12) {
            Some(verb) if verb.ends_with("Restored") || verb.ends_with("Ran") || verb.ends_with("Finished") => {
                format!("{green}{verb}{off}{}\n", &line[12..])
            }
            Some(verb) if verb.ends_with("Running") => format!("{cyan}{verb}{off}{}\n", &line[12..]),
            Some(verb) if verb.ends_with("Stale") => format!("{yellow}{verb}{off}{}\n", &line[12..]),
            _ if line.starts_with("note") => format!("{green}note{off}{}\n", &line[4..]),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(painted, by_hand);
}

#[test]
fn with_verbose_fresh_steps_short_runs_and_all_reasons_are_said() {
    let events = vec![
        Event::Fresh { step: step("pixman@host") },
        stale("glib@arm", &["a", "b", "c", "d", "e"]),
        running("glib@arm"),
        ran("glib@arm", 250, "careful\n"),
        Event::Ran { step: step("x@host"), took: millis(1), uncached: false, stored: false, stderr: [].into() },
        Event::Ran { step: step("y@host"), took: millis(1), uncached: true, stored: false, stderr: [].into() },
        skipped("qemu@host", Some("glib@arm")),
        skipped("utm@host", None),
        finished(Outcome::Success, [1, 0, 1, 0, 0]),
    ];
    assert_eq!(
        told(Verbosity::Verbose, false, events),
        "       Fresh pixman@host
       Stale glib@arm: a; b; c; d; e
     Running glib@arm
         Ran glib@arm in 250 ms
  stderr of glib@arm:
careful
         Ran x@host in 1 ms (kept in this worktree only)
         Ran y@host in 1 ms
     Skipped qemu@host: glib@arm failed
     Skipped utm@host
    Finished utm@host in 14m 06s: 1 fresh, 0 restored, 1 ran
"
    );
}

#[test]
fn when_nothing_happened_one_line_is_printed() {
    let events = || {
        let mut events = vec![Event::Started { steps: 30 }];
        events.extend((0..30).map(|i| Event::Fresh { step: step(&format!("t{i}@host")) }));
        events.push(finished(Outcome::Success, [30, 0, 0, 0, 0]));
        events
    };
    let line = "    Finished utm@host in 14m 06s: 30 fresh, 0 restored, 0 ran\n";
    assert_eq!(told(Verbosity::Normal, false, events()), line);
    assert_eq!(told(Verbosity::Quiet, false, events()), "");
}

#[test]
fn many_reasons_are_cut_and_a_single_one_more_is_not() {
    let reasons = ["a", "b", "c", "d", "e\nf"];
    let events = vec![stale("x@host", &reasons[..4]), stale("x@host", &reasons), stale("x@arm", &reasons)];
    assert_eq!(
        told(Verbosity::Normal, false, events),
        "       Stale x@host: a; b; c; d
       Stale x@host: a; b; c; and 2 more (cargo bcache why x)
       Stale x@arm: a; b; c; and 2 more (cargo bcache why x@arm)
"
    );
}

#[test]
fn a_failure_shows_its_command_its_log_once_and_what_to_do() {
    let events = vec![
        running("glib@host"),
        failed("glib@host", "cc: error\r\n\x1b[31mred\x1b[2J"),
        skipped("qemu@host", Some("glib@host")),
        skipped("utm@host", Some("glib@host")),
        finished(Outcome::Failure, [3, 0, 0, 1, 2]),
    ];
    let text = told(Verbosity::Normal, false, events.clone());
    assert_eq!(
        text,
        "     Running glib@host
error: glib@host failed: the command ended with exit code 2
  command: make
           make install
  output of glib@host:
cc: error
red
  log: .bcache/logs/a b
  help: look around with `cargo bcache shell glib`
     Skipped qemu@host, utm@host
      Failed utm@host in 14m 06s: 3 fresh, 0 restored, 0 ran, 1 failed, 2 skipped
"
    );
    let from_error = text.find("error").unwrap()..text.find("     Skipped").unwrap();
    assert_eq!(told(Verbosity::Quiet, false, events.clone()), text[from_error]);
    let painted = told(Verbosity::Quiet, true, events);
    assert!(painted.starts_with("\x1b[1m\x1b[91merror\x1b[0m: glib@host failed"), "{painted}");
    assert!(painted.contains("\n\x1b[31mred\x1b[0m\n"), "{painted}");
}

#[test]
fn many_skipped_steps_are_named_in_part_and_an_interruption_is_no_failure() {
    let mut events: Vec<Event> = (0..7).map(|i| skipped(&format!("t{i}@host"), None)).collect();
    events.push(finished(Outcome::Interrupted, [0, 0, 0, 0, 7]));
    assert_eq!(
        told(Verbosity::Normal, false, events),
        "     Skipped t0@host, t1@host, t2@host, t3@host, t4@host and 2 more
 Interrupted utm@host in 14m 06s: 0 fresh, 0 restored, 0 ran, 0 failed, 7 skipped
"
    );
}

#[test]
fn a_warning_is_said_once() {
    let events = vec![warning("a\nb"), warning("c"), warning("a\nb")];
    assert_eq!(told(Verbosity::Normal, false, events.clone()), "warning: a\n         b\nwarning: c\n");
    assert_eq!(told(Verbosity::Quiet, false, events), "");
}

#[test]
fn streamed_output_comes_in_whole_lines_with_its_step_and_is_not_repeated() {
    let events = vec![
        output("a@host", "one\ntw"),
        output("b@host", "other\n"),
        output("a@host", "o\nrest"),
        ran("a@host", 1, "two\n"),
        failed("b@host", "other\n"),
    ];
    assert_eq!(
        told(Verbosity::Verbose, false, events),
        "a@host | one
b@host | other
a@host | two
a@host | rest
         Ran a@host in 1 ms
error: b@host failed: the command ended with exit code 2
  command: make
           make install
  log: .bcache/logs/a b
  help: look around with `cargo bcache shell glib`
"
    );
}

#[test]
fn what_happens_while_a_step_is_attached_is_printed_after_it() {
    let paper = Paper::default();
    let human = Human::new(fake::file(paper.clone(), false), Verbosity::Normal, Pace::default());
    human.on(attached("shell@host"));
    human.on(warning("meanwhile"));
    human.on(ran("other@host", 2000, ""));
    assert_eq!(paper.text(), "     Running shell@host\n");
    human.on(ran("shell@host", 3000, ""));
    let all = "     Running shell@host
warning: meanwhile
         Ran other@host in 2.0 s
         Ran shell@host in 3.0 s
";
    assert_eq!(paper.text(), all);
}

#[test]
fn what_was_held_back_is_not_lost_when_the_reporter_goes() {
    let events = vec![attached("shell@host"), warning("meanwhile")];
    assert_eq!(told(Verbosity::Normal, false, events), "     Running shell@host\nwarning: meanwhile\n");
}

#[test]
fn a_question_holds_lines_back_until_it_is_answered() {
    let paper = Paper::default();
    let human = Human::new(fake::file(paper.clone(), false), Verbosity::Normal, Pace::default());
    let answer = human.ask(|| {
        human.on(warning("meanwhile"));
        assert_eq!(paper.text(), "");
        assert_eq!(human.ask(|| panic!("one question at a time")), None);
        Some(true)
    });
    assert_eq!(answer, Some(true));
    assert_eq!(paper.text(), "warning: meanwhile\n");
}

#[test]
fn until_something_is_said_nothing_is_asked_of_the_terminal() {
    let human = Human::new(fake::untouchable(), Verbosity::Normal, Pace::default());
    human.on(Event::Started { steps: 2 });
    human.on(Event::Fresh { step: step("a@host") });
    assert!(matches!(human.shared.lock().ticker, Ticker::NotStarted));
}

#[test]
fn without_a_terminal_no_thread_is_started() {
    for verbosity in [Verbosity::Normal, Verbosity::Quiet] {
        let human = Human::new(fake::file(Paper::default(), false), verbosity, Pace::default());
        human.on(running("a@host"));
        assert!(matches!(human.shared.lock().ticker, Ticker::Never));
    }
}

#[test]
fn a_closed_stderr_ends_the_report_and_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let human = Human::new(fake::file(writer, false), Verbosity::Normal, Pace::default());
    a_good_build().into_iter().for_each(|event| human.on(event));
    a_good_build().into_iter().for_each(|event| human.on(event));
}

#[test]
fn lines_of_many_threads_stay_whole() {
    let paper = Paper::default();
    let human = Human::new(fake::file(paper.clone(), false), Verbosity::Verbose, Pace::default());
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let human = &human;
            scope.spawn(move || {
                for _ in 0..200 {
                    human.on(output(&format!("{name}@host"), &name.repeat(10)));
                    human.on(output(&format!("{name}@host"), &format!("{}\n", name.repeat(10))));
                }
            });
        }
    });
    let text = paper.text();
    assert_eq!(text.lines().count(), 600);
    for name in ["a", "b", "c"] {
        let whole = format!("{name}@host | {}", name.repeat(20));
        assert_eq!(text.lines().filter(|line| *line == whole).count(), 200);
    }
}

mod on_a_terminal {
    //! A real pseudo-terminal, read by a terminal emulator.

    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::num::NonZero;
    use std::os::fd::FromRawFd;

    struct Window {
        master: File,
        slave: File,
        emulator: vt100::Parser,
    }

    /// The end of what was written so far, for the reader: told by a mark that is no text.
    const MARK: &[u8] = b"\x1b]2;end\x07";

    fn number(n: u16) -> NonZero<u16> {
        NonZero::new(n).unwrap()
    }

    /// The machine may be slow: `3 s` is read as `0 s`.
    fn without_times(screen: &str) -> String {
        let timeless = |line: &str| match line.trim_start().split_once(" s ") {
            Some((seconds, rest)) if seconds.parse::<u32>().is_ok() => format!("{:>12} {rest}", "0 s"),
            _ => line.to_owned(),
        };
        screen.split('\n').map(timeless).collect::<Vec<_>>().join("\n")
    }

    impl Window {
        fn new(rows: u16, columns: u16) -> Self {
            let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let (mut master, mut slave) = (-1, -1);
            // SAFETY: the two numbers outlive the call; no name and no modes are asked for.
            let result =
                unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
            assert_eq!(result, 0);
            // SAFETY: both were just opened, and are owned by nobody else.
            let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
            Self { master, slave, emulator: vt100::Parser::new(number(rows), number(columns), 100) }
        }

        fn resize(&mut self, rows: u16, columns: u16) {
            let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // SAFETY: the request reads one `winsize`.
            let result = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&self.slave), libc::TIOCSWINSZ, &size) };
            assert_eq!(result, 0);
        }

        fn human(&self, pace: Pace) -> Human {
            Human::new(fake::terminal(self.slave.try_clone().unwrap()), Verbosity::Normal, pace)
        }

        /// Reads on until the screen is as wanted. What never comes is seen as a test that hangs.
        fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
            let mut bytes = [0; 4096];
            loop {
                let contents = without_times(&self.emulator.screen().contents());
                if wanted(&contents) {
                    return contents;
                }
                let n = self.master.read(&mut bytes).unwrap();
                self.emulator.process(&bytes[..n]);
            }
        }

        /// The screen after everything that was written. For when no thread writes any more.
        fn now(&mut self) -> String {
            (&self.slave).write_all(MARK).unwrap();
            let mut all = Vec::new();
            let mut bytes = [0; 4096];
            while !all.ends_with(MARK) {
                let n = self.master.read(&mut bytes).unwrap();
                all.extend_from_slice(&bytes[..n]);
            }
            self.emulator.process(&all);
            without_times(&self.emulator.screen().contents())
        }
    }

    const AT_ONCE: Pace = Pace { delay: Duration::ZERO, interval: Duration::from_millis(5) };
    const NEVER: Pace = Pace { delay: Duration::from_secs(3600), interval: Duration::from_millis(5) };

    #[test]
    fn live_lines_stand_below_what_was_printed_and_are_gone_at_the_end() {
        let mut window = Window::new(10, 60);
        let human = window.human(AT_ONCE);
        human.on(Event::Started { steps: 3 });
        human.on(running("glib@host"));
        human.on(running("pixman@host"));
        let busy = "     Running glib@host\n     Running pixman@host\n";
        let live = "         0 s glib@host\n         0 s pixman@host\n         0/3 done, 2 running, 1 left";
        assert_eq!(window.until(|screen| screen.ends_with("2 running, 1 left")), format!("{busy}{live}"));
        human.on(warning("above them"));
        human.on(ran("glib@host", 1, ""));
        let live = "         0 s pixman@host\n         1/3 done, 1 running, 1 left";
        let screen = window.until(|screen| screen.ends_with("1 running, 1 left"));
        assert_eq!(screen, format!("{busy}warning: above them\n{live}"));
        human.on(ran("pixman@host", 1, ""));
        human.on(finished(Outcome::Success, [1, 0, 2, 0, 0]));
        drop(human);
        let end = "    Finished utm@host in 14m 06s: 1 fresh, 0 restored, 2 ran";
        assert_eq!(window.now(), format!("{busy}warning: above them\n{end}"));
    }

    #[test]
    fn in_a_narrow_window_live_lines_are_cut_and_never_wrapped() {
        let mut window = Window::new(12, 20);
        let human = window.human(AT_ONCE);
        human.on(Event::Started { steps: 3 });
        human.on(running("a@host"));
        human.on(running("a-very-long-name-of-a-task@linux-arm64"));
        let screen = window.until(|screen| screen.ends_with("done,…"));
        let live: Vec<&str> = screen.lines().rev().take(3).collect();
        assert_eq!(live, ["         0/3 done,…", "         0 s a-ver…", "         0 s a@host"]);
        let (last, _) = window.emulator.screen().cursor_position();
        for row in last - 2..=last {
            assert!(!window.emulator.screen().row_wrapped(row), "{screen}");
        }
        drop(human);
        assert!(!window.now().contains('…'));
    }

    #[test]
    fn live_lines_go_whole_after_the_window_became_narrower() {
        let mut window = Window::new(12, 40);
        let human = window.human(AT_ONCE);
        human.on(Event::Started { steps: 1 });
        human.on(running("a-task-with-a-name@host"));
        let before = window.until(|screen| screen.ends_with("done, 1 running, 0 left"));
        assert_eq!(before.lines().count(), 3, "{before}");
        let mut state = human.shared.lock();
        // Both live lines take two rows of twenty columns, after a terminal has reflowed them.
        window.resize(12, 20);
        assert_eq!(state.terminal.size(), Size { columns: 20, rows: 12 });
        state.terminal.clear();
        drop(state);
        drop(human);
        (&window.slave).write_all(MARK).unwrap();
        let mut bytes = [0; 256];
        let n = window.master.read(&mut bytes).unwrap();
        assert!(bytes[..n].starts_with(b"\r\x1b[3A\x1b[J"), "{:?}", String::from_utf8_lossy(&bytes[..n]));
    }

    #[test]
    fn a_quick_build_draws_nothing() {
        let mut window = Window::new(10, 60);
        let human = window.human(NEVER);
        human.on(Event::Started { steps: 1 });
        human.on(running("a@host"));
        human.on(ran("a@host", 1, ""));
        human.on(finished(Outcome::Success, [0, 0, 1, 0, 0]));
        drop(human);
        window.now();
        let scrolled = "     Running a@host\n    Finished utm@host in 14m 06s: 0 fresh, 0 restored, 1 ran";
        assert_eq!(window.emulator.screen().contents(), scrolled);
    }

    #[test]
    fn an_attached_step_has_the_terminal_to_itself() {
        let mut window = Window::new(10, 60);
        let human = window.human(AT_ONCE);
        human.on(Event::Started { steps: 3 });
        human.on(running("a@host"));
        window.until(|screen| screen.ends_with("0/3 done, 1 running, 2 left"));
        human.on(attached("lint@host"));
        (&window.slave).write_all(b"its own prompt> ").unwrap();
        human.on(warning("meanwhile"));
        let own = "     Running a@host\n     Running lint@host\nits own prompt>";
        assert_eq!(window.until(|screen| screen.contains("prompt>")).trim_end(), own);
        assert_eq!(human.shared.lock().until_next(Instant::now() + Duration::from_secs(9)), None);
        (&window.slave).write_all(b"\n").unwrap();
        human.on(ran("lint@host", 1, ""));
        let screen = window.until(|screen| screen.ends_with("1/3 done, 1 running, 1 left"));
        let after = "warning: meanwhile\n         0 s a@host\n         1/3 done, 1 running, 1 left";
        assert_eq!(screen, format!("     Running a@host\n     Running lint@host\nits own prompt> \n{after}"));
    }

    #[test]
    fn the_terminal_is_left_clean_when_the_reporter_goes_early() {
        let mut window = Window::new(10, 60);
        let human = window.human(AT_ONCE);
        human.on(Event::Started { steps: 2 });
        human.on(running("a@host"));
        window.until(|screen| screen.ends_with("1 left"));
        drop(human);
        assert_eq!(window.now(), "     Running a@host");
    }
}
