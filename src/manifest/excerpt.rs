//! Lines of a manifest file for a problem's picture, found without reading the file from its beginning: a generated manifest
//! has megabytes, and thousands of problems where its generator has one mistake.

use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use crate::base::span::SourceFile;

/// A file with the places where its lines begin.
#[derive(Debug)]
pub(super) struct Excerpts {
    name: String,
    text: Arc<str>,
    starts: Vec<usize>,
}

impl Excerpts {
    pub(super) fn new(file: &SourceFile) -> Self {
        let bytes = file.text.as_bytes();
        // As miette counts: a lone carriage return ends a line too.
        let ends_line = |at: &usize| match bytes[*at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let ends = memchr::memchr2_iter(b'\n', b'\r', bytes).filter(ends_line);
        let starts = std::iter::once(0).chain(ends.map(|end| end + 1)).collect();
        Self { name: file.shown.clone(), text: file.text.clone(), starts }
    }
}

impl SourceCode for Excerpts {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let line = self.starts.partition_point(|start| *start <= span.offset()) - 1;
        // One line more than is shown: an empty span at the beginning of a line is judged by what comes before it.
        let first = line.saturating_sub(before + 1);
        let begin = self.starts[first];
        let inner = SourceSpan::from((span.offset() - begin, span.len()));
        let read = self.text[begin..].read_span(&inner, before, after)?;
        let shown = SourceSpan::from((read.span().offset() + begin, read.span().len()));
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            read.data(),
            shown,
            read.line() + first,
            read.column(),
            read.line_count() + first,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_excerpt_is_the_one_that_is_read_from_the_beginning() {
        let text = "one\ntwo\r\n\r\nfour\rfive é\n\nseven";
        let file = SourceFile { path: "x".into(), shown: "x".into(), text: text.into() };
        let excerpts = Excerpts::new(&file);
        let seen = |read: Result<Box<dyn SpanContents<'_> + '_>, MietteError>| {
            read.map(|r| (r.data().to_vec(), *r.span(), r.line(), r.column())).ok()
        };
        for start in 0..=text.len() {
            for len in 0..=text.len() - start {
                for context in 0..3 {
                    let span = SourceSpan::from((start, len));
                    let (ours, theirs) =
                        (excerpts.read_span(&span, context, context), text.read_span(&span, context, context));
                    assert_eq!(seen(ours), seen(theirs), "{start} {len} {context}");
                }
            }
        }
    }
}
