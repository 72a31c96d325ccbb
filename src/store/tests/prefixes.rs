use super::*;
use crate::base::tree::{Entry, Node, Tree};
use proptest::prelude::*;

/// Makes the prefix hold just the layers of these results.
fn update(rig: &Rig, results: &[&ActionResult]) -> PrefixReport {
    try_update(rig, results).unwrap()
}

fn try_update(rig: &Rig, results: &[&ActionResult]) -> Result<PrefixReport, StoreError> {
    let prefix = prefix(rig);
    let removed = prefix.retain(|step| results.iter().any(|r| r.step == *step))?;
    let mut all = PrefixReport { removed, ..PrefixReport::default() };
    for result in results {
        let report = put(&prefix, result, LayerSource::Stored(&rig.store, result))?;
        all.aside.extend(report.aside);
        all.written += report.written;
        all.removed += report.removed;
    }
    Ok(all)
}

fn put(prefix: &Prefix, result: &ActionResult, source: LayerSource) -> Result<PrefixReport, StoreError> {
    prefix.put(&result.step, result.made.layer.as_ref().unwrap(), source)
}

fn damage(prefix: &Prefix, result: &ActionResult) -> Option<PathBuf> {
    prefix.damage(&result.step, result.made.layer.as_ref().unwrap()).unwrap()
}

fn prefix(rig: &Rig) -> Prefix<'_> {
    Prefix::new(&rig.state, "utm", &rig.path("sysroot"))
}

#[test]
fn a_prefix_is_the_union_and_a_removed_task_removes_its_files() {
    let rig = Rig::new();
    let a = rig.layer("a", &[("lib/a", "1"), ("include/a/x.h", "1")]);
    let b = rig.layer("b", &[("lib/b", "1")]);
    assert_eq!(update(&rig, &[&a, &b]).written, 3);
    assert_eq!(listing(&rig.path("sysroot")), ["include/a/x.h", "lib/a", "lib/b"]);
    rig.write("sysroot/lib/mine", "of the user");
    assert_eq!(prefix(&rig).owners().unwrap(), [step("a"), step("b")]);
    let report = update(&rig, &[&b]);
    assert_eq!((report.removed, report.written, report.aside.len()), (2, 0, 0));
    assert_eq!(listing(&rig.path("sysroot")), ["lib/b", "lib/mine"]);
    assert!(!rig.path("sysroot/include").exists());
}

#[test]
fn a_prefix_can_be_made_from_unpacked_layers_and_never_links_into_them() {
    let rig = Rig::new();
    let a = rig.layer("a", &[("lib/a", "1")]);
    let tree = a.made.layer.as_ref().unwrap();
    let dir = Layers::of(&rig.state).ensure(tree, Some((&rig.store, &a))).unwrap().unwrap();
    put(&prefix(&rig), &a, LayerSource::Dir(&dir)).unwrap();
    assert_ne!(stat(&rig.path("sysroot/lib/a")).ino, stat(&dir.join("lib/a")).ino);
    fs::write(dir.join("lib/a"), "2").unwrap();
    assert_eq!(rig.read("sysroot/lib/a"), "1");
    fs::remove_file(rig.path("sysroot/lib/a")).unwrap();
    assert!(
        matches!(put(&prefix(&rig), &a, LayerSource::Dir(&dir)), Err(StoreError::LayerDamaged(p)) if p == dir.join("lib/a"))
    );
}

#[test]
fn unchanged_files_keep_their_inode_and_changed_ones_are_replaced() {
    let rig = Rig::new();
    let one = rig.layer("a", &[("lib/same", "1"), ("lib/changed", "1"), ("lib/gone", "1")]);
    update(&rig, &[&one]);
    let inode = stat(&rig.path("sysroot/lib/same")).ino;
    fs::remove_dir_all(rig.dir.path().join("upper-a")).unwrap();
    fs::rename(rig.store.result_path(&key("a")), rig.dir.path().join("old")).unwrap();
    let two = rig.layer("a", &[("lib/same", "1"), ("lib/changed", "2")]);
    let report = update(&rig, &[&two]);
    assert_eq!((report.written, report.removed, report.aside), (1, 1, vec![]));
    assert_eq!((stat(&rig.path("sysroot/lib/same")).ino, rig.read("sysroot/lib/changed")), (inode, "2".to_owned()));
}

#[test]
fn files_of_the_user_that_are_in_the_way_go_aside() {
    let rig = Rig::new();
    rig.write("sysroot/lib/a", "mine");
    let a = rig.layer("a", &[("lib/a", "1")]);
    let report = update(&rig, &[&a]);
    assert_eq!(moved(&report.aside), [(rig.path("sysroot/lib/a").as_path(), "mine".to_owned())]);
}

#[test]
fn a_crash_after_files_came_leaves_them_owned() {
    let rig = Rig::new();
    let (a, b) = (rig.layer("a", &[("x", "1")]), rig.layer("b", &[("y", "2")]));
    update(&rig, &[&a]);
    // Files of b are on their way: all but the last write of the map has happened.
    assert_eq!(listing(&rig.path(".bcache/prefixes/utm")), ["a@host"]);
    update(&rig, &[&b]);
    assert_eq!(listing(&rig.path("sysroot")), ["y"]);
    assert_eq!(listing(&rig.path(".bcache/prefixes/utm")), ["b@host"]);
    // The frame is damaged: it fails in the middle, after the intent.
    let text: String = noise("c", 200_000).iter().map(|b| char::from(b'a' + b % 26)).collect();
    let c = rig.layer("c", &[("0", "first"), ("z", &text)]);
    let frame = rig.store.frame_path(&c.content.frames.last().unwrap().digest);
    fs::write(&frame, "damage").unwrap();
    assert!(try_update(&rig, &[&b, &c]).unwrap_err().is_lost());
    assert_eq!(prefix(&rig).owners().unwrap(), [step("b"), step("c")]);
    rig.write("sysroot/z", "half");
    let report = update(&rig, &[&b]);
    assert_eq!((listing(&rig.path("sysroot")), report.aside), (vec!["y".to_owned()], vec![]));
}

#[test]
fn damage_in_a_prefix_is_found_by_owner_and_mended() {
    let rig = Rig::new();
    let a = rig.layer("a", &[("lib/a", "1")]);
    let b = rig.layer("b", &[("lib/b", "1")]);
    update(&rig, &[&a, &b]);
    let prefix = prefix(&rig);
    assert_eq!((damage(&prefix, &a), damage(&prefix, &b)), (None, None));
    fs::write(rig.path("sysroot/lib/b"), "2").unwrap();
    assert_eq!(damage(&prefix, &a), None);
    assert_eq!(damage(&prefix, &b), Some(rig.path("sysroot/lib/b")));
    update(&rig, &[&a, &b]);
    assert_eq!(damage(&prefix, &b), None);
    set_mode(&rig.path("sysroot/lib/b"), 0o600).unwrap();
    assert_eq!(damage(&prefix, &b), Some(rig.path("sysroot/lib/b")));
    update(&rig, &[&a, &b]);
    fs::rename(rig.path("sysroot/lib"), rig.path("lib")).unwrap();
    symlink("../lib", rig.path("sysroot/lib")).unwrap();
    assert_eq!(damage(&prefix, &b), Some(rig.path("sysroot/lib")));
    fs::remove_dir_all(rig.path("sysroot")).unwrap();
    assert!(damage(&prefix, &a).is_some());
    assert_eq!(update(&rig, &[&a, &b]).written, 2);
}

#[test]
fn two_layers_that_differ_at_a_path_are_refused_and_nothing_is_changed() {
    let rig = Rig::new();
    let a = rig.layer("a", &[("share/doc", "of a")]);
    let b = rig.layer("b", &[("share/doc", "of b"), ("share/more", "")]);
    let error = try_update(&rig, &[&a, &b]).unwrap_err().to_string();
    assert_eq!(error, "`a@host` and `b@host` both installed `share/doc`: they differ");
    assert_eq!(listing(&rig.path("sysroot")), ["share/doc"]);
    assert_eq!(rig.read("sysroot/share/doc"), "of a");
}

#[test]
fn an_equal_file_of_two_layers_is_missed_when_its_owner_leaves() {
    let rig = Rig::new();
    let a = rig.layer("a", &[("both", "1")]);
    let b = rig.layer("b", &[("both", "1"), ("lib/b", "1")]);
    update(&rig, &[&a, &b]);
    assert_eq!(damage(&prefix(&rig), &b), None);
    prefix(&rig).retain(|owner| *owner == step("b")).unwrap();
    assert_eq!(damage(&prefix(&rig), &b), Some(rig.path("sysroot/both")));
    assert_eq!(update(&rig, &[&b]).written, 1);
    assert_eq!(damage(&prefix(&rig), &b), None);
}

fn file(path: &str, text: &str) -> Entry {
    let node = Node::File { mode: 0o644, size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
    Entry { path: path.into(), node }
}

fn dir(path: &str, mode: u32) -> Entry {
    Entry { path: path.into(), node: Node::Dir { mode } }
}

fn check(layers: &[(&str, &Tree)], shared: &[PathBuf]) -> Result<(), Conflict> {
    let steps: Vec<StepId> = layers.iter().map(|(name, _)| step(name)).collect();
    check_owners(steps.iter().zip(layers).map(|(step, (_, tree))| Layer::of(step, tree)), shared)
}

fn clash(a: Vec<Entry>, b: Vec<Entry>) -> Option<(String, Clash)> {
    let (a, b) = (Tree::new(a), Tree::new(b));
    let one = check(&[("a", &a), ("b", &b)], &[]);
    let two = check(&[("b", &b), ("a", &a)], &[]);
    assert_eq!(one, two);
    one.err().map(|c| (c.path.display().to_string(), c.clash))
}

#[test]
fn equal_files_are_no_conflict_and_all_else_at_one_path_is() {
    assert_eq!(clash(vec![file("x", "1")], vec![file("x", "1")]), None);
    assert_eq!(clash(vec![file("x", "1")], vec![file("x", "2")]), Some(("x".into(), Clash::Content)));
    assert_eq!(clash(vec![file("lib", "1")], vec![file("lib/a/b", "2")]), Some(("lib".into(), Clash::Kind)));
    assert_eq!(clash(vec![dir("d", 0o755)], vec![file("d", "")]), Some(("d".into(), Clash::Kind)));
    assert_eq!(clash(vec![dir("d", 0o755)], vec![dir("d", 0o700)]), Some(("d".into(), Clash::DirMode)));
    assert_eq!(clash(vec![dir("d", 0o755)], vec![file("d/x", "")]), None);
    assert_eq!(
        clash(vec![file("d/y", "")], vec![dir("d", 0o700), file("d/x", "")]),
        Some(("d".into(), Clash::DirMode))
    );
    assert_eq!(clash(vec![dir("d", 0o700), file("d/y", "")], vec![dir("d", 0o700), file("d/x", "")]), None);
}

/// A tree from a few names, so that they often meet.
fn trees() -> impl Strategy<Value = Vec<Tree>> {
    let name = prop::sample::select(vec!["a", "b", "a/c", "a/d", "b/c", "a/c/e"]);
    let node = prop::sample::select(vec![0u32, 1, 2, 3]);
    let tree = prop::collection::btree_map(name, node, 0..4).prop_map(|chosen| {
        let names: Vec<&str> = chosen.keys().copied().collect();
        let is_above = |path: &str| names.iter().any(|n| n.starts_with(&format!("{path}/")));
        let entry = |(path, node): (&&str, &u32)| match node {
            0 => dir(path, 0o755),
            1 => dir(path, 0o700),
            n if is_above(path) => dir(path, 0o700 + n),
            n => file(path, &n.to_string()),
        };
        Tree::new(chosen.iter().map(entry).collect())
    });
    prop::collection::vec(tree, 2..5)
}

proptest! {
    #[test]
    fn the_order_of_layers_cannot_be_seen((trees, order) in trees().prop_flat_map(|t| {
        let order: Vec<usize> = (0..t.len()).collect();
        (Just(t), Just(order).prop_shuffle())
    })) {
        let names: Vec<String> = (0..trees.len()).map(|i| i.to_string()).collect();
        let layers: Vec<_> = names.iter().map(String::as_str).zip(&trees).collect();
        let shuffled: Vec<_> = order.iter().map(|i| layers[*i]).collect();
        prop_assert_eq!(check(&layers, &[]), check(&shuffled, &[]));
        let shared = [PathBuf::from("a/c")];
        prop_assert_eq!(check(&layers, &shared), check(&shuffled, &shared));
    }
}
