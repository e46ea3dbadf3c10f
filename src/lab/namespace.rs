//! A network namespace that lives as long as its owner thread.
//!
//! The owner thread created the namespace and is the parent of every process started in it. `PR_SET_PDEATHSIG`, which
//! watches the parent *thread* (prctl(2)), therefore ends them with the namespace. Work runs in threads that enter the
//! namespace: any number of them can run at once and borrow from their caller.
//!
//! Nothing is mounted under `/run/netns`, so a killed process leaves no namespace behind.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;

use super::enter::is_in_user_namespace;
use super::{Attempt, LabError};

/// One network namespace of the lab.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    file: File,
    spawns: Option<mpsc::Sender<SpawnOrder>>,
    owner: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SpawnOrder {
    command: Command,
    spawned: mpsc::Sender<io::Result<Child>>,
}

impl Namespace {
    /// A new, empty namespace; `name` is for people (thread names, messages).
    ///
    /// # Errors
    /// The kernel's error, for which [`enter`](super::enter()) gives an explanation.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let what = || format!("cannot create the network namespace of {name}");
        let (spawns, orders) = mpsc::channel::<SpawnOrder>();
        let (opened, open) = mpsc::channel();
        let owner = thread::Builder::new()
            .name(format!("lab-{name}"))
            .spawn(move || {
                let usable = opened.send(unshare_network()).is_ok();
                while let (true, Ok(SpawnOrder { mut command, spawned })) = (usable, orders.recv()) {
                    let _ = spawned.send(command.spawn());
                }
            })
            .attempt(what)?;
        let (path, file) = open.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).attempt(what)?;
        Ok(Namespace { name: name.into(), path, file, spawns: Some(spawns), owner: Some(owner) })
    }

    /// The name given to [`Namespace::create`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/proc/<pid>/task/<tid>/ns/net`, for `nsenter` and for netlink.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command that enters the namespace from another terminal.
    pub fn command_to_enter(&self) -> String {
        let user = match is_in_user_namespace() {
            true => format!("--user=/proc/{}/ns/user --preserve-credentials ", std::process::id()),
            false => String::new(),
        };
        format!("nsenter {user}--net={} -- sh", self.path.display())
    }

    /// Runs `work` inside the namespace and waits for it; a panic is passed on to the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = thread::Builder::new().name(self.thread_name()).spawn_scoped(scope, || {
                self.enter();
                work()
            });
            let worker = worker.expect("because the lab is small: the limit on threads is not reached");
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts `work` inside the namespace, for servers and for work that must run at the same time.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        let what = || format!("cannot start a thread in {}", self.name);
        self.run(|| thread::Builder::new().name(self.thread_name()).spawn(work)).attempt(what)
    }

    /// Starts `command` inside the namespace, as a child of the owner thread.
    pub(super) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (spawned, child) = mpsc::channel();
        let spawns = self.spawns.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        spawns.send(SpawnOrder { command, spawned }).map_err(|_| io::ErrorKind::NotConnected)?;
        child.recv().map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?
    }

    /// Writes a sysctl of this namespace: `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// The key and the kernel's error; containers often mount `/proc/sys` read-only.
    pub fn write_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = sysctl_path(key);
        self.run(|| fs::write(path, value)).attempt(|| format!("cannot set {key}={value} in {}", self.name))
    }

    /// Reads a sysctl of this namespace.
    ///
    /// # Errors
    /// The key and the kernel's error.
    pub fn read_sysctl(&self, key: &str) -> Result<String, LabError> {
        let path = sysctl_path(key);
        let read = self.run(|| fs::read_to_string(path));
        Ok(read.attempt(|| format!("cannot read {key} in {}", self.name))?.trim().to_owned())
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn enter(&self) {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .expect("because a process that may create a network namespace may enter it");
    }

    fn thread_name(&self) -> String {
        thread::current().name().filter(|name| *name != "main").unwrap_or(&self.name).to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.spawns = None;
        if let Some(owner) = self.owner.take() {
            let _ = owner.join();
        }
    }
}

fn unshare_network() -> io::Result<(PathBuf, File)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let path = PathBuf::from(format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid()));
    let file = File::open(&path)?;
    Ok((path, file))
}

// /proc/sys/net shows the namespace of the thread that opens the file, so no mount is needed.
fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}
