//! ldirectord, unmodified, drives a director through the name ipvsadm.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Lab};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::fixture::{Outcome, ask, configuration, poll_until, same_subnet};
use crate::programs::{Nginx, path};

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
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvs-tund"), folder.join("ipvsadm"))?;
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

/// It adds the virtual service, takes out the real server whose web server ends, and takes it in again.
pub fn drives() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut nginx: Vec<Nginx> =
        lab.real_servers.iter().map(|host| Nginx::start(&lab, host)).collect::<Result<_, _>>()?;
    let _real_servers: Vec<Daemon> =
        lab.real_servers.iter().map(|host| lab::start_real_server(&lab, host)).collect::<Result<_, _>>()?;
    let control = format!("control = \"{}\"\n", Cluster::control_path(&lab).display());
    let _director = lab::start_director(&lab, &configuration(&lab, &control, &[]))?;
    let [first, second] = [0, 1].map(|index: usize| lab.real_servers[index].address);
    let text = format!(
        "checktimeout = 2\ncheckinterval = 1\nautoreload = no\nquiescent = no\n\nvirtual = {}:80\n\treal = {first}:80 ipip\n\
         \treal = {second}:80 ipip\n\tservice = http\n\tscheduler = rr\n\tprotocol = tcp\n\tchecktype = negotiate\n\
         \trequest = \"/\"\n\treceive = \"server\"\n",
        lab.vip
    );
    let _ldirectord = Ldirectord::start(&lab, &text)?;
    let is_served_by = |names: &[&str]| (served_by(&lab, 4) == names).then_some(());
    poll_until("both real servers", || is_served_by(&["server2", "server3"]));
    drop(nginx.remove(0));
    poll_until("only the second", || is_served_by(&["server3"]));
    nginx.push(Nginx::start(&lab, &lab.real_servers[0])?);
    poll_until("both again", || is_served_by(&["server2", "server3"]));
    Ok(())
}
