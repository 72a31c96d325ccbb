//! dpkg's database, as dpkg writes it: `status` (and `updates/`, its journal while it works), `info/*.list`,
//! `diversions`.
//!
//! A package that is not wholly installed counts, with its state in its version: what it put on the disk can be
//! seen. What only left its configuration does not count. Versions in dependencies are not compared: dpkg has seen
//! to them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::packages::{Contents, Described, Packages, Wanted};
use super::{Watched, read_if_there};

/// Where dpkg keeps it unless it is told otherwise.
pub const PLACE: &str = "/var/lib/dpkg";

pub fn watched(dir: &Path) -> Vec<Watched> {
    vec![
        Watched::Contents(dir.join("status")),
        Watched::Contents(dir.join("diversions")),
        Watched::Stamps(dir.join("info")),
        Watched::Stamps(dir.join("updates")),
    ]
}

pub fn read(dir: &Path) -> io::Result<Packages> {
    let mut stanzas = vec![fs::read(dir.join("status"))?];
    for file in journal(dir)? {
        stanzas.push(fs::read(file)?);
    }
    let diversions = Diversions::read(dir)?;
    let mut at: HashMap<(String, String), usize> = HashMap::new();
    let mut stated: Vec<Option<Stated>> = Vec::new();
    for text in &stanzas {
        for stanza in paragraphs(&String::from_utf8_lossy(text)) {
            let Some((key, said)) = package(stanza) else { continue };
            match at.get(&key) {
                Some(known) => stated[*known] = said,
                None => {
                    at.insert(key, stated.len());
                    stated.push(said);
                }
            }
        }
    }
    let mut stated: Vec<Stated> = stated.into_iter().flatten().collect();
    // The lists are most of it: hundreds of files.
    let half = stated.len() / 2;
    let (one, two) = stated.split_at_mut(half);
    let read_lists = |half: &mut [Stated]| {
        half.iter_mut().try_for_each(|Stated { package, same }| {
            package.files = contents(dir, package, *same, &diversions)?;
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| read_lists(two));
        let mine: io::Result<()> = read_lists(one);
        mine.and(other.join().expect("BUG: reading lists panicked"))
    })?;
    Ok(Packages::new(stated.into_iter().map(|stated| stated.package).collect()))
}

/// Packages whose lists hold `path`, and that have it there.
pub fn owners(dir: &Path, path: &Path, packages: &Packages) -> io::Result<Vec<u32>> {
    let diversions = Diversions::read(dir)?;
    let mut found = Vec::new();
    for ix in packages.indices() {
        let package = packages.get(ix);
        let Some(list) = list(dir, &package.name, &package.arch, false)? else { continue };
        let holds = |line: &[u8]| !line.is_empty() && diversions.place(&package.name, line) == path;
        if list.split(|byte| *byte == b'\n').any(holds) {
            found.push(ix);
        }
    }
    Ok(found)
}

/// dpkg's notes of what it has done since it last wrote `status`, oldest first.
fn journal(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir.join("updates")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").filter(|p| !p.trim().is_empty())
}

/// A package that is there, and whether it can be there for several architectures at once.
struct Stated {
    package: Described,
    same: bool,
}

/// Name and architecture; and what is there of it, if anything.
fn package(stanza: &str) -> Option<((String, String), Option<Stated>)> {
    let mut package = Described::default();
    let (mut state, mut same) = ("", false);
    for line in stanza.lines().filter(|line| !line.starts_with([' ', '\t'])) {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match field {
            "Package" => package.name = value.to_owned(),
            "Version" => package.version = value.to_owned(),
            "Architecture" => package.arch = value.to_owned(),
            "Status" => state = value.split(' ').nth(2).unwrap_or(""),
            "Multi-Arch" => same = value == "same",
            "Essential" => package.essential = value == "yes",
            "Depends" | "Pre-Depends" => package.depends.extend(names(value)),
            "Recommends" => package.recommends.extend(names(value)),
            "Provides" => package.provides.extend(names(value).map(|w| w.name)),
            _ => {}
        }
    }
    if package.name.is_empty() {
        return None;
    }
    let key = (package.name.clone(), package.arch.clone());
    match state {
        "not-installed" | "config-files" => return Some((key, None)),
        "installed" | "triggers-pending" | "triggers-awaited" => {}
        state => package.version.push_str(&format!(" ({state})")),
    }
    Some((key, Some(Stated { package, same })))
}

/// The names in a list such as `a (>= 1) | b:any, c`: those behind a bar count as well.
fn names(list: &str) -> impl Iterator<Item = Wanted> + '_ {
    list.split([',', '|']).filter_map(|item| {
        let word = item.trim().split([' ', '(', '[', '<']).next().filter(|word| !word.is_empty())?;
        Some(match word.split_once(':') {
            None | Some((_, "any" | "native")) => Wanted::any(word.split(':').next().unwrap_or(word)),
            Some((name, arch)) => Wanted { name: name.to_owned(), arch: Some(arch.to_owned()) },
        })
    })
}

fn list(dir: &Path, name: &str, arch: &str, same: bool) -> io::Result<Option<Vec<u8>>> {
    let info = dir.join("info");
    let (with, without) = (info.join(format!("{name}:{arch}.list")), info.join(format!("{name}.list")));
    let [first, second] = if same { [with, without] } else { [without, with] };
    Ok(match read_if_there(&first)? {
        Some(list) => Some(list),
        None => read_if_there(&second)?,
    })
}

fn contents(dir: &Path, package: &Described, same: bool, diversions: &Diversions) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let list = list(dir, &package.name, &package.arch, same)?.unwrap_or_default();
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', &list) {
        contents.add(&list[begin..end]);
        begin = end + 1;
    }
    contents.add(&list[begin..]);
    if !diversions.all.is_empty() {
        use std::os::unix::ffi::OsStrExt;
        let place = |p: &PathBuf| diversions.place(&package.name, p.as_os_str().as_bytes());
        contents.programs = contents.programs.iter().map(place).collect();
    }
    Ok(contents)
}

/// Files that lie elsewhere than their packages say, since another package has one there.
struct Diversions {
    /// From where: to where, and the package whose own file stays in the place.
    all: HashMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
}

impl Diversions {
    fn read(dir: &Path) -> io::Result<Self> {
        let text = read_if_there(&dir.join("diversions"))?.unwrap_or_default();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let triple = |three: &[&[u8]]| (three[0].to_vec(), (three[1].to_vec(), three[2].to_vec()));
        Ok(Self { all: lines.chunks_exact(3).map(triple).collect() })
    }

    /// Where the file is that a package lists as `path`.
    fn place(&self, package: &str, path: &[u8]) -> PathBuf {
        let path = match self.all.get(path) {
            Some((to, by)) if by != package.as_bytes() => to,
            _ => path,
        };
        OsString::from_vec(path.to_vec()).into()
    }
}
