use super::*;

fn tarball(dir: &Path, members: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("a.tar");
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    for (name, text) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_000_000);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    builder.finish().unwrap();
    path
}

#[test]
fn one_top_directory_becomes_the_source_and_stamps_and_modes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = tarball(dir.path(), &[("pkg-1.0/configure", "#!"), ("pkg-1.0/sub/b c", "x")]);
    let dest = dir.path().join("src");
    unpack(&path, &dest).unwrap();
    let stat = Stat::read(&dest.join("configure")).unwrap().unwrap();
    assert_eq!((stat.mode, stat.mtime), (0o755, 1_000_000_000_000_000));
    assert_eq!(fs::read(dest.join("sub/b c")).unwrap(), b"x");
}

#[test]
fn an_archive_with_several_tops_is_unpacked_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = tarball(dir.path(), &[("a", "1"), ("b/c", "2")]);
    unpack(&path, &dir.path().join("src")).unwrap();
    assert!(dir.path().join("src/a").is_file() && dir.path().join("src/b/c").is_file());
}

#[test]
fn a_member_that_leads_out_is_an_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = tarball(dir.path(), &[("../evil", "x")]);
    let error = unpack(&path, &dir.path().join("in/src")).unwrap_err();
    assert!(matches!(error, ArchiveError::Refused { why: Refusal::Outside, .. }), "{error}");
    assert!(!dir.path().join("evil").exists() && !dir.path().join("in/evil").exists());
}

#[test]
fn what_is_no_archive_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar.gz");
    fs::write(&path, "hello").unwrap();
    assert!(matches!(unpack(&path, &dir.path().join("src")), Err(ArchiveError::Unknown { .. })));
}
