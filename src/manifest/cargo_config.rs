//! Cargo's own configuration files, as far as they choose programs: the compiler, what wraps it, and linkers. Everything else
//! in them counts by the bytes of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What one file chooses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choices {
    pub rustc: Option<String>,
    /// Compiler wrappers and linkers.
    pub programs: Vec<String>,
    /// Platforms that are built for when no other is asked for.
    pub platforms: Vec<String>,
    /// Further files that it takes in, absolute.
    pub includes: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    build: Build,
    target: BTreeMap<String, Target>,
    include: Includes,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Build {
    rustc: Option<String>,
    rustc_wrapper: Option<String>,
    rustc_workspace_wrapper: Option<String>,
    rustflags: Flags,
    target: Flags,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Target {
    linker: Option<String>,
    rustflags: Flags,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Flags {
    List(Vec<String>),
    Text(String),
}

impl Default for Flags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Includes {
    List(Vec<Include>),
    One(Include),
}

impl Default for Includes {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Include {
    Path(PathBuf),
    Table { path: PathBuf },
}

/// What a configuration file at `path` chooses. Nothing where it can't be read: cargo says why, better than we could.
pub fn choices(path: &Path, text: &str) -> Choices {
    let Ok(file) = toml::from_str::<File>(text) else { return Choices::default() };
    let beside = path.parent().unwrap_or(Path::new("/"));
    // A relative path starts at the directory that holds `.cargo`.
    let above = beside.parent().unwrap_or(beside);
    let program = |word: String| match word.contains('/') {
        true => above.join(word).to_string_lossy().into_owned(),
        false => word,
    };
    let mut programs: Vec<String> =
        [file.build.rustc_wrapper, file.build.rustc_workspace_wrapper].into_iter().flatten().collect();
    programs.extend(file.build.rustflags.linkers());
    for target in file.target.into_values() {
        programs.extend(target.linker);
        programs.extend(target.rustflags.linkers());
    }
    let included = match file.include {
        Includes::List(list) => list,
        Includes::One(one) => vec![one],
    };
    Choices {
        rustc: file.build.rustc.map(program),
        platforms: match file.build.target {
            Flags::List(all) => all,
            Flags::Text(one) => vec![one],
        },
        programs: programs.into_iter().filter(|word| !word.is_empty()).map(program).collect(),
        includes: included
            .into_iter()
            .map(|include| match include {
                Include::Path(path) | Include::Table { path } => beside.join(path),
            })
            .collect(),
    }
}

/// Which workspace a manifest is of, as it says itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is one.
    Root,
    /// By its manifest.
    Of(PathBuf),
    /// Of one in a directory above, or of none.
    Unsaid,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Manifest {
    workspace: Option<toml::Table>,
    package: Option<ManifestPackage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ManifestPackage {
    workspace: Option<PathBuf>,
}

/// What the manifest at `path` says of its workspace.
pub fn membership(path: &Path, text: &str) -> Membership {
    let manifest = toml::from_str::<Manifest>(text).unwrap_or_default();
    let said = manifest.package.and_then(|package| package.workspace);
    match (manifest.workspace, said) {
        (Some(_), _) => Membership::Root,
        (None, Some(said)) => Membership::Of(path.parent().unwrap_or(Path::new("/")).join(said).join("Cargo.toml")),
        (None, None) => Membership::Unsaid,
    }
}

impl Flags {
    fn linkers(self) -> Vec<String> {
        match self {
            Self::List(words) => linkers(words.iter().map(String::as_str)),
            Self::Text(text) => linkers(text.split_whitespace()),
        }
    }
}

/// Linkers that flags of rustc choose: `-C linker=clang`, `-Clink-arg=-fuse-ld=mold`.
pub fn linkers<'w>(words: impl Iterator<Item = &'w str>) -> Vec<String> {
    let mut found = Vec::new();
    for word in words {
        let word = word.strip_prefix("-C").unwrap_or(word);
        if let Some(linker) = word.strip_prefix("linker=") {
            found.push(linker.to_owned());
        }
        if let Some((_, linker)) = word.split_once("-fuse-ld=") {
            let name = if linker.contains('/') { linker.to_owned() } else { format!("ld.{linker}") };
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_linkers_and_the_compiler_are_found_wherever_they_are_written() {
        let text = r#"
            include = ["more.toml", { path = "/etc/cargo.toml" }]
            [build]
            rustc = "tools/rustc"
            rustc-wrapper = "sccache"
            rustflags = "-C link-arg=-fuse-ld=mold"
            target = "x86_64-unknown-linux-musl"
            [target.x86_64-unknown-linux-gnu]
            linker = "clang"
            rustflags = ["-C", "linker=my-cc"]
            [target.'cfg(unix)']
            runner = "qemu"
            [net]
            offline = true
        "#;
        let choices = choices(Path::new("/w/.cargo/config.toml"), text);
        assert_eq!(choices.rustc.as_deref(), Some("/w/tools/rustc"));
        let mut programs = choices.programs;
        programs.sort();
        assert_eq!(programs, ["clang", "ld.mold", "my-cc", "sccache"]);
        assert_eq!(choices.platforms, ["x86_64-unknown-linux-musl"]);
        assert_eq!(choices.includes, [PathBuf::from("/w/.cargo/more.toml"), "/etc/cargo.toml".into()]);
    }

    #[test]
    fn a_manifest_says_of_which_workspace_it_is() {
        let of = |text: &str| membership(Path::new("/w/p/Cargo.toml"), text);
        assert_eq!(of("[package]\nname = 'p'\n[workspace]\n"), Membership::Root);
        assert_eq!(of("[package]\nworkspace = '../all'\n"), Membership::Of("/w/p/../all/Cargo.toml".into()));
        assert_eq!(of("[package]\nversion.workspace = true\n"), Membership::Unsaid);
        assert_eq!(of("[packa"), Membership::Unsaid);
    }

    #[test]
    fn what_is_no_configuration_chooses_nothing() {
        assert_eq!(choices(Path::new("/w/.cargo/config.toml"), "[build"), Choices::default());
        assert_eq!(choices(Path::new("/w/.cargo/config.toml"), "[build]\nrustc = 3"), Choices::default());
    }
}
