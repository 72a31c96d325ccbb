//! What must hold of whatever text a manifest, a command or a glob is.

use std::path::Path;

use crate::base::any_bytes::{Place, write};
use crate::base::span::{FileId, Span};
use crate::manifest::error::Errors;
use crate::manifest::load;
use crate::manifest::model::Manifest;

use super::pattern::Pattern;
use super::{Class, Graph, NeedOrigin, Request, shell, starts};

/// A manifest: `tasks.toml`, and after each line `#file` another file: `1.toml`, `2.toml`…
pub fn manifest(bytes: &[u8]) {
    let place = Place::make();
    let root = place.path().join("deep");
    for (i, text) in split(bytes, b"\n#file\n").into_iter().enumerate() {
        let name = if i == 0 { load::FILE_NAME.to_owned() } else { format!("{i}.toml") };
        write(&root.join(name), text);
    }
    let path = root.join(load::FILE_NAME);
    let _ = load::find(&root);
    match load::load(&path) {
        Err(errors) => {
            assert_shown(&errors);
            let again = load::load(&path).expect_err("what was wrong is right");
            assert_eq!(again.problems, errors.problems, "other errors of the same text");
        }
        Ok(manifest) => graphs(&manifest),
    }
    place.assert_kept_to();
}

fn split<'b>(bytes: &'b [u8], at: &[u8]) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(end) = memchr::memmem::find(rest, at) {
        parts.push(&rest[..end]);
        rest = &rest[end + at.len()..];
    }
    parts.push(rest);
    parts
}

/// The graphs that can be asked for: by default, and for a target with arguments.
fn graphs(manifest: &Manifest) {
    let host_triple = "x86_64-unknown-linux-gnu".to_owned();
    let names: Vec<String> = manifest.tasks.keys().take(2).cloned().collect();
    let (args_for, target) = (names.first().cloned(), manifest.targets.keys().next().cloned());
    let args = vec!["x y".into(), "'".into()];
    let asked = Request { names, target, args_for, args, host_triple: host_triple.clone() };
    for (is_first, request) in [(true, Request { host_triple, ..Request::default() }), (false, asked)] {
        match super::build(manifest, &request) {
            Err(errors) => assert_shown(&errors),
            Ok(graph) => {
                assert_sound(&graph, manifest);
                let _ = request.resolve(manifest);
                if is_first {
                    let again = super::build(manifest, &request).expect("what could be built can be built again");
                    assert!(format!("{:?}", again.steps) == format!("{:?}", graph.steps), "another graph");
                }
            }
        }
    }
}

/// Every problem can be shown, at a place that there is.
fn assert_shown(errors: &Errors) {
    assert!(!errors.problems.is_empty(), "errors without a problem");
    for problem in &errors.problems {
        let spans = problem.related.iter().map(|(span, _)| *span).chain([problem.primary]);
        for Span { file, start, end } in spans {
            let text = &errors.files[usize::from(file.0)].text;
            assert!(text.get(start as usize..end as usize).is_some(), "no place: {problem:?}");
        }
        assert!(!problem.message.is_empty(), "a problem without words");
    }
    assert!(!errors.render(false, 80).is_empty() && !errors.to_string().is_empty());
}

/// Needs come first and are other steps, what a step makes lies in the workspace, and its work apart from that of others.
fn assert_sound(graph: &Graph, manifest: &Manifest) {
    for ix in graph.indices() {
        let step = graph.step(ix);
        assert_eq!(graph.find(&step.id), Some(ix), "a step is not found");
        for need in &step.needs {
            assert!(need.step < ix, "{} comes before what it needs", step.id);
            assert!(need.origin != NeedOrigin::Path(String::new()), "a need for no reason");
        }
        assert!(step.layers.iter().all(|layer| *layer < ix), "a layer of a later step");
        for output in &step.outputs {
            let is_inner = output.pattern.path.starts_with(&graph.root) && output.pattern.path != graph.root;
            assert!(is_inner, "{} makes {}", step.id, output.pattern.path.display());
        }
        let work = graph.root.join(".bcache");
        assert!(step.work.starts_with(&work) && step.work != work, "{} works in {}", step.id, step.work.display());
        assert!(step.class != Class::Group || step.commands.is_empty(), "a group with commands");
        let _ = graph.flat_needs(ix);
        step.commands.iter().for_each(|command| drop(command.shown()));
    }
    for prefix in &graph.prefixes {
        let is_inner = |path: &Path| path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        assert!(prefix.shared_files.iter().all(|path| is_inner(path)), "a shared file leads out of {}", prefix.name);
        assert!(prefix.path != manifest.root, "the workspace is a prefix");
    }
}

/// A shell string.
pub fn shell(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let script = shell::scan(&text);
    let words = script.commands.iter().flatten().flatten().chain(&script.redirected).chain(&script.functions);
    let length: usize = words.map(String::len).sum();
    assert!(length <= 4 * text.len(), "{length} bytes of words in {} bytes", text.len());
    for command in &script.commands {
        let found = starts::programs(command);
        assert!(
            found.iter().all(|found| command.iter().flatten().any(|word| word == found.word)),
            "a program that is no word"
        );
    }
    let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
    if let Some(inner) = starts::inline(&words) {
        assert!(words.iter().any(|word| word == inner), "a text that is no word");
    }
}

/// Two patterns and paths, a line each. What both match is where they can meet, and is found from above.
pub fn patterns(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (one, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let span = Span { file: FileId(0), start: 0, end: 0 };
    let root = Path::new("/w");
    let pattern = |text: &str| Pattern::new(text, root, root, span).ok();
    let (Some(one), Some(other)) = (pattern(one), pattern(other)) else { return };
    assert_eq!(one.may_meet(&other), other.may_meet(&one), "one meets and the other does not");
    for path in lines.take(8) {
        let path = root.join(path);
        if one.matches(&path) && other.matches(&path) {
            assert!(one.may_meet(&other), "{} and {} both match {}", one.shown, other.shown, path.display());
        }
        if one.matches(&path) {
            assert!(one.covers(&path), "a match that is not covered");
            let above = path.ancestors().skip(1);
            let mut above = above.filter(|dir| !one.is_glob() || dir.starts_with(one.fixed_part()));
            assert!(above.all(|dir| one.may_match_below(dir)), "{} is not looked for in a directory", path.display());
        }
    }
}
