//! A director without its daemon: device, sockets, one worker, and the receiver of errors from the paths.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lvs_tund::datapath::raw_socket::{Receiver, Sender};
use lvs_tund::datapath::tun::Tun;
use lvs_tund::datapath::{BATCH, Capture, Exit, Outgoing, Transmit, frames};
use lvs_tund::director::Director;
use lvs_tund::director::cluster::{
    Cluster, ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig,
};
use lvs_tund::director::path_errors::PathErrors;
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::Verdict;
use lvs_tund::encapsulation::ENCAPSULATIONS;
use lvs_tund::host::{Announce, CaptureMode, DirectorHost, DirectorHostOptions, HostChanges};
use lvs_tund::lab::Lab;
use lvs_tund::metrics::counters::DirectorCounters;
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::probing::ProbeNet;
use lvs_tund::time::Moment;

/// Everything about the director in one namespace. Its threads and its device end with it.
pub struct Plane {
    pub cluster: Arc<ArcSwap<Cluster>>,
    pub tables: Arc<Tables>,
    pub counters: Arc<DirectorCounters>,
    pub net: ProbeNet,
    pub host: DirectorHost,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _tun: Tun,
}

/// TCP 80 over every real server of the lab; the last one is quiesced.
fn config(lab: &Lab) -> ClusterConfig {
    let last = lab.real_servers.len() - 1;
    let servers = lab.real_servers.iter().enumerate();
    let real_servers = servers
        .map(|(index, host)| RealServerConfig::new(host.address.into(), u32::from(index < last)))
        .collect();
    let web = VirtualServiceConfig::new("web", Protocol::Tcp, lab.vip.into(), 80, &rr::ROW);
    let virtual_services = vec![VirtualServiceConfig { real_servers, ..web }];
    ClusterConfig { virtual_services, ..ClusterConfig::default() }
}

impl Plane {
    /// To be called in the director's namespace, in a runtime.
    pub async fn start(lab: &Lab, capture: CaptureMode, announce: Announce) -> Plane {
        let (tun, mut queues) = Tun::create("lvsd0", 1500, 1).expect("a device");
        tun.up().expect("a device that is up");
        let host = DirectorHost::start(DirectorHostOptions {
            interfaces: vec!["eth0".into()],
            tun: "lvsd0".into(),
            vips: vec![lab.vip.into()],
            outer_source: None,
            capture,
            announce,
            changes: HostChanges::Make,
            journal: None,
        });
        let host = host.await.expect("a prepared host");
        let path = Path { source: lab.director.address, mtu: 1500 };
        let is_local = host.vips()[&lab.vip].is_local;
        let view = HostView {
            own_addresses: [lab.director.address.into()].into(),
            local_vips: is_local.then_some(lab.vip.into()).into_iter().collect(),
            paths: lab.real_servers.iter().map(|host| (host.address.into(), path)).collect(),
            ..HostView::default()
        };
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config(lab), view)));
        let tables = Arc::new(Tables::new(1000, 7));
        let (origin, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let now = move || Moment::ZERO.after(origin.elapsed());
        let net = ProbeNet::new(cluster.clone(), tables.pins.clone(), now).expect("a packet socket");
        let mut plane = Plane {
            cluster,
            tables,
            counters: Arc::default(),
            net,
            host,
            is_over,
            threads: Vec::new(),
            _tun: tun,
        };
        let queue = queues.pop().expect("a queue");
        let forwarder = plane.forwarder(now);
        plane.spawn(queue, forwarder);
        let errors = Receiver::icmp_errors_about(ENCAPSULATIONS.iter().map(|row| row.carrier));
        let relay = plane.relay(now);
        plane.spawn(errors.expect("a raw socket"), relay);
        plane
    }

    fn forwarder<N: Fn() -> Moment + Send + 'static>(
        &self,
        now: N,
    ) -> impl FnMut(&mut Frame) -> Option<Exit> + Send + use<N> {
        let mut director = Director::new(self.tables.clone(), 7);
        let (cluster, counters) = (self.cluster.clone(), self.counters.clone());
        move |frame| {
            let bytes = frame.len();
            let verdict = director.handle_packet(&cluster.load(), frame, now());
            counters.count(&verdict, bytes);
            match verdict {
                Verdict::Transmit(route) => Some(Exit::Network(route.to())),
                Verdict::Reply(reply) => Some(Exit::Network(reply.to)),
                _ => None,
            }
        }
    }

    fn relay<N: Fn() -> Moment + Send + 'static>(
        &self,
        now: N,
    ) -> impl FnMut(&mut Frame) -> Option<Exit> + Send + use<N> {
        let mut errors = PathErrors::new(self.cluster.clone(), self.tables.clone(), 7);
        move |frame| {
            let handled = errors.handle_packet(frame.packet(), now());
            let (packet, to) = handled.answer?;
            frame.replace(&packet);
            Some(Exit::Network(to))
        }
    }

    fn spawn(
        &mut self,
        mut capture: impl Capture + Send + 'static,
        mut handle: impl FnMut(&mut Frame) -> Option<Exit> + Send + 'static,
    ) {
        let is_over = self.is_over.clone();
        let mut sender = Sender::new().expect("a raw socket");
        self.threads.push(thread::spawn(move || {
            let mut frames = frames(BATCH);
            while !is_over.load(Ordering::Relaxed) {
                let count = capture.capture(&mut frames).expect("packets");
                let exits = frames[..count].iter_mut().map(&mut handle).enumerate();
                let outgoing: Vec<Outgoing> =
                    exits.filter_map(|(frame, exit)| Some(Outgoing { frame, exit: exit? })).collect();
                sender.transmit(&mut frames, &outgoing, &mut |_, _| {});
                if count == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }));
    }

    /// Undoes what was changed on the host, and ends the threads.
    pub async fn stop(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a thread without a panic"));
        self.host.stop().await;
    }
}
