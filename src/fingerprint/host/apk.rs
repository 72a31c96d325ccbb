//! The database of Alpine's apk: one text file, a line for each fact, an empty line after each package.

use std::io;
use std::path::Path;

use super::packages::{Described, Packages, Wanted};
use super::{Watched, read_if_there};

pub const PLACE: &str = "/lib/apk/db";

/// What an Alpine system is not without.
const ESSENTIAL: &[&str] = &["alpine-base", "alpine-baselayout", "busybox", "busybox-binsh", "musl", "coreutils"];

pub fn watched(dir: &Path) -> Vec<Watched> {
    vec![Watched::Contents(dir.join("installed"))]
}

pub fn read(dir: &Path) -> io::Result<Packages> {
    let text = read_if_there(&dir.join("installed"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(Packages::new(text.split("\n\n").filter_map(package).collect()))
}

fn package(stanza: &str) -> Option<Described> {
    let mut package = Described::default();
    let mut folder = String::new();
    for (field, value) in stanza.lines().filter_map(|line| line.split_once(':')) {
        match field {
            "P" => package.name = value.to_owned(),
            "V" => package.version = value.to_owned(),
            "A" => package.arch = value.to_owned(),
            "D" => package.depends.extend(value.split(' ').filter_map(name).map(Wanted::any)),
            "p" => package.provides.extend(value.split(' ').filter_map(name)),
            "F" => folder = value.to_owned(),
            "R" => package.files.add(format!("/{folder}/{value}").as_bytes()),
            _ => {}
        }
    }
    package.essential = ESSENTIAL.contains(&package.name.as_str());
    (!package.name.is_empty()).then_some(package)
}

/// `zlib` of `zlib>1.2@edge`; what must not be there (`!x`) is no dependency.
fn name(word: &str) -> Option<String> {
    let name = word.split(['<', '>', '=', '~', '@']).next().unwrap_or("");
    (!name.is_empty() && !name.starts_with('!')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_apk_have_their_dependencies_by_any_name_and_their_programs() {
        let dir = tempfile::tempdir().unwrap();
        let text = "P:busybox\nV:1.36-r5\nA:x86_64\np:/bin/sh cmd:sh=1.36-r5\nF:bin\nR:busybox\na:0:0:755\n\n\
                    P:musl-dev\nV:1.2\nA:x86_64\nF:usr/include\nR:stdio.h\n\n\
                    P:gcc\nV:13\nA:x86_64\nD:/bin/sh musl-dev>=1.2 !clang\nF:usr/bin\nR:gcc\n\n";
        std::fs::write(dir.path().join("installed"), text).unwrap();
        let packages = read(dir.path()).unwrap();
        let gcc = packages.owners(Path::new("/usr/bin/gcc")).next().unwrap();
        let members = packages.closure([gcc]);
        let names: Vec<_> = members.iter().map(|ix| packages.get(ix).name.as_str()).collect();
        assert_eq!(names, ["busybox", "gcc", "musl-dev"]);
        assert!(packages.get(2).libc_headers && packages.get(0).essential);
    }
}
