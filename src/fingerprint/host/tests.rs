use super::packages::Packages;
use super::*;

/// A made-up dpkg database.
struct Database {
    dir: tempfile::TempDir,
    outside: Outside,
}

impl Database {
    fn new(status: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["admin/info", "admin/updates", "memory"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let vars = [("DPKG_ADMINDIR".into(), dir.path().join("admin").into_os_string())];
        let database = Self { outside: Outside::new(vars.into_iter()), dir };
        database.put("status", status)
    }

    fn put(self, path: &str, text: &str) -> Self {
        fs::write(self.at(path), text).unwrap();
        self
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("admin").join(path)
    }

    fn read(&self) -> Packages {
        dpkg::read(&self.at("")).unwrap()
    }

    fn closure(&self, name: &str) -> Vec<String> {
        let packages = self.read();
        packages.closure(packages.named(name)).iter().map(|ix| packages.get(ix).name.clone()).collect()
    }

    /// The identity of a step with these programs, as `name version` each.
    fn identity(&self, programs: &[&str], has_views: bool, choice: &HostChoice) -> Vec<String> {
        let files = Files::default();
        let host = Host::new(&files, &self.outside, self.dir.path().join("memory"));
        let programs: Vec<_> = programs
            .iter()
            .map(|path| (path.rsplit('/').next().unwrap().to_owned(), vec![PathBuf::from(path)]))
            .collect();
        let asked = Asked { programs: &programs, has_views, choice };
        let (identity, _) = host.identity(&asked).unwrap().unwrap();
        // This machine's own alternatives may lead to the made-up programs.
        let packages = identity.list.iter().filter(|item| !item.name.starts_with("alternative "));
        packages.map(|item| format!("{} {}", item.name, item.version)).collect()
    }
}

fn stanza(name: &str, more: &str) -> String {
    format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n{more}\n")
}

#[test]
fn depends_and_pre_depends_count_all_the_way_whatever_version_they_want() {
    let database = Database::new(
        &[
            stanza("a", "Depends: b (>= 1.0~), c:any (<< 2)\n"),
            stanza("b", "Pre-Depends: d [amd64] <!nocheck>\n"),
            stanza("c", ""),
            stanza("d", "Depends: a\nRecommends: e\n"),
            stanza("e", ""),
        ]
        .concat(),
    );
    assert_eq!(database.closure("a"), ["a", "b", "c", "d"]);
}

#[test]
fn of_alternatives_and_virtual_names_each_installed_one_counts() {
    let database = Database::new(
        &[
            stanza("a", "Depends: mawk | gawk | original-awk, awk\n"),
            stanza("mawk", "Provides: awk\n"),
            stanza("busy", "Provides: other, awk (= 1)\n"),
            stanza("unrelated", ""),
        ]
        .concat(),
    );
    assert_eq!(database.closure("a"), ["a", "busy", "mawk"]);
}

#[test]
fn a_dependency_is_of_the_same_architecture_unless_it_names_one() {
    let arm = |name: &str| stanza(name, "Multi-Arch: same\n").replace("amd64", "arm64");
    let database = Database::new(
        &[
            stanza("cross", "Depends: libc:arm64\n"),
            stanza("native", "Depends: libc\n"),
            stanza("libc", "Multi-Arch: same\n"),
            arm("libc"),
            stanza("odd", "Depends: onlyarm\n"),
            arm("onlyarm"),
        ]
        .concat(),
    );
    let packages = database.read();
    let of = |name| packages.closure(packages.named(name)).iter().map(|ix| packages.get(ix).arch.clone()).collect();
    let native: Vec<String> = of("native");
    assert_eq!(native, ["amd64", "amd64"]);
    let cross: Vec<String> = of("cross");
    assert_eq!(cross, ["amd64", "arm64"]);
    assert_eq!(database.closure("odd"), ["odd", "onlyarm"]);
}

#[test]
fn half_installed_packages_count_with_their_state_and_removed_ones_do_not() {
    let with = |name: &str, state: &str| stanza(name, "Essential: yes\n").replace("ok installed", state);
    let status = [
        with("half", "reinstreq half-installed"),
        with("unpacked", "ok unpacked"),
        with("waits", "ok triggers-pending"),
        with("gone", "ok config-files"),
        with("never", "ok not-installed"),
    ];
    let database = Database::new(&status.concat());
    let found = database.identity(&[], false, &HostChoice::Whole);
    assert_eq!(found, ["half 1 (half-installed)", "unpacked 1 (unpacked)", "waits 1"]);
}

#[test]
fn the_journal_of_a_running_dpkg_overrules_its_status() {
    let newer = stanza("a", "Essential: yes\n").replace("Version: 1", "Version: 2");
    let gone = stanza("b", "Essential: yes\n").replace("ok installed", "ok not-installed");
    let database = Database::new(&[stanza("a", "Essential: yes\n"), stanza("b", "Essential: yes\n")].concat())
        .put("updates/0001", &newer)
        .put("updates/0002", &gone)
        .put("updates/tmp.i", &stanza("no", "Essential: yes\n"));
    assert_eq!(database.identity(&[], false, &HostChoice::Whole), ["a 2"]);
}

#[test]
fn programs_have_owners_under_both_names_of_merged_directories_and_behind_diversions() {
    let database =
        Database::new(&[stanza("sed", ""), stanza("dash", ""), stanza("bash", "Multi-Arch: same\n")].concat())
            .put("info/sed.list", "/.\n/bin\n/bin/sed\n")
            .put("info/dash.list", "/bin/sh\n/usr/bin/dash\n")
            .put("info/bash:amd64.list", "/bin/sh\n/usr/bin/bash")
            .put("diversions", "/bin/sh\n/bin/sh.distrib\ndash\n");
    let owners = |path: &str| database.identity(&[path], false, &HostChoice::Whole);
    if fs::read_link("/bin").is_ok() {
        assert_eq!(owners("/usr/bin/sed"), ["sed 1"]);
        assert_eq!(owners("/usr/bin/sh"), ["dash 1"]);
    }
    assert_eq!(owners("/bin/sed"), ["sed 1"]);
    assert_eq!(owners("/bin/sh"), ["dash 1"]);
    assert_eq!(owners("/bin/sh.distrib"), ["bash 1"]);
    assert_eq!(owners("/usr/bin/bash"), ["bash 1"]);
    assert_eq!(owners("/home/me/bin/sed"), ["sed 1"]);
    assert_eq!(owners("/usr/bin/none"), Vec::<String>::new());
}

fn compiler() -> Database {
    Database::new(
        &[
            stanza("base", "Essential: yes\nDepends: libc6\n"),
            stanza("gcc", "Depends: cpp\nRecommends: libc6-dev\n"),
            stanza("cpp", "Recommends: never\n"),
            stanza("never", ""),
            stanza("libc6", ""),
            stanza("libc6-dev", "Depends: libc6\n"),
            stanza("libmount-dev", "Depends: libmount1\n"),
            stanza("libmount1", ""),
            stanza("protoc", ""),
        ]
        .concat(),
    )
    .put("info/gcc.list", "/usr/bin/gcc\n")
    .put("info/protoc.list", "/usr/bin/protoc\n/usr/share/protoc/odd\n")
    .put("info/libc6-dev.list", "/usr/include\n/usr/include/stdio.h\n")
    .put("info/libmount-dev.list", "/usr/lib/x86_64-linux-gnu/pkgconfig/mount.pc\n/usr/bin/mount-config\n")
}

#[test]
fn who_compiles_sees_what_a_tool_recommends_and_every_header() {
    let database = compiler();
    let of = |program: &str, has_views| database.identity(&[program], has_views, &HostChoice::Whole).join(", ");
    let compiles = "base 1, cpp 1, gcc 1, libc6 1, libc6-dev 1, libmount-dev 1";
    assert_eq!(of("/usr/bin/gcc", false), compiles);
    assert_eq!(of("/usr/bin/protoc", false), "base 1, libc6 1, protoc 1");
    assert_eq!(of("/usr/bin/protoc", true), "base 1, libc6 1, libc6-dev 1, libmount-dev 1, protoc 1");
    assert_eq!(of("/usr/share/protoc/odd", false), "base 1, libc6 1, protoc 1");
}

#[test]
fn named_packages_narrow_the_list_and_not_what_can_be_seen() {
    let database = compiler();
    let choice = HostChoice::Named(vec!["libc6-dev".into(), "none".into()]);
    let found = database.identity(&["/usr/bin/gcc"], true, &choice);
    assert_eq!(found, ["libc6 1", "libc6-dev 1", "none (not installed)"]);
    let files = Files::default();
    let host = Host::new(&files, &database.outside, database.dir.path().join("memory"));
    let programs = [("gcc".to_owned(), vec![PathBuf::from("/usr/bin/gcc")])];
    let (identity, _) =
        host.identity(&Asked { programs: &programs, has_views: true, choice: &choice }).unwrap().unwrap();
    assert!(identity.may_be_seen(Path::new("/usr/bin/gcc")));
    assert!(identity.may_be_seen(Path::new("/usr/bin/mount-config")));
    assert!(!identity.may_be_seen(Path::new("/usr/bin/protoc")));
    assert!(!identity.may_be_seen(Path::new("/usr/bin/copied by hand")));
}

#[test]
fn a_database_that_changed_is_read_again_and_one_that_did_not_is_remembered() {
    let database = compiler();
    let versions = || database.identity(&["/usr/bin/protoc"], false, &HostChoice::Whole).join(", ");
    let is_settled = |path: &str| {
        let now = crate::base::stat::Instant::now();
        Stat::read(&database.at(path)).unwrap().is_none_or(|stat| stat.is_settled(now))
    };
    while !["status", "info", "updates"].iter().all(|path| is_settled(path)) {
        std::thread::yield_now();
    }
    assert_eq!(versions(), "base 1, libc6 1, protoc 1");
    assert_eq!(fs::read_dir(database.dir.path().join("memory")).unwrap().count(), 1);
    // What is remembered is believed: the list is gone, and nobody notices.
    let stat = Stat::read(&database.at("info")).unwrap();
    fs::write(database.at("info/protoc.list"), "").unwrap();
    assert_eq!(Stat::read(&database.at("info")).unwrap(), stat);
    assert_eq!(versions(), "base 1, libc6 1, protoc 1");
    let status = fs::read_to_string(database.at("status")).unwrap();
    fs::write(
        database.at("status"),
        status.replace(
            "libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1",
            "libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2",
        ),
    )
    .unwrap();
    assert_eq!(versions(), "base 1, libc6 2, protoc 1");
}
