//! Where in which manifest file something was written.

use std::path::PathBuf;
use std::sync::Arc;

/// Index of a file among those that a manifest was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct FileId(pub u16);

/// A range of bytes in a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A manifest file as it was read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Absolute.
    pub path: PathBuf,
    /// As people see it: relative to the workspace.
    pub shown: String,
    pub text: Arc<str>,
}
