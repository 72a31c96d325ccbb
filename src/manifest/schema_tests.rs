//! The schema and the reader say the same of the same files.

use super::*;
use crate::manifest::tests::Dir;

/// Every key that there is, in most of the forms that it can have.
const RICH: &str = include_str!("rich.toml");

fn to_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// As much of a validator as the schema needs. Unknown words in the schema panic.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { panic!("{schema}") };
    let each = |list: &Value| list.as_array().unwrap().iter().filter(|s| is_valid(s, value)).count();
    schema.iter().all(|(word, says)| match word.as_str() {
        "$schema" | "title" | "description" => true,
        "type" => match says {
            Value::Array(types) => types.iter().any(|t| is_type(t.as_str().unwrap(), value)),
            one => is_type(one.as_str().unwrap(), value),
        },
        "const" => says == value,
        "enum" => says.as_array().unwrap().contains(value),
        "minimum" => value.as_i64().is_none_or(|n| n >= says.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|n| n <= says.as_i64().unwrap()),
        "minLength" => value.as_str().is_none_or(|s| s.len() as u64 >= says.as_u64().unwrap()),
        "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= says.as_u64().unwrap()),
        "pattern" => value.as_str().is_none_or(|s| matches_pattern(says.as_str().unwrap(), s)),
        "items" => value.as_array().is_none_or(|a| a.iter().all(|item| is_valid(says, item))),
        "anyOf" => each(says) > 0,
        "oneOf" => each(says) == 1,
        "not" => !is_valid(says, value),
        "required" => value
            .as_object()
            .is_none_or(|o| says.as_array().unwrap().iter().all(|k| o.contains_key(k.as_str().unwrap()))),
        "propertyNames" => value.as_object().is_none_or(|o| o.keys().all(|k| is_valid(says, &json!(k)))),
        "properties" => {
            value.as_object().is_none_or(|o| o.iter().all(|(k, v)| says.get(k).is_none_or(|s| is_valid(s, v))))
        }
        "additionalProperties" => value.as_object().is_none_or(|o| {
            o.iter().filter(|(k, _)| schema.get("properties").and_then(|p| p.get(k)).is_none()).all(|(_, v)| match says
            {
                Value::Bool(allowed) => *allowed,
                says => is_valid(says, v),
            })
        }),
        other => panic!("the validator of the tests does not know `{other}`"),
    })
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other}"),
    }
}

/// The few patterns of the schema, by hand: there is no regular expression crate in the tree.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let hex = text.chars().all(|c| c.is_ascii_hexdigit());
    let word = |extra: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    match pattern {
        NAME => !text.starts_with(['.', '+', '-']) && !text.is_empty() && word("_.+-"),
        IDENTIFIER => !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && word("_"),
        "^[0-9A-Fa-f]{64}$" => hex && text.len() == 64,
        "^[0-9A-Fa-f]{7,64}$" => hex && (7..=64).contains(&text.len()),
        other if other.starts_with("^([0-9]+h)") => text.chars().all(|c| c.is_ascii_digit() || "hms".contains(c)),
        other => panic!("{other}"),
    }
}

fn load(text: &str) -> Result<crate::manifest::model::Manifest, crate::manifest::error::Errors> {
    Dir::new(&[("tasks.toml", text), ("more.toml", "[tasks.more]\nrun = \"x\"\n")]).load()
}

#[test]
fn a_rich_manifest_is_good_for_reader_and_schema() {
    load(RICH).unwrap_or_else(|errors| panic!("{}", errors.render(false, 100)));
    assert!(is_valid(&schema(), &to_json(RICH)));
}

#[test]
fn the_rich_manifest_has_every_key_there_is() {
    fn keys_of<'t>(table: &'t Table, found: &mut Vec<(&'t str, &'t str)>) {
        for key in table.keys.iter() {
            found.push((table.what, key.name));
            if let Takes::Table(inner) | Takes::Named(inner) | Takes::Entries(inner) = key.takes {
                keys_of(inner, found);
            }
        }
    }
    let mut all = Vec::new();
    keys_of(&keys::ROOT, &mut all);
    let missing: Vec<_> = all
        .iter()
        .filter(|(_, key)| {
            !RICH.contains(&format!("{key} = "))
                && !RICH.contains(&format!("[{key}"))
                && !RICH.contains(&format!("{key}."))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn reader_and_schema_refuse_the_same_mistakes() {
    let schema = schema();
    let head = "[bcache]\nversion = 1\n";
    for bad in [
        "[tasks.a]\noutptus = \"x\"\n",
        "[tasks.a]\nneeds = 1\n",
        "[tasks.a]\nrun = [[]]\n",
        "[tasks.a]\njobs = 0\nrun = \"x\"\n",
        "[tasks.a]\njobserver = true\nrun = \"x\"\n",
        "[tasks.a]\ncargo = { bin = \"x\" }\n",
        "[tasks.a]\nrun = \"x\"\ninputs = [{ git = \"x\", glob = \"y\" }]\n",
        "[tasks.a]\nrun = \"x\"\ninputs = [{ glob = \"x\", head = true }]\n",
        "[tasks.a]\nrun = \"x\"\ninputs = [{ git = \"x\", optional = true }]\n",
        "[tasks.a]\nrun = \"x\"\ninputs = [{ paths = \"x\" }]\n",
        "[tasks.a]\nrun = \"x\"\nsource = { url = \"x\" }\n",
        "[tasks.a]\nrun = \"x\"\nsource = { path = \"x\", archive = \"y\" }\n",
        "[tasks.a]\nrun = \"x\"\nsource = { git = \"x\", rev = \"main\" }\n",
        "[tasks.a]\nrun = \"x\"\nenv-pass = [\"A-B\"]\n",
        "[tasks.a]\nrun = \"x\"\nvars = { a = { b = 1 } }\n",
        "[tasks.\"a@b\"]\n",
        "[targets.x]\n",
        "[targets.host]\ntriple = \"x\"\n",
        "[sysroots.x]\n",
        "[whatever]\n",
    ] {
        let text = format!("{head}{bad}");
        assert!(load(&text).is_err(), "read: {bad}");
        assert!(!is_valid(&schema, &to_json(&text)), "valid: {bad}");
    }
}
