//! Two directors with keepalived, configured as in the manual: the VIP leaves a director from which packets no longer
//! flow, and comes back when it is cured.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lvs_tund::control::Client;
use lvs_tund::control::model::Operation;
use lvs_tund::lab::{Cluster, Daemon, Host, Lab};

use crate::fixture::{Outcome, ask, configuration, same_subnet, service, stop};
use crate::programs::{path, run};

const PAGE: &str = include_str!("../../docs/high-availability.md");

/// The check fails twice, a second apart; the backup waits for three advertisements.
const FAILOVER: Duration = Duration::from_secs(10);

/// keepalived in the foreground; ended with its value.
struct Keepalived {
    child: Child,
    log: PathBuf,
}

impl Keepalived {
    /// With the configuration of the manual, but with frequent advertisements.
    fn start(lab: &Lab, host: &Host, priority: &str) -> Result<Keepalived, libtest_mimic::Failed> {
        let text =
            block("vrrp_script").replace("priority 100", &format!("advert_int 0.2\n    priority {priority}"));
        let file = host.write_file("keepalived.conf", &text)?;
        let place = |name: &str| lab.directory().join(format!("{}-{name}", host.name));
        let log = place("keepalived.log");
        let output = std::fs::File::create(&log)?;
        let errors = output.try_clone()?;
        let child = host.run(|| {
            Command::new("keepalived")
                .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
                .arg(&file)
                .arg("--pid")
                .arg(place("keepalived.pid"))
                .arg("--vrrp_pid")
                .arg(place("vrrp.pid"))
                .env("PATH", path())
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors)
                .spawn()
        })?;
        Ok(Keepalived { child, log })
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// The block of the manual's page that contains this word.
fn block(word: &str) -> String {
    let mut blocks = PAGE.split("\n```").filter(|block| block.contains(word) && block.starts_with("text\n"));
    blocks.next().expect("the example").trim_start_matches("text\n").to_owned()
}

struct Pair<'a> {
    lab: &'a Lab,
    second: &'a Host,
}

impl Pair<'_> {
    fn has_vip(&self, host: &Host) -> bool {
        let addresses = run(host, "ip", &["-4", "-o", "address", "show", "dev", "eth0"]).expect("addresses");
        addresses.contains(&format!("{}/32", self.lab.vip))
    }

    /// Waits until only this one has the VIP, and a client is answered.
    fn await_master(&self, name: &str, what: &str) {
        let since = Instant::now();
        loop {
            let first = self.has_vip(&self.lab.director);
            let second = self.has_vip(self.second);
            let is_master = (first, second) == (name == "first", name == "second");
            if is_master && ask(self.lab).is_ok() {
                println!("{what}: the {name} director serves after {:?}", since.elapsed());
                return;
            }
            assert!(since.elapsed() < FAILOVER, "{what}: first {first}, second {second}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a client is answered, whichever director has the VIP.
    fn await_service(&self, what: &str) {
        let since = Instant::now();
        while ask(self.lab).is_err() {
            assert!(since.elapsed() < FAILOVER, "{what}: no answer");
        }
        println!("{what}: served after {:?}", since.elapsed());
    }

    fn start(&self, host: &Host) -> Result<Daemon, libtest_mimic::Failed> {
        let head = format!("announce = \"local\"\ncontrol = \"{}\"\n", self.socket(host).display());
        let text = configuration(self.lab, &head, &[service(self.lab, "web", "tcp", 80, 1)]);
        let file = host.write_file("director.toml", &text)?;
        let mut daemon = host.spawn_daemon(&["director".as_ref(), "--config".as_ref(), file.as_os_str()])?;
        daemon.wait_until_ready(host, Cluster::DIRECTOR_METRICS)?;
        Ok(daemon)
    }

    fn socket(&self, host: &Host) -> PathBuf {
        self.lab.directory().join(format!("{}.sock", host.name))
    }

    fn weigh(&self, weight: u32) -> Outcome {
        let weigh = |host: &Host| Operation::SetWeight {
            virtual_service: None,
            real_server: host.name.clone(),
            weight,
        };
        let operations: Vec<Operation> = self.lab.real_servers.iter().map(weigh).collect();
        Client::new(Some(&self.socket(&self.lab.director)))?.change(&operations.into())?;
        Ok(())
    }
}

pub fn failover() -> Outcome {
    let lab = same_subnet(2).with_stranger().build()?;
    let second = lab.stranger.as_ref().expect("requested");
    let web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<Vec<_>, _>>()?;
    let mut real_servers = Vec::new();
    for host in &lab.real_servers {
        let text = format!(
            "vips = [\"{}\"]\ndirectors = [\"{}\", \"{}\"]\ncontrol = \"{}\"\n",
            lab.vip,
            lab.director.address,
            second.address,
            lab.directory().join(format!("{}.sock", host.name)).display()
        );
        let file = host.write_file("realserver.toml", &text)?;
        real_servers.push(host.spawn_daemon(&[
            "realserver".as_ref(),
            "--config".as_ref(),
            file.as_os_str(),
        ])?);
    }
    let pair = Pair { lab: &lab, second };
    let mut first = pair.start(&lab.director)?;
    let mut other = pair.start(second)?;
    let keepalived = [Keepalived::start(&lab, &lab.director, "100")?, Keepalived::start(&lab, second, "90")?];
    pair.await_master("first", "at the start");

    lab.director.set_connected(false)?;
    pair.await_master("second", "eth0 is down");
    lab.director.set_connected(true)?;
    pair.await_master("first", "eth0 is up again");

    pair.weigh(0)?;
    pair.await_master("second", "all weights are 0");
    pair.weigh(1)?;
    pair.await_master("first", "the weights are back");

    // The director may repair this before keepalived notices.
    run(&lab.director, "ip", &["link", "set", "lvsd0", "down"])?;
    pair.await_service("lvsd0 is down");
    run(&lab.director, "ip", &["link", "set", "lvsd0", "up"])?;
    pair.await_master("first", "lvsd0 is up again");

    first.kill()?;
    pair.await_master("second", "the daemon was killed");
    let _first = pair.start(&lab.director)?;
    pair.await_master("first", "the daemon runs again");
    drop(keepalived);
    stop(&mut other)?;
    drop(web);
    Ok(())
}
