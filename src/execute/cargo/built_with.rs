//! What a target directory was built with, beside its sources: the compiler, its wrappers, linkers, cargo's configuration, the
//! installed packages, and the variables of the task.
//!
//! Cargo knows the compiler by what it says of itself (`rustc -vV`) and nothing of a wrapper's bytes, a library of the
//! system that a build script found, or a variable that one reads without saying so. So where one of these changed, what was built
//! with it is removed, dependencies too. Flags and profiles cargo knows well: they are not in here.
//!
//! In a target directory of the user's own, what lies there at first is taken as built with what is there now.

use std::fs;
use std::io;
use std::path::Path;

use crate::action::Component;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::graph::Cargo;
use crate::store::remove_tree;

use super::trust;

const FORMAT: Format = Format { magic: b"bcbuilt\n", version: 1 };

/// Removes what was built with something else, and remembers what is built with now. Gives what changed: `None` where nothing was
/// removed.
pub fn ensure(cargo: &Cargo, now: &[Component], is_ours: bool) -> io::Result<Option<Vec<String>>> {
    let file = cargo.target_dir.join(format!(".bcache-built-with-{}", trust::part_of(cargo)));
    let before: Option<Vec<Component>> = fs::read(&file).ok().and_then(|bytes| FORMAT.open(&bytes).ok());
    if before.as_ref().is_some_and(|before| before.as_slice() == now) {
        return Ok(None);
    }
    let is_doubtful = before.is_some() || is_ours;
    let mut is_removed = false;
    if is_doubtful {
        // Else a kill in the middle would leave half of it, and the file that calls it good.
        remove_tree(&file)?;
        is_removed = remove_profile(cargo)?;
    }
    fs::create_dir_all(&cargo.target_dir)?;
    publish(&file, &FORMAT.seal(&now))?;
    Ok(is_removed.then(|| changes(&before.unwrap_or_default(), now)))
}

/// Removes what the profile has made for any platform; says if there was anything.
fn remove_profile(cargo: &Cargo) -> io::Result<bool> {
    let profile = trust::profile_of(cargo);
    let entries = match fs::read_dir(&cargo.target_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    let mut places = vec![cargo.target_dir.join(profile)];
    for entry in entries {
        places.push(entry?.path().join(profile));
    }
    let there: Vec<&Path> = places.iter().map(|place| place.as_path()).filter(|place| place.is_dir()).collect();
    there.iter().try_for_each(|place| remove_tree(place))?;
    Ok(!there.is_empty())
}

fn changes(before: &[Component], now: &[Component]) -> Vec<String> {
    let differs = |part: &&Component, others: &[Component]| !others.contains(part);
    let gone = before.iter().filter(|part| differs(part, now));
    let mut names: Vec<String> =
        now.iter().filter(|part| differs(part, before)).chain(gone).map(|part| part.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}
