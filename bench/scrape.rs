//! What `/metrics` costs a director: `cargo bench --bench scrape`. For two sizes of the configuration it prints the length
//! of the text, the time of a scrape, and the director's memory after scrapes and with 250 readers that read nothing.
//!
//! On two cores shared with other work:
//!
//! ```text
//! services  real servers   text     shortest     middle    longest   memory before, after, with 250 readers
//!     1000         10000   12 MB       19.6ms     22.0ms     24.8ms   29 33 44 MB
//!    32000         32000   53 MB       97.9ms    107.4ms    114.3ms   120 127 139 MB
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lvs_tund::lab::{self, Cluster, Lab, LabError, Topology};

const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, Cluster::DIRECTOR_METRICS);
const RUNS: usize = 10;

fn main() -> ExitCode {
    // Must enter the user namespace before any thread starts.
    let outcome = lab::enter().and_then(|_| lab::require_tun());
    println!(
        "services  real servers   text     shortest     middle    longest   memory before, after, with 250 readers"
    );
    let sizes = [(1_000, 10), (32_000, 1)];
    let outcome = outcome
        .and_then(|()| sizes.into_iter().try_for_each(|(services, servers)| measure(services, servers)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn configuration(lab: &Lab, services: usize, servers: usize) -> String {
    let mut text = format!("interface = \"{}\"\n", lab.director.interface());
    for index in 0..services {
        let (vip, port) = (lab.vip, index + 1);
        text.push_str(&format!("[[virtual_service]]\nprotocol = \"tcp\"\nvip = \"{vip}\"\nport = {port}\n"));
        for server in 0..servers {
            let rip = Ipv4Addr::from(u32::from(lab.real_servers[0].address) + server as u32);
            text.push_str(&format!("[[virtual_service.real_server]]\nrip = \"{rip}\"\n"));
        }
    }
    text
}

fn measure(services: usize, servers: usize) -> Result<(), LabError> {
    let lab = Topology::same_subnet(1).with_program(env!("CARGO_BIN_EXE_lvs-tund")).build()?;
    let director = lab::start_director(&lab, &configuration(&lab, services, servers))?;
    let before = memory(director.id());
    let (mut took, mut length) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut stream = ask(&lab);
        length = drain(&mut stream);
        took.push(begun.elapsed());
    }
    took.sort();
    let after = memory(director.id());
    let readers: Vec<TcpStream> = (0..250).map(|_| ask(&lab)).collect();
    std::thread::sleep(Duration::from_secs(3));
    let with_readers = memory(director.id());
    drop(readers);
    println!(
        "{services:>8} {:>13} {:>4} MB {:>12.1?} {:>10.1?} {:>10.1?}   {before} {after} {with_readers} MB",
        services * servers,
        length / 1_000_000,
        took[0],
        took[RUNS / 2],
        took[RUNS - 1]
    );
    Ok(())
}

fn ask(lab: &Lab) -> TcpStream {
    let mut stream =
        lab.director.run(|| TcpStream::connect(ADDRESS)).unwrap_or_else(|error| panic!("{error}"));
    let request = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    stream.write_all(request).unwrap_or_else(|error| panic!("{error}"));
    stream
}

fn drain(stream: &mut TcpStream) -> usize {
    let (mut length, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match stream.read(&mut buffer).unwrap_or_else(|error| panic!("{error}")) {
            0 => return length,
            count => length += count,
        }
    }
}

/// Resident memory in megabytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024 / 1_000_000
}
