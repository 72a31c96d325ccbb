//! Text as keys hold it: what differs from worktree to worktree, or from build to build, has a marker in its place.

use crate::graph::JOBS_MARKER;

/// The workspace's own path is a marker, the number of jobs too. What is no marker and would read as one says that.
pub(super) fn marked(text: &str, root: Option<&str>) -> String {
    let parts = text.split(JOBS_MARKER).map(|part| match root {
        Some(root) => with_root_marked(part, root),
        None => plain(part),
    });
    parts.collect::<Vec<_>>().join("{jobs}")
}

fn with_root_marked(text: &str, root: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    // Up to here it is marked; what was found on the way may belong to a longer name.
    let (mut done, mut from) = (0, 0);
    while let Some(at) = text[from..].find(root).map(|at| from + at) {
        from = at + root.len();
        if !text[from..].starts_with(|c: char| c.is_alphanumeric() || "._-+".contains(c)) {
            marked.push_str(&plain(&text[done..at]));
            marked.push_str("{workspace}");
            done = from;
        }
    }
    marked + &plain(&text[done..])
}

/// Text without markers: `{jobs}` becomes `{\jobs}`, that becomes `{\\jobs}`, and so on. All other text stays.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (i, part) in text.split('{').enumerate() {
        if i > 0 {
            escaped.push('{');
            let word = part.trim_start_matches('\\');
            if word.starts_with("jobs}") || word.starts_with("workspace}") {
                escaped.push('\\');
            }
        }
        escaped.push_str(part);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_markers_is_in_a_key_as_it_is_and_what_looks_like_one_is_another() {
        let marked = |text: &str| marked(text, Some("/w/s"));
        let jobs = JOBS_MARKER;
        for (text, expected) in [
            (format!("make -j{jobs} -C /w/s/src"), "make -j{jobs} -C {workspace}/src"),
            (format!("/w/s{jobs}:/w/s2:/w/s-x:/w/s"), "{workspace}{jobs}:/w/s2:/w/s-x:{workspace}"),
            ("${x}{y}{\\z} {jobs {workspace".into(), "${x}{y}{\\z} {jobs {workspace"),
            ("-j{jobs} ${jobs}".into(), "-j{\\jobs} ${\\jobs}"),
            ("{\\jobs}{{workspace}}".into(), "{\\\\jobs}{{\\workspace}}"),
        ] {
            assert_eq!(marked(&text), expected);
        }
        assert_eq!(super::marked("/w/s {workspace}", None), "/w/s {\\workspace}");
    }

    #[test]
    fn no_two_texts_are_one_in_a_key() {
        let pieces = ["{", "\\", "jobs", "}", "{jobs}", "{workspace}", "/r", "/r{jobs}", JOBS_MARKER, "x"];
        for root in ["/r", "/r{jobs}", "/r{"] {
            let mut known = std::collections::HashMap::new();
            let mut texts = vec![String::new()];
            for _ in 0..4 {
                texts = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}"))).collect();
                for text in &texts {
                    if let Some(other) = known.insert(marked(text, Some(root)), text.clone()) {
                        assert_eq!(&other, text, "with {root}");
                    }
                }
            }
        }
    }
}
