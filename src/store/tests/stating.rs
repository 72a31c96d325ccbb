use super::*;
use crate::action::{Action, Made, Origin, StepRecord};

fn record(name: &str) -> StepRecord {
    let action = Action::default();
    StepRecord {
        step: step(name),
        key: action.key(),
        action,
        made: Some(Made::default()),
        outputs: Vec::new(),
        origin: Origin::Ran,
        begun: Vec::new(),
        reasons: vec!["because".into()],
        cost: Cost::default(),
        stored: true,
    }
}

#[test]
fn records_are_read_back_and_damage_harms_only_one() {
    let rig = Rig::new();
    for name in ["b", "a", "strange/näme"] {
        rig.state.write_record(&record(name)).unwrap();
    }
    assert_eq!(rig.state.read_record(&step("a")).unwrap(), Some(record("a")));
    assert_eq!(rig.state.read_record(&step("strange/näme")).unwrap(), Some(record("strange/näme")));
    assert_eq!(rig.state.read_record(&step("none")).unwrap(), None);
    fs::write(rig.state.dir().join("records/a@host"), "damage").unwrap();
    assert_eq!(rig.state.read_record(&step("a")).unwrap(), None);
    let names: Vec<_> = rig.state.all_records().unwrap().into_iter().map(|r| r.step).collect();
    assert_eq!(names, [step("b"), step("strange/näme")]);
    rig.state.remove_record(&step("b")).unwrap();
    rig.state.remove_record(&step("b")).unwrap();
    assert_eq!(rig.state.all_records().unwrap().len(), 1);
}

#[test]
fn two_steps_never_share_a_file_name() {
    let long = "x".repeat(300);
    let names = ["a", "A", "a/b", "a_b", "a b", ".a", "a%b", "ä", long.as_str(), &long[1..]];
    let files: std::collections::HashSet<_> = names.iter().map(|n| state::file_name(&step(n))).collect();
    assert_eq!(files.len(), names.len());
    assert!(files.iter().all(|f| f.len() <= 200 && !f.contains('/') && !f.starts_with('.')));
}

#[test]
fn the_state_ignores_itself_and_opens_again() {
    let rig = Rig::new();
    assert_eq!(rig.read(".bcache/.gitignore"), "*\n");
    let again = State::open(rig.root()).unwrap();
    assert!(again.moved_from.is_none() && again.set_aside.is_none());
}

#[test]
fn a_state_of_another_version_is_set_aside() {
    let rig = Rig::new();
    rig.state.write_record(&record("a")).unwrap();
    let newer = crate::base::sealed::Format { magic: b"bc-state", version: 99 };
    fs::write(rig.path(".bcache/format"), newer.seal(&"whatever")).unwrap();
    fs::create_dir(rig.path(".bcache.old-1")).unwrap();
    let state = State::open(rig.root()).unwrap();
    assert_eq!(state.set_aside, Some(rig.path(".bcache.old-2")));
    assert_eq!(state.all_records().unwrap(), []);
    assert!(rig.path(".bcache.old-2/records/a@host").exists());
    assert_eq!(State::open(rig.root()).unwrap().set_aside, None);
}

#[test]
fn a_moved_worktree_is_told_so_once_and_keeps_its_records() {
    let rig = Rig::new();
    rig.state.write_record(&record("a")).unwrap();
    let bound = ["kept/a@host", "work/host/a/build/config.status", "tools/x/cc", "proofs/x", "files", "versions"];
    bound.iter().for_each(|path| drop(rig.write(&format!(".bcache/{path}"), "")));
    let other = rig.dir.path().join("other");
    fs::rename(rig.root(), &other).unwrap();
    let state = State::open(&other).unwrap();
    assert!(state.moved_from.as_deref() == Some(rig.root()) && state.read_record(&step("a")).unwrap().is_some());
    assert!(bound.iter().all(|path| !state.dir().join(path).exists()));
    assert!(State::open(&other).unwrap().moved_from.is_none());
}

#[test]
fn a_state_that_was_begun_and_not_ended_is_taken_over() {
    let rig = Rig::new();
    fs::remove_file(rig.path(".bcache/format")).unwrap();
    let state = State::open(rig.root()).unwrap();
    assert!(state.moved_from.is_none() && state.set_aside.is_none() && rig.path(".bcache/format").exists());
}

#[test]
fn a_step_is_read_by_many_or_changed_by_one() {
    let rig = Rig::new();
    let reading = (rig.state.try_share_step(&step("a")).unwrap(), rig.state.try_share_step(&step("a")).unwrap());
    assert!(reading.0.is_some() && reading.1.is_some());
    assert!(rig.state.try_lock_step(&step("a")).unwrap().is_none());
    assert!(rig.state.try_lock_step(&step("b")).unwrap().is_some());
    drop(reading);
    let changing = rig.state.try_lock_step(&step("a")).unwrap();
    assert!(changing.is_some() && rig.state.try_share_step(&step("a")).unwrap().is_none());
}

#[test]
fn each_thing_set_aside_has_a_place_of_its_own() {
    let rig = Rig::new();
    let mut places = Vec::new();
    for text in ["1", "2"] {
        let path = rig.write("a/b", text);
        places.push(rig.state.set_aside(&path, Path::new("a/b")).unwrap().to);
    }
    fs::create_dir(rig.path("ro")).unwrap();
    set_mode(&rig.path("ro"), 0o555).unwrap();
    let ro = rig.state.set_aside(&rig.path("ro"), Path::new("ro")).unwrap();
    assert_eq!(stat(&ro.to).mode, 0o555);
    assert_eq!(
        (fs::read_to_string(&places[0]).unwrap(), fs::read_to_string(&places[1]).unwrap()),
        ("1".into(), "2".into())
    );
}

#[test]
fn a_sync_reaches_both_file_systems() {
    let rig = Rig::new();
    rig.state.disks(&rig.store).unwrap().sync().unwrap();
}

#[test]
fn a_last_use_counts_in_its_place_and_until_it_is_synced_in_its_boot() {
    let rig = Rig::new();
    let used = |unsynced: &str| LastUse {
        step: step("a"),
        root: rig.root().to_owned(),
        action: Action::default(),
        ended: crate::base::stat::Instant(7),
        unsynced: Some(unsynced.to_owned()),
    };
    let (here, before) = (used(&this_boot()), used("an earlier one"));
    rig.state.set_last_use(&before).unwrap();
    assert_eq!(rig.state.last_use(&step("a")).unwrap(), None);
    rig.state.confirm_last_use(&before).unwrap();
    assert_eq!(rig.state.last_use(&step("a")).unwrap(), None);
    rig.state.set_last_use(&here).unwrap();
    assert_eq!(rig.state.last_use(&step("a")).unwrap(), Some(here.clone()));
    rig.state.confirm_last_use(&here).unwrap();
    let kept = LastUse { unsynced: None, ..here };
    assert_eq!(rig.state.last_use(&step("a")).unwrap(), Some(kept.clone()));
    rig.state.set_last_use(&LastUse { root: "/elsewhere".into(), ..kept }).unwrap();
    assert_eq!(rig.state.last_use(&step("a")).unwrap(), None);
    rig.state.forget_last_use(&step("a")).unwrap();
    rig.state.forget_last_use(&step("a")).unwrap();
}
