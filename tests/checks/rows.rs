//! What holds for every check.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use lvs_tund::health::check::{CHECKS, Step, Tls};
use lvs_tund::health::{Transport, Value};

use super::harness::{CHANCE, Close, Silence, build, good, outcome, refused, target, text};

#[test]
fn every_option_has_one_name_and_a_default_in_its_help() {
    let mut kinds = BTreeSet::new();
    for row in CHECKS {
        assert!(kinds.insert(row.name), "{} twice", row.name);
        assert!(!row.summary.is_empty() && !row.summary.ends_with('.'), "{}", row.name);
        let mut names = BTreeSet::new();
        for option in row.options {
            assert!(names.insert(option.name), "{}: {} twice", row.name, option.name);
            let has_default = option.help.contains("default") || option.help.contains("required");
            assert!(has_default, "{}: {}: {}", row.name, option.name, option.help);
        }
    }
}

/// Everything that a driver can do to a probe of TLS.
#[test]
fn tcp_and_tls_succeed_once_the_connection_is_established() {
    for kind in ["tcp", "tls"] {
        let mut exchange = build(kind, &[]).begin(&target(), CHANCE);
        for step in [exchange.start(), exchange.receive(b"220 hello"), exchange.on_close()] {
            assert_eq!(step, Step::Done(good()));
        }
        assert_eq!(exchange.on_timeout(), None);
        assert!(exchange.on_exit(Some(0), b"").is_err());
        assert_eq!(outcome(kind, &[], b"", Close), good());
        assert_eq!(outcome(kind, &[], b"", Silence), good());
    }
}

#[test]
fn tls_has_the_defaults_of_its_help() {
    let expected = Tls {
        server_name: None,
        verify: true,
        ca_file: None,
        client: None,
        protocols: Vec::new(),
        expiry_warning: Duration::from_secs(14 * 86_400),
    };
    assert_eq!(build("tls", &[]).tls(), Some(expected));
    let given = [
        ("server_name", text("www.example.org")),
        ("verify", Value::Flag(false)),
        ("ca_file", text("/etc/ca.pem")),
        ("cert_file", text("/etc/cert.pem")),
        ("key_file", text("/etc/key.pem")),
        ("expiry_warning", Value::Duration(Duration::ZERO)),
    ];
    let expected = Tls {
        server_name: Some("www.example.org".to_owned()),
        verify: false,
        ca_file: Some(PathBuf::from("/etc/ca.pem")),
        client: Some((PathBuf::from("/etc/cert.pem"), PathBuf::from("/etc/key.pem"))),
        protocols: Vec::new(),
        expiry_warning: Duration::ZERO,
    };
    assert_eq!(build("tls", &given).tls(), Some(expected));
}

#[test]
fn a_client_certificate_needs_its_key() {
    for (name, reason) in [("cert_file", "needs key_file"), ("key_file", "needs cert_file")] {
        assert_eq!(refused("tls", &[(name, text("/a"))]), (name, reason.to_owned()));
    }
    for name in ["ca_file", "cert_file", "key_file"] {
        assert_eq!(refused("tls", &[(name, text(""))]), (name, "the name of a file is missing".to_owned()));
    }
    assert_eq!(refused("tls", &[("server_name", text(""))]), ("server_name", "the name is empty".to_owned()));
}

#[test]
fn a_check_that_uses_tls_describes_it() {
    for row in CHECKS {
        for tls in [false, true] {
            let option = row.options.iter().find(|option| option.name == "tls");
            let options = option.map(|option| (option.name, Value::Flag(tls))).into_iter().collect();
            let Ok(check) = (row.build)(&options) else { continue };
            let is_tls = (row.transport)(&options) == Transport::Tls;
            assert_eq!(check.tls().is_some(), is_tls, "{}", row.name);
        }
    }
}
