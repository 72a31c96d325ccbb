//! Layers that were built at a placeholder, brought to where they are looked at.
//!
//! In text the real path stands in place of the placeholder. In programs nothing may move: linkers share the ends of
//! strings, and others store lengths. So there the real path is filled up with slashes to the length of the placeholder, and
//! each piece of that becomes the same piece of this. Targets of links are text.
//!
//! A layer is known to all others by its tree with placeholders in it. How it lies in a prefix, its *moved* tree, depends on
//! where that is; it is worked out once, and kept beside the unpacked layer:
//!
//! ```text
//! .bcache/layers/<digest of the tree>.moved
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::action::{FilePlaces, Made, Place, Places};
use crate::base::digest::{Digest, Hasher};
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::tree::{Entry, Node, Tree};

use super::error::{StoreError, failed};
use super::files::read_if_there;
use super::layers::{Layers, from_layer};
use super::place::{Pack, Piece, Reading};
use super::places::{Finder, Scan};
use super::prefix::LayerSource;
use super::restore::{Part, pieces};
use super::state::State;
use super::threads::spread;

pub(super) const MOVED: Format = Format { magic: b"bc-moved", version: 1 };

/// What stands for which path in this worktree.
#[derive(Clone, Debug, Default)]
pub struct Relocation {
    placeholders: Vec<String>,
    /// Aligned with the placeholders, none of them longer.
    real: Vec<PathBuf>,
}

/// A layer as it lies in its prefix.
#[derive(Debug)]
pub struct Moved<'a> {
    tree: Cow<'a, Tree>,
    mends: Mends,
}

/// The files of a layer that are written with other bytes than it has, by their place in the tree.
#[derive(Debug, Default)]
pub struct Mends(HashMap<usize, Mend>);

/// What becomes of one file.
#[derive(Debug)]
pub(super) struct Mend {
    /// Of the bytes as they are in the layer.
    pub digest: Digest,
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    offset: u64,
    /// So many bytes go.
    len: u64,
    new: Vec<u8>,
}

/// The moved tree as it is kept: only what differs.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// Of the paths.
    relocation: Digest,
    nodes: Vec<(u32, Node)>,
}

impl Kept {
    /// Is each node of a file or link of this tree, and the same kind of thing? What stands for a file has bytes.
    fn is_of(&self, tree: &Tree) -> bool {
        self.nodes.iter().all(|(at, node)| match (tree.entries().get(*at as usize).map(|entry| &entry.node), node) {
            (Some(Node::File { mode, .. }), Node::File { mode: moved, .. }) => mode == moved,
            (Some(Node::Symlink { .. }), Node::Symlink { .. }) => true,
            _ => false,
        })
    }
}

impl Relocation {
    /// Each placeholder with the path that it stands for, which is no longer.
    pub fn new(pairs: impl Iterator<Item = (String, PathBuf)>) -> Self {
        let (placeholders, real): (Vec<String>, Vec<PathBuf>) = pairs.unzip();
        let fits = |(placeholder, real): (&String, &PathBuf)| real.as_os_str().len() <= placeholder.len();
        assert!(placeholders.iter().zip(&real).all(fits), "BUG: the graph checks that a prefix fits");
        Self { placeholders, real }
    }

    /// What to search for in what steps make.
    pub fn placeholders(&self) -> &[String] {
        &self.placeholders
    }

    /// How the layer of `made` lies in its prefix. `source` is where its bytes are, should they be needed.
    pub fn moved<'a>(&self, state: &State, made: &'a Made, source: LayerSource) -> Result<Moved<'a>, StoreError> {
        let tree = made.layer.as_ref().expect("BUG: only a layer is put into a prefix");
        if made.places.is_empty() {
            return Ok(Moved { tree: Cow::Borrowed(tree), mends: Mends::default() });
        }
        let mends = self.mends(tree, &made.places);
        if let Some(tree) = self.known(state, tree)? {
            return Ok(Moved { tree: Cow::Owned(tree), mends });
        }
        let nodes = self.nodes(tree, &mends, source)?;
        let kept = Kept { relocation: self.digest(), nodes };
        let path = kept_path(state, tree);
        publish(&path, &MOVED.seal(&kept)).map_err(failed("write", &path))?;
        Ok(Moved { tree: Cow::Owned(with_nodes(tree, kept.nodes)), mends })
    }

    /// The tree of the layer as it lies in its prefix. `None`: it was never put there.
    pub fn seen<'a>(&self, state: &State, made: &'a Made) -> Result<Option<Cow<'a, Tree>>, StoreError> {
        match &made.layer {
            Some(tree) if made.places.is_empty() => Ok(Some(Cow::Borrowed(tree))),
            Some(tree) => Ok(self.known(state, tree)?.map(Cow::Owned)),
            None => Ok(None),
        }
    }

    /// A small file, whole.
    pub fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let Some(finder) = Finder::new(&self.placeholders) else { return Cow::Borrowed(bytes) };
        let mut scan = Scan::new(&finder);
        scan.feed(bytes);
        let Some(found) = scan.finish() else { return Cow::Borrowed(bytes) };
        let edits = self.edits(&self.placeholders, found.is_text, &found.places);
        let mut mended = Vec::with_capacity(bytes.len());
        let mut mending = Mending::new(&edits, &mut mended);
        mending.write_all(bytes).expect("BUG: memory can be written");
        Cow::Owned(mended)
    }

    /// What a step wrote, for people: with the real paths.
    pub fn shown(&self, said: Vec<u8>) -> Vec<u8> {
        let pairs = self.placeholders.iter().zip(&self.real);
        pairs.fold(said, |said, (name, real)| replaced(&said, name.as_bytes(), real.as_os_str().as_bytes()))
    }

    fn known(&self, state: &State, tree: &Tree) -> Result<Option<Tree>, StoreError> {
        let path = kept_path(state, tree);
        let bytes = read_if_there(&path).map_err(failed("read", &path))?;
        let kept = bytes.and_then(|bytes| MOVED.open::<Kept>(&bytes).ok());
        let kept = kept.filter(|kept| kept.relocation == self.digest() && kept.is_of(tree));
        Ok(kept.map(|kept| with_nodes(tree, kept.nodes)))
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache relocation 1");
        for (placeholder, real) in self.placeholders.iter().zip(&self.real) {
            hasher.text(placeholder).bytes(real.as_os_str().as_bytes());
        }
        hasher.finish()
    }

    fn mends(&self, tree: &Tree, places: &Places) -> Mends {
        let mend = |file: &FilePlaces| {
            let Node::File { digest, .. } = &tree.entries().get(file.entry as usize)?.node else { return None };
            let edits = self.edits(&places.placeholders, file.is_text, &file.places);
            Some((file.entry as usize, Mend { digest: *digest, edits }))
        };
        Mends(places.files.iter().filter_map(mend).collect())
    }

    /// `names`: the placeholders as the places count them. One that means nothing here stays.
    fn edits(&self, names: &[String], is_text: bool, places: &[Place]) -> Vec<Edit> {
        let edit = |place: &Place| {
            let name = names.get(place.of as usize)?;
            let real = &self.real[self.placeholders.iter().position(|known| known == name)?];
            let real = real.as_os_str().as_bytes();
            let new = if is_text {
                real.to_vec()
            } else {
                let piece = place.start as usize..(place.start + place.len) as usize;
                let mut filled = real.to_vec();
                filled.resize(name.len(), b'/');
                filled.get(piece)?.to_vec()
            };
            Some(Edit { offset: place.offset, len: u64::from(place.len), new })
        };
        places.iter().filter_map(edit).collect()
    }

    /// What is another thing in the moved tree.
    fn nodes(&self, tree: &Tree, mends: &Mends, source: LayerSource) -> Result<Vec<(u32, Node)>, StoreError> {
        let mut nodes: Vec<(u32, Node)> = Vec::new();
        for (i, entry) in tree.entries().iter().enumerate() {
            if let Node::Symlink { target } = &entry.node
                && let Some(target) = self.target(target)
            {
                nodes.push((i as u32, Node::Symlink { target }));
            }
        }
        let _held = if let LayerSource::Stored(store, _) = source { Some(store.hold()?) } else { None };
        let pack;
        let layer: Vec<Piece> = match source {
            LayerSource::Dir(dir) => tree.entries().iter().map(|entry| from_layer(entry, dir)).collect(),
            LayerSource::Stored(store, result) => {
                pack = Pack::new(store, result);
                pieces(&pack, result, Part::Layer)
            }
        };
        let mut files: Vec<(usize, &Mend)> = mends.0.iter().map(|(i, mend)| (*i, mend)).collect();
        files.sort_unstable_by_key(|(i, _)| *i);
        let mended = spread(
            files.len(),
            || Ok(Reading::default()),
            |reading, at| {
                let (i, mend) = files[at];
                node(&layer[i], mend, reading).map(|node| (i as u32, node))
            },
        )?;
        nodes.extend(mended);
        nodes.sort_unstable_by_key(|(i, _)| *i);
        Ok(nodes)
    }

    fn target(&self, target: &Path) -> Option<PathBuf> {
        let moved = PathBuf::from(OsString::from_vec(self.shown(target.as_os_str().as_bytes().to_vec())));
        (moved != target).then_some(moved)
    }
}

impl Moved<'_> {
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub fn mends(&self) -> &Mends {
        &self.mends
    }
}

impl Mends {
    /// Lets `pieces`, which are all of a layer, be what they are in `tree`, its moved form.
    pub(super) fn apply<'a>(&'a self, pieces: &mut [Piece<'a>], tree: &'a Tree) {
        for (i, (piece, entry)) in pieces.iter_mut().zip(tree.entries()).enumerate() {
            piece.node = &entry.node;
            piece.mend = self.0.get(&i);
        }
    }
}

impl Mend {
    /// A writer that passes on to `to` what the bytes of the layer become.
    pub(super) fn into<'a, W: Write>(&'a self, to: &'a mut W) -> impl Write + use<'a, W> {
        Mending::new(&self.edits, to)
    }
}

/// A file of the layer as it is when it is mended.
fn node(piece: &Piece, mend: &Mend, reading: &mut Reading) -> Result<Node, StoreError> {
    let Node::File { mode, .. } = piece.node else { panic!("BUG: only files are mended") };
    let mut counted = Counted { hasher: blake3::Hasher::new(), size: 0 };
    reading.pour(piece, &mend.digest, &mut mend.into(&mut counted), piece.path)?;
    let digest = Digest::from_bytes(*counted.hasher.finalize().as_bytes());
    Ok(Node::File { mode: *mode, size: counted.size, digest })
}

fn with_nodes(tree: &Tree, nodes: Vec<(u32, Node)>) -> Tree {
    let mut entries: Vec<Entry> = tree.entries().to_vec();
    for (i, node) in nodes {
        if let Some(entry) = entries.get_mut(i as usize) {
            entry.node = node;
        }
    }
    Tree::new(entries)
}

fn kept_path(state: &State, tree: &Tree) -> PathBuf {
    Layers::of(state).path(&tree.digest()).with_extension("moved")
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, from) {
        made.extend_from_slice(&rest[..at]);
        made.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    made.extend_from_slice(rest);
    made
}

struct Counted {
    hasher: blake3::Hasher,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes edits, which are in the order of their offsets, in what passes through.
struct Mending<'a, W> {
    edits: std::slice::Iter<'a, Edit>,
    next: Option<&'a Edit>,
    to: &'a mut W,
    offset: u64,
    /// Bytes that still go.
    skip: u64,
}

impl<'a, W: Write> Mending<'a, W> {
    fn new(edits: &'a [Edit], to: &'a mut W) -> Self {
        let mut edits = edits.iter();
        let next = edits.next();
        Self { edits, next, to, offset: 0, skip: 0 }
    }
}

impl<W: Write> Write for Mending<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = bytes.len() as u64;
            let take = if self.skip > 0 {
                let gone = self.skip.min(left);
                self.skip -= gone;
                gone
            } else if let Some(edit) = self.next.filter(|edit| edit.offset <= self.offset) {
                self.to.write_all(&edit.new)?;
                self.skip = edit.len;
                self.next = self.edits.next();
                0
            } else {
                let until = self.next.map_or(left, |edit| left.min(edit.offset - self.offset));
                self.to.write_all(&bytes[..until as usize])?;
                until
            };
            self.offset += take;
            bytes = &bytes[take as usize..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/kwvqzlgtnhyxuomsrpijgkhzwtvyn";
    const B: &str = "/zxhrmuwqyokgjsvltnpihqgzryxkm";

    fn relocation() -> Relocation {
        Relocation::new([(A.to_owned(), "/real/a".into()), (B.to_owned(), "/b".into())].into_iter())
    }

    fn mended(bytes: &[u8]) -> Vec<u8> {
        relocation().bytes(bytes).into_owned()
    }

    #[test]
    fn in_text_each_place_of_a_line_becomes_the_real_path() {
        let text = format!("a={A}/lib:{B}/lib:{A}\n{A}{B}x\n");
        assert_eq!(mended(text.as_bytes()), b"a=/real/a/lib:/b/lib:/real/a\n/real/a/bx\n");
        assert_eq!(mended(b""), b"");
        assert_eq!(mended(b"nothing of it"), b"nothing of it");
    }

    /// Bytes without order, with whole placeholders and pieces of them in between.
    fn program(seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut number = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut bytes = vec![0];
        for _ in 0..40 {
            for _ in 0..number(20) {
                bytes.push(number(256) as u8);
            }
            let text = [A, B][number(2)].as_bytes();
            let start = number(text.len());
            let end = start + number(text.len() + 1 - start);
            bytes.extend_from_slice(if number(3) == 0 { text } else { &text[start..end] });
        }
        bytes
    }

    #[test]
    fn in_programs_nothing_moves_and_only_places_change() {
        for seed in 0..200 {
            let bytes = program(seed);
            let names = [A.to_owned(), B.to_owned()];
            let finder = Finder::new(&names).unwrap();
            let mut scan = Scan::new(&finder);
            scan.feed(&bytes);
            let places = scan.finish().map(|found| found.places).unwrap_or_default();
            let made = mended(&bytes);
            assert_eq!(made.len(), bytes.len());
            let mut expected = bytes.clone();
            for place in &places {
                let filled = [format!("{:/<30}", "/real/a"), format!("{:/<30}", "/b")][place.of as usize].clone();
                let piece = &filled.as_bytes()[place.start as usize..(place.start + place.len) as usize];
                let at = place.offset as usize;
                assert_eq!(
                    &bytes[at..at + piece.len()],
                    &names[place.of as usize].as_bytes()[place.start as usize..][..piece.len()]
                );
                expected[at..at + piece.len()].copy_from_slice(piece);
            }
            assert_eq!(made, expected, "{seed}");
            // No seed of a placeholder is left.
            let seeds: Vec<&[u8]> = names.iter().flat_map(|name| name.as_bytes().windows(8)).collect();
            assert!(!made.windows(8).any(|window| seeds.contains(&window)), "{seed}");
        }
    }

    #[test]
    fn what_is_written_does_not_depend_on_how_the_bytes_come() {
        let bytes = program(7);
        let relocation = relocation();
        let finder = Finder::new(&relocation.placeholders).unwrap();
        let mut scan = Scan::new(&finder);
        scan.feed(&bytes);
        let edits = relocation.edits(&relocation.placeholders, true, &scan.finish().unwrap().places);
        let through = |size: usize| {
            let mut made = Vec::new();
            let mut mending = Mending::new(&edits, &mut made);
            bytes.chunks(size).for_each(|chunk| mending.write_all(chunk).unwrap());
            made
        };
        let whole = through(bytes.len());
        assert_ne!(whole.len(), bytes.len());
        for size in 1..60 {
            assert_eq!(through(size), whole, "{size}");
        }
    }

    #[test]
    fn a_link_to_a_placeholder_leads_to_the_real_path() {
        let target = |text: String| relocation().target(Path::new(&text));
        assert_eq!(target(format!("{A}/lib/x")), Some("/real/a/lib/x".into()));
        assert_eq!(target(B.to_owned()), Some("/b".into()));
        assert_eq!(target("../lib/x".to_owned()), None);
    }
}
