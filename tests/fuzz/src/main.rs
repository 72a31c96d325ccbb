//! A fuzzer of whatever `BCACHE_FUZZ` names: see `src/any_bytes.rs`.
#![no_main]

use std::sync::OnceLock;

use bcache::any_bytes::{Property, TARGETS};
use libfuzzer_sys::fuzz_target;

static PROPERTY: OnceLock<Property> = OnceLock::new();

fn chosen() -> Property {
    let name = std::env::var("BCACHE_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.unwrap_or_else(|| panic!("BCACHE_FUZZ has to name one of: {}", names.join(" "))).1
}

fuzz_target!(|data: &[u8]| PROPERTY.get_or_init(chosen)(data));
