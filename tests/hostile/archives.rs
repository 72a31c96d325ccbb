//! Archives. They are unpacked beside files of somebody else, of which nothing may change; what takes memory, by the
//! program itself with little of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bcache::base::paths::escaped;
use bcache::execute::archive::unpack;

use crate::sandbox::{Sandbox, tree_of};
use crate::tarball::{BLOCK, Header, Tar, gzip};

/// `a/b/src` is where it is unpacked.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new(archive: &[u8]) -> Self {
        let dir = tempfile::Builder::new().prefix("bcache-test-").tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        for victim in ["victim", "a/victim", "a/b/victim", "dir/victim"] {
            fs::write(dir.path().join(victim), "mine").unwrap();
        }
        fs::write(dir.path().join("pkg.tar"), archive).unwrap();
        Self(dir)
    }

    /// What it says, without the place.
    fn unpack(&self) -> Result<(), String> {
        let done = unpack(&self.0.path().join("pkg.tar"), &self.0.path().join("a/b/src"));
        done.map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

/// What it says is why; and nothing has changed.
#[track_caller]
fn refused(archive: &[u8], why: &str) {
    let ground = Ground::new(archive);
    let before = tree_of(ground.0.path());
    assert_eq!(ground.unpack(), Err(why.to_owned()));
    assert_eq!(tree_of(ground.0.path()), before);
}

/// What was unpacked: `path mode`, a link with its target, a line each.
#[track_caller]
fn unpacked(archive: &[u8]) -> String {
    let ground = Ground::new(archive);
    ground.unpack().unwrap();
    let mut lines = Vec::new();
    list(&ground.0.path().join("a/b/src"), Path::new(""), &mut lines);
    lines.sort();
    lines.concat()
}

fn list(at: &Path, inner: &Path, lines: &mut Vec<String>) {
    let meta = at.symlink_metadata().unwrap();
    lines.push(match fs::read_link(at) {
        Ok(target) => format!("{} -> {}\n", escaped(inner), escaped(&target)),
        Err(_) => format!("{}{} {:o}\n", escaped(inner), if meta.is_dir() { "/" } else { "" }, meta.mode() & 0o7777),
    });
    if meta.is_dir() {
        let names = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name());
        names.for_each(|name| list(&at.join(&name), &inner.join(&name), lines));
    }
}

/// The program, with 1 GiB of memory.
#[track_caller]
fn refused_by_the_program(archive: &[u8], why: &str) {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.pkg]\nsource = { archive = 'pkg.tar' }\noutputs = ['made']\nrun = 'exit 7'\n");
    sandbox.file("pkg.tar", archive).limit_memory(1 << 30);
    let outcome = sandbox.run("build pkg");
    assert_eq!(
        outcome.said().lines().nth(1),
        Some(format!("error: pkg@host failed: {why}").as_str()),
        "{}",
        outcome.said()
    );
    outcome.exit(1);
    assert_eq!(sandbox.tree(".bcache/work/host/pkg"), ["/ 755", "build/ 755"]);
}

#[track_caller]
fn holds(tar: Tar, member: &str, why: &str) {
    let tar = tar.file("pkg/after", "x").end();
    refused(&tar, &format!("`pkg.tar` holds `{member}`, {why}"));
    refused(&gzip(&tar), &format!("`pkg.tar` holds `{member}`, {why}"));
}

#[test]
fn a_name_that_leads_out_is_refused_wherever_the_dots_stand() {
    let out = "which leads out of the archive";
    for name in ["../victim", "pkg/../../victim", "pkg/..", "..", "/tmp/bcache-victim", "//victim", "./../victim"] {
        holds(Tar::new().file("pkg/a", "x").file(name, "theirs"), name, out);
        holds(Tar::new().file("pkg/a", "x").dir(name), name, out);
        holds(Tar::new().file("pkg/a", "x").symlink(name, "a"), name, out);
        holds(Tar::new().file("pkg/a", "x").hard_link(name, "pkg/a"), name, out);
        holds(Tar::new().pax(&[("path", name.as_bytes())]).file("pkg/a", "x"), name, out);
        holds(Tar::new().long(b'L', name.as_bytes()).file("pkg/a", "x"), name, out);
    }
    // Where the top directory goes, what was inside must not be outside.
    holds(Tar::new().file("pkg/sub/../../victim", "x"), "pkg/sub/../../victim", out);
    // The prefix of ustar is a part of the name.
    let header = Header::new(b'0', b"victim").field(345, b"../..");
    holds(Tar::new().raw(header, b""), "../../victim", out);
}

#[test]
fn nothing_is_written_through_a_link() {
    let below = "which lies below a link or a file";
    let link = |target: &str| Tar::new().dir("pkg/").file("pkg/real/a", "x").symlink("pkg/link", target);
    for target in ["../../../..", "/tmp", "../../../../dir", "real", ".", "link", "none"] {
        holds(link(target).file("pkg/link/victim", "theirs"), "pkg/link/victim", below);
        holds(link(target).dir("pkg/link/new"), "pkg/link/new", below);
        holds(link(target).symlink("pkg/link/victim", "x"), "pkg/link/victim", below);
        holds(link(target).hard_link("pkg/link/new", "pkg/real/a"), "pkg/link/new", below);
        holds(link(target).file("pkg/link", "theirs"), "pkg/link", "which comes twice");
        holds(link(target).dir("pkg/link"), "pkg/link", "which comes twice");
    }
    let chain = Tar::new().symlink("pkg/a", "b").symlink("pkg/b", "c").symlink("pkg/c", "../../../../../..");
    holds(chain.file("pkg/a/victim", "theirs"), "pkg/a/victim", below);
    // The top itself, as a link.
    holds(Tar::new().symlink("pkg", "../../../../dir"), "pkg/after", below);
}

#[test]
fn what_is_there_is_not_replaced() {
    let twice = "which comes twice";
    holds(Tar::new().file("pkg/a", "1").file("pkg/a", "2"), "pkg/a", twice);
    holds(Tar::new().file("pkg/a", "1").file("pkg//./a", "2"), "pkg//./a", twice);
    holds(Tar::new().file("pkg/a", "1").dir("pkg/a"), "pkg/a", twice);
    holds(Tar::new().file("pkg/a", "1").symlink("pkg/a", "x"), "pkg/a", twice);
    holds(Tar::new().file("pkg/b", "").file("pkg/a", "1").hard_link("pkg/a", "pkg/b"), "pkg/a", twice);
    holds(Tar::new().file("pkg/a", "1").hard_link("pkg/a", "pkg/a"), "pkg/a", twice);
    holds(Tar::new().dir("pkg/a").symlink("pkg/a", "../.."), "pkg/a", twice);
    holds(Tar::new().dir("pkg/a").file("pkg/a/b", "1").symlink("pkg/a", "../.."), "pkg/a", twice);
    holds(Tar::new().file("pkg/a", "1").file("pkg/a/b", "2"), "pkg/a/b", "which lies below a link or a file");
}

#[test]
fn a_directory_may_come_twice_and_names_that_differ_by_case_are_two() {
    let tar = Tar::new().dir_of_mode("pkg/", 0o700).file("pkg/a", "1").dir("pkg/").file("pkg/A", "2");
    assert_eq!(unpacked(&tar.end()), "/ 755\nA 644\na 644\n");
}

#[test]
fn a_hard_link_is_to_a_file_of_the_archive_alone() {
    let no_file = "a hard link to what is no file of the archive before it";
    let targets =
        ["/etc/passwd", "../victim", "../../../../victim", "pkg/none", "pkg/dir", "pkg/link", "pkg/out/victim"];
    for target in targets {
        let tar =
            Tar::new().dir("pkg/dir").symlink("pkg/link", "a").symlink("pkg/out", "../../../..").file("pkg/a", "x");
        holds(tar.hard_link("pkg/b", target), "pkg/b", no_file);
    }
    holds(Tar::new().hard_link("pkg/b", "pkg/after"), "pkg/b", no_file);
    let good = Tar::new().file("pkg/a", "x").hard_link("pkg/b", "./pkg/a").end();
    assert_eq!(unpacked(&good), "/ 755\na 644\nb 644\n");
}

#[test]
fn devices_pipes_and_unknown_kinds_are_refused() {
    for kind in [b'3', b'4', b'6', b'V', b'D', b'M', b'A', b's', 0xff] {
        holds(Tar::new().special(kind, "pkg/dev"), "pkg/dev", "which is no file, directory or link");
    }
}

#[test]
fn of_modes_only_those_are_kept_that_give_nobody_a_right_too_many() {
    let tar = Tar::new()
        .dir_of_mode("pkg/", 0o7777)
        .file_of_mode("pkg/suid", 0o4755)
        .file_of_mode("pkg/sgid", 0o2755)
        .file_of_mode("pkg/open", 0o1666)
        .file_of_mode("pkg/closed", 0)
        .file_of_mode("pkg/plain", 0o664)
        .file_of_mode("pkg/read", 0o444)
        .dir_of_mode("pkg/shut", 0);
    let expected = "/ 775\nclosed 400\nopen 664\nplain 664\nread 444\nsgid 755\nshut/ 700\nsuid 755\n";
    assert_eq!(unpacked(&tar.end()), expected);
}

#[test]
fn links_out_are_kept_as_text() {
    let tar =
        Tar::new().file("pkg/a", "").symlink("pkg/abs", "/usr/share/misc/config.guess").symlink("pkg/up", "../../x");
    assert_eq!(unpacked(&tar.end()), "/ 755\na 644\nabs -> /usr/share/misc/config.guess\nup -> ../../x\n");
}

#[test]
fn numbers_that_lie_are_refused() {
    let of_size = |field: &[u8]| Tar::new().raw(Header::new(b'0', b"pkg/a").field(124, field), b"x").end();
    let bad = "cannot unpack `pkg.tar`: the size of a member is no number";
    refused(&of_size(b"-0000000001\0"), bad);
    refused(&of_size(b"99999999999\0"), bad);
    refused(&of_size(b"0x000000010\0"), bad);
    refused(&of_size(&[0xff; 12]), bad);
    refused(&of_size(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]), bad);
    refused(&of_size(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), bad);
    let pax = |size: &[u8]| Tar::new().pax(&[("size", size)]).file("pkg/a", "x").end();
    refused(&pax(b"-1"), bad);
    refused(&pax(b"18446744073709551617"), bad);
    refused(&pax(b""), bad);
    let broken = Tar::new().raw(Header::new(b'x', b"h").size(6), b"9 a=b\n").file("pkg/a", "").end();
    refused(&broken, "cannot unpack `pkg.tar`: an extended header makes no sense");
    // Right ones, in both forms.
    let good = |size: &[u8]| Tar::new().raw(Header::new(b'0', b"pkg/a").field(124, size), b"x").end();
    assert_eq!(unpacked(&good(b"         1 \0")), unpacked(&good(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])));
    assert_eq!(
        unpacked(&Tar::new().pax(&[("size", b"1")]).raw(Header::new(b'0', b"pkg/a"), b"x").end()),
        "/ 755\na 644\n"
    );
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let whole = Tar::new().file("pkg/a", "some text").file("pkg/b", &"x".repeat(700)).end();
    let cut = "cannot unpack `pkg.tar`: it is cut off";
    for len in [BLOCK, BLOCK + 4, 2 * BLOCK, 2 * BLOCK + 100, 3 * BLOCK + 600, whole.len() - 2 * BLOCK] {
        refused(&whole[..len], cut);
    }
    let longer = Tar::new().raw(Header::new(b'0', b"pkg/a").size(5000), b"x").end();
    refused(&longer, cut);
    refused(&Tar::new().pax(&[("path", b"pkg/a")]).end(), cut);
    let packed = gzip(&whole);
    for len in [packed.len() / 2, packed.len() - 30] {
        let said = Ground::new(&packed[..len]).unpack().unwrap_err();
        assert!(said.starts_with("cannot unpack `pkg.tar`: "), "{said}");
    }
    let mut garbled = whole;
    garbled[2 * BLOCK] ^= 1;
    refused(&garbled, &format!("cannot unpack `pkg.tar`: byte {} begins no member", 2 * BLOCK));
}

#[test]
fn what_follows_the_end_is_not_read() {
    let first = Tar::new().file("pkg/a", "1").end();
    let second = Tar::new().file("../victim", "theirs").end();
    for after in [&b"garbage"[..], &second, &[0; 10 * BLOCK]] {
        assert_eq!(unpacked(&[&first, after].concat()), "/ 755\na 644\n");
    }
    // Streams of gzip, one after another, are one.
    let cut = first.len() - 3 * BLOCK;
    assert_eq!(unpacked(&[gzip(&first[..cut]), gzip(&first[cut..])].concat()), "/ 755\na 644\n");
}

#[test]
fn names_of_any_bytes_are_kept_and_those_that_are_none_are_refused() {
    let tar = |name: &[u8]| Tar::new().file("pkg/a", "").pax(&[("path", name)]).file("x", "").end();
    assert_eq!(unpacked(&tar(b"pkg/new\nline-\xff")), "/ 755\na 644\nnew\\x0aline-\\xff 644\n");
    let none = "which is no name for a file";
    refused(&tar(b"pkg/a\0b"), &format!("`pkg.tar` holds `pkg/a\\x00b`, {none}"));
    refused(&tar(b""), &format!("`pkg.tar` holds ``, {none}"));
    refused(&tar(b"."), &format!("`pkg.tar` holds `.`, {none}"));
    refused(&Tar::new().file("pkg/a", "").symlink("pkg/l", "").end(), &format!("`pkg.tar` holds `pkg/l`, {none}"));
    refused(&tar(b"a/\xff/../x"), "`pkg.tar` holds `a/\\xff/../x`, which leads out of the archive");
}

#[test]
fn a_bomb_is_refused_before_it_fills_disk_or_memory() {
    let too_large = "and with it more than 1.1 GB: unpack it in a command, if that is right";
    let huge = Tar::new().raw(Header::new(b'0', b"pkg/zeros").size(10 << 30), b"");
    refused_by_the_program(&gzip(&huge.0), &format!("`[ROOT]/work/pkg.tar` holds `pkg/zeros`, {too_large}"));
    let sparse = Header::new(b'S', b"pkg/holes").field(257, b"ustar  \0").octal(483, 12, 8 << 30);
    refused_by_the_program(
        &gzip(&Tar::new().raw(sparse, b"").end()),
        &format!("`[ROOT]/work/pkg.tar` holds `pkg/holes`, {too_large}"),
    );
    for kind in [b'x', b'g', b'L', b'K'] {
        let tar = Tar::new().raw(Header::new(kind, b"h").size(1 << 30), b"").end();
        refused_by_the_program(
            &gzip(&tar),
            "cannot unpack `[ROOT]/work/pkg.tar`: an extended header has 1073741824 bytes",
        );
    }
    let deep = "a/".repeat(300);
    let tar = Tar::new().pax(&[("path", deep.as_bytes())]).dir("x").end();
    refused(&tar, &format!("`pkg.tar` holds `{deep}`, which lies too deep, in more than 256 directories"));
}

#[test]
fn headers_without_end_are_refused() {
    // 1.2 GiB of comments, which nobody writes anywhere.
    let comment = Tar::new().raw(Header::new(b'g', b"h").size(1 << 20), &[b' '; 1 << 20]).0;
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    (0..1200).for_each(|_| encoder.write_all(&comment).unwrap());
    refused_by_the_program(
        &encoder.finish().unwrap(),
        "cannot unpack `[ROOT]/work/pkg.tar`: it unpacks to more than 1.1 GB",
    );
}

#[test]
fn a_window_of_gigabytes_is_not_given() {
    let tar = Tar::new().file("pkg/a", "x").end();
    refused(&xz_with_window(&tar), "cannot unpack `pkg.tar`: memory limit reached");
}

/// A good stream, whose header asks for a dictionary of 1.5 GiB.
fn xz_with_window(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
    // Block header: size, flags, LZMA2's id, one byte of properties, which is the dictionary; padding; CRC32.
    let size = (usize::from(packed[12]) + 1) * 4;
    assert_eq!(packed[14..16], [0x21, 1]);
    packed[16] = 37;
    let sum = crc32(&packed[12..12 + size - 4]);
    packed[12 + size - 4..12 + size].copy_from_slice(&sum.to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

#[test]
fn what_tar_makes_is_unpacked_in_each_of_its_forms() {
    let make = Sandbox::new();
    let long = format!("pkg/{}/{}", "d".repeat(120), "f".repeat(150));
    make.file("pkg/a", "text").file(&long, "long").link("pkg/link", "e".repeat(140)).chmod("pkg/a", 0o755);
    let hole = std::fs::File::create(make.at("pkg/holes")).unwrap();
    hole.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hole, b"end", (3 << 20) - 3).unwrap();
    std::fs::hard_link(make.at("pkg/a"), make.at("pkg/hard")).unwrap();
    let mut lists = Vec::new();
    for form in ["--format=gnu -S", "--format=gnu", "--format=pax", "--format=posix"] {
        let words = form.split(' ').chain(["-cf", "-", "pkg"]);
        let tar = std::process::Command::new("tar").current_dir(make.work()).args(words).output().unwrap();
        assert!(tar.status.success());
        lists.push(unpacked(&tar.stdout));
    }
    assert!(
        lists[0].contains(&format!("link -> {}\n", "e".repeat(140))) && lists[0].contains("hard 755"),
        "{}",
        lists[0]
    );
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:#?}");
}

#[test]
fn the_step_of_a_hostile_archive_fails_and_names_archive_and_member() {
    let tar = Tar::new().file("pkg/a", "x").symlink("pkg/l", "../../..").file("pkg/l/b", "x").end();
    let why = "`[ROOT]/work/pkg.tar` holds `pkg/l/b`, which lies below a link or a file";
    refused_by_the_program(&gzip(&tar), why);
}
