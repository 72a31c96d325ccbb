//! Files with a right checksum that say what no program of ours would: written by a faulty one, or by somebody else.

use super::*;
use crate::action::{
    Action, Content, FilePlaces, Frame, Made, Origin, Place as At, Places, SharedFile, Slice, StepRecord,
};
use crate::base::tree::{Entry, Node, Tree};

fn link(path: &str) -> Entry {
    Entry { path: path.into(), node: Node::Symlink { target: "there".into() } }
}

fn file(path: &str, mode: u32, size: u64) -> Entry {
    Entry { path: path.into(), node: Node::File { mode, size, digest: Digest::of(b"") } }
}

/// Trees that no walk makes.
fn no_trees() -> Vec<Tree> {
    let far = "/tmp/far";
    let alone = ["../far", "..", "a/../../far", far, "a//b", "./a", "a/", ".", "a\0b", ""].map(|path| vec![link(path)]);
    let nul = Entry { path: "a".into(), node: Node::Symlink { target: "a\0b".into() } };
    let nowhere = Entry { path: "a".into(), node: Node::Symlink { target: "".into() } };
    let below = [vec![link("a"), link("a-b"), link("a/b")], vec![file("a", 0o644, 0), link("a/b/c")]];
    let others = [vec![nul], vec![nowhere], vec![file("a", 0o100_644, 0)]];
    alone.into_iter().chain(below).chain(others).map(Tree::new).collect()
}

fn record_of(made: Made) -> StepRecord {
    let action = Action::default();
    StepRecord {
        step: step("a"),
        key: action.key(),
        action,
        made: Some(made),
        outputs: Vec::new(),
        origin: Origin::Ran,
        begun: Vec::new(),
        reasons: Vec::new(),
        cost: Cost::default(),
        stored: true,
    }
}

fn result_of(made: Made, content: Content) -> ActionResult {
    ActionResult {
        key: key("a"),
        step: step("a"),
        bound_to: None,
        made,
        cost: Cost::default(),
        created: u64::MAX,
        content,
    }
}

/// As it lies there, with a right checksum.
fn put(rig: &Rig, result: &ActionResult) {
    let path = rig.store.result_path(&result.key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, results::RESULT.seal(result)).unwrap();
}

fn is_found(rig: &Rig, result: &ActionResult) -> bool {
    put(rig, result);
    let listed = rig.store.list().unwrap().len();
    rig.store.stats().unwrap();
    let found = matches!(rig.store.lookup(&result.key).unwrap(), Lookup::Hit(_));
    assert_eq!(listed, usize::from(found), "it is listed and not found, or found and not listed");
    found
}

/// Made of one layer, with places in its only file.
fn placed(size: u64, files: Vec<FilePlaces>) -> Made {
    let layer = Some(Tree::new(vec![link("a"), file("f", 0o644, size)]));
    Made { layer, places: Places { placeholders: vec!["/placeholder".into()], files }, ..Made::default() }
}

fn shared(path: &str) -> Made {
    let file = SharedFile { path: path.into(), mode: 0o644, bytes: b"x".to_vec() };
    Made { shared: vec![file], ..Made::default() }
}

fn no_places() -> Vec<Made> {
    let at = |offset, of, start, len| At { offset, of, start, len };
    let file = |entry, places| FilePlaces { entry, is_text: false, places };
    let alone = [at(0, 1, 0, 4), at(0, 0, 10, 4), at(0, 0, u32::MAX, 4), at(10, 0, 0, 8), at(u64::MAX, 0, 0, 8)];
    let mut files: Vec<Vec<FilePlaces>> = alone.into_iter().map(|place| vec![file(1, vec![place])]).collect();
    files.push(vec![file(1, vec![at(4, 0, 0, 8), at(0, 0, 0, 8)])]);
    files.push(vec![file(0, vec![at(0, 0, 0, 4)])]);
    files.push(vec![file(2, vec![at(0, 0, 0, 4)])]);
    files.push(vec![file(1, vec![at(0, 0, 0, 4)]), file(1, vec![at(8, 0, 0, 4)])]);
    files.into_iter().map(|files| placed(16, files)).collect()
}

#[test]
fn a_result_whose_paths_lead_out_is_none() {
    let rig = Rig::new();
    let unsound = ["../far", "/tmp/far", "a/../../far", ""].map(shared);
    let trees = no_trees();
    let outputs = trees.iter().map(|tree| Made { outputs: tree.clone(), ..Made::default() });
    let layers = trees.iter().map(|tree| Made { layer: Some(tree.clone()), ..Made::default() });
    for made in outputs.chain(layers).chain(unsound) {
        let result = result_of(made, Content::default());
        assert!(!is_found(&rig, &result), "{:?}", result.made);
    }
    assert!(is_found(&rig, &result_of(shared("share/dir"), Content::default())));
}

#[test]
fn a_result_whose_places_are_not_in_its_files_is_none() {
    let rig = Rig::new();
    let content = |size| Content {
        frames: vec![Frame { digest: Digest::of(b""), size, inline: Some(Vec::new()) }],
        log: None,
        files: vec![Slice { start: 0, len: size }],
    };
    for made in no_places() {
        let result = result_of(made, content(16));
        assert!(!is_found(&rig, &result), "{:?}", result.made.places);
    }
    let good = FilePlaces { entry: 1, is_text: false, places: vec![At { offset: 4, of: 0, start: 4, len: 8 }] };
    assert!(is_found(&rig, &result_of(placed(16, vec![good]), content(16))));
}

#[test]
fn a_result_with_sizes_that_no_frame_has_is_none() {
    let rig = Rig::new();
    let frame = |size| Frame { digest: Digest::of(b""), size, inline: Some(Vec::new()) };
    let all = |len| Some(Slice { start: 0, len });
    for (sizes, log) in [(vec![u64::MAX, 2], all(1)), (vec![(4 << 20) + 1], None), (vec![1], all(2))] {
        let content = Content { frames: sizes.into_iter().map(frame).collect(), log, files: Vec::new() };
        assert!(!is_found(&rig, &result_of(Made::default(), content)));
    }
    // A log is read as a whole: a hundred small frames of zeros must not become 400 MB.
    let content =
        |count: u64| Content { frames: vec![frame(4 << 20); count as usize], log: all(count << 22), files: Vec::new() };
    assert!(!is_found(&rig, &result_of(Made::default(), content(100))));
    assert!(is_found(&rig, &result_of(Made::default(), content(4))));
}

#[test]
fn a_record_that_leads_out_is_none_and_removes_nothing() {
    let rig = Rig::new();
    let far = rig.dir.path().join("far");
    fs::write(&far, "theirs").unwrap();
    let trees = no_trees().into_iter().map(|outputs| Made { outputs, ..Made::default() });
    for made in trees.chain(no_places()).chain([shared("../far")]) {
        let record = record_of(made);
        rig.state.write_record(&record).unwrap();
        assert_eq!(rig.state.read_record(&step("a")).unwrap(), None, "{:?}", record.made);
        assert_eq!(rig.state.all_records().unwrap(), []);
    }
    assert_eq!(fs::read_to_string(far).unwrap(), "theirs");
}

#[test]
fn a_share_of_a_prefix_that_leads_out_is_none_and_removes_nothing() {
    let rig = Rig::new();
    let far = rig.dir.path().join("far");
    fs::write(&far, "theirs").unwrap();
    let dir = rig.path("prefix");
    fs::create_dir(&dir).unwrap();
    let row = |path: &str| prefix::shares::Row { path: path.into(), node: file(path, 0o644, 6).node, seen: None };
    for paths in [&["../../far"][..], &["../far"], &["a/../../../far"], &["b", "a"], &["a", "a"]] {
        let rows: prefix::shares::Share = paths.iter().map(|path| row(path)).collect();
        rig.write(".bcache/prefixes/p@host/a@host", prefix::shares::SHARE.seal(&(step("a"), rows)));
        let prefix = Prefix::new(&rig.state, "p@host", &dir);
        assert_eq!(prefix.owners().unwrap(), [], "{paths:?}");
        assert_eq!(prefix.retain(|_| false).unwrap(), 0);
        assert_eq!(fs::read_to_string(&far).unwrap(), "theirs", "{paths:?}");
    }
}

#[test]
fn a_moved_tree_that_makes_links_of_files_is_not_believed() {
    let rig = Rig::new();
    let result = rig.layer("a", &[("f", "text")]);
    let tree = result.made.layer.clone().unwrap();
    let made = Made { places: Places { placeholders: vec!["/x".into()], files: Vec::new() }, ..result.made.clone() };
    let relocation = Relocation::default();
    let source = LayerSource::Stored(&rig.store, &result);
    let path = Layers::of(&rig.state).path(&tree.digest()).with_extension("moved");
    let good = relocation.moved(&rig.state, &made, source).unwrap().tree().clone();
    for nodes in [vec![(0, link("f").node)], vec![(7, link("f").node)], vec![(0, Node::Dir { mode: 0o755 })]] {
        fs::write(&path, relocate::MOVED.seal(&(relocation.digest(), nodes))).unwrap();
        assert_eq!(relocation.seen(&rig.state, &made).unwrap(), None);
        assert_eq!(*relocation.moved(&rig.state, &made, source).unwrap().tree(), good);
    }
}
