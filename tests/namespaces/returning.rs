//! Established connections while the table is cleared and filled again, in every way in which operators do that.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lvs_tund::lab::{self, Daemon, Lab};
use nix::sys::signal::Signal;

use crate::fixture::{
    Outcome, PATIENCE, ask, assert_conserved, configuration, director_count, dropped, poll_until,
    same_subnet, start_real_servers, web, web_address,
};
use crate::ipvsadm::{ONE, Shell};

/// Enough for both real servers and both workers.
const CONNECTIONS: usize = 20;

/// While something is missing: longer than the first retransmissions of TCP.
const GAP: Duration = Duration::from_millis(600);

/// What an operator does, and what a new client meets in between.
struct Disturbance<'a> {
    name: &'a str,
    remove: &'a dyn Fn(),
    restore: &'a dyn Fn(),
    /// Whether another real server is left for new clients.
    has_another: bool,
}

/// Every connection sends requests without a pause, through the gap and beyond it; none may fail or move.
fn assert_they_live(lab: &Lab, disturbance: &Disturbance) -> Outcome {
    let is_over = AtomicBool::new(false);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = lab.client().connect(web_address(lab))?;
        let server = connection.get("/")?.text();
        connections.push((connection, server));
    }
    let waited = dropped(lab, "connection_waits");
    thread::scope(|scope| {
        let clients: Vec<_> = connections
            .iter_mut()
            .map(|(connection, server)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Acquire) {
                        assert_eq!(connection.get("/")?.text(), *server);
                        thread::sleep(Duration::from_millis(20));
                    }
                    connection.get("/").map(|answer| assert_eq!(answer.text(), *server))
                })
            })
            .collect();
        (disturbance.remove)();
        let met = ask(lab).map_err(|error| error.kind());
        match disturbance.has_another {
            true => assert!(met.is_ok(), "{}: {met:?}", disturbance.name),
            false => assert_eq!(met, Err(ErrorKind::ConnectionRefused), "{}", disturbance.name),
        }
        thread::sleep(GAP);
        (disturbance.restore)();
        assert!(ask(lab).is_ok(), "{}: new clients are served", disturbance.name);
        is_over.store(true, Ordering::Release);
        for client in clients {
            let ended = client.join().unwrap_or_else(|_| panic!("{}: a client moved", disturbance.name));
            assert!(ended.is_ok(), "{}: {ended:?}", disturbance.name);
        }
    });
    assert!(dropped(lab, "connection_waits") > waited, "{}: no packet waited", disturbance.name);
    assert_conserved(lab)
}

/// `-C` and `-R`, `-D` and `-A`, `-d` and `-a`.
pub fn by_commands() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let mut director = shell.start_empty_director()?;
    assert_eq!(shell.run("ipvsadm -R", ONE).code, 0);
    let type_in = |lines: &[&str]| lines.iter().for_each(|line| drop(shell.ipvsadm(line)));
    let refill = || assert_eq!(shell.run("ipvsadm -R", ONE).code, 0);
    let one_by_one = || {
        type_in(&[
            "-A -t 172.25.3.100:80 -s rr",
            "-a -t 172.25.3.100:80 -r 172.25.3.2 -i",
            "-a -t 172.25.3.100:80 -r 172.25.3.3 -i",
        ]);
    };
    let disturbances = [
        Disturbance { name: "-C, -R", remove: &|| type_in(&["-C"]), restore: &refill, has_another: false },
        Disturbance {
            name: "-D, -A, -a",
            remove: &|| type_in(&["-D -t 172.25.3.100:80"]),
            restore: &one_by_one,
            has_another: false,
        },
        Disturbance {
            name: "-d, -a",
            remove: &|| type_in(&["-d -t 172.25.3.100:80 -r 172.25.3.2"]),
            restore: &|| type_in(&["-a -t 172.25.3.100:80 -r 172.25.3.2 -i"]),
            has_another: true,
        },
    ];
    disturbances.iter().try_for_each(|disturbance| assert_they_live(&lab, disturbance))?;
    // Where the VIP is an address of the host, whose own stack would reset them.
    lab.director.add_address(lab.vip, 32)?;
    director.wait_for_log("VIP 172.25.3.100 is now captured by rule", PATIENCE)?;
    assert_they_live(&lab, &disturbances[0])
}

/// A file without the service, and then the old one again.
pub fn by_reload() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let with = web(&lab, "");
    let without = configuration(&lab, "no_service = \"reject\"", &[]);
    let mut director = lab::start_director(&lab, &with)?;
    let reload = |director: &mut Daemon, text: &str, services: u64| {
        lab.director.write_file("director.toml", text).expect("a file");
        director.signal(Signal::SIGHUP).expect("it runs");
        poll_until("the reload", || {
            let found = director_count(&lab, "virtual_service_info", &[]);
            (found == services).then_some(())
        });
    };
    let director = std::cell::RefCell::new(&mut director);
    let disturbance = Disturbance {
        name: "reload",
        remove: &|| reload(&mut director.borrow_mut(), &without, 0),
        restore: &|| reload(&mut director.borrow_mut(), &with, 1),
        has_another: false,
    };
    assert_they_live(&lab, &disturbance)
}

/// What does not come back is reset when the grace is over, also where its VIP stays captured.
pub fn not_at_all() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    assert_eq!(shell.run("ipvsadm -R", ONE).code, 0);
    shell.ipvsadm("-A -t 172.25.3.100:8080 -s rr");
    let mut kept = lab.client().connect(web_address(&lab))?;
    kept.get("/")?;
    shell.ipvsadm("-D -t 172.25.3.100:80");
    let ended = poll_for(PATIENCE * 4, || match kept.get("/") {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        ended => Some(ended),
    });
    let kind = ended.map(|answer| answer.status).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::ConnectionReset), "it waited {}", dropped(&lab, "connection_waits"));
    assert_eq!(director_count(&lab, "connections", &[]), 0);
    assert_conserved(&lab)
}

fn poll_for<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let since = std::time::Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(since.elapsed() < patience, "nothing happened within {patience:?}");
    }
}
