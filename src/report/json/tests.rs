use super::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::StepId;
use crate::event::{Counts, Failure, Outcome, Stream, Why};
use crate::report::terminal::fake::Paper;

fn step() -> StepId {
    StepId::new("glib", "host")
}

fn told(events: Vec<Event>) -> String {
    let paper = Paper::default();
    let json = Json::new(Box::new(paper.clone()));
    events.into_iter().for_each(|event| json.on(event));
    paper.text()
}

fn output(text: &str) -> Event {
    Event::Output { step: step(), stream: Stream::Stderr, bytes: text.as_bytes().into() }
}

/// Pinned: other people's programs read this. A change that they would notice is a new version.
#[test]
fn every_event_is_one_versioned_line() {
    let took = Duration::from_millis(1200);
    let empty: Arc<[u8]> = [].into();
    let failure = Failure {
        headline: "the command ended with exit code 2".into(),
        command: Some("make \"x\"".into()),
        log: b"line\n\xff".as_slice().into(),
        log_file: Some(OsString::from_vec(b"logs/\xff".to_vec()).into()),
        advice: vec!["a".into()],
    };
    let counts = Counts { fresh: 1, restored: 2, ran: 3, failed: 4, skipped: 5 };
    let why = Why { code: "forced", text: "--force".into() };
    let events = vec![
        Event::Started { steps: 3 },
        Event::Warning { text: "a\nb".into() },
        Event::Note { text: "c".into() },
        Event::Fresh { step: step() },
        Event::Restored { step: step(), files: 3, bytes: 4, took },
        Event::Stale { step: step(), reasons: vec![why] },
        Event::Running { step: step(), last: Some(took), attached: false, uncached: true },
        Event::Ran { step: step(), took, uncached: false, stored: true, stderr: empty },
        Event::Failed { step: step(), took, failure },
        Event::Skipped { step: step(), because: None },
        Event::Finished { label: "utm@host".into(), counts, took, outcome: Outcome::Interrupted },
    ];
    let glib = r#"{"task":"glib","target":"host"}"#;
    let lines = [
        r#"{"version":1,"event":"started","steps":3}"#,
        r#"{"version":1,"event":"warning","text":"a\nb"}"#,
        r#"{"version":1,"event":"note","text":"c"}"#,
        r#"{"version":1,"event":"fresh","step":GLIB}"#,
        r#"{"version":1,"event":"restored","step":GLIB,"files":3,"bytes":4,"millis":1200}"#,
        r#"{"version":1,"event":"stale","step":GLIB,"reasons":[{"code":"forced","text":"--force"}]}"#,
        r#"{"version":1,"event":"running","step":GLIB,"last_millis":1200,"attached":false,"uncached":true}"#,
        r#"{"version":1,"event":"ran","step":GLIB,"millis":1200,"uncached":false,"stored":true,"stderr":""}"#,
        r#"{"version":1,"event":"failed","step":GLIB,"millis":1200,"failure":{"headline":"the command ended with exit code 2","command":"make \"x\"","log":"line\n�","log_file":"logs/\\xff","advice":["a"]}}"#,
        r#"{"version":1,"event":"skipped","step":GLIB,"because":null}"#,
        r#"{"version":1,"event":"finished","label":"utm@host","counts":{"fresh":1,"restored":2,"ran":3,"failed":4,"skipped":5},"millis":1200,"outcome":"interrupted"}"#,
        "",
    ];
    assert_eq!(told(events), lines.join("\n").replace("GLIB", glib));
}

#[test]
fn output_comes_in_whole_lines_with_whole_characters() {
    let ran = Event::Ran { step: step(), took: Duration::ZERO, uncached: true, stored: false, stderr: [].into() };
    let half = |bytes: &[u8]| Event::Output { step: step(), stream: Stream::Stderr, bytes: bytes.into() };
    let text = told(vec![output("a"), half(b"\xc3"), half(b"\xa9\nb"), ran]);
    let texts: Vec<_> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (value["event"].as_str().unwrap().to_owned(), value["bytes"].as_str().map(str::to_owned))
        })
        .collect();
    let output = |text: &str| ("output".to_owned(), Some(text.to_owned()));
    assert_eq!(texts, [output("aé\n"), output("b"), ("ran".to_owned(), None)]);
}

#[test]
fn a_reader_that_goes_away_ends_the_report_and_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    let json = Json::new(Box::new(writer));
    json.on(Event::Started { steps: 1 });
    drop(reader);
    json.on(Event::Started { steps: 2 });
    json.on(Event::Started { steps: 3 });
    assert!(json.with(|state| state.closed));
}
