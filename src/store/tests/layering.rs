use super::*;
use std::collections::HashSet;

fn tree(result: &ActionResult) -> &crate::base::tree::Tree {
    result.made.layer.as_ref().unwrap()
}

fn ensured(rig: &Rig, result: &ActionResult) -> PathBuf {
    Layers::of(&rig.state).ensure(tree(result), Some((&rig.store, result))).unwrap().unwrap()
}

fn same(rig: &Rig, dir: &Path, result: &ActionResult) {
    let sources = Sources { upper: Some(dir), ..rig.sources(&[]) };
    assert_eq!(sources.snapshot().unwrap().made.layer.as_ref(), result.made.layer.as_ref());
}

#[test]
fn an_adopted_directory_is_the_layer_and_is_not_copied() {
    let rig = Rig::new();
    let upper = rig.dir.path().join("upper-a");
    let result = rig.layer("a", &[("lib/x", "1")]);
    let inode = stat(&upper.join("lib/x")).ino;
    let path = Layers::of(&rig.state).adopt(&upper, tree(&result)).unwrap();
    assert!(!upper.exists());
    assert_eq!(stat(&path.join("lib/x")).ino, inode);
    assert_eq!(Layers::of(&rig.state).ensure(tree(&result), None).unwrap(), Some(path));
    // Again, where it is already.
    rig.layer_again(&upper);
    let path = Layers::of(&rig.state).adopt(&upper, tree(&result)).unwrap();
    assert_eq!(stat(&path.join("lib/x")).ino, inode);
    assert!(!upper.exists());
}

impl Rig {
    fn layer_again(&self, upper: &Path) {
        fs::create_dir_all(upper.join("lib")).unwrap();
        fs::write(upper.join("lib/x"), "1").unwrap();
    }
}

#[test]
fn an_adopted_directory_takes_the_place_of_a_damaged_one() {
    let rig = Rig::new();
    let upper = rig.dir.path().join("upper-a");
    let result = rig.layer("a", &[("lib/x", "1")]);
    let path = ensured(&rig, &result);
    fs::write(path.join("lib/x"), "damaged").unwrap();
    let path = Layers::of(&rig.state).adopt(&upper, tree(&result)).unwrap();
    same(&rig, &path, &result);
}

#[test]
fn a_layer_is_unpacked_where_it_is_not_there_and_absent_where_it_cannot_be_had() {
    let rig = Rig::new();
    let result = rig.layer("a", &[("lib/x", "1"), ("bin/y", "2")]);
    assert_eq!(Layers::of(&rig.state).ensure(tree(&result), None).unwrap(), None);
    let path = ensured(&rig, &result);
    same(&rig, &path, &result);
    assert_eq!(stat(&path.join("lib")).mode, 0o755);
}

#[test]
fn a_layer_whose_bytes_are_lost_can_not_be_had() {
    let rig = Rig::new();
    let text = String::from_utf8(noise("x", 400_000).iter().map(|b| b'a' + b % 26).collect()).unwrap();
    let result = rig.layer("a", &[("lib/x", &text)]);
    fs::remove_file(rig.store.frame_path(&result.content.frames[0].digest)).unwrap();
    let had = Layers::of(&rig.state).ensure(tree(&result), Some((&rig.store, &result))).unwrap();
    assert_eq!(had, None);
    assert_eq!(listing(&rig.path(".bcache/layers")), [""; 0]);
}

#[test]
fn every_kind_of_damage_is_noticed_and_mended() {
    let rig = Rig::new();
    let upper = rig.dir.path().join("up");
    fs::create_dir_all(upper.join("lib/empty")).unwrap();
    fs::create_dir_all(upper.join("ro")).unwrap();
    fs::write(upper.join("lib/x"), "same size").unwrap();
    fs::write(upper.join("ro/y"), "1").unwrap();
    symlink("x", upper.join("lib/link")).unwrap();
    set_mode(&upper.join("ro"), 0o555).unwrap();
    let result = rig.layer_of("a", &upper);
    let path = ensured(&rig, &result);
    let damages: [(&str, &dyn Fn()); 9] = [
        ("bytes", &|| fs::write(path.join("lib/x"), "SAME SIZE").unwrap()),
        ("mode", &|| set_mode(&path.join("lib/x"), 0o600).unwrap()),
        ("removed", &|| fs::remove_file(path.join("lib/x")).unwrap()),
        ("link", &|| {
            fs::remove_file(path.join("lib/link")).unwrap();
            symlink("y", path.join("lib/link")).unwrap();
        }),
        ("dir removed", &|| fs::remove_dir(path.join("lib/empty")).unwrap()),
        ("dir mode", &|| set_mode(&path.join("lib"), 0o700).unwrap()),
        ("too many", &|| fs::write(path.join("lib/more"), "1").unwrap()),
        ("too many in read only", &|| {
            set_mode(&path.join("ro"), 0o755).unwrap();
            fs::write(path.join("ro/more"), "1").unwrap();
            set_mode(&path.join("ro"), 0o555).unwrap();
        }),
        ("a link for a directory", &|| {
            fs::rename(path.join("lib"), rig.dir.path().join("elsewhere")).unwrap();
            symlink(rig.dir.path().join("elsewhere"), path.join("lib")).unwrap();
        }),
    ];
    for (name, damage) in damages {
        damage();
        same_after(&rig, &result, name);
    }
    files::remove_tree(&path).unwrap();
    same_after(&rig, &result, "all");
    files::remove_tree(&rig.dir.path().join("up")).unwrap();
}

fn same_after(rig: &Rig, result: &ActionResult, name: &str) {
    let path = ensured(rig, result);
    let sources = Sources { upper: Some(&path), ..rig.sources(&[]) };
    assert_eq!(sources.snapshot().unwrap().made.layer.as_ref(), result.made.layer.as_ref(), "{name}");
}

#[test]
fn settled_stat_records_are_believed() {
    let rig = Rig::new();
    let result = rig.layer("a", &[("x", "1")]);
    let path = ensured(&rig, &result);
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let known = path.with_extension("stat");
    // As if all had been written long ago, but for the change time, which can't be set.
    fs::File::open(path.join("x")).unwrap().set_modified(hour_ago).unwrap();
    while !settled(&rig, &result) {}
    let seal = fs::read(&known).unwrap();
    ensured(&rig, &result);
    assert_eq!(fs::read(&known).unwrap(), seal);
}

/// Does another look at the layer change nothing in what is known?
fn settled(rig: &Rig, result: &ActionResult) -> bool {
    let known = ensured(rig, result).with_extension("stat");
    let first = fs::read(&known).unwrap();
    ensured(rig, result);
    fs::read(&known).unwrap() == first
}

#[test]
fn unused_layers_go_and_others_stay() {
    let rig = Rig::new();
    let (a, b) = (rig.layer("a", &[("x", "1")]), rig.layer("b", &[("x", "2")]));
    let (path_a, path_b) = (ensured(&rig, &a), ensured(&rig, &b));
    set_mode(&path_b, 0o555).unwrap();
    let keep = HashSet::from([tree(&a).digest()]);
    assert_eq!(Layers::of(&rig.state).remove_unused(&keep).unwrap(), 1);
    assert!(path_a.exists() && path_a.with_extension("stat").exists());
    assert!(!path_b.exists() && !path_b.with_extension("stat").exists());
}
