//! The path at which a relocatable prefix is built, the same for every checkout.
//!
//! Installed files embed the path of their prefix. A placeholder stands in its stead, and is replaced
//! when a layer is put in place. It is one directory at the root of the step's own file system:
//!
//! * [`LENGTH`] bytes long, since in programs no byte may move: a real path must fit in. Longer would be no use:
//!   the first line of a script is read by the kernel up to 255 bytes, and `/bin/…` follows. A multiple of 64, so that the
//!   vectors in which compilers lay a literal down don't end inside of it.
//! * of letters from `g` to `z` without order, of which every [`SEED`] in a row are there once: so a piece of it
//!   says which piece it is. No hexadecimal text can be one.
//! * made from the names of sysroot and target, under a version: steps see it in commands, so a change of it
//!   is a change of their keys.
//!
//! A step's own directories are at [`work`], for the same reason: `__FILE__` embeds them. Nothing replaces them
//! after, so they are short.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::base::digest::Hasher;
use crate::base::ids::StepId;

pub const LENGTH: usize = 192;
/// So many bytes of a placeholder in a row are unlike any others.
const SEED: usize = 8;
const LETTERS: &[u8; 20] = b"ghijklmnopqrstuvwxyz";

/// The directory that holds those of the step while it runs.
const WORK: &str = "/bcache-work";

/// The placeholder of a sysroot at a target.
pub fn of(sysroot: &str, target: &str) -> String {
    let mut attempt = 0;
    loop {
        let text = noise(sysroot, target, attempt);
        let seeds: HashSet<&[u8]> = text.as_bytes().windows(SEED).collect();
        if seeds.len() == text.len() + 1 - SEED {
            return text;
        }
        attempt += 1;
    }
}

fn noise(sysroot: &str, target: &str, attempt: u64) -> String {
    let mut text = String::with_capacity(LENGTH);
    text.push('/');
    for block in 0.. {
        let mut hasher = Hasher::new("bcache placeholder 1");
        let digest = hasher.text(sysroot).text(target).number(attempt).number(block).finish();
        // Bytes above would make the first letters likelier.
        for byte in digest.as_bytes().iter().filter(|byte| **byte < 240) {
            if text.len() == LENGTH {
                return text;
            }
            text.push(char::from(LETTERS[usize::from(byte % 20)]));
        }
    }
    unreachable!("BUG: there is always another block")
}

/// Where a step that is built at placeholders finds its own directories.
pub fn work(step: &StepId) -> PathBuf {
    Path::new(WORK).join(&*step.target).join(&*step.task)
}

/// Where it finds the links to its tools.
pub fn tools() -> PathBuf {
    Path::new(WORK).join(".tools")
}

/// Where it finds the compilers of its target.
pub fn toolchain(name: &str) -> PathBuf {
    Path::new(WORK).join(".zig").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_one_long_name_of_which_every_8_bytes_are_there_once() {
        for (sysroot, target) in [("utm", "host"), ("utm", "linux-arm64"), ("s", "host")] {
            let text = of(sysroot, target);
            assert_eq!((text.len(), text.rfind('/')), (LENGTH, Some(0)));
            let seeds: HashSet<&[u8]> = text.as_bytes().windows(SEED).collect();
            assert_eq!(seeds.len(), LENGTH + 1 - SEED);
        }
    }

    #[test]
    fn placeholders_of_two_sysroots_or_targets_share_no_piece() {
        let all = [of("a", "host"), of("b", "host"), of("a", "other")];
        let seeds: HashSet<&[u8]> = all.iter().flat_map(|text| text.as_bytes().windows(SEED)).collect();
        assert_eq!(seeds.len(), 3 * (LENGTH + 1 - SEED));
    }

    /// It is in the keys of steps: a change of it is a change of all of them.
    #[test]
    fn a_placeholder_stays_what_it_is() {
        assert_eq!(
            of("s", "host"),
            "/rxgwyhqixhkzhomhhirqwkpmrhwnislphnotqnuswsukqjqpvppukpwsgnxikqqivuhwolxjmmhikpozkqwtgjzrrrznliiuxonikliuihvwvumqjiwvutlwrznyppptvtgjqhtrsizuhokuyiuojssovmoxltxrtsjyyqvtlzjuuwquiptjupqwinhzvtg"
        );
    }
}
