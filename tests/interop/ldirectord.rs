//! ldirectord, unmodified, drives a director through the name ipvsadm.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::fixture::{Outcome, PATIENCE, ask, configuration, poll_within, same_subnet};
use crate::programs::{Nginx, path, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lvs-tund");

/// In the foreground; its whole process group ends with the value.
struct Ldirectord {
    child: Child,
    log: PathBuf,
}

impl Ldirectord {
    /// With option -d it uses `ipvsadm` of its own directory.
    fn start(lab: &Lab, text: &str) -> Result<Ldirectord, Failed> {
        let folder = lab.directory().join("ldirectord");
        std::fs::create_dir_all(&folder)?;
        std::os::unix::fs::symlink(PROGRAM, folder.join("ipvsadm"))?;
        let file = lab.director.write_file("ldirectord.cf", text)?;
        let log = folder.join("log");
        let output = std::fs::File::create(&log)?;
        let child = lab.director.run(|| {
            Command::new("ldirectord")
                .args(["-d".as_ref(), file.as_os_str(), "start".as_ref()])
                .current_dir(&folder)
                .env("PATH", path())
                .env("LVS_TUND_CONTROL", Cluster::control_path(lab))
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .process_group(0)
                .spawn()
        })?;
        Ok(Ldirectord { child, log })
    }
}

impl Drop for Ldirectord {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// The real servers that the next requests meet.
fn served_by(lab: &Lab, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).filter_map(|_| ask(lab).ok()).collect();
    names.sort();
    names.dedup();
    names
}

/// nginx and `realserver` on each host, an empty director, and ldirectord, which checks the first two hosts with these
/// further lines in its virtual service. The fields are dropped in this order.
struct Site {
    _ldirectord: Ldirectord,
    _director: Daemon,
    nginx: Vec<Option<Nginx>>,
    _real_servers: Vec<Daemon>,
}

impl Site {
    fn start(lab: &Lab, quiescent: &str, more: &str) -> Result<Site, Failed> {
        let nginx = lab
            .real_servers
            .iter()
            .map(|host| Nginx::start(lab, host).map(Some))
            .collect::<Result<_, _>>()?;
        let real_servers = lab
            .real_servers
            .iter()
            .map(|host| lab::start_real_server(lab, host))
            .collect::<Result<_, _>>()?;
        let control = format!("control = \"{}\"\n", Cluster::control_path(lab).display());
        let director = lab::start_director(lab, &configuration(lab, &control, &[]))?;
        let [first, second] = [0, 1].map(|index: usize| lab.real_servers[index].address);
        let text = format!(
            "checktimeout = 2\ncheckinterval = 1\nautoreload = no\nquiescent = {quiescent}\n\nvirtual = {}:80\n\treal = {first}:80 ipip\n\
             \treal = {second}:80 ipip\n\tservice = http\n\tscheduler = rr\n\tprotocol = tcp\n\tchecktype = negotiate\n\
             \trequest = \"/\"\n\treceive = \"server\"\n{more}",
            lab.vip
        );
        let ldirectord = Ldirectord::start(lab, &text)?;
        Ok(Site { _ldirectord: ldirectord, _director: director, nginx, _real_servers: real_servers })
    }
}

/// ldirectord looks every second and gives a server two.
fn await_served_by(lab: &Lab, names: &[&str]) {
    poll_within(3 * PATIENCE, &format!("{names:?}"), || (served_by(lab, 4) == names).then_some(()));
}

/// The real servers of the virtual service with their weights, as `ipvsadm -Ln` lists them.
fn listed(lab: &Lab) -> Result<Vec<(String, String)>, Failed> {
    let control = Cluster::control_path(lab).display().to_string();
    let said =
        run(&lab.director, "env", &[&format!("LVS_TUND_CONTROL={control}"), PROGRAM, "ipvsadm", "-Ln"])?;
    let of = |line: &str| {
        let words: Vec<_> = line.strip_prefix("  -> ")?.split_whitespace().collect();
        (words.get(1) == Some(&"Tunnel")).then(|| (words[0].to_owned(), words[2].to_owned()))
    };
    Ok(said.lines().filter_map(of).collect())
}

fn await_listed(lab: &Lab, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(rip, weight)| (format!("{rip}:80"), (*weight).to_owned())).collect();
    poll_within(3 * PATIENCE, &format!("{expected:?}"), || (listed(lab).ok()? == expected).then_some(()));
}

/// It adds the virtual service, takes out the real server whose web server ends, and takes it in again.
pub fn drives() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut site = Site::start(&lab, "no", "")?;
    await_served_by(&lab, &["server2", "server3"]);
    site.nginx[0] = None;
    await_served_by(&lab, &["server3"]);
    await_listed(&lab, &[("172.25.3.3", "1")]);
    site.nginx[0] = Some(Nginx::start(&lab, &lab.real_servers[0])?);
    await_served_by(&lab, &["server2", "server3"]);
    Ok(())
}

/// While no real server answers, the fallback server serves, and only then.
pub fn falls_back() -> Outcome {
    for quiescent in ["no", "yes"] {
        let lab = same_subnet(3).build()?;
        let more = format!("\tfallback = {}:80 ipip\n", lab.real_servers[2].address);
        let mut site = Site::start(&lab, quiescent, &more)?;
        await_served_by(&lab, &["server2", "server3"]);
        site.nginx[0] = None;
        await_served_by(&lab, &["server3"]);
        site.nginx[1] = None;
        await_served_by(&lab, &["server4"]);
        site.nginx[1] = Some(Nginx::start(&lab, &lab.real_servers[1])?);
        await_served_by(&lab, &["server3"]);
        site.nginx[0] = Some(Nginx::start(&lab, &lab.real_servers[0])?);
        await_served_by(&lab, &["server2", "server3"]);
    }
    Ok(())
}

/// With `quiescent = yes` a failed real server stays with weight 0, and its open connections continue.
pub fn quiesces() -> Outcome {
    let lab = same_subnet(2).build()?;
    // What ldirectord checks, in addition to the nginx that serves.
    let serve = |host: &Host| host.serve_http(8090).map(Some);
    let mut checked: Vec<_> = lab.real_servers.iter().map(serve).collect::<Result<_, _>>()?;
    let _site = Site::start(&lab, "yes", "\tcheckport = 8090\n")?;
    await_listed(&lab, &[("172.25.3.2", "1"), ("172.25.3.3", "1")]);
    let mut connections =
        (0..2).map(|_| lab.client().connect((lab.vip, 80))).collect::<Result<Vec<_>, _>>()?;
    let before = connections.iter_mut().map(|kept| kept.get("/")).collect::<Result<Vec<_>, _>>()?;
    checked[0] = None;
    await_listed(&lab, &[("172.25.3.2", "0"), ("172.25.3.3", "1")]);
    assert_eq!(served_by(&lab, 4), ["server3"]);
    for (kept, before) in connections.iter_mut().zip(before) {
        assert_eq!(kept.get("/")?.text(), before.text(), "an open connection");
    }
    checked[0] = serve(&lab.real_servers[0])?;
    await_listed(&lab, &[("172.25.3.2", "1"), ("172.25.3.3", "1")]);
    await_served_by(&lab, &["server2", "server3"]);
    Ok(())
}
