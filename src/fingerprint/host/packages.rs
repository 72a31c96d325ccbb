//! Installed packages, whoever manages them: who depends on whom, who owns which program, who has headers.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An installed package as its manager tells of it.
#[derive(Clone, Debug, Default)]
pub struct Described {
    pub name: String,
    /// With its state, where it is not wholly installed.
    pub version: String,
    pub arch: String,
    /// Expected to be there by everything.
    pub essential: bool,
    /// What must be there for it. Of names that stand for each other each one counts that is installed.
    pub depends: Vec<Wanted>,
    pub recommends: Vec<Wanted>,
    /// Names that it answers to besides its own.
    pub provides: Vec<String>,
    pub files: Contents,
}

/// A name that a dependency wants, and the architecture where it says one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub name: String,
    pub arch: Option<String>,
}

impl Wanted {
    pub fn any(name: impl Into<String>) -> Self {
        Self { name: name.into(), arch: None }
    }
}

/// What of a package's files is of interest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Absolute paths of programs.
    pub programs: Vec<PathBuf>,
    /// Headers, pkg-config or CMake files: what configure scripts look for.
    pub found_by_configure: bool,
    /// The headers of the C library: who has them can compile.
    pub libc_headers: bool,
}

impl Contents {
    /// Takes note of a file (or directory) of the package, by its absolute path.
    pub fn add(&mut self, path: &[u8]) {
        if is_program(path) {
            self.programs.push(OsString::from_vec(path.to_vec()).into());
        }
        self.found_by_configure = self.found_by_configure || is_found_by_configure(path);
        self.libc_headers |= path.ends_with(b"/include/stdio.h");
    }
}

/// A file directly in a directory of programs.
pub fn is_program(path: &[u8]) -> bool {
    let Some(slash) = memchr::memrchr(b'/', path) else { return false };
    [&b"bin"[..], b"sbin", b"games"].iter().any(|dir| {
        path[..slash].strip_suffix(*dir).is_some_and(|above| above.ends_with(b"/")) && path.len() > slash + 1
    })
}

/// `/usr/include/…`, `/usr/<triplet>/include/…`, `/usr/lib/<name>/include/…`, `…/pkgconfig/x.pc`,
/// `…/cmake/…/x.cmake`.
fn is_found_by_configure(path: &[u8]) -> bool {
    if path.ends_with(b".pc") {
        return memchr::memmem::find(path, b"/pkgconfig/").is_some();
    }
    if path.ends_with(b".cmake") {
        return memchr::memmem::find(path, b"/cmake/").or_else(|| memchr::memmem::find(path, b"/CMake/")).is_some();
    }
    let Some(below) = path.strip_prefix(b"/usr/") else { return false };
    let Some(at) = memchr::memmem::find(below, b"include/") else { return false };
    let is_whole = at == 0 || below[at - 1] == b'/';
    let above = memchr::memchr_iter(b'/', &below[..at]).count();
    is_whole && (above <= 1 || above == 2 && below.starts_with(b"lib/")) && below.len() > at + b"include/".len()
}

/// Index into [`Packages::list`].
pub type PackageIx = u32;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub arch: String,
    pub essential: bool,
    pub found_by_configure: bool,
    pub libc_headers: bool,
    depends: Vec<PackageIx>,
    recommends: Vec<PackageIx>,
}

/// All installed packages, in the order of their names and architectures.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Packages {
    list: Vec<Package>,
    /// In the order of their paths; a path can be of several packages.
    programs: Vec<(OsString, PackageIx)>,
}

/// A set of packages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members(Vec<bool>);

impl Members {
    pub fn contains(&self, ix: PackageIx) -> bool {
        self.0[ix as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = PackageIx> {
        (0..).zip(&self.0).filter(|(_, is_in)| **is_in).map(|(ix, _)| ix)
    }

    pub fn add(&mut self, ix: PackageIx) {
        self.0[ix as usize] = true;
    }
}

impl Packages {
    pub fn new(mut described: Vec<Described>) -> Self {
        described.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        let mut by_name: HashMap<&str, Vec<PackageIx>> = HashMap::new();
        for (ix, package) in (0..).zip(&described) {
            for name in std::iter::once(&package.name).chain(&package.provides) {
                let known = by_name.entry(name).or_default();
                if known.last() != Some(&ix) {
                    known.push(ix);
                }
            }
        }
        let resolve = |of: &Described, wanted: &[Wanted]| {
            let mut found: Vec<PackageIx> = wanted.iter().flat_map(|w| answers(&described, &by_name, of, w)).collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        let package = |d: &Described| Package {
            name: d.name.clone(),
            version: d.version.clone(),
            arch: d.arch.clone(),
            essential: d.essential,
            found_by_configure: d.files.found_by_configure,
            libc_headers: d.files.libc_headers,
            depends: resolve(d, &d.depends),
            recommends: resolve(d, &d.recommends),
        };
        let list = described.iter().map(package).collect();
        let owned = |(ix, d): (PackageIx, &Described)| {
            d.files.programs.iter().map(move |p| (p.clone().into(), ix)).collect::<Vec<_>>()
        };
        let mut programs: Vec<(OsString, PackageIx)> = (0..).zip(&described).flat_map(owned).collect();
        programs.sort();
        programs.dedup();
        Self { list, programs }
    }

    /// Of what was read from a file: is every index that of a package, and all in the order in which it is looked for?
    pub fn is_whole(&self) -> bool {
        let is_package = |ix: &PackageIx| (*ix as usize) < self.list.len();
        self.list.is_sorted_by(|a, b| (&a.name, &a.arch) <= (&b.name, &b.arch))
            && self.programs.is_sorted()
            && self.programs.iter().all(|(_, ix)| is_package(ix))
            && self.list.iter().all(|package| package.depends.iter().chain(&package.recommends).all(is_package))
    }

    pub fn get(&self, ix: PackageIx) -> &Package {
        &self.list[ix as usize]
    }

    pub fn indices(&self) -> impl Iterator<Item = PackageIx> + use<> {
        0..self.list.len() as PackageIx
    }

    /// Packages of this name (`name` or `name:arch`), of every architecture.
    pub fn named<'p>(&'p self, name: &'p str) -> impl Iterator<Item = PackageIx> + 'p {
        let (name, arch) = name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
        let first = self.list.partition_point(|p| p.name.as_str() < name);
        let same = move |ix: &PackageIx| self.list[*ix as usize].name == name;
        (first as PackageIx..self.list.len() as PackageIx)
            .take_while(same)
            .filter(move |ix| arch.is_none_or(|arch| self.get(*ix).arch == arch))
    }

    /// Packages that own the program at `path`, as the package lists say it.
    pub fn owners(&self, path: &Path) -> impl Iterator<Item = PackageIx> + '_ {
        let first = self.programs.partition_point(|(known, _)| known.as_bytes() < path.as_os_str().as_bytes());
        let path = path.as_os_str().to_owned();
        self.programs[first..].iter().take_while(move |(known, _)| *known == path).map(|(_, ix)| *ix)
    }

    /// What a package recommends and is installed.
    pub fn recommended(&self, ix: PackageIx) -> &[PackageIx] {
        &self.get(ix).recommends
    }

    /// The packages, and all that they depend on.
    pub fn closure(&self, roots: impl IntoIterator<Item = PackageIx>) -> Members {
        let mut members = Members(vec![false; self.list.len()]);
        let mut open: Vec<PackageIx> = roots.into_iter().collect();
        while let Some(ix) = open.pop() {
            if !members.contains(ix) {
                members.add(ix);
                open.extend(&self.get(ix).depends);
            }
        }
        members
    }
}

/// Installed packages that a dependency of `of` can mean: those of its own architecture, or of none, if there are such.
fn answers(
    all: &[Described],
    by_name: &HashMap<&str, Vec<PackageIx>>,
    of: &Described,
    wanted: &Wanted,
) -> Vec<PackageIx> {
    let Some(candidates) = by_name.get(wanted.name.as_str()) else { return Vec::new() };
    let arch = |ix: &PackageIx| all[*ix as usize].arch.as_str();
    if let Some(named) = &wanted.arch {
        return candidates.iter().copied().filter(|ix| arch(ix) == named).collect();
    }
    let fitting = |ix: &PackageIx| matches!(arch(ix), "all" | "any" | "noarch") || arch(ix) == of.arch;
    let near: Vec<PackageIx> = candidates.iter().copied().filter(fitting).collect();
    if near.is_empty() { candidates.clone() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_depend_on_nothing_that_is_there_are_not_believed() {
        let described = |name: &str| Described {
            name: name.into(),
            depends: vec![Wanted::any("b")],
            recommends: vec![Wanted::any("a")],
            files: Contents { programs: vec!["/bin/x".into()], ..Contents::default() },
            ..Described::default()
        };
        let good = Packages::new(vec![described("a"), described("b")]);
        assert!(good.is_whole());
        let spoilt: [fn(&mut Packages); 6] = [
            |packages| packages.list[0].depends.push(2),
            |packages| packages.list[1].recommends.push(u32::MAX),
            |packages| packages.programs[0].1 = 2,
            |packages| packages.list.swap(0, 1),
            |packages| packages.programs.swap(0, 1),
            |packages| packages.list.clear(),
        ];
        for (at, spoil) in spoilt.into_iter().enumerate() {
            let mut packages = good.clone();
            spoil(&mut packages);
            assert!(!packages.is_whole(), "{at}");
        }
    }

    #[test]
    fn programs_are_files_directly_in_directories_of_programs() {
        for path in ["/bin/sh", "/usr/bin/cc", "/usr/sbin/x", "/usr/games/cowsay", "/usr/lib/llvm-14/bin/clang"] {
            assert!(is_program(path.as_bytes()), "{path}");
        }
        for path in ["/usr/bin", "/usr/bin/", "/usr/lib/git-core/git", "/usr/xbin/a", "bin/a", "/usr/bin/d/file", ""] {
            assert!(!is_program(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn configure_scripts_find_headers_pkg_config_and_cmake_files() {
        for path in [
            "/usr/include/zlib.h",
            "/usr/include/x86_64-linux-gnu/zconf.h",
            "/usr/aarch64-linux-gnu/include/stdio.h",
            "/usr/lib/llvm-14/include/llvm.h",
            "/usr/lib/x86_64-linux-gnu/pkgconfig/mount.pc",
            "/usr/share/pkgconfig/x.pc",
            "/usr/lib/cmake/z/z-config.cmake",
        ] {
            assert!(is_found_by_configure(path.as_bytes()), "{path}");
        }
        for path in [
            "/usr/include",
            "/usr/include/",
            "/usr/share/x/include/a",
            "/usr/lib/gcc/x86_64-linux-gnu/12/include/float.h",
            "/usr/share/noinclude/x",
            "/usr/share/a.pc",
            "/usr/share/x.cmake",
            "/usr/lib/cmake",
        ] {
            assert!(!is_found_by_configure(path.as_bytes()), "{path}");
        }
    }
}
