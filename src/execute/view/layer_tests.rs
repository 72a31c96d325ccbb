use super::*;
use crate::base::tree::Entry;

struct Case {
    dir: tempfile::TempDir,
    lower: Tree,
}

fn owner() -> StepId {
    StepId::new("glib", "host")
}

impl Case {
    fn new() -> Self {
        let file = |path: &str, mode: u32, text: &str| Entry {
            path: path.into(),
            node: Node::File { mode, size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
        };
        let lower = Tree::new(vec![
            file("lib/a.so", 0o755, "old"),
            file("ro/secret", 0o444, "old"),
            Entry { path: "ro".into(), node: Node::Dir { mode: 0o555 } },
            Entry { path: "lib/link".into(), node: Node::Symlink { target: "a.so".into() } },
        ]);
        Self { dir: tempfile::tempdir().unwrap(), lower }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(self, path: &str, mode: u32, text: &str) -> Self {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
        set_mode(&self.at(path), mode).unwrap();
        self
    }

    fn dir(self, path: &str, mode: u32) -> Self {
        fs::create_dir_all(self.at(path)).unwrap();
        set_mode(&self.at(path), mode).unwrap();
        self
    }

    fn collect(&self) -> Result<Vec<Shared>, String> {
        let (by, owner) = (StepId::new("qemu", "host"), owner());
        let lower = [Lower { owner: &owner, tree: &self.lower }];
        collect(&by, self.dir.path(), &lower, &["share/dir".into()], &[]).map_err(|e| e.to_string())
    }

    fn left(&self) -> Vec<String> {
        fn walk(dir: &Path, below: &Path, found: &mut Vec<String>) {
            for name in names(dir).unwrap() {
                found.push(below.join(&name).to_str().unwrap().to_owned());
                if fs::symlink_metadata(dir.join(&name)).unwrap().is_dir() {
                    walk(&dir.join(&name), &below.join(&name), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), Path::new(""), &mut found);
        found
    }
}

#[test]
fn new_files_and_empty_directories_are_the_layer() {
    let case = Case::new().file("lib/b.so", 0o755, "new").dir("var/empty", 0o755);
    case.collect().unwrap();
    assert_eq!(case.left(), ["lib", "lib/b.so", "var", "var/empty"]);
}

#[test]
fn files_copied_up_unchanged_are_no_part_and_neither_are_directories_left_empty() {
    let case = Case::new().file("lib/a.so", 0o755, "old").file("ro/secret", 0o444, "old").dir("ro", 0o555);
    std::os::unix::fs::symlink("a.so", case.at("lib/link")).unwrap();
    case.collect().unwrap();
    assert_eq!(case.left(), [""; 0]);
}

#[test]
fn a_changed_file_names_both_owners() {
    let changed = "`qemu@host` changed `lib/a.so`, which belongs to `glib@host`";
    assert_eq!(Case::new().file("lib/a.so", 0o755, "new").collect().unwrap_err(), changed);
    assert_eq!(Case::new().file("lib/a.so", 0o644, "old").collect().unwrap_err(), changed);
    let case = Case::new().dir("lib", 0o755);
    std::os::unix::fs::symlink("b.so", case.at("lib/link")).unwrap();
    assert_eq!(case.collect().unwrap_err(), "`qemu@host` changed `lib/link`, which belongs to `glib@host`");
}

#[test]
fn the_kind_of_a_path_belongs_to_its_owner() {
    let error = Case::new().file("lib", 0o644, "x").collect().unwrap_err();
    assert_eq!(error, "`qemu@host` made `lib` a file, where `glib@host` has a directory");
    let error = Case::new().file("lib/a.so/x", 0o644, "x").collect().unwrap_err();
    assert_eq!(error, "`qemu@host` made `lib/a.so` a directory, where `glib@host` has a file");
    let error = Case::new().file("lib/link/x", 0o644, "x").collect().unwrap_err();
    assert_eq!(error, "`qemu@host` made `lib/link` a directory, where `glib@host` has a file");
}

#[test]
fn another_mode_of_a_directory_is_a_fault() {
    let error = Case::new().file("lib/new", 0o644, "x").dir("lib", 0o700).collect().unwrap_err();
    assert_eq!(error, "`qemu@host` gave the directory `lib` the mode 0700, where `glib@host` has 0755");
}

#[test]
fn a_pipe_cannot_be_kept() {
    let case = Case::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, case.at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let error = case.collect().unwrap_err();
    assert_eq!(error, "`qemu@host` made `pipe`, which is a pipe: only files, links and directories can be kept");
}

#[test]
fn shared_files_are_taken_out_and_returned() {
    let case = Case::new().file("share/dir", 0o644, "menu").file("share/doc", 0o644, "x");
    let shared = case.collect().unwrap();
    assert_eq!(shared, [Shared { path: "share/dir".into(), mode: 0o644, bytes: b"menu".to_vec() }]);
    assert_eq!(case.left(), ["share", "share/doc"]);
}

#[test]
fn removals_that_the_top_could_not_say_are_faults_if_there_was_something() {
    let case = Case::new();
    let (by, owner) = (StepId::new("qemu", "host"), owner());
    let lower = [Lower { owner: &owner, tree: &case.lower }];
    let with = |removed: &str| collect(&by, case.dir.path(), &lower, &[], &[removed.into()]);
    assert_eq!(with("lib").unwrap_err().to_string(), "`qemu@host` removed `lib`, which belongs to `glib@host`");
    with("nothing").unwrap();
}
