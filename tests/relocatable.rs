//! Relocatable sysroots: built at a placeholder, the same for every checkout, and moved to where they are looked at.

#![cfg(target_os = "linux")]

mod sandbox;

use std::fs;
use std::path::Path;
use std::process::Command;

use sandbox::Sandbox;

/// A program with its prefix in it, in one literal, in many pieces and as a run-time path; a library; text; a link.
const CHAIN: &str = r#"
[bcache]
version = 1
default = 'use'
[sysroots.s]
path = 'prefix'
relocatable = true
shared-files = ['share/index']
env = { P = '{{ sysroot.prefix }}' }
[tasks.lib]
sysroot = 's'
tools = ['gcc']
inputs = ['where.c', 'greet.c']
run = '''
{ran} lib
mkdir -p $P/bin $P/lib/pkgconfig $P/share
gcc -O2 -shared -fPIC -DPREFIX="\"$P\"" greet.c -o $P/lib/libgreet.so
gcc -O2 -DPREFIX="\"$P\"" where.c -L$P/lib -lgreet -Wl,-rpath,$P/lib -o $P/bin/where
echo hello > $P/share/greeting
printf 'prefix=%s\nlibdir=%s/lib\nLibs: -L%s/lib -L%s/lib64\n' $P $P $P $P > $P/lib/pkgconfig/x.pc
ln -s $P/share/greeting $P/share/link
printf '#!/bin/sh\ncat %s/share/greeting\n' $P > $P/bin/script
chmod 755 $P/bin/script
echo "lib in $P" > $P/share/index
'''
[tasks.use]
sysroot = 's'
needs = ['lib']
inputs = ['use']
run = '''
{ran} use
where > said
cat said >&2
script > $P/share/script
ls $P/share > $P/share/seen
sed "s|$P|PREFIX|" said > $P/share/said
rm said
'''
"#;

const WHERE: &str = r#"
#include <stdio.h>
#include <string.h>
const char *greet(void);
__attribute__((noinline)) static void pieces(char *to) {
  char text[] = PREFIX "/share/greeting";
  memcpy(to, text, sizeof text);
}
__attribute__((noinline)) static void alone(char *to) { strcpy(to, PREFIX); }
int main(void) {
  char path[512], prefix[512], line[64] = "";
  pieces(path);
  alone(prefix);
  if (strncmp(path, prefix, strlen(prefix))) return 1;
  FILE *file = fopen(path, "r");
  if (!file || !fgets(line, sizeof line, file)) return 2;
  printf("%s\n%s\n%s%s\n", path, prefix, line, greet());
  return 0;
}
"#;

const GREET: &str = r#"
const char *greet(void) { return PREFIX "/share/greeting"; }
"#;

fn sandboxes() -> impl Iterator<Item = Sandbox> {
    [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten()
}

fn with_chain(sandbox: &Sandbox) {
    sandbox.tasks(CHAIN).file("where.c", WHERE).file("greet.c", GREET).file("use", "");
}

/// What a program of the prefix prints, with runs of slashes made one.
fn says(sandbox: &Sandbox, program: &str) -> String {
    let output = Command::new(sandbox.at(program)).current_dir("/").env_clear().output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    let mut text = String::from_utf8(output.stdout).unwrap();
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    text
}

fn works(sandbox: &Sandbox) {
    let prefix = sandbox.at("prefix");
    let at = prefix.display();
    assert_eq!(says(sandbox, "prefix/bin/where"), format!("{at}/share/greeting\n{at}/\nhello\n{at}/share/greeting\n"));
    assert_eq!(says(sandbox, "prefix/bin/script"), "hello\n");
    assert_eq!(
        sandbox.read("prefix/lib/pkgconfig/x.pc"),
        format!("prefix={at}\nlibdir={at}/lib\nLibs: -L{at}/lib -L{at}/lib64\n")
    );
    assert_eq!(fs::read_link(sandbox.at("prefix/share/link")).unwrap(), prefix.join("share/greeting"));
    assert_eq!(sandbox.read("prefix/share/index"), format!("lib in {at}\n"));
    assert_eq!(sandbox.read("prefix/share/seen"), "greeting\nlink\nscript\nseen\n");
    assert!(!holds_placeholder(&prefix));
}

/// Is there a run of letters as only a placeholder has them?
fn holds_placeholder(dir: &Path) -> bool {
    let placeholder = bcache::graph::placeholder::of("s", "host");
    let seeds: Vec<&[u8]> = placeholder.as_bytes().windows(6).collect();
    fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => holds_placeholder(&path),
            kind if kind.is_file() => {
                let bytes = fs::read(&path).unwrap();
                bytes.windows(6).any(|window| seeds.contains(&window))
            }
            _ => false,
        }
    })
}

#[test]
fn what_a_relocatable_sysroot_holds_works_where_it_is_looked_at() {
    for sandbox in sandboxes() {
        with_chain(&sandbox);
        sandbox.run("build").counts("0 fresh, 0 restored, 2 ran").success();
        works(&sandbox);
        sandbox.run("build").counts("2 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn another_checkout_runs_nothing_and_its_programs_need_the_first_no_more() {
    for sandbox in sandboxes() {
        with_chain(&sandbox);
        sandbox.run("build").success();
        let other = sandbox.worktree("another-place.with+a-longer_name/and-a-directory");
        with_chain(&other);
        other.run("build").counts("0 fresh, 2 restored, 0 ran").success();
        fs::remove_dir_all(sandbox.work()).unwrap();
        works(&other);
        other.ran_times("lib", 1).ran_times("use", 1);
        other.run("build").counts("2 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn a_step_that_makes_the_same_leaves_the_others_fresh() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build").success();
    sandbox.append("greet.c", "// a comment\n").run("build").counts("1 fresh, 0 restored, 1 ran").success();
    sandbox
        .edit("greet.c", "share/greeting", "share/other")
        .run("build")
        .counts("0 fresh, 0 restored, 2 ran")
        .success();
    let other = sandbox.worktree("other");
    with_chain(&other);
    other.run("build").counts("0 fresh, 2 restored, 0 ran").success();
    works(&other);
}

#[test]
fn a_damaged_file_that_was_moved_is_made_good() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build").success();
    for path in ["prefix/bin/where", "prefix/lib/pkgconfig/x.pc"] {
        sandbox.append(path, "more").run("build").counts("1 fresh, 1 restored, 0 ran").success();
        works(&sandbox);
    }
    let placeholder = bcache::graph::placeholder::of("s", "host");
    sandbox
        .file("prefix/lib/pkgconfig/x.pc", format!("prefix={placeholder}\n"))
        .run("build")
        .counts("1 fresh, 1 restored, 0 ran")
        .success();
    works(&sandbox);
    sandbox.remove("prefix").run("build").counts("0 fresh, 2 restored, 0 ran").success();
    works(&sandbox);
    sandbox.remove("prefix").remove(".bcache").run("build").counts("0 fresh, 2 restored, 0 ran").success();
    works(&sandbox);
}

#[test]
fn a_checkout_that_was_moved_moves_its_prefix() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build").success();
    let moved = sandbox.worktree("moved");
    fs::remove_dir(moved.work()).unwrap();
    fs::rename(sandbox.work(), moved.work()).unwrap();
    // Nothing of the other step's layer says where it lies.
    moved.run("build").counts("1 fresh, 1 restored, 0 ran").success();
    works(&moved);
}

#[test]
fn a_step_sees_its_directories_at_places_that_are_the_same_for_every_checkout() {
    let sandbox = Sandbox::new();
    sandbox.tool("helper", "echo helped").file("copy/a.txt", "a\n");
    sandbox.tasks(
        "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.t]
sysroot = 's'
source = { path = 'copy' }
tools = ['helper']
env = { B = '{{ step.build }}', S = '{{ step.source }}', P = '{{ sysroot.prefix }}' }
run = '''
{ echo $B; echo $S; echo $TMPDIR; echo $HOME; pwd; cat $S/a.txt; command -v helper; helper; } > $P/said
echo $PATH | tr : '\\n' | grep work >> $P/said
touch $TMPDIR/x $HOME/x
'''
",
    );
    sandbox.run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    let w = "/bcache-work/host/t";
    let tools = "/bcache-work/.tools";
    let said = format!("{w}/build\n{w}/src\n{w}/tmp\n{w}/home\n{w}/build\na\n{tools}/helper\nhelped\n{tools}\n");
    assert_eq!(sandbox.read("prefix/said"), said);
}

#[test]
fn a_plain_task_and_path_speak_of_the_real_prefix() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build").success();
    sandbox.run("path use").stdout("[ROOT]/work/prefix\n").success();
}

#[test]
fn what_holds_the_path_of_the_workspace_all_the_same_answers_only_there() {
    let sandbox = Sandbox::new();
    let tasks = "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.t]
sysroot = 's'
inputs = ['a']
run = '{ran} t; pwd > {{ sysroot.prefix }}/at'
";
    sandbox.tasks(tasks).file("a", "");
    sandbox.run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("a", "");
    other.run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(other.read("prefix/at"), format!("{}\n", other.work().display()));
    sandbox.remove("prefix").run("build t").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.run("build t").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn an_output_that_holds_the_placeholder_is_a_failure() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.t]
sysroot = 's'
outputs = ['out']
run = 'echo {{ sysroot.prefix }} > out'
",
    );
    sandbox
        .run("build t")
        .stderr(
            "
     Running t@host
error: t@host failed: output `out` holds the path of a relocatable sysroot, which is replaced only in what is installed there
  help: to look around: cargo bcache shell t@host
      Failed t@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
}

#[test]
fn a_prefix_that_is_too_long_is_an_error_that_says_both_lengths() {
    let sandbox = Sandbox::new();
    let long = "d".repeat(200);
    sandbox.tasks(&format!(
        "
[sysroots.s]
path = '{long}'
relocatable = true
[tasks.t]
sysroot = 's'
run = 'true'
"
    ));
    let length = sandbox.at(&long).as_os_str().len();
    let outcome = sandbox.run("build t");
    let expected = format!("can have 192 bytes, and here it has {length}");
    assert!(outcome.said().replace("\n", " ").contains(&expected), "{}", outcome.said());
    outcome.exit(3);
}

#[test]
fn a_program_with_a_piece_that_is_too_small_to_be_found_is_a_failure() {
    let sandbox = Sandbox::new();
    let tasks = |last: &str| {
        "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.t]
sysroot = 's'
env = { P = '{{ sysroot.prefix }}' }
run = '''
printf '%s\\0' $(echo $P | cut -c 1-100) $(echo $P | cut -c LAST) > $P/program
'''
"
        .replace("LAST", last)
    };
    sandbox.tasks(&tasks("101-188"));
    sandbox
        .run("build t")
        .stderr(
            "
     Running t@host
error: t@host failed: `program` holds the path of a relocatable sysroot in pieces that are too small to be found: it can't be moved
  help: to look around: cargo bcache shell t@host
      Failed t@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.tasks(&tasks("101-192")).run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    let whole = fs::read(sandbox.at("prefix/program")).unwrap();
    let real = format!("{:/<192}", sandbox.at("prefix").to_str().unwrap());
    assert_eq!(whole, format!("{}\0{}\0", &real[..100], &real[100..]).into_bytes());
}

#[test]
fn an_empty_prefix_that_is_not_relocatable_binds_no_step_to_its_place() {
    let sandbox = Sandbox::new();
    let tasks = "
[sysroots.s]
path = 'prefix'
relocatable = true
[sysroots.fixed]
path = 'fixed'
[tasks.t]
sysroot = 's'
run = '{ran} t; echo 1 > {{ sysroot.prefix }}/t'
[tasks.f]
sysroot = 'fixed'
needs = ['t']
run = '{ran} f; echo 1 > {{ sysroot.prefix }}/f'
[tasks.both]
sysroot = 's'
needs = ['f']
run = '{ran} both; echo 1 > {{ sysroot.prefix }}/both'
";
    sandbox.tasks(tasks).run("build both").counts("0 fresh, 0 restored, 3 ran").success();
    let other = sandbox.worktree("other");
    other.tasks(tasks).run("build both").counts("0 fresh, 1 restored, 2 ran").success();
    other.ran_times("t", 1).ran_times("f", 2).ran_times("both", 2);
}

#[test]
fn what_a_sysroot_holds_of_another_one_is_moved_too() {
    let sandbox = Sandbox::new();
    let tasks = "
[sysroots.s]
path = 'prefix'
relocatable = true
[sysroots.other]
path = 'other'
relocatable = true
[tasks.t]
sysroot = 's'
run = 'mkdir {{ sysroot.prefix }}/bin; printf %s {{ sysroot.prefix }} > {{ sysroot.prefix }}/bin/where'
[tasks.o]
sysroot = 'other'
needs = ['t']
env = { P = '{{ sysroot.prefix }}' }
run = 't=$(cat $(echo $PATH | cut -d : -f 2)/where); echo $t:$P > $P/both; ln -s $t/bin/where $P/link'
";
    sandbox.tasks(tasks).run("build o").counts("0 fresh, 0 restored, 2 ran").success();
    let other = sandbox.worktree("elsewhere");
    other.tasks(tasks).run("build o").counts("0 fresh, 2 restored, 0 ran").success();
    for sandbox in [&sandbox, &other] {
        let (t, o) = (sandbox.at("prefix"), sandbox.at("other"));
        assert_eq!(sandbox.read("other/both"), format!("{}:{}\n", t.display(), o.display()));
        assert_eq!(sandbox.read("other/link"), t.to_str().unwrap());
    }
}

#[test]
fn what_a_step_says_is_shown_with_the_real_paths() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.t]
sysroot = 's'
env = { P = '{{ sysroot.prefix }}' }
run = 'echo in $P >&2; cp {{ sysroot.prefix }}/none .'
",
    );
    sandbox
        .run("build t")
        .stderr(
            "
     Running t@host
error: t@host failed: the command ended with exit code 1
  command: echo in $P >&2; cp [ROOT]/work/prefix/none .
  output of t@host:
in [ROOT]/work/prefix
cp: cannot stat '[ROOT]/work/prefix/none': No such file or directory
  log: [ROOT]/work/.bcache/logs/t@host
  help: the whole log: cargo bcache log t
  help: to look around: cargo bcache shell t@host
      Failed t@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox
        .run("log t")
        .stdout(
            "
in [ROOT]/work/prefix
cp: cannot stat '[ROOT]/work/prefix/none': No such file or directory
",
        )
        .success();
}
