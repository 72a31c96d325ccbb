//! Secrets are in no file of ours, in nothing that is said, and in no command line, however a build ends. After the
//! builds every file of the worktree, the store and the home is searched, what is compressed in it too.

mod sandbox;

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use bcache::base::digest::Digest;
use sandbox::{Outcome, Sandbox};
use sha2::Digest as _;

const WORD: &str = "hunter2-Tr0ub4dor";
/// What a regular expression, a shell, JSON and a URL would each read otherwise.
const ODD: &str = "a.*[\"q\"]\\d+$(x)'%41&b";
const KEY: &str = "-----BEGIN KEY-----\nMIIEvgIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----";

/// A sandbox that keeps all that was said in it.
struct Watched {
    sandbox: Sandbox,
    said: RefCell<Vec<(String, String)>>,
}

impl Watched {
    fn new(tasks: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.tasks(tasks).file("print.sh", PRINT).file("in", "1").env("WORD", WORD).env("ODD", ODD).env("KEY", KEY);
        Self { sandbox, said: RefCell::default() }
    }

    fn keep(&self, words: &str, outcome: &Outcome) {
        self.said.borrow_mut().push((words.to_owned(), format!("{}\n{}", outcome.answered(), outcome.said())));
    }

    /// However it ends.
    fn run(&self, words: &str) -> &Self {
        let outcome = self.sandbox.run(words);
        self.keep(words, &outcome);
        self
    }

    /// All commands that tell something.
    fn ask(&self, task: &str) -> &Self {
        for words in ["plan", "why", "log"] {
            self.run(&format!("{words} {task}")).run(&format!("{words} {task} --message-format json"));
        }
        for words in ["list", "graph", "cache list", "cache stats", "cache verify"] {
            self.run(words);
        }
        self
    }

    /// In nothing that was said, nor in any file but these.
    #[track_caller]
    fn is_secret(&self, secret: &str, but: &[&str]) {
        let forms = forms(secret);
        for (words, said) in &*self.said.borrow() {
            let found = forms.iter().find(|(_, form)| holds(said.as_bytes(), form));
            assert!(found.is_none(), "`{words}` says {}:\n{said}", found.unwrap().0);
        }
        let but: Vec<PathBuf> = but.iter().map(|path| self.sandbox.at(path)).collect();
        for dir in [
            self.sandbox.work(),
            self.sandbox.store(),
            self.sandbox.root().join("home"),
            self.sandbox.root().join("tmp"),
        ] {
            search(&dir, &mut |path, bytes| {
                let found =
                    forms.iter().find(|(_, form)| holds(bytes, form) || holds(path.as_os_str().as_bytes(), form));
                let is_known = but.iter().any(|known| path.starts_with(known));
                assert!(found.is_none() || is_known, "{} holds {}", path.display(), found.unwrap().0);
            });
        }
    }
}

/// As it may be found: as it is, its lines, as JSON and URLs have it, in base64, and its digests, from which a short one
/// can be guessed.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let json = serde_json::to_string(secret).unwrap();
    let url: String = secret
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let (blake, sha) = (Digest::of(secret.as_bytes()), sha2::Sha256::digest(secret.as_bytes()));
    let hex: String = sha.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("the secret", secret.as_bytes().to_vec()),
        ("its JSON", json[1..json.len() - 1].into()),
        ("its form in a URL", url.into()),
        ("its base64", base64(secret.as_bytes()).into()),
        ("its digest", blake.as_bytes().to_vec()),
        ("its digest in hexadecimal", blake.to_string().into()),
        ("its SHA-256", sha.to_vec()),
        ("its SHA-256 in hexadecimal", hex.into()),
    ];
    forms.extend(secret.lines().map(|line| ("a line of the secret", line.into())));
    forms
}

/// Without its end, which depends on what follows.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).map(|c| u32::from(c[0]) << 16 | u32::from(c[1]) << 8 | u32::from(c[2]));
    groups.flat_map(|group| [18, 12, 6, 0].map(|shift| char::from(LETTERS[(group >> shift & 63) as usize]))).collect()
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// Every file, and what every stream of zstd in it unpacks to.
fn search(dir: &Path, see: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&path, see);
        } else if kind.is_symlink() {
            see(&path, fs::read_link(&path).unwrap().as_os_str().as_bytes());
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            for at in (0..bytes.len().saturating_sub(4)).filter(|at| bytes[*at..*at + 4] == [0x28, 0xb5, 0x2f, 0xfd]) {
                let mut unpacked = Vec::new();
                // What follows it is no part of it.
                let _ =
                    zstd::Decoder::new(&bytes[at..]).unwrap().single_frame().take(64 << 20).read_to_end(&mut unpacked);
                see(&path, &unpacked);
            }
            see(&path, &bytes);
        }
    }
}

/// Prints all of them, on both streams: whole, byte by byte with a write each, as JSON, in the middle of a long line.
const PRINT: &str = r#"
say() {
    printf '%s\n' "$1"
    printf 'x%sx%sx\n' "$1" "$1" >&2
    printf '%s' "$1" | fold -b -w 1 | while IFS= read -r c || [ -n "$c" ]; do printf '%s' "$c"; done
    echo
}
say "$WORD"
say "$ODD"
printf '%s\n' "$KEY"
printf '%s\n' "$KEY" >&2
printf '%s' "$ODD" | sed 's/\\/\\\\/g; s/"/\\"/g'
echo
head -c 65530 /dev/zero | tr '\0' y
printf '%s\n' "$WORD"
"#;

fn tasks(end: &str) -> String {
    format!(
        "[tasks.leak]\ninputs = ['in']\noutputs = ['out']\nsecrets = ['WORD', 'ODD', 'KEY']\nrun = \"\"\"sh print.sh\n{}\"\"\"\n",
        end.replace('\\', "\\\\")
    )
}

#[track_caller]
fn all_are_secret(watched: &Watched, but: &[&str]) {
    for secret in [WORD, ODD, KEY] {
        watched.is_secret(secret, but);
    }
}

#[test]
fn a_search_finds_what_lies_there() {
    let watched = Watched::new(&tasks("cp in out; printf '%s' \"$WORD\" | tr a-z b-za >>out"));
    watched.run("build leak");
    let turned: String = WORD
        .chars()
        .map(|c| if c.is_ascii_lowercase() { char::from((c as u8 - b'a' + 1) % 26 + b'a') } else { c })
        .collect();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watched.is_secret(&turned, &["out"])));
    let text = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("v1/frames") && text.ends_with("holds the secret"), "{text}");
    assert_eq!(base64(b"hunter2-x"), "aHVudGVyMi14");
}

#[test]
fn the_secrets_of_a_build_that_ends_well_are_nowhere() {
    let watched = Watched::new(&tasks("cp in out"));
    watched.run("build leak").ask("leak");
    watched.sandbox.file("in", "2");
    watched.run("build leak -v").ask("leak");
    watched.sandbox.file("in", "3");
    watched.run("build leak --message-format json -v");
    watched.sandbox.remove("out");
    watched.run("build leak");
    all_are_secret(&watched, &[]);
    assert!(watched.sandbox.read(".bcache/logs/leak@host").contains("***"));
    // Nor is a secret part of the key: with another one all is fresh.
    watched.sandbox.env("WORD", "another").run("build leak").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn the_secrets_of_a_build_that_fails_are_nowhere() {
    let watched = Watched::new(&tasks("exit 3"));
    watched.run("build leak").ask("leak").run("build leak -v").run("build leak --message-format json");
    all_are_secret(&watched, &[]);
}

#[test]
fn the_secrets_of_a_build_that_takes_too_long_are_nowhere() {
    let watched = Watched::new(&tasks("sleep 100").replace("run =", "timeout = '1s'\nrun ="));
    watched.run("build leak").run("build leak --message-format json").ask("leak");
    all_are_secret(&watched, &[]);
}

#[test]
fn the_secrets_of_a_build_that_is_killed_are_nowhere() {
    let watched = Watched::new("");
    watched.sandbox.tasks(&tasks("{gate here}\ncp in out"));
    let running = watched.sandbox.start("build leak");
    watched.sandbox.reached("here");
    running.kill();
    all_are_secret(&watched, &[]);
    let again = watched.sandbox.start("build leak");
    watched.sandbox.reached("here").open("here");
    watched.keep("build leak", &again.wait());
    watched.ask("leak");
    all_are_secret(&watched, &[]);
}

#[test]
fn the_secrets_of_a_task_that_always_runs_are_nowhere() {
    let watched = Watched::new(&tasks("true").replace("outputs = ['out']", "cache = false"));
    watched.run("build leak").run("run leak").run("build leak -v --message-format json").ask("leak");
    // It has the terminal, and what it writes there is nobody's log.
    watched.said.borrow_mut().retain(|(words, _)| words != "build leak" && words != "run leak");
    all_are_secret(&watched, &[]);
}

#[test]
fn a_result_that_holds_a_secret_is_kept_here_alone() {
    for (make, is_held) in [
        ("printf 'x%s' \"$WORD\" >out", true),
        ("head -c 3000000 /dev/zero >out; printf '%s' \"$WORD\" >>out; head -c 3000000 /dev/zero >>out", true),
        ("cp in out", false),
    ] {
        let watched = Watched::new(&tasks(make));
        let outcome = watched.sandbox.run("build leak");
        let warning = "what leak@host made holds the value of a secret: its result is kept here, but not stored";
        assert_eq!(outcome.said().contains(warning), is_held, "{}", outcome.said());
        outcome.success();
        watched.run("build leak").ask("leak");
        all_are_secret(&watched, &["out"]);
        watched.sandbox.run("build leak").counts("1 fresh, 0 restored, 0 ran").success();
        watched.sandbox.remove("out");
        let again = if is_held { "0 fresh, 0 restored, 1 ran" } else { "0 fresh, 1 restored, 0 ran" };
        watched.sandbox.run("build leak").counts(again).success();
    }
}

/// Answers each request for `/pkg.tar` by who has the password; the rest is not there.
fn server(tar: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let known =
                holds(&request, b"GET /pkg.tar ") && holds(&request.to_ascii_lowercase(), b"authorization: basic ");
            let (status, body) = if known { ("200 OK", &tar[..]) } else { ("404 Not Found", &b"no"[..]) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    port
}

#[test]
fn credentials_in_the_address_of_a_source_are_used_and_seen_nowhere() {
    let mut tar = vec![0; 512];
    for (at, text) in
        [(0, "a"), (100, "0000644\0"), (124, "00000000000\0"), (136, "00000000000\0"), (156, "0"), (257, "ustar\x0000")]
    {
        tar[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.resize(2048, 0);
    let sum: String = sha2::Sha256::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
    let port = server(tar);
    let url = |path: &str| format!("http://me:pa%40ss-w0rd@127.0.0.1:{port}/{path}");
    let task = |source: String| {
        format!("[tasks.pkg]\nsource = {{ {source} }}\noutputs = ['o']\nrun = 'cp {{{{ step.source }}}}/a WORK/o'\n")
    };
    let watched = Watched::new("");
    let fetch = |source: String| {
        watched.sandbox.tasks(&task(source).replace("WORK", watched.sandbox.work().to_str().unwrap()));
        watched.run("build pkg").ask("pkg").run("build pkg --message-format json -v");
        for secret in ["pa%40ss-w0rd", "pa@ss-w0rd"] {
            watched.is_secret(secret, &["tasks.toml"]);
        }
    };
    let other = "0".repeat(64);
    fetch(format!("url = '{}', sha256 = '{other}'", url("pkg.tar")));
    fetch(format!("url = '{}', sha256 = '{other}'", url("none")));
    fetch(format!("url = 'http://me:pa%40ss-w0rd@127.0.0.1:1/x', sha256 = '{other}'"));
    fetch(format!("url = '{}', sha256 = '{sum}'", url("pkg.tar")));
    assert!(watched.sandbox.exists("o"));
    // Git, which says what it was called with, and asks who it is.
    let log = watched.sandbox.root().join("git.log");
    watched.sandbox.tool(
        "git",
        &format!("{{ echo \"$@\"; echo url=http://127.0.0.1:{port} | /usr/bin/git credential fill; }} >>{}; exec /usr/bin/git \"$@\"", log.display()),
    );
    fetch(format!("git = '{}', rev = '{}'", url("x.git"), "a".repeat(40)));
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains(&format!("fetch --quiet --no-tags --force -- http://127.0.0.1:{port}/x.git ")), "{said}");
    assert!(said.contains("username=me\npassword=pa@ss-w0rd\n") && !said.contains("pa%40ss"), "{said}");
}
