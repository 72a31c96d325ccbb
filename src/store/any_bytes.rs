//! What must hold of whatever bytes lie in the store, or in `.bcache` of a worktree.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::action::{ActionResult, Made, Slice, StepRecord};
use crate::base::any_bytes::{Place, sealed, write};
use crate::base::digest::Digest;
use crate::base::ids::StepId;
use crate::base::tree::{Node, Tree};

use super::cas::{MAX_FRAME, spread_out, unpress};
use super::results::RESULT;
use super::*;

/// A worktree and a store in a place.
struct World {
    place: Place,
    store: Store,
    state: State,
}

impl World {
    fn new() -> Self {
        let place = Place::make();
        let root = place.path().join("deep");
        let store = Store::open(&place.path().join("home"), Some(1 << 30)).expect("a store can be made");
        let state = State::open(&root).expect("a state can be made");
        Self { place, store, state }
    }

    fn prefix_dir(&self) -> PathBuf {
        self.state.root().join("prefix")
    }
}

/// The body of an action result, as a file of the store.
pub fn result(body: &[u8]) {
    if let Some(said) = sealed::<ActionResult>(&RESULT, body) {
        use_result(&said, &[]);
    }
}

/// The same with frames in files of their own, and with digests that are right: what somebody wrote who lies about all but
/// the bytes.
pub fn pack(body: &[u8]) {
    let Some(mut said) = sealed::<ActionResult>(&RESULT, body) else { return };
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    for (i, frame) in said.content.frames.iter_mut().enumerate() {
        let Some(inline) = frame.inline.clone() else { continue };
        let Some(unpacked) = unpress(&inline, frame.size) else { continue };
        assert!(unpacked.len() as u64 == frame.size && frame.size <= MAX_FRAME, "a frame of another size");
        frame.digest = Digest::of(&unpacked);
        bytes.extend(unpacked);
        if i % 2 == 1 {
            frames.push((frame.digest, inline));
            frame.inline = None;
        }
        if bytes.len() > 4 * MAX_FRAME as usize {
            return;
        }
    }
    let mut slices = said.content.files.clone().into_iter();
    said.made.outputs = right(&said.made.outputs, &mut slices, &bytes);
    said.made.layer = said.made.layer.as_ref().map(|layer| right(layer, &mut slices, &bytes));
    use_result(&said, &frames);
}

/// The tree with the sizes and digests of what the slices say.
fn right(tree: &Tree, slices: &mut impl Iterator<Item = Slice>, bytes: &[u8]) -> Tree {
    let mut entries = tree.entries().to_vec();
    let files = entries.iter_mut().filter(|entry| matches!(entry.node, Node::File { .. }));
    for (entry, slice) in files.zip(slices) {
        let (start, len) = (slice.start as usize, slice.len as usize);
        let part = start.checked_add(len).and_then(|end| bytes.get(start..end)).unwrap_or_default();
        if let Node::File { size, digest, .. } = &mut entry.node {
            (*size, *digest) = (slice.len, Digest::of(part));
        }
    }
    Tree::new(entries)
}

/// Everything that is done with a result: it is found or it is none; it is put in place, below its root, and then all of it is
/// there; it is verified, listed and collected.
fn use_result(said: &ActionResult, frames: &[(Digest, Vec<u8>)]) {
    let world = World::new();
    let store = &world.store;
    write(&store.result_path(&said.key), &RESULT.seal(said));
    for (digest, bytes) in frames {
        write(&spread_out(&store.root().join("frames"), digest), bytes);
    }
    store.list().expect("what is there can be listed");
    store.stats().expect("what is there can be counted");
    if let Lookup::Hit(found) = store.lookup(&said.key).expect("a look finds it or not") {
        assert!(*found == *said, "another result was found");
        assert_inner(&found.made);
        let root = world.state.root();
        restore(&world, &found, Part::Outputs, root);
        restore(&world, &found, Part::Layer, &world.prefix_dir());
        if let Ok(Some(log)) = store.log(&found) {
            assert_eq!(found.content.log.map(|slice| slice.len), Some(log.len() as u64), "another log");
        }
        use_layer(&world, &found);
        use_places(&world, &found);
    }
    store.verify().expect("what is there can be verified");
    assert!(store.verify().expect("and again").damaged.is_empty(), "what was damaged was left");
    store.gc(0).expect("what is there can be collected");
    assert_eq!(store.stats().expect("an empty store can be counted").results, 0, "a result can't be collected");
    world.place.assert_kept_to();
}

fn assert_inner(made: &Made) {
    let trees = [Some(&made.outputs), made.layer.as_ref()];
    let paths = trees.into_iter().flatten().flat_map(Tree::entries).map(|entry| &entry.path);
    for path in paths.chain(made.shared.iter().map(|file| &file.path)) {
        let is_name = |c| matches!(c, std::path::Component::Normal(_));
        assert!(path.components().all(is_name) && path.file_name().is_some(), "{} leads out", path.display());
    }
}

/// What was put in place is there: a second time nothing is to be done.
fn restore(world: &World, result: &ActionResult, part: Part, root: &Path) {
    let before = Before::default();
    let put = || world.store.materialize(result, part, &world.state, root, before, &mut || Ok(()));
    match put() {
        Ok(_) => {
            let again = put().expect("what was put can be put again");
            assert_eq!((again.written, again.removed), (0, 0), "what was put is not there");
        }
        Err(e) if e.is_lost() => {
            let found = world.store.lookup(&result.key).expect("a look finds it or not");
            assert!(matches!(found, Lookup::Miss(_)), "a result without its bytes is found again");
        }
        Err(_) => {}
    }
    world.place.assert_kept_to();
}

/// Its layer unpacked, and in a prefix.
fn use_layer(world: &World, result: &ActionResult) {
    let Some(tree) = &result.made.layer else { return };
    let layers = Layers::of(&world.state);
    let Ok(Some(dir)) = layers.ensure(tree, Some((&world.store, result))) else { return };
    assert!(layers.ensure(tree, None).expect("a look").is_some(), "an unpacked layer is not whole");
    let prefix = Prefix::new(&world.state, "p@host", &world.prefix_dir());
    if prefix.put(&result.step, tree, LayerSource::Dir(&dir)).is_ok() {
        assert_eq!(prefix.damage(&result.step, tree).expect("a look"), None, "a layer is not there as it was put");
        prefix.look().expect("a look");
        prefix.retain(|_| false).expect("a layer can be removed");
    }
    layers.remove_unused(&HashSet::new()).expect("layers can be removed");
}

/// Its placeholders replaced, whichever these are.
fn use_places(world: &World, result: &ActionResult) {
    let made = &result.made;
    let mut names: Vec<String> = made.places.placeholders.clone();
    names.dedup();
    let relocation = Relocation::new(names.into_iter().map(|name| {
        let real = if name.len() < 4 { "" } else { "/far" };
        (name, PathBuf::from(real))
    }));
    if made.layer.is_some()
        && let Ok(moved) = relocation.moved(&world.state, made, LayerSource::Stored(&world.store, result))
    {
        let again = relocation.seen(&world.state, made).expect("a look");
        assert!(again.as_deref() == Some(moved.tree()), "a moved tree is another when it was kept");
    }
    made.shared.iter().for_each(|file| drop(relocation.bytes(&file.bytes)));
}

/// The body of a record. What it says that a step made is removed, and nothing else.
pub fn record(body: &[u8]) {
    let Some(said) = sealed::<StepRecord>(&records::RECORD, body) else { return };
    let world = World::new();
    let state = &world.state;
    write(&state.dir().join("records").join(state::file_name(&said.step)), &records::RECORD.seal(&said));
    let found = state.read_record(&said.step).expect("a record is there or not");
    assert_eq!(state.all_records().expect("records can be listed"), found.iter().cloned().collect::<Vec<_>>());
    if let Some(record) = found {
        assert!(record == said, "another record was read");
        if let Some(made) = &record.made {
            assert_inner(made);
            let before = Before { tree: Some(&made.outputs), seen: &record.outputs };
            // An error is one of the disk: a name that is too long.
            let _ = remove_recorded(state.root(), before);
            let _ = Relocation::default().seen(state, made);
        }
        state.write_record(&record).expect("a record can be written");
        assert_eq!(state.read_record(&said.step).expect("a record is there"), Some(record));
    }
    world.place.assert_kept_to();
}

/// The body of a share of a prefix.
pub fn share(body: &[u8]) {
    let Some((step, rows)) = sealed::<(StepId, prefix::shares::Share)>(&prefix::shares::SHARE, body) else { return };
    let world = World::new();
    let (dir, name) = (world.prefix_dir(), "p@host");
    let file = world.state.dir().join("prefixes").join(name).join(state::file_name(&step));
    write(&file, &prefix::shares::SHARE.seal(&(&step, &rows)));
    write(&dir.join("a"), b"a");
    write(&dir.join("b/c"), b"c");
    let prefix = || Prefix::new(&world.state, name, &dir);
    let (upper, made) = small_layer(&world);
    let tree = made.layer.expect("an upper directory makes a layer");
    for owner in [step, StepId::new("other", "host")] {
        prefix().look().expect("a look");
        prefix().seen().expect("a look");
        let _ = prefix().damage(&owner, &tree);
        if prefix().put(&owner, &tree, LayerSource::Dir(&upper)).is_ok() {
            assert_eq!(prefix().damage(&owner, &tree).expect("a look"), None, "a layer is not there as it was put");
        }
        world.place.assert_kept_to();
    }
    let _ = prefix().retain(|_| false);
    world.place.assert_kept_to();
}

/// The body of what a kept build directory was used with.
pub fn kept(body: &[u8]) {
    if let Some(used) = sealed::<LastUse>(&kept::KEPT, body) {
        let world = World::new();
        let used = LastUse { root: world.state.root().to_owned(), ..used };
        world.state.set_last_use(&used).expect("it can be written");
        let is_whole = used.unsynced.as_ref().is_none_or(|boot| *boot == this_boot());
        assert_eq!(world.state.last_use(&used.step).expect("a look"), is_whole.then_some(used));
    }
}

/// The body of the header of a state.
pub fn header(body: &[u8]) {
    let place = Place::make();
    let root = place.path().join("deep");
    write(&root.join(".bcache/format"), &state::FORMAT.seal_bytes(body));
    State::open(&root).expect("a state of whatever kind is opened, or put aside");
    State::open(&root).expect("and then it is ours");
    place.assert_kept_to();
}

/// The body of how an unpacked layer was seen: whatever it says, what the layer holds is found out.
pub fn sight(body: &[u8]) {
    drop(sealed::<layers::Sight>(&layers::STAT, body));
    with_layer("stat", &layers::STAT.seal_bytes(body), |world, tree, layer| {
        fs::write(layer.join("b/d"), "other").expect("BUG: a file can be written");
        let whole = Layers::of(&world.state).ensure(tree, None).expect("a look");
        assert_eq!(whole, None, "a damaged layer counts as whole");
    });
}

/// The body of how a layer lies in a prefix.
pub fn moved(body: &[u8]) {
    drop(sealed::<relocate::Kept>(&relocate::MOVED, body));
    with_layer("moved", &relocate::MOVED.seal_bytes(body), |world, tree, _| {
        let places = crate::action::Places { placeholders: vec!["x".into()], files: Vec::new() };
        let made = Made { layer: Some(tree.clone()), places, ..Made::default() };
        if let Some(moved) = Relocation::default().seen(&world.state, &made).expect("a look") {
            assert_inner(&Made { layer: Some(moved.into_owned()), ..Made::default() });
        }
    });
}

fn with_layer(ending: &str, bytes: &[u8], then: impl Fn(&World, &Tree, &Path)) {
    let world = World::new();
    let (upper, made) = small_layer(&world);
    let tree = made.layer.expect("a layer");
    let layer = Layers::of(&world.state).adopt(&upper, &tree).expect("a layer can be adopted");
    write(&layer.with_extension(ending), bytes);
    then(&world, &tree, &layer);
    world.place.assert_kept_to();
}

/// The body of the names that runs were found to read.
pub fn path_sets(body: &[u8]) {
    drop(sealed::<Vec<PathSet>>(&path_sets::PATH_SETS, body));
    let world = World::new();
    let key = crate::action::ActionKey(Digest::of(b"base"));
    write(&spread_out(&world.store.root().join("paths"), &key.0), &path_sets::PATH_SETS.seal_bytes(body));
    let before = world.store.path_sets(&key).expect("a look");
    let new = vec!["new".to_owned()];
    world.store.add_path_set(&key, &new).expect("a set can be added");
    let after = world.store.path_sets(&key).expect("a look");
    assert_eq!(after.first(), Some(&new), "the newest set is not the first");
    assert!(after.len() <= 16 && after.len() <= before.len() + 1, "{} sets are kept", after.len());
    world.place.assert_kept_to();
}

/// What lies on top after a step that installed two files, and that as a result.
fn small_layer(world: &World) -> (PathBuf, Made) {
    let upper = world.state.root().join("upper");
    write(&upper.join("a"), b"a");
    write(&upper.join("b/d"), b"d");
    let sources = Sources {
        workspace: world.state.root(),
        outputs: &[],
        upper: Some(&upper),
        except: &[],
        secrets: &[],
        log: None,
        places: &[],
        placeholders: &[],
    };
    let made = sources.snapshot().expect("files that we wrote").made;
    (upper, made)
}
