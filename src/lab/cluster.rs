//! The real programs on their hosts: a web server and a `realserver` on each real server, a `director`.

use std::path::PathBuf;

use super::{Daemon, Host, Lab, LabError, http};

/// Where the daemons serve their metrics and readiness.
const DIRECTOR_METRICS: u16 = 9690;
const REAL_SERVER_METRICS: u16 = 9691;
const WEB: u16 = 80;

/// All running programs; the director is dropped first.
#[derive(Debug)]
pub struct Cluster {
    /// The director.
    pub director: Daemon,
    /// One daemon for each real server.
    pub real_servers: Vec<Daemon>,
    /// One web server for each real server.
    pub web_servers: Vec<http::Server>,
}

impl Cluster {
    /// The port of the director's metrics.
    pub const DIRECTOR_METRICS: u16 = DIRECTOR_METRICS;
    /// The port of the real servers' metrics.
    pub const REAL_SERVER_METRICS: u16 = REAL_SERVER_METRICS;

    /// The director's control socket, which every process on this machine can reach.
    pub fn control_path(lab: &Lab) -> PathBuf {
        lab.directory().join("director.sock")
    }

    /// The control socket of a real server, as [`Cluster::control_path`].
    pub fn real_server_control_path(lab: &Lab, host: &Host) -> PathBuf {
        lab.directory().join(format!("{}.sock", host.name))
    }

    /// Starts all programs, round robin over all real servers on port 80, and waits until they are ready.
    ///
    /// # Errors
    /// A daemon does not start; the error contains its log.
    pub fn start(lab: &Lab) -> Result<Self, LabError> {
        let web_servers =
            lab.real_servers.iter().map(|host| host.serve_http(WEB)).collect::<Result<_, _>>()?;
        let mut real_servers: Vec<Daemon> =
            lab.real_servers.iter().map(|host| spawn_real_server(lab, host)).collect::<Result<_, _>>()?;
        for (daemon, host) in real_servers.iter_mut().zip(&lab.real_servers) {
            daemon.wait_until_ready(host, REAL_SERVER_METRICS)?;
        }
        let director = start_director(lab, &director_configuration(lab, "rr"))?;
        Ok(Cluster { director, real_servers, web_servers })
    }
}

/// The director's configuration for a lab: one virtual service `web` on port 80 of the VIP with all real
/// servers.
pub fn director_configuration(lab: &Lab, scheduler: &str) -> String {
    let mut file = format!(
        "interface = \"{}\"\ncontrol = \"{}\"\n\n[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
         vip = \"{}\"\nport = {WEB}\nscheduler = \"{scheduler}\"\n",
        lab.director.interface(),
        Cluster::control_path(lab).display(),
        lab.vip
    );
    for host in &lab.real_servers {
        file.push_str(&format!(
            "\n[[virtual_service.real_server]]\nname = \"{}\"\nrip = \"{}\"\n",
            host.name, host.address
        ));
    }
    file
}

/// Starts `director` with this configuration and waits until it is ready.
///
/// # Errors
/// The daemon does not start; the error contains its log.
pub fn start_director(lab: &Lab, configuration: &str) -> Result<Daemon, LabError> {
    let file = lab.director.write_file("director.toml", configuration)?;
    let mut daemon =
        lab.director.spawn_daemon(&["director".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    daemon.wait_until_ready(&lab.director, DIRECTOR_METRICS)?;
    Ok(daemon)
}

/// Starts `realserver` on this host and waits until it is ready.
///
/// # Errors
/// The daemon does not start; the error contains its log.
pub fn start_real_server(lab: &Lab, host: &Host) -> Result<Daemon, LabError> {
    let mut daemon = spawn_real_server(lab, host)?;
    daemon.wait_until_ready(host, REAL_SERVER_METRICS)?;
    Ok(daemon)
}

fn spawn_real_server(lab: &Lab, host: &Host) -> Result<Daemon, LabError> {
    let (vip, director) = (lab.vip.to_string(), lab.director.address.to_string());
    let control = Cluster::real_server_control_path(lab, host).display().to_string();
    host.spawn_daemon(&["realserver", "--vip", &vip, "--director", &director, "--control", &control])
}
