//! Journals written, inherited, damaged and refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::text::{Content, Line, line, read, whole};
use super::*;

fn sysctl(name: &str, value: i64, previous: i64) -> Record {
    Record::Sysctl { key: format!("net/ipv4/conf/eth0/{name}"), value, previous, all: Some(0) }
}

fn rule() -> Record {
    Record::CaptureRule { interface: "eth0".into() }
}

fn place(directory: &Path, name: &str) -> JournalPlace {
    JournalPlace { directory: directory.to_owned(), namespace: "boot/7".into(), name: name.into() }
}

fn open(directory: &Path) -> Journal {
    Journal::open(&place(directory, "director-lvsd0"))
}

fn files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().flatten();
    names.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_journal_contains_what_was_made_and_not_undone() {
    let records = [sysctl("rp_filter", 2, 1), rule()];
    let mut text = whole("boot/7", &records);
    assert_eq!(read(&text, "boot/7"), Content::Records(records.to_vec(), 0));
    text += &line(&Line::Undone(rule()));
    text += &line(&Line::Made(sysctl("rp_filter", 2, 0)));
    let proxy = Record::Proxy { address: Ipv4Addr::new(10, 0, 0, 9), device: "eth0".into(), index: 2 };
    text += &line(&Line::Made(proxy.clone()));
    assert_eq!(read(&text, "boot/7"), Content::Records(vec![sysctl("rp_filter", 2, 0), proxy], 0));
}

#[test]
fn a_line_that_was_cut_short_is_ignored_and_one_that_is_damaged_is_counted() {
    let text = whole("boot/7", &[rule()]);
    let cut = text.clone() + &line(&Line::Made(sysctl("rp_filter", 2, 1)))[..30];
    assert_eq!(read(&cut, "boot/7"), Content::Records(vec![rule()], 0));
    let damaged = text + "\u{fffd}\n" + &line(&Line::Made(sysctl("rp_filter", 2, 1)));
    assert_eq!(read(&damaged, "boot/7"), Content::Records(vec![rule(), sysctl("rp_filter", 2, 1)], 1));
}

#[test]
fn the_journal_of_another_namespace_or_boot_is_not_read() {
    let text = whole("boot/7", &[rule()]);
    assert_eq!(read(&text, "boot/8"), Content::Elsewhere);
    assert_eq!(read(&text, "later/7"), Content::Outdated);
    let newer = text.replace("\"journal\":1", "\"journal\":2");
    for foreign in [newer.as_str(), "", "hello\n", "{}\n"] {
        assert_eq!(read(foreign, "boot/7"), Content::Foreign, "{foreign}");
    }
}

#[test]
fn a_key_that_leads_out_of_the_network_settings_is_refused() {
    let keys = ["../etc/passwd", "kernel/panic", "net/../kernel/panic", "net//x", "net/./x", "/net/x"];
    for key in keys {
        let record = Record::Sysctl { key: key.into(), value: 1, previous: 0, all: None };
        assert_eq!(read(&whole("boot/7", &[record]), "boot/7"), Content::Records(vec![], 1), "{key}");
    }
}

#[test]
fn the_next_start_inherits_from_a_killed_daemon_and_not_from_a_running_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = open(directory.path());
    first.made(sysctl("rp_filter", 2, 1));
    first.made(rule());
    let mut beside = Journal::open(&place(directory.path(), "realserver-lvsr0"));
    assert_eq!(beside.take_rest(), [], "the first runs");
    beside.made(sysctl("arp_ignore", 1, 0));
    drop(first);

    let mut next = open(directory.path());
    assert_eq!(next.take_inherited(&sysctl("rp_filter", 0, 9)), Some(sysctl("rp_filter", 2, 1)));
    assert_eq!(next.take_inherited(&sysctl("rp_filter", 0, 9)), None, "handed out once");
    assert_eq!(next.take_rest(), [rule()]);
    drop(next);
    let mut after = open(directory.path());
    assert_eq!(
        after.take_rest(),
        [rule(), sysctl("rp_filter", 2, 1)],
        "what has not been undone stays, newest first"
    );
    assert_eq!(beside.take_rest(), []);
}

#[test]
fn a_journal_is_inherited_by_a_daemon_with_another_device() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).made(rule());
    let mut other = Journal::open(&place(directory.path(), "director-lvsd1"));
    assert_eq!(other.take_rest(), [rule()]);
    assert_eq!(files(directory.path()), ["director-lvsd1.changes"]);
    assert_eq!(open(directory.path()).take_rest(), [], "and not twice");
}

#[test]
fn a_file_ends_with_its_last_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    assert_eq!(
        fs::metadata(directory.path().join("director-lvsd0.changes")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    journal.made(rule());
    journal.end();
    assert_eq!(files(directory.path()).len(), 1, "something could not be undone");
    journal.undone(&rule());
    journal.end();
    assert_eq!(files(directory.path()), [""; 0]);
}

#[test]
fn a_journal_does_not_grow_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.made(rule());
    for _ in 0..10_000 {
        journal.made(sysctl("rp_filter", 2, 1));
        journal.undone(&sysctl("rp_filter", 2, 1));
    }
    let length = fs::metadata(directory.path().join("director-lvsd0.changes")).unwrap().len();
    assert!(length < 1 << 20, "{length} bytes");
    drop(journal);
    assert_eq!(open(directory.path()).take_rest(), [rule()]);
}

#[test]
fn an_outdated_journal_is_removed_and_that_of_another_namespace_is_left() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("director-lvsd0.changes"), whole("earlier/7", &[rule()])).unwrap();
    fs::write(directory.path().join("director-lvsd1.changes"), whole("boot/8", &[rule()])).unwrap();
    let mut journal = open(directory.path());
    assert_eq!(journal.take_rest(), []);
    journal.end();
    assert_eq!(files(directory.path()), ["director-lvsd1.changes"]);
}

#[test]
fn a_file_that_is_not_a_journal_is_replaced_and_one_that_others_may_write_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("director-lvsd0.changes");
    fs::write(&path, b"\xff\xfe\0 no journal").unwrap();
    open(directory.path()).made(rule());
    assert_eq!(open(directory.path()).take_rest(), [rule()]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(open(directory.path()).take_rest(), []);

    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, whole("boot/7", &[rule()])).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(&target, &path).unwrap();
    let mut journal = open(directory.path());
    assert_eq!(journal.take_rest(), []);
    journal.made(sysctl("rp_filter", 2, 1));
    assert_eq!(fs::read_to_string(&target).unwrap(), whole("boot/7", &[rule()]), "a link is not followed");
}

#[test]
fn without_a_directory_there_is_no_journal_and_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let mut journal = open(&file.join("below"));
    journal.made(rule());
    journal.undone(&rule());
    journal.end();
    assert_eq!(files(directory.path()), ["file"]);
}
