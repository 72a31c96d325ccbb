use super::*;

fn age(path: &Path, seconds: u64) {
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Results of 100 kB each, the first the oldest.
fn filled(rig: &Rig, numbers: std::ops::Range<u64>) {
    for i in numbers {
        rig.write("a", noise(&i.to_string(), 100_000));
        let result = rig.save(&i.to_string(), &["a"]);
        age(&rig.store.result_path(&result.key), 10_000 - i);
    }
}

#[test]
fn the_least_recently_used_go_first_until_the_limit_is_kept() {
    let rig = Rig::new();
    filled(&rig, 0..6);
    assert!(rig.has("0"));
    let report = rig.store.gc(350_000).unwrap();
    assert_eq!(report.dropped, 3);
    assert!(report.after <= 350_000 && report.before > 600_000);
    let left: Vec<bool> = (0..6).map(|i| rig.has(&i.to_string())).collect();
    assert_eq!(left, [true, false, false, false, true, true]);
    assert_eq!(rig.store.stats().unwrap().frames, 3);
    assert_eq!(rig.store.stats().unwrap().used, report.after);
}

#[test]
fn a_frame_stays_while_one_result_needs_it() {
    let rig = Rig::new();
    rig.write("a", noise("a", 100_000));
    let one = rig.save("one", &["a"]);
    rig.save("two", &["a"]);
    age(&rig.store.result_path(&one.key), 1000);
    let size = rig.store.stats().unwrap().used;
    let report = rig.store.gc(size - 1).unwrap();
    assert_eq!(report.dropped, 1);
    assert!(!rig.has("one") && rig.has("two"));
}

#[test]
fn what_a_running_build_has_used_is_spared() {
    let rig = Rig::new();
    filled(&rig, 0..3);
    let lease = rig.store.lease().unwrap();
    assert!(rig.has("1"));
    let report = rig.store.gc(0).unwrap();
    assert_eq!((report.dropped, report.spared), (2, 1));
    assert!(rig.has("1"));
    drop(lease);
    rig.store.gc(0).unwrap();
    assert!(!rig.has("1"));
    assert_eq!(listing(&rig.store.root().join("frames")), [""; 0]);
}

#[test]
fn frames_without_a_result_and_leftovers_of_dead_captures_go() {
    let rig = Rig::new();
    rig.write("a", noise("a", 100_000));
    let result = rig.save("one", &["a"]);
    fs::remove_file(rig.store.result_path(&result.key)).unwrap();
    fs::create_dir_all(rig.store.root().join("incoming/1-1")).unwrap();
    fs::write(rig.store.root().join("incoming/1-1/0"), "half").unwrap();
    rig.store.gc(u64::MAX).unwrap();
    assert_eq!(listing(rig.store.root()), ["usage"]);
}

#[test]
fn a_build_that_stays_below_the_limit_does_not_scan() {
    let rig = Rig::new();
    filled(&rig, 0..2);
    // Nobody knows yet how much there is.
    assert!(rig.store.trim().unwrap().is_some());
    assert_eq!(rig.store.trim().unwrap(), None);
    filled(&rig, 2..4);
    assert_eq!(rig.store.trim().unwrap(), None);
    let small = Store::open(&rig.dir.path().join("home"), Some(250_000)).unwrap();
    let report = small.trim().unwrap().unwrap();
    assert!(report.after <= 225_000, "{report:?}");
    assert_eq!(small.trim().unwrap(), None);
}

#[test]
fn what_other_processes_added_counts() {
    let rig = Rig::new();
    filled(&rig, 0..1);
    rig.store.trim().unwrap();
    let other = Store::open(&rig.dir.path().join("home"), Some(150_000)).unwrap();
    assert_eq!(other.trim().unwrap(), None);
    rig.write("a", noise("more", 100_000));
    rig.save("more", &["a"]);
    let Rig { store, .. } = rig;
    drop(store);
    assert!(other.trim().unwrap().is_some());
}

#[test]
fn verify_drops_what_is_damaged_and_names_the_steps() {
    let rig = Rig::new();
    filled(&rig, 0..3);
    rig.write("small", "x");
    rig.save("small", &["small"]);
    let frame = rig.store.frame_path(&rig.hit("1").content.frames[0].digest);
    let mut bytes = fs::read(&frame).unwrap();
    bytes[50_000] ^= 1;
    fs::write(&frame, bytes).unwrap();
    let verified = rig.store.verify().unwrap();
    assert_eq!((verified.frames, verified.results), (3, 4));
    assert_eq!(verified.damaged, [Damaged { path: frame.clone(), steps: vec![step("1")] }]);
    assert!(!frame.exists() && !rig.has("1") && rig.has("0") && rig.has("small"));
    assert_eq!(rig.store.verify().unwrap().damaged, []);
}

#[test]
fn list_is_by_last_use_and_clear_leaves_the_locks() {
    let rig = Rig::new();
    filled(&rig, 0..3);
    assert!(rig.has("0"));
    let names: Vec<String> = rig.store.list().unwrap().iter().map(|l| l.step.to_string()).collect();
    assert_eq!(names, ["0@host", "2@host", "1@host"]);
    let lock = rig.store.try_lock_key(&key("x")).unwrap().unwrap();
    rig.store.clear().unwrap();
    assert_eq!(rig.store.list().unwrap(), []);
    assert!(rig.store.try_lock_key(&key("x")).unwrap().is_none());
    drop(lock);
}

#[test]
fn path_sets_are_the_newest_first_and_go_like_results() {
    let rig = Rig::new();
    let set = |name: &str| vec![name.to_owned(), "/usr/include/x.h".to_owned()];
    assert_eq!(rig.store.path_sets(&key("k")).unwrap(), [[""; 0]; 0]);
    for name in ["1", "2", "1", "3"] {
        rig.store.add_path_set(&key("k"), &set(name)).unwrap();
    }
    assert_eq!(rig.store.path_sets(&key("k")).unwrap(), [set("3"), set("1"), set("2")]);
    assert_eq!(rig.store.path_sets(&key("other")).unwrap(), [[""; 0]; 0]);
    let stats = rig.store.stats().unwrap();
    assert!(stats.used > 0 && stats.results == 0);
    assert_eq!(rig.store.gc(0).unwrap().dropped, 1);
    assert_eq!(rig.store.path_sets(&key("k")).unwrap(), [[""; 0]; 0]);
}

#[test]
fn what_killed_captures_left_goes_also_from_a_store_below_its_limit() {
    let rig = Rig::new();
    filled(&rig, 0..1);
    rig.store.trim().unwrap();
    fs::create_dir_all(rig.store.root().join("incoming/1-1")).unwrap();
    fs::write(rig.store.root().join("incoming/1-1/0"), "half").unwrap();
    assert_eq!(rig.store.trim().unwrap(), None);
    assert_eq!(fs::read_dir(rig.store.root().join("incoming")).unwrap().count(), 0);
}

#[test]
fn the_limit_is_a_tenth_of_the_disk_and_20_gib_of_one_that_does_not_know_its_size() {
    assert_eq!(cas::limit_of(100 << 30), 10 << 30);
    assert_eq!([cas::limit_of(1 << 40), cas::limit_of(0)], [20 << 30; 2]);
}
