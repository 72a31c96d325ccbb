//! The database of Arch's pacman: a directory for each package, with `desc` and `files` in it.

use std::fs;
use std::io;
use std::path::Path;

use super::packages::{Described, Packages, Wanted};
use super::{Watched, read_if_there};

pub const PLACE: &str = "/var/lib/pacman/local";

/// The package that stands for what an Arch system is not without.
const ESSENTIAL: &str = "base";

/// pacman makes and removes a directory here at each change, and installs no version over itself without that.
pub fn watched(dir: &Path) -> Vec<Watched> {
    vec![Watched::Stamps(dir.to_owned())]
}

pub fn read(dir: &Path) -> io::Result<Packages> {
    let mut described = Vec::new();
    for entry in fs::read_dir(dir)? {
        let place = entry?.path();
        let Some(desc) = read_if_there(&place.join("desc"))? else { continue };
        let files = read_if_there(&place.join("files"))?.unwrap_or_default();
        described.push(package(&String::from_utf8_lossy(&desc), &files));
    }
    Ok(Packages::new(described))
}

fn package(desc: &str, files: &[u8]) -> Described {
    let mut package = Described::default();
    let mut field = "";
    for line in desc.lines() {
        match (field, line) {
            (_, "") => field = "",
            ("", heading) => field = heading,
            ("%NAME%", value) => package.name = value.to_owned(),
            ("%VERSION%", value) => package.version = value.to_owned(),
            ("%ARCH%", value) => package.arch = value.to_owned(),
            ("%DEPENDS%", value) => package.depends.push(Wanted::any(name(value))),
            ("%OPTDEPENDS%", value) => package.recommends.push(Wanted::any(name(value))),
            ("%PROVIDES%", value) => package.provides.push(name(value).to_owned()),
            _ => {}
        }
    }
    package.essential = package.name == ESSENTIAL;
    let is_file = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"%") && !line.ends_with(b"/");
    for line in files.split(|byte| *byte == b'\n').filter(is_file) {
        package.files.add(&[b"/", line].concat());
    }
    package
}

/// `glibc` of `glibc>=2.38` or `glibc: why`.
fn name(value: &str) -> &str {
    value.split(['<', '>', '=', ':']).next().unwrap_or(value).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_pacman_are_read_from_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, desc: &str, files: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("desc"), desc).unwrap();
            fs::write(dir.path().join(name).join("files"), files).unwrap();
        };
        fs::write(dir.path().join("ALPM_DB_VERSION"), "9\n").unwrap();
        let (glibc, gcc) =
            ("%NAME%\nglibc\n\n%VERSION%\n2.39-1\n\n%ARCH%\nx86_64\n", "%NAME%\ngcc\n\n%VERSION%\n14\n\n");
        put("glibc-2.39-1", glibc, "%FILES%\nusr/\nusr/include/\nusr/include/stdio.h\n");
        put("gcc-14", &format!("{gcc}%DEPENDS%\nglibc>=2.39\n"), "%FILES%\nusr/bin/gcc\n");
        let packages = read(dir.path()).unwrap();
        let gcc = packages.owners(Path::new("/usr/bin/gcc")).next().unwrap();
        assert_eq!(packages.closure([gcc]).iter().collect::<Vec<_>>(), [0, 1]);
        assert!(packages.get(1).libc_headers && packages.get(1).found_by_configure);
        assert_eq!(packages.get(1).version, "2.39-1");
    }
}
