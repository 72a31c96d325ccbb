//! `cargo = { … }`.

use super::super::keys;
use super::super::model::Cargo;
use super::{Pair, Reader, unhandled};

impl Reader<'_> {
    pub(super) fn cargo(&mut self, pair: &Pair) -> Option<Cargo> {
        let table = self.table(pair)?;
        let mut package = None;
        let mut cargo = Cargo {
            span: pair.key_span,
            workspace: None,
            package: crate::base::span::Spanned::new(String::new(), pair.key_span),
            bins: Vec::new(),
            lib: false,
            profile: None,
            features: Vec::new(),
            no_default_features: false,
            target_dir: None,
            args: Vec::new(),
        };
        let mut bin = None;
        for pair in self.pairs(table, &keys::CARGO, pair.key_span) {
            match pair.key.name {
                "workspace" => cargo.workspace = self.path(&pair),
                "package" => package = self.path(&pair),
                "bin" => bin = self.path(&pair),
                "bins" => cargo.bins = self.paths(&pair),
                "lib" => cargo.lib = self.bool(&pair).unwrap_or(false),
                "profile" => cargo.profile = self.path(&pair),
                "features" => cargo.features = self.paths(&pair),
                "no-default-features" => cargo.no_default_features = self.bool(&pair).unwrap_or(false),
                "target-dir" => cargo.target_dir = self.path(&pair),
                "args" => cargo.args = self.paths(&pair),
                other => unhandled(other),
            }
        }
        if let (Some(bin), Some(_)) = (&bin, cargo.bins.first()) {
            self.bad_value("a `cargo` table has either `bin` or `bins`", bin.span, "put the name into `bins`");
        }
        cargo.bins.splice(0..0, bin);
        cargo.package = package?;
        Some(cargo)
    }
}
