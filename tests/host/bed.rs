//! Two namespaces joined by a veth pair: `eth0` (172.25.3.1/24) where the test runs, `client0` (172.25.3.254/24)
//! in a thread of its own. Strict rp_filter everywhere. No external program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteFlags, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{IpVersion, LinkUnspec, LinkVeth};
use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 254);

/// Longer than any answer takes, shorter than patience.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` in a thread with a network namespace and a runtime of its own.
pub fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let body = move || {
        enter_new_namespace();
        runtime().block_on(test());
    };
    if let Err(panic) = thread::spawn(body).join() {
        resume_unwind(panic);
    }
}

fn enter_new_namespace() {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!(
            "this test needs a network namespace of its own, and unshare failed with {errno}: run it as root"
        );
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

type Job = Box<dyn FnOnce() + Send>;

/// The client's namespace: a thread that runs what it is given there.
pub struct Client {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn start() -> (Client, File) {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (door, opened) = mpsc::channel();
        let body = move || {
            enter_new_namespace();
            door.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            inbox.into_iter().for_each(|job| job());
        };
        let client = Client { jobs: Some(jobs), thread: Some(thread::spawn(body)) };
        (client, opened.recv().expect("the client's namespace"))
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, answer) = mpsc::channel();
        let job = Box::new(move || reply.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        answer.recv().expect("the client's answer")
    }

    /// Sends one UDP datagram; the kernel requests the address first.
    pub fn send(&self, to: Ipv4Addr, text: &'static str) {
        self.run(move || {
            let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
            socket.send_to(text.as_bytes(), (to, 9)).unwrap();
        });
    }

    /// A socket that receives every ARP frame of the client's namespace.
    pub fn hear_arp(&self) -> Socket {
        const ETH_P_ARP: u16 = 0x0806;
        self.run(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ARP.to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap()
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
    }
}

/// An ARP frame, as far as the tests care.
#[derive(Debug, PartialEq, Eq)]
pub struct Arp {
    pub operation: u16,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// The next ARP frame for which `is_it` holds; those before it are handed to `is_it` as well.
pub fn next_arp(socket: &Socket, mut is_it: impl FnMut(&Arp) -> bool) -> Arp {
    let deadline = Instant::now() + PATIENCE;
    loop {
        wait_readable(socket, deadline, "an ARP frame");
        let arp = poll_arp(socket).expect("because the socket is readable");
        if is_it(&arp) {
            return arp;
        }
    }
}

/// An ARP frame that has come already.
pub fn poll_arp(socket: &Socket) -> Option<Arp> {
    socket.set_nonblocking(true).unwrap();
    let mut frame = [0; 128];
    let length = (&mut &*socket).read(&mut frame).ok()?;
    assert!(length >= 42, "a short ARP frame");
    let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
    let operation = u16::from_be_bytes([frame[20], frame[21]]);
    Some(Arp { operation, sender: address(28), target: address(38) })
}

fn wait_readable(fd: &impl AsFd, deadline: Instant, what: &str) {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(left).unwrap();
    assert_eq!(poll(&mut fds, timeout).unwrap(), 1, "{what} did not come");
}

/// The test bed.
pub struct Bed {
    pub client: Client,
    pub handle: rtnetlink::Handle,
}

impl Bed {
    pub async fn new() -> Bed {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let (client, namespace) = Client::start();
        for interface in ["all", "default"] {
            write_sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), 1);
        }
        let bed = Bed { client, handle };
        bed.handle.link().add(LinkVeth::new("eth0", "client0").build()).execute().await.unwrap();
        let moved = LinkUnspec::new_with_name("client0").setns_by_fd(namespace.as_raw_fd()).build();
        bed.handle.link().set(moved).execute().await.unwrap();
        bed.set_up("lo").await;
        bed.set_up("eth0").await;
        bed.add_address("eth0", DIRECTOR, 24).await;
        bed.client.run(|| {
            runtime().block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                let up = LinkUnspec::new_with_name("client0").up().build();
                handle.link().set(up).execute().await.unwrap();
                let index = index_of(&handle, "client0").await;
                handle.address().add(index, CLIENT.into(), 24).execute().await.unwrap();
            });
        });
        bed
    }

    pub async fn set_up(&self, name: &str) {
        let up = LinkUnspec::new_with_name(name).up().build();
        self.handle.link().set(up).execute().await.unwrap();
    }

    pub async fn set_down(&self, name: &str) {
        let down = LinkUnspec::new_with_name(name).down().build();
        self.handle.link().set(down).execute().await.unwrap();
    }

    pub async fn index(&self, name: &str) -> u32 {
        index_of(&self.handle, name).await
    }

    pub async fn add_address(&self, name: &str, address: Ipv4Addr, prefix_len: u8) {
        let index = self.index(name).await;
        self.handle.address().add(index, address.into(), prefix_len).execute().await.unwrap();
    }

    pub async fn delete_address(&self, address: Ipv4Addr) {
        let mut found = self.handle.address().get().set_address_filter(IpAddr::V4(address)).execute();
        let message = found.try_next().await.unwrap().expect("the address to delete");
        self.handle.address().del(message).execute().await.unwrap();
    }

    /// The policy rules in the kernel's order.
    pub async fn rules(&self) -> Vec<RuleMessage> {
        self.handle.rule().get(IpVersion::V4).execute().try_collect().await.unwrap()
    }

    /// Rules, routes of all tables, proxy neighbours and sysctls of IPv4, comparable line by line.
    pub async fn snapshot(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::new();
        for (place, rule) in self.rules().await.iter().enumerate() {
            lines.insert(format!("rule {place}"), format!("{rule:?}"));
        }
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        let routes: Vec<_> = self.handle.route().get(question).execute().try_collect().await.unwrap();
        for mut route in routes {
            // Carrier comes some time after a link is set up.
            route.header.flags.remove(RouteFlags::Linkdown);
            lines.insert(format!("route {route:?}"), String::new());
        }
        let proxies = self.handle.neighbours().get().proxies().set_address_family(AddressFamily::Inet);
        let proxies: Vec<_> = proxies.execute().try_collect().await.unwrap();
        for proxy in proxies {
            lines.insert(format!("proxy {proxy:?}"), String::new());
        }
        for folder in ["/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv4/neigh"] {
            read_tree(Path::new(folder), &mut lines);
        }
        lines
    }
}

async fn index_of(handle: &rtnetlink::Handle, name: &str) -> u32 {
    let link = handle.link().get().match_name(name).execute().try_next().await.unwrap().unwrap();
    link.header.index
}

fn read_tree(folder: &Path, lines: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tree(&path, lines);
        } else if let Ok(text) = fs::read_to_string(&path) {
            lines.insert(path.display().to_string(), text);
        }
    }
}

pub fn write_sysctl(key: &str, value: i64) {
    File::create(format!("/proc/sys/{key}")).unwrap().write_all(value.to_string().as_bytes()).unwrap();
}

pub fn read_sysctl(key: &str) -> i64 {
    fs::read_to_string(format!("/proc/sys/{key}")).unwrap().trim().parse().unwrap()
}

/// A TUN device that is up and dies with the value.
pub fn tun(name: &str) -> SyncDevice {
    let device = DeviceBuilder::new().name(name).mtu(1500).enable(true).build_sync();
    let device = device.expect("a TUN device; this test needs /dev/net/tun and root");
    device.set_nonblocking(true).unwrap();
    device
}

/// Waits for the UDP packet with this text on the TUN device; answers (source, destination, TTL).
pub fn captured(tun: &SyncDevice, text: &str) -> (Ipv4Addr, Ipv4Addr, u8) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        wait_readable(tun, deadline, &format!("the packet {text:?} on the TUN device"));
        let mut packet = [0; 2048];
        let length = tun.recv(&mut packet).unwrap();
        if packet[0] == 0x45 && packet[28..length].ends_with(text.as_bytes()) {
            let address =
                |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            return (address(12), address(16), packet[8]);
        }
    }
}
