//! Applications as people run them, each checked through the tunnel by its own protocol: nginx with and without TLS,
//! dnsmasq, redis.

use libtest_mimic::Failed;
use lvs_tund::control::Client;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab};
use serde_json::Value;

use crate::fixture::{Outcome, configuration, poll_until, same_subnet, service};
use crate::programs::{Nginx, Program, run};

fn dnsmasq(host: &Host) -> Result<Program, Failed> {
    let arguments = [
        "--no-daemon",
        "--conf-file=/dev/null",
        "--pid-file",
        "--no-resolv",
        "--no-hosts",
        "--address=/www.example.com/192.0.2.1",
        "--user=root",
    ];
    Program::start(host, "dnsmasq", &arguments)
}

fn redis(lab: &Lab, host: &Host) -> Result<Program, Failed> {
    let folder = lab.directory().display().to_string();
    let arguments =
        ["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", &folder];
    Program::start(host, "redis-server", &arguments)
}

/// The path of a file in the lab's directory.
fn at(lab: &Lab, name: &str) -> String {
    lab.directory().join(name).display().to_string()
}

/// `NAME.pem` and `NAME.key` of an authority.
fn make_authority(lab: &Lab, name: &str) -> Outcome {
    let (certificate, key) = (at(lab, &format!("{name}.pem")), at(lab, &format!("{name}.key")));
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let subject = format!("/CN={name}");
    let files = ["-keyout", &key, "-out", &certificate, "-days", "30", "-subj", &subject];
    run(&lab.director, "openssl", &[&["req", "-x509"], &kind[..], &files[..]].concat())?;
    Ok(())
}

/// `server.pem` and `server.key` for www.example.com, signed by authority `ours`.
fn make_certificate(lab: &Lab) -> Outcome {
    let [request, key, certificate] = ["server.csr", "server.key", "server.pem"].map(|name| at(lab, name));
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let name = ["-subj", "/CN=www.example.com", "-addext", "subjectAltName=DNS:www.example.com"];
    let files = ["-keyout", &key, "-out", &request];
    run(&lab.director, "openssl", &[&["req"], &kind[..], &name[..], &files[..]].concat())?;
    let (authority, authority_key) = (at(lab, "ours.pem"), at(lab, "ours.key"));
    let signed = ["-CA", &authority, "-CAkey", &authority_key, "-CAcreateserial", "-days", "30"];
    let files = ["-in", &request, "-out", &certificate, "-copy_extensions", "copy"];
    run(&lab.director, "openssl", &[&["x509", "-req"], &files[..], &signed[..]].concat())?;
    Ok(())
}

fn nginx(lab: &Lab, host: &Host) -> Result<Nginx, Failed> {
    let (certificate, key) = (at(lab, "server.pem"), at(lab, "server.key"));
    let more = format!(
        "server {{ listen 443 ssl; server_name www.example.com; ssl_certificate {certificate}; \
         ssl_certificate_key {key}; location / {{ return 200 \"secret\\n\"; }} }}\n"
    );
    Nginx::start_with(lab, host, &more)
}

/// A virtual service for each application, and its check.
fn file(lab: &Lab, authority: &str) -> String {
    let authority = at(lab, authority);
    let https = format!("ca_file = \"{authority}\", server_name = \"www.example.com\", body = \"secret\"");
    let rows = [
        ("web", "tcp", 80, "http", "body = \"server2\""),
        ("shop", "tcp", 443, "https", &*https),
        ("names", "udp", 53, "dns", "name = \"www.example.com\", expect = [\"192.0.2.1\"]"),
        ("store", "tcp", 6379, "redis", ""),
    ];
    let services = rows.map(|(name, protocol, port, kind, more)| {
        let times = "interval = \"200ms\", timeout = \"500ms\", rise = 1, fall = 2, start = \"down\"";
        let comma = if more.is_empty() { "" } else { ", " };
        let check = format!("check = {{ type = \"{kind}\", {times}{comma}{more} }}\nscheduler");
        service(lab, name, protocol, port, 1).replacen("scheduler", &check, 1)
    });
    let head = format!("control = \"{}\"", Cluster::control_path(lab).display());
    configuration(lab, &head, &services)
}

/// Waits until the only real server of a virtual service is in this state; the reason, if there is one.
fn await_state(lab: &Lab, name: &str, state: &str, words: &str) -> String {
    let client = Client::new(Some(&Cluster::control_path(lab))).expect("a client");
    let mut last = Value::Null;
    let is_it = || {
        let all: Value = client.get("/api/v1/virtual_services").expect("the virtual services");
        let services = all["virtual_services"].as_array()?.iter();
        last = services.clone().find(|service| service["name"] == name)?["real_servers"][0]["health"].clone();
        let why = last["why"].as_str().unwrap_or_default();
        (last["state"] == state && why.contains(words)).then(|| why.to_owned())
    };
    let why = poll_until(&format!("{name} is {state}: {words}"), is_it);
    println!("{name} is {state} {why}");
    why
}

/// Each check finds its application, has a reason when that has ended, and finds it again.
pub fn applications() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    make_authority(&lab, "ours")?;
    make_authority(&lab, "others")?;
    make_certificate(&lab)?;
    let _real_server: Daemon = lab::start_real_server(&lab, host)?;
    let web = nginx(&lab, host)?;
    let (names, store) = (dnsmasq(host)?, redis(&lab, host)?);
    let _director = lab::start_director(&lab, &file(&lab, "ours.pem"))?;
    let all_up = || ["web", "shop", "names", "store"].map(|name| await_state(&lab, name, "up", ""));
    all_up();

    drop(web);
    await_state(&lab, "web", "down", "connection refused by 172.25.3.2 through the tunnel");
    await_state(&lab, "shop", "down", "connection refused by 172.25.3.2 through the tunnel");
    drop(names);
    await_state(&lab, "names", "down", "172.25.3.2 through the tunnel");
    drop(store);
    await_state(&lab, "store", "down", "connection refused by 172.25.3.2 through the tunnel");
    let _web = nginx(&lab, host)?;
    let _programs = (dnsmasq(host)?, redis(&lab, host)?);
    all_up();

    // Another authority has not signed it.
    lab.director.write_file("director.toml", &file(&lab, "others.pem"))?;
    let control = Cluster::control_path(&lab).display().to_string();
    run(&lab.director, env!("CARGO_BIN_EXE_lvs-tund"), &["reload", "--control", &control])?;
    let why = await_state(&lab, "shop", "down", "TLS failed with 172.25.3.2 through the tunnel");
    assert!(why.contains("certificate"), "{why}");
    await_state(&lab, "web", "up", "");
    Ok(())
}
