use super::*;

fn hidden(files: &[&str], programs: &[&str], path: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap().join("local");
    for file in files {
        let at = top.join(file);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, "").unwrap();
    }
    let programs: Vec<PathBuf> = programs.iter().map(|p| top.join(p)).collect();
    let path: Vec<PathBuf> = path.iter().map(|p| top.join(p)).collect();
    let places = programs.iter().filter_map(|p| p.parent()).chain(path.iter().map(PathBuf::as_path));
    let wanted = Wanted {
        installations: places.filter_map(|place| installation(&top, place)).collect(),
        programs: programs.iter().map(PathBuf::as_path).collect(),
        whole: path.iter().map(PathBuf::as_path).collect(),
    };
    let mut found = Vec::new();
    let inside = wanted.installations.contains(&top).then_some(Inside { depth: 0, is_library: false });
    wanted.walk(&top, inside, &mut found).unwrap();
    let mut found: Vec<String> =
        found.iter().map(|p| p.strip_prefix(&top).unwrap().to_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

const FILES: &[&str] = &[
    "bin/node",
    "bin/npm",
    "include/node/node.h",
    "lib/libx.so",
    "lib/pkgconfig/x.pc",
    "lib/x86_64-linux-gnu/pkgconfig/y.pc",
    "lib/cmake/x/x.cmake",
    "lib/node/npm/include/kept.h",
    "share/aclocal/x.m4",
    "share/node/x",
    "go/bin/go",
    "go/bin/gofmt",
    "go/include/go.h",
    "go/src/include/go.go",
];

#[test]
fn of_the_common_installation_all_is_seen_but_what_configure_looks_for_and_undeclared_programs() {
    let expected =
        ["bin/npm", "go", "include", "lib/cmake", "lib/pkgconfig", "lib/x86_64-linux-gnu/pkgconfig", "share/aclocal"];
    assert_eq!(hidden(FILES, &["bin/node"], &[]), expected);
}

#[test]
fn an_installation_of_its_own_is_seen_alone() {
    let expected = ["bin", "go/bin/gofmt", "go/include", "include", "lib", "share"];
    assert_eq!(hidden(FILES, &["go/bin/go"], &[]), expected);
}

#[test]
fn all_programs_in_a_directory_of_path_are_seen() {
    let expected = ["bin", "go/include", "include", "lib", "share"];
    assert_eq!(hidden(FILES, &[], &["go/bin"]), expected);
}

#[test]
fn programs_that_a_log_complains_about_are_found() {
    let is_hidden =
        |word: &OsStr| ["bison", "flex", "python3", "g++-12", "no", "file", "cp"].iter().any(|known| word == *known);
    let missed = |log: &str| super::missed(log.as_bytes(), is_hidden);
    assert_eq!(missed("sh: 1: bison: not found\n"), ["bison"]);
    assert_eq!(missed("make: flex: No such file or directory"), ["flex"]);
    assert_eq!(missed("env: 'python3': No such file or directory\n"), ["python3"]);
    assert_eq!(missed("Program bison found: NO\n\nmeson.build:1: ERROR: Program 'bison' not found\n"), ["bison"]);
    assert_eq!(missed("configure: error: flex is required\nbison is installed\n"), ["flex"]);
    assert_eq!(missed("/usr/bin/g++-12: command not found."), ["g++-12"]);
    assert_eq!(missed("error: could not find `bison` anywhere\n"), ["bison"]);
    assert_eq!(missed("cp: cannot stat 'x/none': No such file or directory"), Vec::<String>::new());
    assert_eq!(missed("bison went wrong\nflexible not found\n"), Vec::<String>::new());
}

#[test]
fn a_cover_is_made_whole_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let covers = dir.path().join("covers");
    let hidden = [PathBuf::from("a"), "lib/b".into()];
    let first = over(&covers, Path::new("/x"), &hidden).unwrap();
    assert_eq!(over(&covers, Path::new("/x"), &hidden).unwrap(), first);
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for path in hidden {
        let meta = fs::symlink_metadata(first.layers[1].join(path)).unwrap();
        assert!(meta.file_type().is_char_device() && meta.rdev() == 0);
    }
    assert_eq!(fs::read_dir(&covers).unwrap().count(), 1);
}
