//! Whatever the bytes are, there is a manifest or there are problems; never a panic.

use std::fs;

use proptest::prelude::*;

use super::super::expand::tests::expander;
use super::super::load::load;
use crate::base::span::{FileId, Span, Spanned};

/// Pieces of manifests, so that more than the TOML parser is reached.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "[bcache]\nversion = 1\n",
        "[tasks.a]\n",
        "[templates.t]\n",
        "[targets.host]\n",
        "[sysroots.s]\n",
        "run = ",
        "needs = ",
        "extends = \"t\"\n",
        "source = ",
        "inputs = ",
        "outputs = ",
        "env = ",
        "vars = ",
        "include = ",
        "\"{{ vars.x }}\"\n",
        "'{{ vars.é | join( }}'\n",
        "[[\"a\", \"b\"], \"c\"]\n",
        "{ path = \"é\", sha256 = \"0\" }\n",
        "\"\"\"\n{{ \\u007b{ a }} \\\n x {{ args[0] }}\"\"\"\n",
        "[\"a@b\", 1, { glob = \"!x\" }]\n",
        "\"tasks.toml\"\n",
        "{{",
        "}}",
        "\"",
        "\n",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn never_panic_the_loader_nor_the_printing_of_its_errors(
        parts in proptest::collection::vec(fragment(), 0..24)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tasks.toml");
        fs::write(&path, parts.concat()).unwrap();
        if let Err(errors) = load(&path) {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(!errors.render(false, 80).is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn never_panic_the_expander(text in "(\\{\\{|\\}\\}|[a-z .|()\\[\\]'\"~-]|vars\\.x|args|é){0,12}") {
        let span = Span { file: FileId(0), start: 0, end: 5 };
        let text = Spanned::new(text, span);
        let mut expander = expander(&[]);
        let _ = (expander.shell(&text), expander.text(&text), expander.argv(std::slice::from_ref(&text)));
    }
}

#[test]
fn deep_nesting_is_a_problem_and_no_stack_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.toml");
    let deep = 100_000;
    let mut variables = String::from("[vars]\nv0 = \"x\"\n");
    let mut templates = String::new();
    for i in 1..deep / 10 {
        variables += &format!("v{i} = \"{{{{ vars.v{} }}}}\"\n", i - 1);
        templates += &format!("[templates.t{i}]\nextends = \"t{}\"\n", i + 1);
    }
    for body in [
        format!("[tasks.a]\nrun = {}{}\n", "[".repeat(deep), "]".repeat(deep)),
        format!("[tasks.a]\nenv = {}{}\n", "{a = ".repeat(deep), "}".repeat(deep)),
        format!("[tasks.a]\nrun = '{{{{ {}1{} }}}}'\n", "(".repeat(deep), ")".repeat(deep)),
        format!("[tasks.a]\nrun = '{{{{ {} 1 }}}}'\n", "not ".repeat(deep)),
        format!("[tasks.a]\nrun = '{{{{ {}1 }}}}'\n", "-".repeat(deep)),
        format!("[tasks.a]\nrun = '{{{{ vars.x{} }}}}'\n", ".a".repeat(deep)),
        format!("[tasks.a]\nrun = '{{{{ 1{} }}}}'\n", " + 1".repeat(deep)),
        format!("[tasks.a]\nrun = '{}'\n", "{{".repeat(deep)),
        format!("tasks{} = 1\n", ".a".repeat(deep)),
        templates,
        variables,
    ] {
        fs::write(&path, format!("{body}[bcache]\nversion = 1\n")).unwrap();
        if let Err(errors) = load(&path) {
            assert!(!errors.problems.is_empty());
        }
    }
}
