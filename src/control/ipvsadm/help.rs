//! `-h` and `-v`.

use std::fmt::Write;

use crate::director::scheduler::SCHEDULERS;

/// Scripts look for ipvsadm's version number; this is the version whose behaviour is reproduced.
pub fn version() -> String {
    format!("ipvsadm v1.31 (lvs-tund {}, as IPVS v1.2.1)\n", env!("CARGO_PKG_VERSION"))
}

/// The commands and their options.
pub fn help() -> String {
    let mut text = version();
    text.push_str(COMMANDS);
    let schedulers: Vec<&str> = SCHEDULERS.iter().map(|row| row.name).collect();
    _ = writeln!(text, "\nSchedulers: {}", schedulers.join(" "));
    text.push_str(
        "Not served: -g, -m, IPv6, firewall marks, SCTP, --pe, --tun-type gue and gre, the sync daemon.\n\nExample:\n  \
         lvs-tund ipvsadm -A -t 172.25.3.100:80 -s rr\n",
    );
    text
}

const COMMANDS: &str = "\
Commands (exactly one, as the first option):
  -A|-E  --add-service|--edit-service SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M NETMASK] [-o]
  -D     --delete-service SERVICE
  -C     --clear
  -a|-e  --add-server|--edit-server SERVICE -r RIP -i [-w WEIGHT] [-x UPPER] [-y LOWER] [--tun-type ipip]
  -d     --delete-server SERVICE -r RIP
  -L|-l  --list [SERVICE] [-n] [LIST] [-X] [--nosort]
  -Z     --zero [SERVICE]
  -S     --save [-n]
  -R     --restore, reads the output of -S from standard input and applies all of it or nothing
         --set TCP TCPFIN UDP, timeouts in seconds; 0 leaves one unchanged
  -h     --help
  -v     --version

SERVICE: -t|--tcp-service VIP[:PORT] or -u|--udp-service VIP[:PORT]; without a port it matches all ports and needs -p

LIST: --stats --rate --thresholds --persistent-conn --tun-info -c|--connection --timeout --daemon

Long forms:
  -s --scheduler (wlc)    -b --sched-flags    -p --persistent (360)    -M --netmask    -o --ops
  -r --real-server        -i --ipip           -w --weight (1)          -x --u-threshold    -y --l-threshold
  -n --numeric            -X --exact
";
