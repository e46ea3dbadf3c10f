//! Captures of whole packets, and what tshark finds wrong with them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use lvs_tund::lab::Host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::poll_until;
use crate::programs::{path, run};

const GUE: &str = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/tests/peers/gue.lua");

/// The last packet of a capture, to the port `discard`; the kernel leaves its checksum to a device that has none.
const END: &[u8] = b"the end of the capture";
const DISCARD: u16 = 9;

/// Every checksum, and nothing about the order of packets of which only one direction is seen. Zero is a UDP checksum
/// in a tunnel over IPv6 (RFC 6935).
const OPTIONS: [&str; 6] = [
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "udp.ignore_ipv6_zero_checksum:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
    "ip.defragment:FALSE",
];

/// The ports of FOU, and what is behind each.
const FOU: [&str; 2] = ["udp.port==5554,ip", "udp.port==5556,ipv6"];

/// dumpcap on a host's interface; ended with its value.
pub struct Recording<'a> {
    host: &'a Host,
    child: Child,
    file: PathBuf,
}

impl<'a> Recording<'a> {
    /// Captures what the host sends from these addresses, from the moment this returns.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(host: &'a Host, sources: &[IpAddr]) -> Result<Recording<'a>, Failed> {
        let file = host.write_file("capture", "")?.with_extension("pcap");
        let log = file.with_extension("log");
        let sources: Vec<_> = sources.iter().map(|source| format!("src host {source}")).collect();
        let child = host.run(|| {
            Command::new("dumpcap")
                .args(["-q", "-P", "-i", host.interface(), "-f", &sources.join(" or "), "-w"])
                .arg(&file)
                .env("PATH", path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log)?)
                .spawn()
        })?;
        let recording = Recording { host, child, file };
        // dumpcap names its file once it captures
        poll_until("dumpcap", || std::fs::read_to_string(&log).ok()?.contains("File:").then_some(()));
        Ok(recording)
    }

    /// Ends it; all packets until now are in the file.
    ///
    /// # Errors
    /// When the last packet cannot be sent.
    pub fn stop(self, destination: IpAddr) -> Result<PathBuf, Failed> {
        let unspecified = if destination.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.host.run(|| std::net::UdpSocket::bind(unspecified)?.send_to(END, (destination, DISCARD)))?;
        poll_until("the last packet", || {
            let bytes = std::fs::read(&self.file).ok()?;
            bytes.windows(END.len()).any(|window| window == END).then_some(())
        });
        Ok(self.file.clone())
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
        let _ = self.child.wait();
    }
}

/// Everything that tshark calls a warning or worse.
///
/// # Errors
/// When tshark fails.
pub fn complaints(host: &Host, file: &Path) -> Result<Vec<String>, Failed> {
    const WARNING: &str = "_ws.malformed or _ws.expert.severity >= 0x600000";
    let fields = ["frame.number", "frame.protocols", "_ws.expert.message", "_ws.col.Info"];
    Ok(lines(&tshark(host, file, WARNING, &fields)?))
}

/// The headers of the packets of a capture, such as `ip:gre:ip:tcp`, each once.
///
/// # Errors
/// When tshark fails.
pub fn stacks(host: &Host, file: &Path) -> Result<BTreeSet<String>, Failed> {
    let said = tshark(host, file, "frame", &["frame.protocols"])?;
    let without_link = |line: String| line.trim_start_matches("eth:ethertype:").to_owned();
    Ok(lines(&said).into_iter().map(without_link).collect())
}

fn tshark(host: &Host, file: &Path, filter: &str, fields: &[&str]) -> Result<String, Failed> {
    let file = file.display().to_string();
    let filter = format!("({filter}) and not udp.dstport == {DISCARD}");
    let mut arguments = vec!["-n", "-X", GUE, "-r", &file, "-Y", &filter, "-T", "fields"];
    arguments.extend(OPTIONS.iter().flat_map(|option| ["-o", option]));
    arguments.extend(FOU.iter().flat_map(|port| ["-d", port]));
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    run(host, "tshark", &arguments)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
