//! The state of a real server for people: which directors it receives packets from, what it refuses, and whether the application is running.

use std::fmt::Write;

use super::troubles::{self, duration};
use crate::control::model::{BoundVip, RealserverStatus, ServedPort};

/// Renders the state.
pub(super) fn render(status: &RealserverStatus) -> String {
    let RealserverStatus { version, uptime, tun, mss, .. } = status;
    let mss = if *mss == 0 { "the host's own MSS".to_owned() } else { format!("MSS {mss}") };
    let mut text = format!("lvs-tund {version}, real server, up {}, on {tun}, {mss}\n", duration(*uptime));
    for trouble in &status.troubles {
        _ = writeln!(text, "{}", troubles::line(trouble));
    }
    text.extend(troubles::losses(&status.losses).map(|line| line + "\n"));
    text.push('\n');
    for vip in &status.vips {
        vip_lines(&mut text, vip);
    }
    _ = writeln!(text, "\ndirectors: {}", status.directors.join(", "));
    if status.directors_seen.is_empty() {
        text.push_str("  no packet from any of them yet\n");
    }
    for seen in &status.directors_seen {
        let (packets, ago) = (seen.packets, duration(seen.age));
        _ = writeln!(text, "  {:<15} {packets:>12} packets delivered, the last {ago} ago", seen.director);
    }
    if !status.refused.is_empty() {
        text.push_str("\nrefused:\n");
    }
    for refused in &status.refused {
        let (packets, reason, ago) = (refused.packets, &refused.reason, duration(refused.age));
        _ = writeln!(
            text,
            "  {:<15} {packets:>12} packets, reason {reason}, the last {ago} ago",
            refused.source
        );
    }
    text
}

fn vip_lines(text: &mut String, vip: &BoundVip) {
    let bound = if vip.bound { "bound" } else { "NOT BOUND" };
    _ = writeln!(text, "VIP {}: {bound}, {} packets delivered", vip.vip, vip.packets);
    for ServedPort { protocol, port, listening, packets, age } in &vip.services {
        let listening = if *listening { "a program listens" } else { "NO PROGRAM LISTENS" };
        let last = age.map_or_else(|| "none yet".to_owned(), |age| format!("the last {} ago", duration(age)));
        let protocol = crate::packet::Protocol::from(*protocol).name();
        _ = writeln!(text, "  {protocol:<3} {port:>5}: {listening}, {packets} packets delivered, {last}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(more: serde_json::Value) -> RealserverStatus {
        let mut status = serde_json::json!({
            "role": "realserver", "version": "0.1.0", "uptime": 130, "tun": "lvsr0", "mss": 1440, "ready": true,
            "troubles": [], "vips": [], "directors": ["172.25.3.1", "10.0.0.0/24"], "directors_seen": [], "losses": [], "refused": []
        });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn the_screen_of_a_busy_real_server() {
        let found = status(serde_json::json!({
            "ready": false,
            "troubles": [{"kind": "device_down", "subject": "lvsr0", "message": "lvsr0 is down; run: ip link set lvsr0 up",
                          "age": 4, "stops_packets": true}],
            "vips": [{"vip": "172.25.3.100", "bound": true, "packets": 12, "services": [
                {"protocol": "tcp", "port": 80, "listening": true, "packets": 12, "age": 3},
                {"protocol": "udp", "port": 53, "listening": false, "packets": 0, "age": null}]},
                {"vip": "172.25.3.101", "bound": false, "packets": 0, "services": []}],
            "directors_seen": [{"director": "172.25.3.1", "packets": 12, "age": 3}],
            "refused": [{"source": "172.25.3.99", "reason": "unknown_peer", "packets": 7, "age": 61}]
        }));
        let expected = "\
lvs-tund 0.1.0, real server, up 2m 10s, on lvsr0, MSS 1440
not ready: lvsr0 is down; run: ip link set lvsr0 up (for 4s)

VIP 172.25.3.100: bound, 12 packets delivered
  tcp    80: a program listens, 12 packets delivered, the last 3s ago
  udp    53: NO PROGRAM LISTENS, 0 packets delivered, none yet
VIP 172.25.3.101: NOT BOUND, 0 packets delivered

directors: 172.25.3.1, 10.0.0.0/24
  172.25.3.1                12 packets delivered, the last 3s ago

refused:
  172.25.3.99                7 packets, reason unknown_peer, the last 1m 1s ago
";
        assert_eq!(render(&found), expected);
    }

    #[test]
    fn a_real_server_without_packets_reports_it() {
        let text = render(&status(serde_json::json!({"mss": 0})));
        assert!(text.contains("on lvsr0, the host's own MSS\n"), "{text}");
        assert!(text.contains("  no packet from any of them yet\n") && !text.contains("refused"), "{text}");
    }
}
