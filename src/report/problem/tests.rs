use super::*;
use miette::NamedSource;

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("unknown key `outptus`")]
#[diagnostic(code(bcache::manifest::key), help("did you mean `outputs`?"))]
struct Key {
    #[source_code]
    text: NamedSource<String>,
    #[label(primary, "this key")]
    at: miette::SourceSpan,
    #[label("of this task")]
    task: miette::SourceSpan,
}

/// Without a source of its own.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("a task needs itself: `a -> a`")]
#[diagnostic(code(bcache::graph::cycle))]
struct Cycle {
    #[label]
    at: miette::SourceSpan,
    #[related]
    others: Vec<Key>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the manifest has errors")]
struct Bundle {
    #[source_code]
    text: NamedSource<String>,
    #[related]
    problems: Vec<Any>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(transparent)]
enum Any {
    Key(Key),
    Cycle(Cycle),
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("`/store` can't be written")]
#[diagnostic(help("free some space,\nor set BCACHE_HOME"))]
struct Full(#[source] std::io::Error);

const TEXT: &str = "# é\n[tasks.a]\n  é = 1\n  outptus = [\"x\"]\n";

fn source(name: &str) -> NamedSource<String> {
    NamedSource::new(name, TEXT.to_owned())
}

fn span(word: &str) -> miette::SourceSpan {
    (TEXT.find(word).unwrap(), word.len()).into()
}

fn key(file: &str) -> Key {
    Key { text: source(file), at: span("outptus"), task: span("tasks.a") }
}

fn bundle() -> Bundle {
    Bundle {
        text: source("tasks.toml"),
        problems: vec![Any::Key(key("more.toml")), Any::Cycle(Cycle { at: span("[tasks.a]"), others: vec![] })],
    }
}

const PLAIN: Ability = Ability { color: false, live: false, unicode: true };
const SIZE: Size = Size { columns: 80, rows: 24 };

#[test]
fn all_problems_of_a_manifest_are_shown_with_their_lines_and_counted() {
    assert_eq!(
        human(&[&bundle()], PLAIN, SIZE),
        "bcache::manifest::key

  × unknown key `outptus`
   ╭─[more.toml:4:3]
 1 │ # é
 2 │ [tasks.a]
   ·  ───┬───
   ·     ╰── of this task
 3 │   é = 1
 4 │   outptus = [\"x\"]
   ·   ───┬───
   ·      ╰── this key
   ╰────
  help: did you mean `outputs`?

bcache::graph::cycle

  × a task needs itself: `a -> a`
   ╭─[tasks.toml:2:1]
 1 │ # é
 2 │ [tasks.a]
   · ─────────
 3 │   é = 1
   ╰────

error: the manifest has errors
error: 2 problems in more.toml, tasks.toml
"
    );
    let separately: [&dyn Diagnostic; 2] = [&key("b.toml"), &key("a.toml")];
    assert!(human(&separately, PLAIN, SIZE).ends_with("\n\nerror: 2 problems in b.toml, a.toml\n"));
}

#[test]
fn without_unicode_the_lines_are_ascii() {
    let text = human(&[&key("tasks.toml")], Ability { unicode: false, ..PLAIN }, SIZE);
    assert!(text.lines().filter(|line| !line.contains('é')).all(str::is_ascii) && text.contains("outptus"), "{text}");
}

#[test]
fn colors_change_no_words() {
    for unicode in [true, false] {
        let plain = human(&[&bundle()], Ability { unicode, ..PLAIN }, SIZE);
        let painted = human(&[&bundle()], Ability { color: true, unicode, live: true }, SIZE);
        assert_ne!(painted, plain);
        let stripped = String::from_utf8(crate::report::output::safe(painted.as_bytes(), false)).unwrap();
        assert_eq!(stripped, plain);
    }
}

#[test]
fn an_error_without_a_place_names_its_causes_and_what_to_do() {
    let error = Full(std::io::Error::other("no space left"));
    assert_eq!(
        human(&[&error], PLAIN, SIZE),
        "error: `/store` can't be written\n  because: no space left\n  help: free some space,\n        or set BCACHE_HOME\n"
    );
}

#[test]
fn a_span_beyond_the_end_of_its_file_loses_only_the_place() {
    let broken = Key { at: (9000, 3).into(), ..key("tasks.toml") };
    let text = human(&[&broken], PLAIN, SIZE);
    assert!(text.contains("unknown key `outptus`") && text.ends_with("error: 1 problem\n"), "{text}");
    assert_eq!(serde_json::to_value(&json(&[&broken])[0]).unwrap()["line"], serde_json::Value::Null);
}

#[test]
fn programs_get_one_line_per_problem_with_places_counted_from_one() {
    let lines: Vec<_> = json(&[&bundle()]).iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            r#"{"event":"problem","severity":"error","code":"bcache::manifest::key","message":"unknown key `outptus`","causes":[],"help":"did you mean `outputs`?","file":"more.toml","line":4,"column":3,"label":"this key","also":[{"file":"more.toml","line":2,"column":2,"label":"of this task"}]}"#,
            r#"{"event":"problem","severity":"error","code":"bcache::graph::cycle","message":"a task needs itself: `a -> a`","causes":[],"help":null,"file":"tasks.toml","line":2,"column":1,"label":null,"also":[]}"#,
            r#"{"event":"problem","severity":"error","code":null,"message":"the manifest has errors","causes":[],"help":null,"file":null,"line":null,"column":null,"label":null,"also":[]}"#,
        ]
    );
}

#[test]
fn places_of_related_problems_are_further_places() {
    let cycle = Cycle { at: span("[tasks.a]"), others: vec![key("more.toml")] };
    let bundle = Bundle { text: source("tasks.toml"), problems: vec![Any::Cycle(cycle)] };
    let value = serde_json::to_value(&json(&[&bundle])[0]).unwrap();
    assert_eq!(value["file"], "tasks.toml");
    assert_eq!(value["also"][0]["file"], "more.toml");
    assert_eq!(value["also"][0]["label"], "unknown key `outptus`");
}

#[test]
fn columns_count_bytes_as_in_the_text_for_people() {
    let after = Key { at: span("= 1"), ..key("tasks.toml") };
    assert_eq!(serde_json::to_value(&json(&[&after])[0]).unwrap()["column"], 6);
    assert!(human(&[&after], PLAIN, SIZE).contains("[tasks.toml:3:6]"));
}
