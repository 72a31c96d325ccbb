//! What must hold of whatever bytes lie where files, programs and packages are remembered, and in what others wrote
//! that is read here: depfiles, databases of packages.

use std::ffi::OsString;
use std::path::Path;

use crate::base::any_bytes::{Place, sealed, write};
use crate::base::digest::Digest;

use super::cargo::metadata;
use super::depfile;
use super::env::Outside;
use super::files::{self, Files};
use super::host;
use super::proof;
use super::tools::{self, Tools};

/// The body of the digests of files. What they say is not believed of a file that is another.
pub fn digests(body: &[u8]) {
    drop(sealed::<Vec<(OsString, files::Entry)>>(&files::FORMAT, body));
    let place = Place::make();
    let (memory, file) = (place.path().join("files"), place.path().join("deep/a"));
    write(&memory, &files::FORMAT.seal_bytes(body));
    write(&file, b"now");
    let known = Files::load(&memory);
    known.save(&memory).expect("what was loaded can be saved");
    let again = Files::load(&memory);
    again.save(&memory).expect("and again");
    let seen = again.observe(&file).expect("a file can be read");
    assert_eq!(seen.digest, Some(Digest::of(b"now")), "a file is believed to be another");
    place.assert_kept_to();
}

/// The body of what programs said.
pub fn versions(body: &[u8]) {
    let place = Place::make();
    let memory = place.path().join("versions");
    write(&memory, &tools::FORMAT.seal_bytes(body));
    let files = Files::default();
    let tools = Tools::load(&files, &memory);
    tools.save(&memory).expect("what was loaded can be saved");
    drop(sealed::<Vec<tools::Version>>(&tools::FORMAT, body));
    place.assert_kept_to();
}

/// The body of what cargo said of packages.
pub fn packages(body: &[u8]) {
    let Some(known) = sealed::<Vec<metadata::Entry>>(&metadata::FORMAT, body) else { return };
    for entry in known {
        let _ = entry.workspace.package_of(Path::new("/w/a/src/lib.rs"));
    }
}

/// The body of the packages of a host, as they were kept.
pub fn host(body: &[u8]) {
    let Some((_, installed)) = sealed::<(Vec<(OsString, files::Observation)>, host::Installed)>(&host::FORMAT, body)
    else {
        return;
    };
    if installed.packages.is_whole() {
        use_packages(&installed.packages);
    }
}

fn use_packages(packages: &host::packages::Packages) {
    let members = packages.closure(packages.indices());
    assert_eq!(members.iter().count(), packages.indices().count(), "a closure without its roots");
    for ix in packages.indices() {
        let package = packages.get(ix);
        // What follows a colon is asked for as the architecture; no package manager lets a name have one.
        let is_found = packages.named(&package.name).any(|found| found == ix);
        assert!(is_found || package.name.contains(':'), "a package is not found by its name");
        let closed = packages.closure([ix]);
        assert!(packages.closure(closed.iter()) == closed, "a closure is not closed");
        packages.recommended(ix).iter().for_each(|other| drop(packages.get(*other).name.clone()));
    }
    for ix in packages.owners(Path::new("/usr/bin/cc")) {
        let _ = packages.get(ix);
    }
}

/// A database of dpkg: `status`, a NUL, the list of its first package, a NUL, `diversions`.
pub fn dpkg(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let place = Place::make();
    let dir = place.path();
    write(&dir.join("status"), parts.next().unwrap_or_default());
    write(&dir.join("info/a.list"), parts.next().unwrap_or_default());
    write(&dir.join("diversions"), parts.next().unwrap_or_default());
    if let Ok(packages) = host::dpkg::read(&dir) {
        use_packages(&packages);
        let _ = host::dpkg::owners(&dir, Path::new("/usr/bin/cc"), &packages);
    }
    place.assert_kept_to();
}

/// A database of apk.
pub fn apk(bytes: &[u8]) {
    let place = Place::make();
    write(&place.path().join("installed"), bytes);
    if let Ok(packages) = host::apk::read(&place.path()) {
        use_packages(&packages);
    }
}

/// A package of pacman: `desc`, a NUL, `files`; twice, so that it has a neighbour.
pub fn pacman(bytes: &[u8]) {
    let place = Place::make();
    let (desc, files) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let dir = place.path().join("local");
    for name in ["a", "b"] {
        write(&dir.join(name).join("desc"), desc);
        write(&dir.join(name).join("files"), files);
    }
    if let Ok(packages) = host::pacman::read(&dir) {
        use_packages(&packages);
    }
}

/// The body of a proof: it is believed only where its facts hold.
pub fn proof(body: &[u8]) {
    let place = Place::make();
    let file = place.path().join("proofs/x");
    write(&file, &proof::FORMAT.seal_bytes(body));
    let outside = Outside::new(std::iter::empty());
    if let Some(answer) = proof::check(&file, &outside) {
        assert!(proof::check(&file, &outside) == Some(answer), "another answer");
    }
    place.assert_kept_to();
}

/// A depfile: what it names is named again by a rule that escapes it.
pub fn depfile(bytes: &[u8]) {
    let Ok(names) = depfile::parse(bytes) else { return };
    let escape = |name: &Path| {
        let mut text = Vec::new();
        let bytes = name.as_os_str().as_encoded_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b' ' | b'\t' | b'#' => {
                    let before = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                    text.extend(std::iter::repeat_n(b'\\', before + 1));
                }
                b'$' => text.push(b'$'),
                _ => {}
            }
            text.push(*byte);
        }
        text
    };
    let is_plain = |name: &Path| {
        let bytes = name.as_os_str().as_encoded_bytes();
        !bytes.iter().any(|byte| b"\n\r:|".contains(byte)) && !bytes.ends_with(b"\\")
    };
    let plain: std::collections::BTreeSet<_> = names.into_iter().filter(|name| is_plain(name)).collect();
    let mut rule = b"made:".to_vec();
    for name in &plain {
        rule.push(b' ');
        rule.extend(escape(name));
    }
    assert_eq!(depfile::parse(&rule).as_ref(), Ok(&plain), "names are other names when they were escaped");
}
