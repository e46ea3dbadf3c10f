//! What happens to the connections, flows and persistence of a real server that is down for its check but continues to
//! serve: the check has another port.

use std::net::{SocketAddrV4, UdpSocket};

use lvs_tund::lab::{self, Lab};

use crate::failing::{await_state, check, head, health_of};
use crate::fixture::{
    Outcome, ask_times, assert_conserved, configuration, poll_until, same_subnet, service,
    start_real_servers, web_address,
};

const CHECKED: u16 = 81;

/// TCP 80 with persistence, TCP 8080 without, and UDP 53; one check for all of them.
fn file(lab: &Lab, on_down: &str) -> String {
    let web =
        service(lab, "web", "tcp", 80, 1).replacen("scheduler", "persistence.timeout = \"5m\"\nscheduler", 1);
    let services = [web, service(lab, "kept", "tcp", 8080, 1), service(lab, "dns", "udp", 53, 1)];
    let keys = check("http", &format!(", port = {CHECKED}, start = \"down\""))
        + &format!("on_down = \"{on_down}\"\n");
    configuration(lab, &head(lab, &keys), &services)
}

/// A connection continues where it was, or elsewhere.
pub fn moves() -> Outcome {
    for on_down in ["quiesce", "drain", "remove"] {
        let lab = same_subnet(2).build()?;
        let (_web, _real_servers) = start_real_servers(&lab)?;
        let dns = SocketAddrV4::new(lab.vip, 53);
        let serve = |port| lab.real_servers.iter().map(move |host| host.serve_http(port));
        let _kept = serve(8080).collect::<Result<Vec<_>, _>>()?;
        let mut checked = serve(CHECKED).map(|server| server.map(Some)).collect::<Result<Vec<_>, _>>()?;
        let _dns = lab.real_servers.iter().map(|host| host.serve_udp(dns)).collect::<Result<Vec<_>, _>>()?;
        let _director = lab::start_director(&lab, &file(&lab, on_down))?;
        for host in &lab.real_servers {
            await_state(&lab, &host.name, "up");
        }
        let persistent = ask_times(&lab, 4)?;
        let first = persistent[0].clone();
        assert_eq!(persistent, vec![first.clone(); 4]);
        let says = |socket: &UdpSocket| {
            let said = lab::udp::ask(socket, dns, "x").expect("an answer");
            said.split_once(' ').expect("a name").0.to_owned()
        };
        // Flows until one is at the real server of the persistent client, as are the connections.
        let sockets = [lab.client().udp_socket()?, lab.client().udp_socket()?];
        let socket = sockets.iter().find(|socket| says(socket) == first).expect("a flow");
        let kept = (lab.vip, 8080);
        let mut open = [lab.client().connect(kept)?, lab.client().connect(kept)?];
        let index = open.iter_mut().position(|open| open.get("/").is_ok_and(|page| page.text() == first));
        let open = &mut open[index.expect("a connection")];
        let down = lab.real_servers.iter().position(|host| host.name == first).expect("its host");
        checked[down] = None;
        await_state(&lab, &first, "down");
        let other = lab.real_servers[1 - down].name.clone();
        assert_eq!(ask_times(&lab, 3)?, vec![other.clone(); 3], "{on_down}: persistence to a dead server");
        let flow_at = if on_down == "quiesce" { &first } else { &other };
        assert_eq!(says(socket), *flow_at, "{on_down}: the flow");
        match on_down {
            "remove" => {
                let error = open.get("/").expect_err("a reset");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            }
            _ => assert_eq!(open.get("/")?.text(), first, "{on_down}: the connection"),
        }
        assert_eq!(lab.client().get(kept, "/")?.text(), other);
        // Back again: new connections come, and the persistent client stays where it is now.
        checked[down] = Some(lab.real_servers[down].serve_http(CHECKED)?);
        await_state(&lab, &first, "up");
        assert_eq!(lab.client().get(web_address(&lab), "/")?.text(), other, "{on_down}");
        poll_until("its turn", || (lab.client().get(kept, "/").ok()?.text() == first).then_some(()));
        assert_eq!(health_of(&lab, &other)["state"], "up");
        assert_conserved(&lab)?;
    }
    Ok(())
}
