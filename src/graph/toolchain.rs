//! What steps of a target with `toolchain = "zig"` compile with: small programs that start zig for the triple, a cross file
//! for meson and a toolchain file for CMake, in a directory below `.bcache/zig`.
//!
//! Build systems want a compiler to be one word without spaces, a path to a file; `zig cc -target …` is neither. So each
//! tool is a shell script of one line. Which zig it starts says a variable ([`ZIG`]) that the step's environment has, so
//! that the files are the same wherever zig lies. Their text is in the name of the directory, and with it in the key by the
//! variables that name it; the path of the workspace is not. Steps that see their directories elsewhere (relocatable
//! sysroots) see this one elsewhere too.
//!
//! What zig does not have is left to the machine, or done without: no `nm`, no `objcopy` that can be relied on, a linker of
//! its own for ELF only. Its `objcopy` strips what it can, which is less or more from version to version, and `strip` leaves
//! all else as it is and says so: a program that is not stripped works.
//!
//! `-fno-sanitize=all`: without optimization zig traps undefined behaviour, which no other compiler does unasked. It stands
//! in front, so a package that asks for a sanitizer gets it.

use std::path::{Path, PathBuf};

use crate::base::digest::Hasher;
use crate::base::span::{Span, Spanned};
use crate::manifest::expand::ToolchainFacts;
use crate::manifest::model::Tool;
use crate::manifest::zig::ZigTarget;

use super::{ToolUse, placeholder};

/// The program that they start.
pub const PROGRAM: &str = "zig";
/// What is said where it is missing.
const INSTALL: &str = "pip install ziglang, or the zig of your distribution";
/// The variable that says which zig the tools start.
pub const ZIG: &str = "BCACHE_ZIG";
/// Where the files are put, below `.bcache`.
pub const DIR: &str = "zig";
/// Stands for the directory in a text that is hashed.
const HERE: &str = "{here}";

/// The compiler and its companions of one target, as some of its steps see them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    pub zig: ZigTarget,
    /// Where its files are.
    pub dir: PathBuf,
    /// Where steps see them.
    pub seen: PathBuf,
    pub files: Vec<ToolFile>,
}

/// zig as a tool that a step must have.
pub fn tool(span: Span) -> ToolUse {
    let name = Spanned::new(PROGRAM.to_owned(), span);
    ToolUse { tool: Tool { name, version: None, install: Some(INSTALL.to_owned()) }, required: true }
}

/// A file of a toolchain's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolFile {
    pub name: &'static str,
    pub text: String,
    pub is_program: bool,
}

impl Toolchain {
    /// That of a target in the workspace at `root`. `is_elsewhere`: for steps that see their own directories elsewhere.
    pub fn new(zig: &ZigTarget, root: &Path, is_elsewhere: bool) -> Self {
        let mut hasher = Hasher::new("bcache toolchain 1");
        for file in files(zig, HERE) {
            hasher.text(file.name).text(&file.text);
        }
        let digest = hasher.finish().to_string();
        let name = format!("{}-{}", zig.zig(), &digest[..8]);
        let below = root.join(".bcache").join(DIR);
        let (dir, seen) = match is_elsewhere {
            false => (below.join(&name), below.join(&name)),
            // The cross file names its own directory.
            true => (below.join(format!("{name}-elsewhere")), placeholder::toolchain(&name)),
        };
        let files = files(zig, &seen.to_string_lossy());
        Self { zig: zig.clone(), dir, seen, files }
    }

    /// What starts zig itself.
    pub fn starter(&self) -> PathBuf {
        self.path(PROGRAM)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.seen.join(name)
    }

    pub fn facts(&self) -> ToolchainFacts {
        ToolchainFacts { gnu: self.zig.gnu(), meson: self.path("meson.ini"), cmake: self.path("toolchain.cmake") }
    }

    /// Variables by which build systems find the tools.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut names = vec![
            ("CC", "cc"),
            ("CXX", "c++"),
            ("AR", "ar"),
            ("RANLIB", "ranlib"),
            ("STRIP", "strip"),
            ("CMAKE_TOOLCHAIN_FILE", "toolchain.cmake"),
        ];
        if self.zig.is_elf() {
            names.push(("LD", "ld"));
        }
        if self.zig.is_windows() {
            names.extend([("WINDRES", "windres"), ("RC", "windres"), ("DLLTOOL", "dlltool")]);
        }
        names
            .into_iter()
            .map(|(name, tool)| (name.to_owned(), self.path(tool).to_string_lossy().into_owned()))
            .collect()
    }
}

fn files(zig: &ZigTarget, here: &str) -> Vec<ToolFile> {
    let program = |name, text: String| ToolFile { name, text, is_program: true };
    let plain = |name, text: String| ToolFile { name, text, is_program: false };
    let mut files = vec![
        program("cc", compiler(zig, "cc")),
        program("c++", compiler(zig, "c++")),
        program(PROGRAM, PLAIN.to_owned()),
        program("ar", starts("ar")),
        program("ranlib", starts("ranlib")),
        program("strip", STRIP.to_owned()),
        plain("meson.ini", meson(zig, here)),
        plain("toolchain.cmake", cmake(zig)),
    ];
    if zig.is_elf() {
        files.push(program("ld", starts("ld.lld")));
    }
    if zig.is_windows() {
        files.push(program("windres", WINDRES.replace("{processor}", zig.resources())));
        files.push(program("dlltool", starts("dlltool")));
    }
    files
}

fn starts(command: &str) -> String {
    format!("#!/bin/sh\nexec \"${{{ZIG}:-zig}}\" {command} \"$@\"\n")
}

fn compiler(zig: &ZigTarget, command: &str) -> String {
    let cpu = zig.cpu().map_or_else(String::new, |cpu| format!(" -mcpu={cpu}"));
    let start = starts(&format!("{command} -target \"$target\"{cpu} -fno-sanitize=all"));
    let quirks = QUIRKS
        .replace("{target}", &zig.zig())
        .replace("{without glibc}", &zig.zig_without_glibc())
        .replace("{language}", if command == "cc" { "c" } else { "c++" })
        .replace("{asked}", if zig.is_macos() { "" } else { ASKED_FOR_LINKER });
    start.replace("exec ", &quirks)
}

/// Where zig is unlike other compilers.
///
/// - It forgets the target when it reads from its standard input and is not told the language, as meson asks compilers for
///   what they define.
/// - It forgets what the version of a glibc in a target means, where it is asked and compiles nothing.
/// - Asked where it looks for libraries, it names those of the machine, which it does not use. meson would.
/// - It writes debug information that nobody asked for, with the paths of sources.
/// - Libraries that it makes of its own sources are kept for all, and their debug information names the directory in which
///   the first program was compiled that wants them: some step's. So it is told a name that is true everywhere, and the
///   true one for what is compiled itself, where debug information is asked for.
const QUIRKS: &str = r#"target={target} before= in= language= debug=
[ "$*" != -v ] || target={without glibc}
for word; do
    case $before$word in
    -) in=stdin ;;
    -x*) language=known ;;
    -g*) debug=known ;;
    -dump*) target={without glibc} ;;
    -print-search-dirs | --print-search-dirs) printf 'programs: =\nlibraries: =\n' && exit ;;{asked}
    esac
    case $word in
    -o) before=o ;;
    *) before= ;;
    esac
done
[ "$in$language" != stdin ] || set -- -x {language} "$@"
if [ -n "$debug" ]; then set -- "-fdebug-compilation-dir=$PWD" "$@"; else set -- -g0 "$@"; fi
export PWD=/proc/self/cwd
exec "#;

/// zig for programs that bring a command line of their own, and the same care for what it keeps.
const PLAIN: &str = r#"#!/bin/sh
export PWD=/proc/self/cwd
exec "${BCACHE_ZIG:-zig}" "$@"
"#;

/// It says `zig ld` when it is asked for its linker, which only newer mesons know. It is LLVM's.
const ASKED_FOR_LINKER: &str = r#"
    -Wl,--version) exec "${BCACHE_ZIG:-zig}" ld.lld --version ;;"#;

/// As binutils' `strip` is called by `install -s` and meson.
const STRIP: &str = r#"#!/bin/sh
# strip [OPTION]... FILE...: what zig can strip is stripped, all else stays as it is.
what=--strip-all into= files=0
for word; do
    shift
    case $word in
    -g | -S | -d | --strip-debug | --strip-unneeded | -x | --discard-all) what=--strip-debug ;;
    -o) into=next ;;
    -*) ;;
    *) if [ "$into" = next ]; then into=$word; else set -- "$@" "$word"; fi ;;
    esac
done
for file; do
    made=${into:-$file}
    if "${BCACHE_ZIG:-zig}" objcopy "$what" "$file" "$made.stripped" 2>/dev/null && [ -s "$made.stripped" ]; then
        chmod --reference="$file" "$made.stripped" && mv -f "$made.stripped" "$made" || exit
    else
        rm -f "$made.stripped"
        [ "$made" = "$file" ] || cp -p "$file" "$made" || exit
        echo "strip: zig can't strip $file: it stays as it is (link with -s)" >&2
    fi
done
"#;

/// As binutils' `windres` is called by libtool, meson and CMake: `windres [-I DIR] [-D NAME] [-i] IN [-o] OUT`.
const WINDRES: &str = r#"#!/bin/sh
# windres [OPTION]... [-i] IN [-o] OUT: resources as an object that the linker takes.
in= out= kind=coff
take() {
    if [ -z "$in" ]; then in=$1; else out=$1; fi
}
rest=$#
while [ "$rest" -gt 0 ]; do
    word=$1
    shift
    rest=$((rest - 1))
    case $word in
    -i | --input | -o | --output | -I | --include-dir | -D | --define | -U | --undefine | -O | --output-format | \
        -J | --input-format | -F | --target | -c | --codepage | -l | --language | --preprocessor | --preprocessor-arg)
        value=$1
        shift
        rest=$((rest - 1))
        ;;
    --*=*) value=${word#*=} word=${word%%=*} ;;
    -[iIDUOJFcl]?* | -o?*) value=${word#??} word=${word%"$value"} ;;
    -*) continue ;;
    *) take "$word" && continue ;;
    esac
    case $word in
    -i | --input) in=$value ;;
    -o | --output) out=$value ;;
    -I | --include-dir) set -- "$@" /i "$value" ;;
    -D | --define) set -- "$@" /d "$value" ;;
    -U | --undefine) set -- "$@" /u "$value" ;;
    -O | --output-format) kind=$value ;;
    esac
done
[ -n "$in" ] || { echo "windres: no file named" >&2 && exit 2; }
: "${out:=${in%.*}.o}"
exec "${BCACHE_ZIG:-zig}" rc /:output-format "$kind" /:target {processor} /:auto-includes gnu "$@" /fo "$out" -- "$in"
"#;

/// A path between quotes of meson's.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Older mesons read `pkgconfig`, newer ones `pkg-config`.
fn meson(zig: &ZigTarget, here: &str) -> String {
    let [system, family, cpu, endian] = zig.meson();
    let tool = |name: &str| quoted(&format!("{here}/{name}"));
    let windres = if zig.is_windows() { format!("windres = {}\n", tool("windres")) } else { String::new() };
    format!(
        "[binaries]\n\
         c = {cc}\n\
         cpp = {cxx}\n\
         ar = {ar}\n\
         ranlib = {ranlib}\n\
         strip = {strip}\n\
         {windres}\
         pkgconfig = 'pkg-config'\n\
         pkg-config = 'pkg-config'\n\
         \n\
         [host_machine]\n\
         system = '{system}'\n\
         cpu_family = '{family}'\n\
         cpu = '{cpu}'\n\
         endian = '{endian}'\n",
        cc = tool("cc"),
        cxx = tool("c++"),
        ar = tool("ar"),
        ranlib = tool("ranlib"),
        strip = tool("strip"),
    )
}

/// Libraries, headers and packages are looked for where `CMAKE_INSTALL_PREFIX`, `CMAKE_PREFIX_PATH` or
/// `CMAKE_FIND_ROOT_PATH` say, and never among those of the machine that builds.
fn cmake(zig: &ZigTarget) -> String {
    let [system, processor] = zig.cmake();
    let windres = if zig.is_windows() { "set(CMAKE_RC_COMPILER \"${CMAKE_CURRENT_LIST_DIR}/windres\")\n" } else { "" };
    format!(
        "set(CMAKE_SYSTEM_NAME {system})\n\
         set(CMAKE_SYSTEM_PROCESSOR {processor})\n\
         set(CMAKE_C_COMPILER \"${{CMAKE_CURRENT_LIST_DIR}}/cc\")\n\
         set(CMAKE_CXX_COMPILER \"${{CMAKE_CURRENT_LIST_DIR}}/c++\")\n\
         set(CMAKE_AR \"${{CMAKE_CURRENT_LIST_DIR}}/ar\")\n\
         set(CMAKE_RANLIB \"${{CMAKE_CURRENT_LIST_DIR}}/ranlib\")\n\
         set(CMAKE_STRIP \"${{CMAKE_CURRENT_LIST_DIR}}/strip\")\n\
         {windres}\
         string(REPLACE \":\" \";\" bcache_prefixes \"$ENV{{CMAKE_PREFIX_PATH}}\")\n\
         list(APPEND CMAKE_FIND_ROOT_PATH ${{CMAKE_PREFIX_PATH}} ${{bcache_prefixes}} ${{CMAKE_INSTALL_PREFIX}})\n\
         if(NOT CMAKE_FIND_ROOT_PATH)\n  \
         set(CMAKE_FIND_ROOT_PATH \"${{CMAKE_CURRENT_LIST_DIR}}\")\n\
         endif()\n\
         set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)\n\
         set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)\n\
         set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)\n\
         set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)\n"
    )
}
