//! A cargo task in a fork of a large workspace (`fixtures/fork/make`): what is an edit, and what is none.
//!
//! Each row of a table is an edit, the verdict on it, and what the program prints that differs from the unedited one's:
//! the program says what every part of it was compiled from, so a stale one betrays itself. Then the edit is undone, which
//! must bring the old program back without building it. A build that follows stands on what the rows before it left in cargo's target
//! directory; so the tables try cargo's own idea of freshness too.

mod fork_rig;
mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use fork_rig::table::{check, row};
use fork_rig::{CORE, Fork, compiler, generate, relink};

#[test]
fn files_of_a_fork_are_judged_by_their_content_and_only_where_they_are_read() {
    let fork = Fork::built();
    let rows = vec![
        row("nothing", |_| ()),
        // Out of scope.
        row("untracked files in docs and in a crate that is not needed", |f| {
            f.file("docs/new.md", "new");
            f.file("crates/harbor-cli/src/new.rs", "new");
        }),
        row("README of the workspace", |f| f.append("README.md", "more\n")),
        row("docs", |f| f.append("docs/guide.md", "more\n")),
        row("link in docs", |f| relink(&f.at("docs/latest.md"), "fork.md")),
        row("a crate that is not needed", |f| f.append("crates/harbor-cli/src/main.rs", "// more\n")),
        row("README of a crate that is not needed", |f| f.append("crates/harbor-replay/README.md", "more\n")),
        row("the crate of the other program", |f| f.append("crates/harbor-sandbox/src/main.rs", "// more\n")),
        row("an asset that nobody includes", |f| f.append("assets/unused.txt", "more\n")),
        row("ignored file that nobody reads", |f| f.file("crates/harbor-core/notes.log", "new")),
        row("what cargo makes by hand", |f| f.file("target/debug/harbor-gateway", "new")),
        // In scope.
        row("README of a crate", |f| f.append("crates/harbor-core/README.md", "more\n"))
            .runs_for("crates/harbor-core/README.md modified"),
        row("tracked file", |f| f.replace(CORE, "core 1", "core 22"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 22")]),
        row("touched", |f| f.set_mtime(CORE, SystemTime::now() + Duration::from_secs(5))),
        row("same size, stamp of before", |f| {
            let before = f.mtime(CORE);
            f.replace(CORE, "core 1", "core 3");
            f.set_mtime(CORE, before);
        })
        .runs_for("crates/harbor-core/src/lib.rs modified")
        .prints(&[("core 1", "core 3")]),
        row("same size, an older stamp", |f| {
            f.replace(CORE, "core 1", "core 4");
            f.set_mtime(CORE, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        })
        .runs_for("crates/harbor-core/src/lib.rs modified")
        .prints(&[("core 1", "core 4")]),
        row("edited", |f| f.replace(CORE, "core 1", "core 5"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 5")])
            .stays(),
        row("put back, an older stamp", |f| {
            f.replace(CORE, "core 5", "core 1");
            f.set_mtime(CORE, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        })
        .restored()
        .stays(),
        row("and another file edited", |f| f.append("crates/harbor-gateway/src/main.rs", "// more\n"))
            .runs_for("crates/harbor-gateway/src/main.rs modified"),
        row("deleted and written again", |f| {
            let text = fs::read_to_string(f.at(CORE)).unwrap();
            f.remove(CORE);
            f.file(CORE, &text);
        }),
        row("deleted file of a crate", |f| f.remove("crates/harbor-core/README.md"))
            .runs_for("crates/harbor-core/README.md deleted"),
        row("mode", |f| {
            fs::set_permissions(f.at(CORE), fs::Permissions::from_mode(0o755)).unwrap();
        })
        .runs_for("crates/harbor-core/src/lib.rs modified"),
        row("text of a link", |f| relink(&f.at("crates/harbor-core/src/level.rs"), "levels/high.rs"))
            .runs_for("crates/harbor-core/src/level.rs modified")
            .prints(&[("level low", "level high")]),
        row("what a link leads to", |f| f.replace("crates/harbor-core/src/levels/low.rs", "level low", "level 1ow"))
            .runs_for("crates/harbor-core/src/levels/low.rs modified")
            .prints(&[("level low", "level 1ow")]),
        row("renamed file", |f| {
            fs::rename(f.at("crates/harbor-core/src/words.rs"), f.at("crates/harbor-core/src/phrase.rs")).unwrap();
            f.replace(CORE, "mod words;", "mod phrase;");
            f.replace(CORE, "words::join", "phrase::join");
        })
        .runs_for("crates/harbor-core/src/lib.rs modified, crates/harbor-core/src/phrase.rs untracked, crates/harbor-core/src/words.rs deleted"),
        row("another case in a name", |f| {
            fs::rename(f.at("crates/harbor-core/README.md"), f.at("crates/harbor-core/Readme.md")).unwrap();
        })
        .runs_for("crates/harbor-core/README.md deleted, crates/harbor-core/Readme.md untracked"),
        row("untracked file that a build script lists", |f| f.file("crates/harbor-config/options.d/extra", "1\n"))
            .runs_for("crates/harbor-config/options.d/extra untracked").and("fork/crates/harbor-config/options.d/, which it read, changed")
            .prints(&[("config limit=10,zip=on", "config extra=1,limit=10,zip=on")])
            .stays(),
        row("its content", |f| f.file("crates/harbor-config/options.d/extra", "2\n"))
            .runs_for("crates/harbor-config/options.d/extra modified").and("fork/crates/harbor-config/options.d/, which it read, changed")
            .prints(&[("config limit=10,zip=on", "config extra=2,limit=10,zip=on")]),
        row("ignored file that a build script lists", |f| f.file("crates/harbor-config/options.d/x.log", "1\n"))
            .runs("fork/crates/harbor-config/options.d/, which it read, changed")
            .prints(&[("config limit=10,zip=on", "config limit=10,x.log=1,zip=on")])
            .stays(),
        row("its content", |f| f.file("crates/harbor-config/options.d/x.log", "2\n"))
            .runs("fork/crates/harbor-config/options.d/, which it read, changed")
            .prints(&[("config limit=10,zip=on", "config limit=10,x.log=2,zip=on")])
            .stays(),
        row("gone", |f| f.remove("crates/harbor-config/options.d/x.log")).restored(),
        // Outside of every package.
        row("include_str! from outside of the packages", |f| f.file("assets/banner.txt", "other\n"))
            .runs("fork/assets/banner.txt, which it read, changed")
            .prints(&[(r"banner harbor, from the fork\n", r"banner other\n")]),
        row("what a build script reads outside of its package", |f| f.append("proto/harbor.list", "pong\n"))
            .runs("fork/proto/harbor.list, which it read, changed")
            .prints(&[("proto open,close,ping", "proto open,close,ping,pong")]),
        row("ignored file that is included", |f| generate(f, "2"))
            .runs("fork/crates/harbor-gateway/src/generated.rs, which it read, changed")
            .prints(&[("generated 1", "generated 2")]),
    ];
    check(&fork, rows);
}

#[test]
fn what_git_does_to_a_fork_counts_by_what_it_leaves_in_the_working_copy() {
    let fork = Fork::built();
    let rows = vec![
        row("edited", |f| f.replace(CORE, "core 1", "core 3"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 3")])
            .stays(),
        row("staged", |f| f.git("add .")).prints(&[("core 1", "core 3")]).stays(),
        row("committed", |f| f.git("commit -q -m x")).prints(&[("core 1", "core 3")]).stays(),
        row("amended", |f| f.git("commit -q --amend -m y")).prints(&[("core 1", "core 3")]).stays(),
        row("packed", |f| f.git("gc -q")).prints(&[("core 1", "core 3")]),
        row("another branch", |f| f.git("switch -q next"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 2")])
            .stays(),
        row("back", |f| f.git("switch -q main")).restored().stays(),
        row("forth again", |f| f.git("switch -q next")).restored().prints(&[("core 1", "core 2")]),
        row("edited", |f| f.replace(CORE, "core 1", "core 4"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 4")])
            .stays(),
        row("stashed", |f| f.git("stash -q")).restored().stays(),
        row("popped", |f| f.git("stash pop -q")).restored().prints(&[("core 1", "core 4")]),
        row("without a branch", |f| f.git("switch -q --detach")),
        row("without an index", |f| fs::remove_file(f.at(".git/index")).unwrap()),
        row("an index of version 4", |f| f.git("update-index --index-version 4")),
        row("split index", |f| f.git("update-index --split-index")).stays(),
        row("edited", |f| f.replace(CORE, "core 1", "core 5"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 5")])
            .stays(),
        row("staged", |f| f.git("add .")).prints(&[("core 1", "core 5")]).stays(),
        row("whole index", |f| f.git("update-index --no-split-index")).prints(&[("core 1", "core 5")]),
        row("ends of lines by attribute", |f| f.file(".gitattributes", "options.d/* text eol=crlf\n")).stays(),
        row("and checked out", |f| {
            f.file(".gitattributes", "**/options.d/* text eol=crlf\n");
            f.remove("crates/harbor-config/options.d/limit");
            f.git("checkout -q -- crates/harbor-config/options.d/limit");
        })
        .runs_for("crates/harbor-config/options.d/limit modified")
        .and("fork/crates/harbor-config/options.d/, which it read, changed")
        .prints(&[("config limit=10,zip=on", r"config limit=10\r,zip=on")])
        .stays(),
        row("and back", |f| {
            f.remove(".gitattributes");
            f.remove("crates/harbor-config/options.d/limit");
            f.git("checkout -q -- crates/harbor-config/options.d/limit");
        })
        .restored(),
        row("submodule edited", |f| f.replace("vendor/wire/src/frame.rs", "[{text}]", "<{text}>"))
            .runs_for("vendor/wire/src/frame.rs modified")
            .prints(&[("[wire 1]", "<wire 1>")]),
        row("untracked file in the submodule", |f| f.file("vendor/wire/src/new.rs", "new"))
            .runs_for("vendor/wire/src/new.rs untracked"),
        row("ignored file in the submodule", |f| f.file("vendor/wire/x.pcap", "new")),
        row("submodule at another commit", |f| f.git("-C vendor/wire switch -q --detach origin/next"))
            .runs_for("vendor/wire/src/lib.rs modified")
            .prints(&[("[wire 1]", "[wire 2]")])
            .stays(),
        row("which is staged", |f| f.git("add vendor/wire")).prints(&[("[wire 1]", "[wire 2]")]).stays(),
        row("and committed", |f| f.git("commit -q -m x")).prints(&[("[wire 1]", "[wire 2]")]),
    ];
    check(&fork, rows);
}

#[test]
fn what_cargo_is_told_counts() {
    let fork = Fork::built();
    let flags = |flag: &'static str| move |f: &Fork| f.env("RUSTFLAGS", format!("--cfg harbor_flag=\"{flag}\""));
    let features = |features: &'static str| {
        move |f: &Fork| f.task(r#"features = ["bundled"]"#, &format!("features = [{features}]"))
    };
    let rows = vec![
        row("no features", features("")).runs("command 1 changed: `cargo build --package harbor-gateway --bin harbor-gateway --…` -> `cargo build --package harbor-gateway --bin harbor-gateway`").and("fork (git: packages of harbor-gateway) changed (crates/harbor-bundled/Cargo.toml deleted, crates/harbor-bundled/README.md deleted, crates/harbor-bundled/src/lib.rs deleted)").prints(&[("bundled 1", "bundled none")]),
        row("a feature more", features(r#""bundled", "telemetry""#))
            .runs("command 1 changed").and("fork (git: packages of harbor-gateway) changed (crates/harbor-telemetry/Cargo.toml added, crates/harbor-telemetry/README.md added, crates/harbor-telemetry/src/lib.rs added)")
            .prints(&[("telemetry none", "telemetry 1")])
            .stays(),
        row("the package behind it", |f| f.replace("crates/harbor-telemetry/src/lib.rs", "telemetry 1", "telemetry 2"))
            .runs_for("crates/harbor-telemetry/src/lib.rs modified")
            .prints(&[("telemetry none", "telemetry 2")]),
        row("a package behind a feature that is not on", |f| {
            f.append("crates/harbor-telemetry/src/lib.rs", "// more\n")
        }),
        row("profile", |f| f.task("features =", r#"profile = "release", features ="#))
            .runs("command 1 changed")
            .prints(&[("profile debug", "profile release")]),
        row("a variable for the profile", |f| f.env("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false"))
            .runs("variable CARGO_PROFILE_DEV_DEBUG_ASSERTIONS is new")
            .prints(&[("profile debug", "profile release")]),
        row("RUSTFLAGS", flags("a")).runs("variable RUSTFLAGS changed: `(unset)` -> `--cfg harbor_flag=\"a\"`").prints(&[("flag none", "flag a")]),
        row("a variable that a build script reads without a word", |f| {
            f.task("[tasks.gateway]", "[tasks.gateway]\nenv = { HARBOR_REGION = 'eu' }");
        })
        .runs("variable HARBOR_REGION is new")
        .prints(&[("config limit=10,zip=on", "config limit=10,region=eu,zip=on")])
        .stays(),
        row("its value", |f| f.task("'eu'", "'us'"))
            .runs("variable HARBOR_REGION changed: `eu` -> `us`")
            .prints(&[("config limit=10,zip=on", "config limit=10,region=us,zip=on")]),
        row("a variable that a macro reads without a word", |f| {
            f.task("[tasks.gateway]", "[tasks.gateway]\nenv = { HARBOR_SALT = 'sea' }");
        })
        .runs("variable HARBOR_SALT is new")
        .prints(&[("macros 1 Gateway", "macros 1 Gateway sea"), ("store 1 macros 1 Store", "store 1 macros 1 Store sea")])
        .stays(),
        row("its value", |f| f.task("'sea'", "'ice'"))
            .runs("variable HARBOR_SALT changed: `sea` -> `ice`")
            .prints(&[
                ("macros 1 Gateway", "macros 1 Gateway ice"),
                ("store 1 macros 1 Store", "store 1 macros 1 Store ice"),
            ]),
        row("the same in .cargo/config.toml", |f| f.append(".cargo/config.toml", "HARBOR_REGION = 'asia'\n"))
            .runs("fork/.cargo/config.toml changed")
            .prints(&[("config limit=10,zip=on", "config limit=10,region=asia,zip=on")]),
        row("RUSTC", |f| compiler(f, "RUSTC", r#"exec rustc "$@" --cfg 'harbor_flag="b"'"#))
            .runs("variable RUSTC changed: `(unset)` -> `[ROOT]/bin/our-rustc`; tool rust compiler changed")
            .prints(&[("flag none", "flag b")])
            .stays(),
        row("another compiler of the same name", |f| {
            compiler(f, "RUSTC", r#"exec rustc "$@" --cfg 'harbor_flag="c"'"#)
        })
        .runs("tool rust compiler changed")
        .prints(&[("flag none", "flag c")]),
        row("RUSTC_WRAPPER", |f| compiler(f, "RUSTC_WRAPPER", r#"exec "$@" --cfg 'harbor_flag="b"'"#))
            .runs("variable RUSTC_WRAPPER changed: `(unset)` -> `[ROOT]/bin/our-rustc`; tool [ROOT]/bin/our-rustc is new")
            .prints(&[("flag none", "flag b")])
            .stays(),
        row("another wrapper of the same name", |f| {
            compiler(f, "RUSTC_WRAPPER", r#"exec "$@" --cfg 'harbor_flag="a"'"#)
        })
        .runs("tool [ROOT]/bin/our-rustc changed")
        .prints(&[("flag none", "flag a")]),
    ];
    check(&fork, rows);
}

#[test]
fn the_files_of_cargo_count_and_what_was_made_comes_back() {
    let fork = Fork::built();
    let rows = vec![
        row("flags in .cargo/config.toml", |f| {
            f.append(".cargo/config.toml", "[build]\nrustflags = ['--cfg', 'harbor_flag=\"b\"']\n")
        })
        .runs("fork/.cargo/config.toml changed")
        .prints(&[("flag none", "flag b")]),
        row("target in .cargo/config.toml", |f| {
            let triple = f.sh("rustc -vV | sed -n 's/^host: //p'");
            f.append(".cargo/config.toml", &format!("[build]\ntarget = '{}'\n", triple.trim()));
        })
        .runs("fork/.cargo/config.toml changed"),
        row("env in .cargo/config.toml", |f| f.replace(".cargo/config.toml", "fork", "beta"))
            .runs("fork/.cargo/config.toml changed")
            .prints(&[("channel fork", "channel beta")]),
        row("a configuration above the fork", |f| {
            let text = "[profile.dev]\ndebug-assertions = false\n";
            f.sandbox.file(".cargo/config.toml", text);
        })
        .runs(".cargo/config.toml is new")
        .prints(&[("profile debug", "profile release")])
        .stays(),
        row("which is gone", |f| f.remove_beside(".cargo")).restored(),
        row("a configuration in CARGO_HOME", |f| {
            let home = f.sandbox.root().join("cargo-home");
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("config.toml"), "[profile.dev]\ndebug-assertions = false\n").unwrap();
        })
        .runs("$CARGO_HOME/config.toml is new")
        .prints(&[("profile debug", "profile release")])
        .stays(),
        row("which is gone", |f| fs::remove_file(f.sandbox.root().join("cargo-home/config.toml")).unwrap()).restored(),
        row("a dependency in the manifest of the workspace", |f| {
            let to = r#"harbor-auth = { path = "crates/harbor-auth", features = ["strict"] }"#;
            f.replace("Cargo.toml", r#"harbor-auth = { path = "crates/harbor-auth" }"#, to);
        })
        .runs("fork/Cargo.toml changed")
        .prints(&[("auth 1 lax", "auth 1 strict")]),
        row("the version of a crate that is not needed, in Cargo.lock too", |f| {
            f.replace("crates/harbor-cli/Cargo.toml", "version.workspace = true", "version = \"0.3.1\"");
            f.replace(
                "Cargo.lock",
                "name = \"harbor-cli\"\nversion = \"0.3.0\"",
                "name = \"harbor-cli\"\nversion = \"0.3.1\"",
            );
        })
        .runs("fork/Cargo.lock changed"),
        row("a proc macro", |f| f.replace("crates/harbor-macros/src/lib.rs", "macros 1", "macros 2"))
            .runs_for("crates/harbor-macros/src/lib.rs modified")
            .prints(&[("macros 1 Gateway", "macros 2 Gateway"), ("store 1 macros 1 Store", "store 1 macros 2 Store")]),
        row("what a build script is built from", |f| {
            f.replace("crates/harbor-codegen/src/lib.rs", "&{words:?}", "&[\\\"x\\\"]");
        })
        .runs_for("crates/harbor-codegen/src/lib.rs modified")
        .prints(&[("proto open,close,ping", "proto x")]),
        row("an untracked build script", |f| {
            f.file(
                "crates/harbor-auth/build.rs",
                "fn main() { println!(\"cargo::rustc-cfg=feature=\\\"strict\\\"\"); }\n",
            )
        })
        .runs_for("crates/harbor-auth/build.rs untracked")
        .prints(&[("auth 1 lax", "auth 1 strict")]),
        // What was made.
        row("the program is gone", |f| f.remove_beside(".bcache/out")).restored(),
        row("the program is another", |f| {
            f.sandbox.file(".bcache/out/host/gateway/harbor-gateway", "#!/bin/sh\n");
        })
        .restored(),
        row("cargo's target directory is gone", |f| f.remove_beside(".bcache/cargo")),
        row("edited without it", |f| f.replace(CORE, "core 1", "core 6"))
            .runs_for("crates/harbor-core/src/lib.rs modified")
            .prints(&[("core 1", "core 6")]),
        row("our state is gone", |f| f.remove_beside(".bcache")).restored(),
        row("edited without it, an older stamp", |f| {
            f.replace(CORE, "core 1", "core 7");
            f.set_mtime(CORE, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        })
        .runs_for("crates/harbor-core/src/lib.rs modified")
        .prints(&[("core 1", "core 7")]),
    ];
    check(&fork, rows);
}
