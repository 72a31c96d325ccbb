//! What must hold of whatever an archive holds, cargo says, and runs have left for the next one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::action::Made;
use crate::base::any_bytes::{Place, sealed, write};
use crate::base::digest::Digest;
use crate::base::ids::StepId;
use crate::base::span::{FileId, Span};
use crate::event::{Event, Listener, Stream};
use crate::fingerprint::host::Item;
use crate::graph::Cargo;

use super::cargo::{messages::Messages, trust, units};
use super::{archive, explain, inside};

/// An archive, packed or not: unpacked or refused, and nothing beside it either way.
pub fn unpacking(bytes: &[u8]) {
    let place = Place::make();
    let (packed, dest) = (place.path().join("archive"), place.path().join("deep/source"));
    write(&packed, bytes);
    match archive::unpack(&packed, &dest) {
        Ok(()) => assert!(dest.is_dir() && !dest.is_symlink(), "what was unpacked is no directory"),
        Err(_) => assert!(!dest.exists(), "what was refused is there"),
    }
    let left = std::fs::read_dir(place.path().join("deep")).expect("BUG: it is there").count();
    assert_eq!(left, usize::from(dest.exists()), "something is left beside it");
    place.assert_kept_to();
}

#[derive(Default)]
struct Ear(Mutex<Vec<(u32, u32)>>);

impl Listener for Ear {
    fn on(&self, event: Event) {
        if let Event::Progress { done, total, .. } = event {
            self.0.lock().expect("BUG: nobody panics with it").push((done, total));
        }
    }
}

/// What cargo prints, line by line: the first byte of each line is its stream.
pub fn messages(bytes: &[u8]) {
    let cargo = Cargo {
        span: Span { file: FileId(0), start: 0, end: 0 },
        workspace: PathBuf::from("/w"),
        package: "a".into(),
        bins: Vec::new(),
        lib: bytes.first().is_some_and(|byte| byte % 2 == 0),
        profile: None,
        features: Vec::new(),
        no_default_features: false,
        target: None,
        is_zig: false,
        target_dir: PathBuf::from("/w/target"),
        has_own_target_dir: true,
        out: PathBuf::from("/w/out"),
        args: Vec::new(),
    };
    let (step, ear) = (StepId::new("a", "host"), Ear::default());
    let messages = Messages::new(&step, &cargo, "path+file:///w/a#0.1.0", Vec::new(), 2, &ear);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let stream = if line.starts_with(b"!") { Stream::Stderr } else { Stream::Stdout };
        if let Some((to, said)) = messages.hear(stream, line) {
            assert!(to == Stream::Stderr || said == line, "another line is kept");
        }
    }
    let built = messages.built();
    assert!(
        built
            .iter()
            .all(|built| built.depfile.extension().is_some_and(|ending| ending == "d")
                || built.path.file_name().is_none())
    );
    let told = ear.0.into_inner().expect("BUG: nobody panics with it");
    assert!(told.iter().all(|(done, total)| done <= total), "more is done than there is");
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "less is done than before");
}

/// The bodies of what a worktree keeps for `why`, and of what was built in a target directory.
pub fn made(body: &[u8]) {
    if let Some(made) = sealed::<Made>(&explain::FORMAT, body) {
        let _ = (made.digest(), made.outputs.changes(&made.outputs));
    }
}

pub fn hosts(body: &[u8]) {
    drop(sealed::<Vec<Item>>(&explain::HOST, body));
}

pub fn trusted(body: &[u8]) {
    drop(sealed::<trust::Memory>(&trust::FORMAT, body));
}

pub fn units(body: &[u8]) {
    drop(sealed::<BTreeMap<String, Digest>>(&units::FORMAT, body));
}

/// What our own helper is told, and what it tells.
pub fn spec(body: &[u8]) {
    drop(sealed::<inside::Spec>(&inside::SPEC, body));
    drop(sealed::<inside::Report>(&inside::REPORT, body));
}
