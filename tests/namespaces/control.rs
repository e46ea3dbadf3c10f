//! A director that is changed while it runs: by operations, by whole configurations, by its file.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lvs_tund::control::model::{
    AfterDrain, Change, Changed, Configuration, EntryKind, Event, EventKind, Matcher, Operation, Port,
    Protocol, RealServerSpec, Reload, Seconds, ServiceRef, VirtualService, VirtualServiceSpec,
};
use lvs_tund::control::{Client, ClientError, Code, ControlError};
use lvs_tund::lab::{self, Cluster, Daemon, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, configuration, director_count, dropped, poll_until,
    same_subnet, service, start_real_servers, stop, web, web_address,
};
use crate::host_state::{assert_same, state};

const MALFORMED_BODY: &str = "{\"operations\": [{\"operation\": \"flush\"";

fn socket(lab: &Lab) -> PathBuf {
    lab.directory().join("director.sock")
}

fn client(lab: &Lab) -> Client {
    Client::new(Some(&socket(lab))).expect("a client")
}

/// Keys for the whole file that make the director listen in the lab's directory.
fn head(lab: &Lab) -> String {
    format!("control = \"{}\"\n", socket(lab).display())
}

fn matcher(vip: Ipv4Addr, port: u16) -> Matcher {
    Matcher { protocol: Protocol::Tcp, vip: vip.into(), port: Port::one(port) }
}

fn add_service(lab: &Lab, name: &str, vip: Ipv4Addr, port: u16) -> Operation {
    let server = |host: &lab::Host| RealServerSpec {
        name: Some(host.name.clone()),
        ..RealServerSpec::new(host.address.into())
    };
    Operation::AddVirtualService {
        virtual_service: VirtualServiceSpec {
            name: Some(name.to_owned()),
            matchers: vec![matcher(vip, port)],
            scheduler: Some("rr".to_owned()),
            real_servers: lab.real_servers.iter().map(server).collect(),
            ..VirtualServiceSpec::default()
        },
    }
}

fn set_weight(server: &str, weight: u32) -> Change {
    let operation = Operation::SetWeight { virtual_service: None, real_server: server.to_owned(), weight };
    vec![operation].into()
}

fn change(lab: &Lab, operations: Vec<Operation>) -> Changed {
    client(lab).change(&operations.into()).expect("a change")
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> ControlError {
    match outcome {
        Err(ClientError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn web_service(lab: &Lab) -> VirtualService {
    client(lab).get("/api/v1/virtual_services/web").expect("the service web")
}

/// Real servers that take the second VIP too.
fn start_real_servers_of_two(lab: &Lab, other: Ipv4Addr) -> Result<Vec<Daemon>, lab::LabError> {
    let [vip, other, director] = [lab.vip, other, lab.director.address].map(|address| address.to_string());
    let start = |host: &lab::Host| {
        let mut daemon =
            host.spawn_daemon(&["realserver", "--vip", &vip, "--vip", &other, "--director", &director])?;
        daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
        Ok(daemon)
    };
    lab.real_servers.iter().map(start).collect()
}

fn second_vip(lab: &Lab) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(lab.vip) + 1)
}

/// From nothing to two VIPs and back, without a restart; the host is left as it was.
pub fn vips_come_and_go() -> Outcome {
    let lab = same_subnet(2).build()?;
    let other = second_vip(&lab);
    let _web: Vec<_> = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let _real_servers = start_real_servers_of_two(&lab, other)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &configuration(&lab, &head(&lab), &[]))?;
    let first = change(&lab, vec![add_service(&lab, "web", lab.vip, 80)]);
    assert_eq!((first.generation, first.dry_run, first.differences.len()), (2, false, 1));
    assert!(ask(&lab)?.starts_with("server"));
    change(&lab, vec![add_service(&lab, "other", other, 80)]);
    assert!(
        lab.client().get((other, 80), "/")?.text().starts_with("server"),
        "a VIP added live is reachable"
    );
    let mut kept = lab.client().connect(web_address(&lab))?;
    let served_by = kept.get("/")?.text();
    let removal =
        Operation::RemoveVirtualService { virtual_service: ServiceRef::Matcher(matcher(other, 80)) };
    change(&lab, vec![removal]);
    assert!(lab.client().get((other, 80), "/").is_err(), "a VIP removed live does not answer");
    assert_eq!(kept.get("/")?.text(), served_by, "what did not change is not touched");
    assert_conserved(&lab)?;
    change(&lab, vec![Operation::Flush {}]);
    assert_eq!(client(&lab).status().expect("the status").virtual_services, 0);
    let log = director.log();
    assert!(log.contains("changed: web: added") && log.contains("by=\"uid"), "{log}");
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

/// A hundred reloads under load: no request fails, no connection moves, and what was set by hand stays.
pub fn reloads_under_load() -> Outcome {
    let lab = same_subnet(3).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let file = |services: &[String]| configuration(&lab, &head(&lab), services);
    let one = file(&[service(&lab, "web", "tcp", 80, 1)]);
    let two = file(&[service(&lab, "web", "tcp", 80, 1), service(&lab, "dns", "udp", 53, 1)]);
    let two = two.replacen("weight = 1", "weight = 2", 1).replacen("\"rr\"", "\"wrr\"", 1);
    let mut director = lab::start_director(&lab, &one)?;
    client(&lab).change(&set_weight("server4", 0)).expect("a weight by hand");
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut connection = lab.client().connect(web_address(&lab))?;
        let served_by = connection.get("/")?.text();
        kept.push((connection, served_by));
    }
    let is_over = AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut requests = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = ask(&lab).expect("an answer during reloads");
                assert!(answer == "server2" || answer == "server3", "{answer} has weight 0");
                requests += 1;
            }
            requests
        });
        for round in 0..100 {
            let generation = client(&lab).status().expect("the status").generation;
            let text = if round % 2 == 0 { &two } else { &one };
            lab.director.write_file("director.toml", text).expect("a file");
            director.signal(Signal::SIGHUP).expect("a signal");
            poll_until("a reload", || {
                let now = client(&lab).status().expect("the status").generation;
                (now == generation + 1).then_some(())
            });
        }
        is_over.store(true, Ordering::Relaxed);
        load.join().expect("the load")
    });
    assert!(requests > 100, "{requests} requests");
    for (connection, served_by) in &mut kept {
        assert_eq!(connection.get("/")?.text(), *served_by, "a connection has moved");
    }
    let by_hand = web_service(&lab).real_servers.iter().map(|server| server.weight).collect::<Vec<_>>();
    assert_eq!(by_hand, [1, 1, 0], "a weight set by hand, that the file never changed");
    assert_eq!(dropped(&lab, "send_error"), 0);
    assert_conserved(&lab)
}

/// A file with an error, a truncated one, one that needs a restart, a missing one: each is refused with a
/// sentence, and the director continues as before.
pub fn bad_files() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let good = web(&lab, &head(&lab));
    let mut director = lab::start_director(&lab, &good)?;
    let before = web_service(&lab);
    let bad = [
        (good.replace("rr", "best"), Code::BadConfiguration, "scheduler = \"best\""),
        (good[..good.len() - 3].to_owned(), Code::BadConfiguration, "director.toml:"),
        (String::new(), Code::BadConfiguration, "the configuration is empty"),
        ("# to be written\n\n".to_owned(), Code::BadConfiguration, "the configuration is empty"),
        (
            format!("queues = 3\n{good}"),
            Code::NeedsRestart,
            "queues: cannot change without a restart of the director",
        ),
        (
            good.replace(&lab.real_servers[0].address.to_string(), &lab.vip.to_string()),
            Code::BadConfiguration,
            "is a VIP",
        ),
    ];
    for (text, code, sentence) in bad {
        lab.director.write_file("director.toml", &text)?;
        let error = refused(client(&lab).reload(&Reload::default()));
        assert!(error.code == code && error.message.contains(sentence), "{sentence}: {error:?}");
        director.signal(Signal::SIGHUP)?;
    }
    director.wait_for_log("by=\"SIGHUP\"", PATIENCE)?;
    let path = lab.director.write_file("director.toml", &good)?;
    std::fs::remove_file(path).expect("the file");
    let error = refused(client(&lab).reload(&Reload::default()));
    assert!(error.code == Code::BadConfiguration && error.message.contains("cannot read"), "{error:?}");
    assert_eq!(client(&lab).status().expect("the status").generation, 1);
    assert_eq!(web_service(&lab).real_servers[0].rip, before.real_servers[0].rip);
    assert_eq!(ask(&lab)?, "server2");
    let log = director.log();
    assert!(log.contains("reload refused: "), "{log}");
    assert_conserved(&lab)
}

/// Of two writers that read the same generation one wins; a dry run changes nothing.
pub fn two_writers() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _director = lab::start_director(&lab, &web(&lab, &head(&lab)))?;
    let generation = client(&lab).status().expect("the status").generation;
    let won: Vec<bool> = thread::scope(|scope| {
        let write = |weight| {
            let change = Change { if_generation: Some(generation), ..set_weight("server2", weight) };
            let outcome = client(&lab).change(&change);
            outcome
                .map_err(|error| assert_eq!(refused::<()>(Err(error)).code, Code::GenerationConflict))
                .is_ok()
        };
        let writers: Vec<_> = (2..10).map(|weight| scope.spawn(move || write(weight))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let status = client(&lab).status().expect("the status");
    assert_eq!(status.generation, generation + 1);
    let dry = client(&lab).change(&Change { dry_run: true, ..set_weight("server2", 99) }).expect("a preview");
    assert_eq!((dry.dry_run, dry.generation, dry.differences.len()), (true, generation + 2, 1));
    assert_eq!(client(&lab).status().expect("the status").generation, generation + 1);
    let nothing = client(&lab).change(&set_weight("server2", web_service(&lab).real_servers[0].weight));
    assert_eq!(
        nothing.expect("no change").generation,
        generation + 1,
        "what changes nothing is no generation"
    );
    Ok(())
}

/// A drained real server gets nothing new, keeps its connections until the deadline, and is removed then; its
/// configured weight stays, and it comes back with it.
pub fn drains() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, &head(&lab)))?;
    client(&lab).change(&set_weight("server2", 7)).expect("a weight");
    let mut kept = loop {
        let mut connection = lab.client().connect(web_address(&lab))?;
        if connection.get("/")?.text() == "server2" {
            break connection;
        }
    };
    let drain = |server: &str, seconds, then| Operation::Drain {
        virtual_service: None,
        real_server: server.to_owned(),
        timeout: Some(Seconds::new(seconds)),
        then,
    };
    change(&lab, vec![drain("server2", 600, AfterDrain::Keep)]);
    assert!(ask_times(&lab, 6)?.iter().all(|answer| answer == "server3"));
    assert_eq!(kept.get("/")?.text(), "server2", "a draining real server keeps its connections");
    let server2 =
        |lab: &Lab| web_service(lab).real_servers.into_iter().find(|server| server.name == "server2");
    let draining = server2(&lab).expect("server2");
    assert_eq!((draining.weight, draining.weight_now), (7, 0));
    let drain_now = draining.drain.expect("a drain");
    assert!(!drain_now.done && drain_now.deadline_in > Some(590), "{drain_now:?}");
    let saved = client(&lab).configuration().expect("the configuration").toml;
    assert!(saved.contains("weight = 7") && !saved.contains("weight = 0"), "{saved}");
    director.signal(Signal::SIGHUP)?;
    client(&lab).reload(&Reload::default()).expect("a reload");
    assert!(server2(&lab).expect("server2").drain.is_some(), "a drain survives a reload");
    let undrain = Operation::Undrain { virtual_service: None, real_server: "server2".to_owned() };
    change(&lab, vec![undrain]);
    let back = server2(&lab).expect("server2");
    assert_eq!((back.weight, back.drain), (7, None));
    change(&lab, vec![drain("server2", 1, AfterDrain::Remove)]);
    assert_eq!(kept.get("/")?.text(), "server2", "before the deadline");
    poll_until("the deadline", || server2(&lab).expect("server2").is_removed().then_some(()));
    assert!(kept.get("/").is_err(), "its connections end with it");
    assert!(director.log().contains("drained, the deadline has passed"), "{}", director.log());
    assert!(ask_times(&lab, 6)?.iter().all(|answer| answer == "server3"));
    let saved = client(&lab).configuration().expect("the configuration").toml;
    assert!(!saved.contains("server2"), "{saved}");
    let reloaded = client(&lab).reload(&Reload::default()).expect("a reload");
    let told: Vec<String> = reloaded.differences.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["web server2: state removed -> active"]);
    let back = server2(&lab).expect("server2");
    assert_eq!((back.weight_now, back.drain), (7, None), "the file lists it");
    assert!(ask_times(&lab, 6)?.iter().any(|answer| answer == "server2"));
    assert_conserved(&lab)
}

/// `zero` is for listings; Prometheus counters continue. Connections are listed, filtered and streamed.
pub fn listings() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(
        &lab,
        &configuration(
            &lab,
            &head(&lab),
            &[service(&lab, "web", "tcp", 80, 1), service(&lab, "dns", "udp", 53, 1)],
        ),
    )?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    kept.get("/")?;
    ask_times(&lab, 5)?;
    let before = web_service(&lab);
    let counted =
        |lab: &Lab| director_count(lab, "virtual_service_packets_total", &[("virtual_service", "web")]);
    assert!(before.statistics.connections == 6 && before.statistics.packets >= 18, "{:?}", before.statistics);
    let packets = counted(&lab);
    assert!(packets >= 18, "{packets} packets");
    change(&lab, vec![Operation::Zero { virtual_service: None }]);
    let zeroed = web_service(&lab);
    assert_eq!(zeroed.statistics, Default::default());
    assert!(zeroed.real_servers.iter().all(|server| server.statistics == Default::default()));
    assert!(counted(&lab) >= packets, "a Prometheus counter went back");
    let list = |query: &str| {
        let mut listed = Vec::new();
        let stream = client(&lab).connections(query, |connection| {
            listed.push(connection);
            ControlFlow::Continue(())
        });
        stream.expect("a stream");
        listed
    };
    let listed = list(&format!("client={}&virtual_service=web", lab.client().address));
    assert_eq!(listed.len(), 6);
    for (query, count) in [("client=192.0.2.0/24", 0), ("virtual_service=dns", 0), ("real_server=server2", 3)]
    {
        assert_eq!(list(query).len(), count, "{query}");
    }
    assert!(listed.iter().all(|c| c.kind == EntryKind::Connection && c.vip == lab.vip && c.vip_port == 80));
    assert_eq!(listed.iter().filter(|c| c.state == "ESTABLISHED").count(), 1, "{listed:?}");
    let mut paged = 0;
    let mut cursor = String::new();
    loop {
        let page: Value = client(&lab).get(&format!("/api/v1/connections?limit=4{cursor}")).expect("a page");
        paged += page["connections"].as_array().expect("connections").len();
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, 6);
    Ok(())
}

/// The running configuration, posted back, changes nothing; an event reports who did what.
pub fn configurations() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(
        &lab,
        &web(&lab, &format!("{}hash_key = \"{}\"\n", head(&lab), "0f".repeat(16))),
    )?;
    let (told, events) = mpsc::channel();
    let (ready, listening) = mpsc::channel();
    let path = socket(&lab);
    thread::spawn(move || {
        let client = Client::new(Some(&path)).expect("a client");
        ready.send(()).expect("a subscriber");
        // It ends with the director.
        let _ = client.events(|event: Event| match told.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
    });
    listening.recv().expect("a subscriber");
    let mut in_force = client(&lab).configuration().expect("the configuration");
    assert!(in_force.toml.contains(&format!("hash_key = \"{}\"", "0f".repeat(16))), "{}", in_force.toml);
    let same = client(&lab).configure(&in_force).expect("the same");
    assert!(same.differences.is_empty(), "{same:?}");
    in_force.toml = in_force.toml.replace("scheduler = \"rr\"", "scheduler = \"sh\"");
    let preview = Configuration { dry_run: true, ..in_force.clone() };
    assert_eq!(client(&lab).configure(&preview).expect("a preview").differences.len(), 2);
    client(&lab).configure(&in_force).expect("another configuration");
    assert_eq!(web_service(&lab).scheduler, "sh");
    let event = events.recv_timeout(PATIENCE).expect("an event");
    assert_eq!((event.what, event.generation), (EventKind::Replaced, 2));
    assert!(event.by.starts_with("uid ") && event.differences.len() == 2, "{event:?}");
    assert!(ask(&lab)?.starts_with("server"));
    assert_conserved(&lab)
}

/// Every path of the document answers, and whatever is no sound request gets one clear answer, while packets flow.
pub fn bad_requests() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director =
        lab::start_director(&lab, &web(&lab, &format!("{}api = \"127.0.0.1:9692\"\n", head(&lab))))?;
    every_route_answers(&lab);
    let bad = [
        ("POST /api/v1/changes", MALFORMED_BODY, 400, "bad_request"),
        ("POST /api/v1/changes", "{\"operations\": [], \"color\": 1}", 400, "bad_request"),
        ("POST /api/v1/changes", "{\"operations\": \"flush\"}", 400, "bad_request"),
        (
            "POST /api/v1/changes",
            "{\"operations\": [{\"operation\": \"remove_virtual_service\", \"virtual_service\": \"api\"}]}",
            404,
            "no_such_service",
        ),
        ("POST /api/v1/config", "{\"toml\": \"interface = \"}", 422, "bad_configuration"),
        ("GET /api/v1/nosuch", "", 404, "not_found"),
        ("DELETE /api/v1/status", "", 405, "method_not_allowed"),
        ("GET /api/v1/connections?limit=0", "", 400, "bad_request"),
        ("GET /api/v1/connections?cursor=x", "", 400, "bad_request"),
        ("GET /api/v1/connections?colour=red", "", 400, "bad_request"),
        ("GET /api/v1/virtual_services/nosuch", "", 404, "no_such_service"),
        ("GET /api/v1/virtual_services/%ff", "", 400, "bad_request"),
        ("POST /api/v1/changes", "[[], null, true]", 400, "bad_request"),
    ];
    for (request, body, status, code) in bad {
        let (got, answer) = raw(&lab, request, body);
        let error = &answer["error"];
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{request} {body}: {answer}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    }
    let mut long = UnixStream::connect(socket(&lab)).expect("the socket");
    write!(long, "POST /api/v1/changes HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        .expect("a request");
    assert_eq!(answer_of(long).0, 413);
    // Clients that never read, and one that never ends its header.
    let silent: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(socket(&lab)).expect("the socket");
            write!(stream, "GET /api/v1/connections?stream=true HTTP/1.1\r\nhost: x\r\n")
                .expect("half a request");
            stream
        })
        .collect();
    assert_eq!(ask(&lab)?, "server2", "forwarding continues");
    assert_eq!(client(&lab).status().expect("the status").generation, 1);
    drop(silent);
    let read_only = |path: &str| lab.director.get((Ipv4Addr::LOCALHOST, 9692), path);
    assert_eq!(read_only("/api/v1/status")?.status, 200);
    assert_eq!(
        lab.director.run(|| -> std::io::Result<u16> {
            let mut connection = lab::http::Connection::open((Ipv4Addr::LOCALHOST, 9692).into(), PATIENCE)?;
            Ok(connection.post("/api/v1/reload", b"{}")?.status)
        })?,
        404,
        "nothing can be written over TCP"
    );
    assert_conserved(&lab)
}

/// A thousand VIPs in one change: nothing waits for their announcements, neither the change nor a signal.
pub fn many_vips() -> Outcome {
    const COUNT: u16 = 1000;
    let lab = same_subnet(1).build()?;
    let mut director = lab::start_director(&lab, &configuration(&lab, &head(&lab), &[]))?;
    let vip = |number: u16| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 77, 0, 0)) + u32::from(number));
    let services = (0..COUNT).map(|number| add_service(&lab, &format!("s{number}"), vip(number), 80));
    let since = Instant::now();
    change(&lab, services.collect());
    assert!(since.elapsed() < PATIENCE, "{COUNT} VIPs took {:?}", since.elapsed());
    let since = Instant::now();
    change(&lab, vec![add_service(&lab, "web", lab.vip, 80)]);
    assert!(since.elapsed() < PATIENCE / 5, "the next change waited {:?}", since.elapsed());
    let since = Instant::now();
    let status = director.stop()?;
    assert!(status.success() && since.elapsed() < PATIENCE, "{status} after {:?}", since.elapsed());
    Ok(())
}

/// Those who listen to events take no place of others, and one of them without a place gets a refusal at once.
pub fn busy() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _director = lab::start_director(&lab, &web(&lab, &head(&lab)))?;
    let listen = || -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(socket(&lab))?;
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0; 12])?;
        Ok(stream)
    };
    let listeners = (0..64).map(|_| listen()).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(client(&lab).status().expect("the status").generation, 1);
    let (status, answer) = raw(&lab, "GET /api/v1/events", "");
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("busy")), "{answer}");
    drop(listeners);
    // Silent connections: each takes the place of one that has been silent for longer.
    let idle = (0..300).map(|_| UnixStream::connect(socket(&lab))).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(client(&lab).status().expect("the status").generation, 1);
    drop(idle);
    Ok(())
}

fn every_route_answers(lab: &Lab) {
    let document: Value = client(lab).get("/api/v1/openapi.json").expect("the document");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() >= 9, "{} paths", paths.len());
    for (path, methods) in paths {
        let path = path.replace("{name}", "web");
        for method in methods.as_object().expect("methods").keys() {
            if path.ends_with("/events") {
                continue; // It answers as long as a program listens; that is another test.
            }
            let body = if path.ends_with("changes") { "{\"operations\": []}" } else { "" };
            let (status, answer) = raw(lab, &format!("{} {path}", method.to_uppercase()), body);
            // A configuration without text is refused by its own handler.
            let is_answered = status == 200 || answer["error"]["code"] == "bad_request";
            assert!(is_answered, "{method} {path}: {status} {answer}");
        }
    }
}

/// Status and body of the answer to a request made by hand.
fn raw(lab: &Lab, request: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket(lab)).expect("the socket");
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("a request");
    answer_of(stream)
}

fn answer_of(mut stream: UnixStream) -> (u16, Value) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut answer = Vec::new();
    // A server that refuses a body closes before it has been read.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// With `--log-format json` every line is an object; that of a change has what, who and which generation.
pub fn log_for_programs() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = lab.director.write_file("director.toml", &configuration(&lab, &head(&lab), &[]))?;
    let arguments = ["director", "--log-format", "json", "--config", file.to_str().expect("UTF-8")];
    let mut director = lab.director.spawn_daemon(&arguments)?;
    director.wait_until_ready(&lab.director, Cluster::DIRECTOR_METRICS)?;
    change(&lab, vec![add_service(&lab, "web", lab.vip, 80)]);
    stop(&mut director)?;
    let lines: Vec<Value> =
        director.log().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let says =
        |line: &&Value| line["message"].as_str().is_some_and(|said| said.contains("changed: web: added"));
    let change = lines.iter().find(says).expect("the change");
    assert_eq!((&change["level"], &change["generation"]), (&"INFO".into(), &2.into()));
    assert!(change["by"].as_str().is_some_and(|by| by.starts_with("uid ")), "{change}");
    Ok(())
}
