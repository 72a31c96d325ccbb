use super::*;
use crate::action::{Component, Content, Cost, Kind, Made};
use crate::base::digest::Digest;
use crate::base::ids::StepId;

fn action(components: &[(Kind, &str, &str)]) -> Action {
    Action { components: components.iter().map(|(kind, name, value)| Component::text(*kind, *name, *value)).collect() }
}

fn record(action: &Action) -> StepRecord {
    StepRecord {
        step: StepId::new("a", "host"),
        action: action.clone(),
        key: action.key(),
        made: Some(Made::default()),
        outputs: Vec::new(),
        origin: Origin::Ran,
        begun: Vec::new(),
        reasons: Vec::new(),
        cost: Cost::default(),
        stored: true,
    }
}

fn result(action: &Action) -> ActionResult {
    ActionResult {
        key: action.key(),
        step: StepId::new("a", "host"),
        bound_to: None,
        made: Made::default(),
        cost: Cost::default(),
        created: 0,
        content: Content::default(),
    }
}

fn sentences(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Fresh => vec!["fresh".to_owned()],
        Verdict::Cached(_, reasons) | Verdict::Stale(reasons) => {
            reasons.iter().map(|r| format!("{}: {}", r.code(), r.sentence(None))).collect()
        }
    }
}

#[test]
fn a_key_is_pinned() {
    let one = action(&[(Kind::Command, "run 1", "make"), (Kind::Env, "CFLAGS", "-O2"), (Kind::Input, "a.c", "x")]);
    assert_eq!(one.key().0.short(), "c254dd0a4f5a");
}

#[test]
fn the_value_shown_is_no_part_of_the_key() {
    let mut one = action(&[(Kind::Tool, "cc", "x")]);
    let key = one.key();
    one.components[0].shown = "another".to_owned();
    assert_eq!(one.key(), key);
}

#[test]
fn the_same_key_and_intact_outputs_are_fresh() {
    let now = action(&[(Kind::Input, "a.c", "x")]);
    let record = record(&now);
    let evidence = Evidence { record: Some(&record), disk: &Disk::Intact, forced: None };
    assert_eq!(judge(&now, &evidence, None), Verdict::Fresh);
    assert_eq!(judge(&now, &evidence, Some(result(&now))), Verdict::Fresh);
}

#[test]
fn every_difference_is_a_reason_with_a_sentence_and_a_code() {
    let digest = Digest::of(b"1");
    let old = Action {
        components: vec![
            Component::text(Kind::Env, "CFLAGS", "-O2"),
            Component { kind: Kind::Patch, name: "patches/q.patch".into(), digest, shown: String::new() },
            Component { kind: Kind::Need, name: "glib@host".into(), digest, shown: String::new() },
            Component::text(Kind::Input, "gone.c", ""),
        ],
    };
    let mut new = old.clone();
    new.components[0] = Component::text(Kind::Env, "CFLAGS", "-O3");
    new.components[1].digest = Digest::of(b"2");
    new.components[2].digest = Digest::of(b"2");
    new.components[3] = Component::text(Kind::Input, "new.c", "");
    let record = record(&old);
    let evidence = Evidence { record: Some(&record), disk: &Disk::Intact, forced: None };
    assert_eq!(
        sentences(judge(&new, &evidence, None)),
        [
            "env-changed: variable CFLAGS changed: `-O2` -> `-O3`",
            "patch-changed: patches/q.patch changed",
            "need-changed: glib@host's output changed",
            "input-added: new.c is new",
            "input-removed: gone.c is gone",
        ]
    );
}

#[test]
fn a_changed_order_of_commands_is_a_reason() {
    let old = action(&[(Kind::Command, "a", ""), (Kind::Command, "b", "")]);
    let new = action(&[(Kind::Command, "b", ""), (Kind::Command, "a", "")]);
    let record = record(&old);
    let evidence = Evidence { record: Some(&record), disk: &Disk::Intact, forced: None };
    assert_eq!(sentences(judge(&new, &evidence, None)), ["reordered: the order of commands changed"]);
}

#[test]
fn no_record_a_begun_one_and_damaged_outputs_are_not_fresh() {
    let now = action(&[]);
    let mut begun = record(&now);
    begun.made = None;
    begun.origin = Origin::Begun;
    let good = record(&now);
    let judge = |record, disk: &Disk| sentences(judge(&now, &Evidence { record, disk, forced: None }, None));
    assert_eq!(judge(None, &Disk::Intact), ["never-ran: it never ran here"]);
    assert_eq!(judge(Some(&begun), &Disk::Intact), ["not-finished: its last run did not finish"]);
    assert_eq!(judge(Some(&good), &Disk::Missing("out/x".into())), ["output-missing: output out/x is missing"]);
    assert_eq!(judge(Some(&good), &Disk::Modified("out/x".into())), ["output-modified: output out/x was changed"]);
    let stray = "output-stray: out/y lies in its output directory and is not its own";
    assert_eq!(judge(Some(&good), &Disk::Stray("out/y".into())), [stray]);
}

#[test]
fn a_forced_step_runs_whatever_is_known() {
    let now = action(&[]);
    let record = record(&now);
    let evidence = Evidence { record: Some(&record), disk: &Disk::Intact, forced: Some("--force") };
    assert_eq!(sentences(judge(&now, &evidence, Some(result(&now)))), ["forced: forced by --force"]);
    assert!(matches!(judge(&now, &evidence, Some(result(&now))), Verdict::Stale(_)));
}

#[test]
fn what_the_store_has_is_restored_and_the_reasons_are_kept() {
    let now = action(&[]);
    let evidence = Evidence { record: None, disk: &Disk::Intact, forced: None };
    assert!(
        matches!(judge(&now, &evidence, Some(result(&now))), Verdict::Cached(_, reasons) if reasons == [Reason::NeverRan])
    );
}

#[test]
#[should_panic(expected = "BUG: the store answered another key")]
fn an_answer_to_another_key_is_a_bug() {
    let evidence = Evidence { record: None, disk: &Disk::Intact, forced: None };
    judge(&action(&[]), &evidence, Some(result(&action(&[(Kind::Env, "a", "b")]))));
}
