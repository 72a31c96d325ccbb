//! Puts the files of a target's toolchain where its steps look for them. Their text is known to the graph; here it is made
//! true, before each step that uses it: what is missing, damaged or of another place is written anew, each file at once.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use super::build::StepError;
use crate::base::publish::publish_with;
use crate::fingerprint::assemble::Assembled;
use crate::graph::toolchain::ToolFile;
use crate::graph::{Step, Toolchain};
use crate::store::remove_tree;

/// What the tools of the step's target are, and where zig keeps what it makes.
pub(super) fn put(step: &Step, assembled: &Assembled) -> Result<(), StepError> {
    if let Some(toolchain) = &step.toolchain {
        put_files(toolchain)?;
    }
    if let Some(zig) = &assembled.zig {
        fs::create_dir_all(&zig.cache).map_err(StepError::write(&zig.cache))?;
    }
    Ok(())
}

/// Several processes may do it at once: all write the same.
fn put_files(toolchain: &Toolchain) -> Result<(), StepError> {
    let dir = &toolchain.dir;
    for dir in dir.parent().into_iter().chain([dir.as_path()]) {
        // A step may have put something else in its place, that leads elsewhere.
        match fs::symlink_metadata(dir) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => remove_tree(dir).map_err(StepError::write(dir))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StepError::write(dir)(e)),
        }
    }
    fs::create_dir_all(dir).map_err(StepError::write(dir))?;
    for file in &toolchain.files {
        let path = dir.join(file.name);
        if !is_there(&path, file).map_err(StepError::write(&path))? {
            if path.is_dir() {
                remove_tree(&path).map_err(StepError::write(&path))?;
            }
            publish_with(&path, |at| {
                at.write_all(file.text.as_bytes())?;
                at.set_permissions(fs::Permissions::from_mode(mode(file)))
            })
            .map_err(StepError::write(&path))?;
        }
    }
    Ok(())
}

fn mode(file: &ToolFile) -> u32 {
    if file.is_program { 0o755 } else { 0o644 }
}

fn is_there(path: &std::path::Path, file: &ToolFile) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() && there.permissions().mode() & 0o7777 == mode(file) => {
            Ok(fs::read(path)? == file.text.as_bytes())
        }
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
