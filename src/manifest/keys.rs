//! The one table of what may stand in `tasks.toml`. Both the reader's check for unknown keys and the
//! JSON Schema are made from it, so they can't drift apart.

/// The keys of one kind of table.
#[derive(Debug)]
pub struct Table {
    /// As in `a task has no key …`.
    pub what: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub takes: Takes,
    pub required: bool,
    /// One line for the schema.
    pub doc: &'static str,
}

/// What may stand to the right of a key.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A string in which `{{ … }}` is expanded.
    Text,
    /// A string that is taken as it is.
    Plain,
    Bool,
    /// A whole number, at least this.
    Number(u32),
    /// The number of the format.
    Version,
    /// Such as `1h30m`.
    Duration,
    /// 64 hexadecimal digits.
    Sha256,
    /// 7 to 64 hexadecimal digits.
    Commit,
    /// A word of these.
    Word(&'static [&'static str]),
    /// A word of these, or `false`.
    WordOrFalse(&'static [&'static str]),
    /// Names of packages, one or a list, or `false`.
    NamesOrFalse,
    /// One string or a list of them.
    Plains,
    /// The same, with `{{ … }}`.
    Texts,
    /// Names of environment variables.
    EnvNames,
    /// A string, or a list of strings and of lists of strings.
    Commands,
    /// Names of environment variables with their values.
    Env,
    /// Names with strings or lists of strings.
    Vars,
    /// One such table.
    Table(&'static Table),
    /// Tables by name.
    Named(&'static Table),
    /// One or a list of: a string, or a table that has more to say.
    Entries(&'static Table),
}

impl Takes {
    /// As in `takes a string, not a number`.
    pub fn shown(self) -> String {
        match self {
            Self::Text | Self::Plain => "a string".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Number(_) | Self::Version => "a whole number".into(),
            Self::Duration => "a time such as `\"10m\"`".into(),
            Self::Sha256 => "a string of 64 hexadecimal digits".into(),
            Self::Commit => "a string of hexadecimal digits".into(),
            Self::Word(words) => quoted(words),
            Self::WordOrFalse(words) => format!("{} or `false`", quoted(words)),
            Self::NamesOrFalse => "a string, a list of strings or `false`".into(),
            Self::Plains | Self::Texts | Self::EnvNames => "a string or a list of strings".into(),
            Self::Commands => "a string, or a list of strings and lists of strings".into(),
            Self::Env => "a table of strings".into(),
            Self::Vars => "a table of strings and lists of strings".into(),
            Self::Table(_) => "a table".into(),
            Self::Named(_) => "a table of tables".into(),
            Self::Entries(_) => "a string, a table, or a list of them".into(),
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    words.join(", ")
}

impl Table {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, takes: Takes, doc: &'static str) -> Key {
    Key { name, takes, required: false, doc }
}

const fn required(name: &'static str, takes: Takes, doc: &'static str) -> Key {
    Key { name, takes, required: true, doc }
}

pub static ROOT: Table = Table {
    what: "a manifest",
    keys: &[
        key("include", Takes::Plains, "Further files, relative to this one; above the first table."),
        key("bcache", Takes::Table(&BCACHE), "Settings; makes the file the first one of a workspace."),
        key("vars", Takes::Vars, "Values for `{{ vars.* }}` everywhere."),
        key("targets", Takes::Named(&TARGET), "Platforms to build for; `host` exists without being declared."),
        key("sysroots", Takes::Named(&SYSROOT), "Prefixes that many steps install into."),
        key("templates", Takes::Named(&TEMPLATE), "What tasks can extend."),
        key("tasks", Takes::Named(&TASK), "What there is to build."),
    ],
};

pub static BCACHE: Table = Table {
    what: "`[bcache]`",
    keys: &[
        required("version", Takes::Version, "Version of this format: 1."),
        key("default", Takes::Plain, "The task that is built when none is named."),
        key("rebuild-env", Takes::EnvNames, "Variables that force a rebuild, besides BCACHE_REBUILD."),
    ],
};

pub static TARGET: Table = Table {
    what: "a target",
    keys: &[
        key("triple", Takes::Plain, "Target triple, with a glibc version where zig wants one; not for `host`."),
        key(
            "toolchain",
            Takes::Word(&["zig"]),
            "What compiles for the triple: CC, CXX, AR and the like are set to it.",
        ),
        key("env", Takes::Env, "Environment of every step at this target."),
        key("vars", Takes::Vars, "Stronger than the global vars, weaker than those of templates and tasks."),
    ],
};

pub static SYSROOT: Table = Table {
    what: "a sysroot",
    keys: &[
        required("path", Takes::Text, "The prefix, relative to this file."),
        key("env", Takes::Env, "Environment of every step that installs into it."),
        key("shared-files", Takes::Plains, "Files in the prefix that several steps may write."),
        key("relocatable", Takes::Bool, "Built at a placeholder path, so that other checkouts can use the results."),
        key("host", Takes::NamesOrFalse, "Of every step that installs into it; see a task's `host`."),
    ],
};

pub static TASK: Table = Table { what: "a task", keys: TASK_KEYS };

pub static TEMPLATE: Table = Table { what: "a template", keys: TASK_KEYS };

static TASK_KEYS: &[Key] = &[
    key("desc", Takes::Plain, "One line for `list`."),
    key("extends", Takes::Plains, "Templates, the nearer ones last."),
    key("needs", Takes::Plains, "Tasks that must be done before: `name` or `name@target`."),
    key("targets", Takes::Plains, "Targets it is built for; without them the host."),
    key("sysroot", Takes::Plain, "The sysroot it installs into."),
    key("source", Takes::Table(&SOURCE), "What is unpacked for it, fresh for every run."),
    key("inputs", Takes::Entries(&INPUT), "Files and globs it reads; `!` in front takes matches away."),
    key("outputs", Takes::Entries(&OUTPUT), "Files, directories (ending in `/`) and globs it makes."),
    key("env", Takes::Env, "Environment; part of the key."),
    key("env-pass", Takes::Entries(&ENV_PASS), "Variables passed from outside."),
    key("secrets", Takes::EnvNames, "Variables passed from outside, not in the key, masked in logs."),
    key("tools", Takes::Entries(&TOOL), "Programs it uses; part of the key."),
    key("path", Takes::Texts, "Directories put on PATH."),
    key("vars", Takes::Vars, "Values for `{{ vars.* }}`, the strongest."),
    key("before", Takes::Commands, "Commands run before `run`."),
    key("run", Takes::Commands, "Commands: a string runs under `sh -eu`, a list inside the list without a shell."),
    key("after", Takes::Commands, "Commands run after `run`."),
    key("cwd", Takes::Text, "Directory the commands run in."),
    key("cache", Takes::Bool, "`false`: always runs."),
    key("clean", Takes::Bool, "`false`: old outputs are not removed before a run."),
    key("build-dir", Takes::WordOrFalse(&["keep"]), "`keep`: of a working copy, survives edits of it."),
    key("depfile", Takes::Texts, "Files in make's form that say what a run has read."),
    key("timeout", Takes::Duration, "The longest it may run, such as `10m`."),
    key("retries", Takes::Number(0), "Further tries after a failure."),
    key("jobs", Takes::Number(1), "Job tokens it holds while it runs."),
    key("jobserver", Takes::WordOrFalse(&["pipe", "fifo"]), "How it is told of the jobserver."),
    key("confirm", Takes::Plain, "A question asked before it runs."),
    key(
        "host",
        Takes::NamesOrFalse,
        "Installed packages that count, with what they depend on; `false`: none, and nothing is hidden.",
    ),
    key("cargo", Takes::Table(&CARGO), "Programs or libraries that cargo builds: inputs and outputs are derived."),
];

pub static SOURCE: Table = Table {
    what: "a source",
    keys: &[
        key("url", Takes::Text, "Archive to download; needs `sha256`."),
        key("archive", Takes::Text, "Archive in the workspace, also one that another task makes."),
        key("git", Takes::Text, "Repository to clone; needs `rev`."),
        key("path", Takes::Text, "Working copy."),
        key("sha256", Takes::Sha256, "Checksum of the archive."),
        key("rev", Takes::Commit, "Commit to check out."),
        key("patches", Takes::Texts, "Patches and globs of patches, in the order in which they are applied."),
    ],
};

pub static INPUT: Table = Table {
    what: "an input",
    keys: &[
        key("glob", Takes::Text, "Path or glob; this or `git`."),
        key("optional", Takes::Bool, "May match nothing."),
        key("git", Takes::Text, "Directory in a working copy of git: the files that git tracks or would add."),
        key("paths", Takes::Texts, "Of `git`: paths and globs in it; `!` in front takes matches away."),
        key("head", Takes::Bool, "Of `git`: the commit that is checked out counts too."),
    ],
};

pub static CARGO: Table = Table {
    what: "a `cargo` table",
    keys: &[
        key("workspace", Takes::Text, "Directory of the cargo workspace or package; without it that of this file."),
        required("package", Takes::Text, "Name of the package."),
        key("bin", Takes::Text, "The program that is built; without `bin`, `bins` and `lib` all that the package has."),
        key("bins", Takes::Texts, "The programs that are built."),
        key("lib", Takes::Bool, "`true`: the library is built."),
        key("profile", Takes::Text, "Cargo profile; without it `dev`, as cargo has it."),
        key("features", Takes::Texts, "Features that are enabled."),
        key("no-default-features", Takes::Bool, "`true`: without the default features."),
        key("target-dir", Takes::Text, "Cargo's target directory; without it one below `.bcache`."),
        key("args", Takes::Texts, "Further arguments of `cargo build`."),
    ],
};

pub static OUTPUT: Table = Table {
    what: "an output",
    keys: &[
        required("path", Takes::Text, "Path, directory (ending in `/`) or glob."),
        key("sha256", Takes::Sha256, "The only contents it may have; then this is the key."),
        key("optional", Takes::Bool, "May not be made."),
    ],
};

pub static ENV_PASS: Table = Table {
    what: "a passed variable",
    keys: &[
        required("name", Takes::Plain, "Name of the variable."),
        key("key", Takes::Bool, "`false`: its value is not part of the key."),
    ],
};

pub static TOOL: Table = Table {
    what: "a tool",
    keys: &[
        required("name", Takes::Plain, "Program."),
        key("version", Takes::Plain, "Command whose output is its identity, instead of its contents."),
        key("install", Takes::Plain, "How to get it, said where it is missing."),
    ],
};
