//! schemathesis against a director in the lab, with connections in its tables and with changes while it sends
//! requests. It uses TCP, so a proxy leads it to the control socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lvs_tund::control::Client;
use lvs_tund::control::model::{Change, Operation};
use lvs_tund::lab::{self, Host, Lab};

use crate::fixture::{
    Outcome, ask_times, assert_conserved, configuration, same_subnet, service, start_real_servers, stop,
};

/// Of the proxy, in the director's namespace.
const PORT: u16 = 9693;

/// Events have no end; the proxy ends them after this long.
const EVENTS_LAST: Duration = Duration::from_millis(100);

pub fn run() -> Outcome {
    let tools = std::env::var_os("OPENAPI_TOOLS").map(PathBuf::from);
    let tools = tools.ok_or("tests/openapi/run installs schemathesis and starts this test")?;
    lab::enter().and_then(|_| lab::require_tun())?;
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let socket = lab.directory().join("director.sock");
    let mut director = lab::start_director(&lab, &file(&lab, &socket))?;
    ask_times(&lab, 6)?;
    let listener = lab.director.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)))?;
    thread::spawn({
        let socket = socket.clone();
        move || listener.incoming().flatten().try_for_each(|client| lead(client, &socket))
    });
    let is_over = AtomicBool::new(false);
    let is_as_documented = thread::scope(|scope| {
        scope.spawn(|| change_until(&is_over, &socket));
        let status = ask(&lab.director, &tools);
        is_over.store(true, Ordering::Relaxed);
        status
    })?
    .success();
    if !is_as_documented {
        return Err("the director is not as documented".into());
    }
    let log = director.log();
    for done in ["configuration replaced:", "reloaded:", ": added", ": removed"] {
        assert!(log.contains(done), "no request had this effect: {done}");
    }
    assert_conserved(&lab)?;
    stop(&mut director)
}

/// A service with persistence, so that templates are listed with connections, and one with every other key.
fn file(lab: &Lab, socket: &Path) -> String {
    let web = service(lab, "web", "tcp", 80, 1);
    let web = web.replacen("scheduler = \"rr\"", "scheduler = \"rr\"\npersistence.timeout = \"6m\"", 1);
    let hashed = service(lab, "hashed", "udp", 53, 1).replacen("\"rr\"", "\"mh\"", 1);
    configuration(lab, &format!("control = \"{}\"", socket.display()), &[web, hashed])
}

fn ask(host: &Host, tools: &Path) -> io::Result<ExitStatus> {
    let url = format!("http://127.0.0.1:{PORT}");
    host.run(|| {
        Command::new(tools.join("schemathesis"))
            .args(["--config-file", "tests/openapi/schemathesis.toml", "run", "--url", &url])
            .arg("config/openapi.json")
            .status()
    })
}

/// Leads a client to the socket and back. An event is one chunk of HTTP/1.1, so that the proxy can end the answer
/// between two of them.
fn lead(mut client: TcpStream, socket: &Path) -> io::Result<()> {
    let mut server = UnixStream::connect(socket)?;
    server.set_read_timeout(Some(EVENTS_LAST))?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let asks_for_events = Arc::new(AtomicBool::new(false));
    let is_asked = asks_for_events.clone();
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from_client.read(&mut buffer)?;
            if length == 0 {
                return to_server.shutdown(Shutdown::Write);
            }
            is_asked.store(buffer.starts_with(b"GET /api/v1/events"), Ordering::Relaxed);
            to_server.write_all(&buffer[..length])?;
        }
    });
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut end = None;
        loop {
            match server.read(&mut buffer) {
                Ok(0) => return client.shutdown(Shutdown::Both),
                Ok(length) => client.write_all(&buffer[..length])?,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
            if asks_for_events.load(Ordering::Relaxed)
                && *end.get_or_insert_with(|| Instant::now() + EVENTS_LAST) <= Instant::now()
            {
                client.write_all(b"0\r\n\r\n")?;
                return client.shutdown(Shutdown::Both);
            }
        }
    });
    Ok(())
}

/// So that there are events.
fn change_until(is_over: &AtomicBool, socket: &Path) {
    let client = Client::new(Some(socket)).expect("a client");
    for weight in (1..100).cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
        let operation =
            Operation::SetWeight { virtual_service: None, real_server: "server2".to_owned(), weight };
        // Schemathesis may have removed the real server.
        let _ = client.change(&Change::from(vec![operation]));
        thread::sleep(EVENTS_LAST / 2);
    }
}
