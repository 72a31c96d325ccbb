//! The JSON Schema of `tasks.toml`, for editors: made from the same table of keys as the reader's checks.

use serde_json::{Map, Value, json};

use super::keys::{self, Table, Takes};

const NAME: &str = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$";
const IDENTIFIER: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Draft 2020-12.
pub fn schema() -> Value {
    let mut schema = table(&keys::ROOT);
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "tasks.toml of cargo bcache".into());
    schema.into()
}

fn table(table: &Table) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in table.keys.iter() {
        let mut value = takes(key.takes);
        value.insert("description".into(), key.doc.into());
        properties.insert(key.name.into(), value.into());
    }
    let required: Vec<_> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = object(json!({ "type": "object", "properties": properties, "additionalProperties": false }));
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if std::ptr::eq(table, &keys::SOURCE) {
        schema.extend(kinds_of_source());
    }
    if std::ptr::eq(table, &keys::INPUT) {
        schema.extend(kinds_of_input());
    }
    schema
}

fn without(keys: &[&str]) -> Value {
    json!({ "anyOf": keys.iter().map(|k| json!({ "required": [k] })).collect::<Vec<_>>() })
}

/// Which keys of an input go together.
fn kinds_of_input() -> Map<String, Value> {
    object(json!({ "oneOf": [
        { "required": ["glob"], "not": without(&["git", "paths", "head"]) },
        { "required": ["git"], "not": without(&["glob", "optional"]) },
    ] }))
}

/// Which keys of a source go together.
fn kinds_of_source() -> Map<String, Value> {
    object(json!({ "oneOf": [
        { "required": ["url", "sha256"], "not": without(&["rev"]) },
        { "required": ["archive"], "not": without(&["rev"]) },
        { "required": ["git", "rev"], "not": without(&["sha256"]) },
        { "required": ["path"], "not": without(&["sha256", "rev"]) },
    ] }))
}

fn takes(takes: Takes) -> Map<String, Value> {
    let string = json!({ "type": "string" });
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    let env_name = json!({ "type": "string", "pattern": IDENTIFIER });
    object(match takes {
        Takes::Text | Takes::Plain => string,
        Takes::Bool => json!({ "type": "boolean" }),
        Takes::Number(least) => json!({ "type": "integer", "minimum": least, "maximum": u32::MAX }),
        Takes::Version => json!({ "const": 1 }),
        Takes::Duration => {
            json!({ "type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "minLength": 2 })
        }
        Takes::Sha256 => json!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" }),
        Takes::Commit => json!({ "type": "string", "pattern": "^[0-9A-Fa-f]{7,64}$" }),
        Takes::Word(words) => json!({ "enum": words }),
        Takes::WordOrFalse(words) => {
            let words = words.iter().map(|word| json!(word)).chain([json!(false)]).collect::<Vec<_>>();
            json!({ "enum": words })
        }
        Takes::NamesOrFalse => json!({ "anyOf": [one_or_list(string), { "const": false }] }),
        Takes::Plains | Takes::Texts => one_or_list(string),
        Takes::EnvNames => one_or_list(env_name),
        Takes::Commands => {
            let argv = json!({ "type": "array", "items": string, "minItems": 1 });
            json!({ "anyOf": [string, { "type": "array", "items": { "anyOf": [string, argv] } }] })
        }
        Takes::Env => json!({
            "type": "object", "propertyNames": { "pattern": IDENTIFIER }, "additionalProperties": scalar
        }),
        Takes::Vars => json!({
            "type": "object",
            "propertyNames": { "pattern": IDENTIFIER },
            "additionalProperties": { "anyOf": [scalar, { "type": "array", "items": scalar }] },
        }),
        Takes::Table(inner) => table(inner).into(),
        Takes::Named(inner) => named(inner),
        Takes::Entries(inner) => {
            let alone = if std::ptr::eq(inner, &keys::ENV_PASS) { env_name } else { string };
            one_or_list(json!({ "anyOf": [alone, table(inner)] }))
        }
    })
}

fn named(inner: &Table) -> Value {
    let one = table(inner);
    let mut schema =
        object(json!({ "type": "object", "propertyNames": { "pattern": NAME }, "additionalProperties": one }));
    if std::ptr::eq(inner, &keys::TARGET) {
        // Every target has a triple but the machine we run on.
        let (mut host, mut other) = (one.clone(), one);
        if let Some(Value::Object(properties)) = host.get_mut("properties") {
            properties.remove("triple");
        }
        other.insert("required".into(), json!(["triple"]));
        schema.insert("properties".into(), json!({ "host": host }));
        schema.insert("additionalProperties".into(), other.into());
    }
    schema.into()
}

fn one_or_list(one: Value) -> Value {
    json!({ "anyOf": [one, { "type": "array", "items": one }] })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("BUG: a schema is an object, not {other}"),
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
