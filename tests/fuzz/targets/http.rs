//! Requests by bytes and pauses: a zero byte ends a part, and the next one comes later. A client gets
//! answers of HTTP or none for any bytes, the connection ends with it, and the next client is served.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use lvs_tund::config::Source;
use lvs_tund::config::plan::{self, DirectorPlan};
use lvs_tund::control::model::Event;
use lvs_tund::control::{Code, ControlError};
use lvs_tund::director::cluster::{Cluster, HostView};
use lvs_tund::director::tables::Tables;
use lvs_tund::health::View;
use lvs_tund::metrics::counters::DirectorCounters;
use lvs_tund::metrics::exposition::Exposition;
use lvs_tund::metrics::ledger::Ledger;
use lvs_tund::metrics::losses::LossCause;
use lvs_tund::metrics::recent::Grown;
use lvs_tund::metrics::series::{Series, Unassigned};
use lvs_tund::serve::{ControlServer, Health, Published, RunningDirector};
use lvs_tund::time::Moment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc};

/// Longer than the server needs for anything, shorter than its deadlines.
const PATIENCE: Duration = Duration::from_secs(5);

const FILE: &str = "[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 80\n\
    [[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n";

pub fn run(data: &[u8]) {
    static SERVER: OnceLock<(Runtime, ControlServer)> = OnceLock::new();
    let (runtime, server) = SERVER.get_or_init(start);
    runtime.block_on(async {
        let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
        let answers = answers(server, &parts, true).await;
        assert!(
            answers.is_empty() || answers.starts_with(b"HTTP/1."),
            "{}",
            String::from_utf8_lossy(&answers)
        );
        let next = self::answers(server, &[b"GET /readyz HTTP/1.0\r\n\r\n"], false).await;
        assert!(next.starts_with(b"HTTP/1.0 200 OK") && next.ends_with(b"ready\n"));
    });
}

/// All that a client receives until the server ends the connection; the client may do so first.
async fn answers(server: &ControlServer, parts: &[&[u8]], ends: bool) -> Vec<u8> {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    server.open(theirs);
    let (mut receiving, mut sending) = ours.into_split();
    let mut answers = Vec::new();
    let send = async {
        for part in parts {
            // The server may have ended the connection.
            let _ = sending.write_all(part).await;
            tokio::task::yield_now().await;
        }
        if ends {
            let _ = sending.shutdown().await;
        }
    };
    let exchange = async { tokio::join!(send, receiving.read_to_end(&mut answers)).1 };
    // A reset ends the connection as well.
    let _ = tokio::time::timeout(PATIENCE, exchange).await.expect("the server ends the connection");
    answers
}

fn start() -> (Runtime, ControlServer) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let plan = plan::director(&Source { name: "director.toml", text: FILE }, Some("eth0")).expect("a plan");
    let director = Arc::new(Director::new(plan));
    let (requests, mut demands) = mpsc::channel::<lvs_tund::serve::Request>(1);
    runtime.spawn(async move {
        while let Some(request) = demands.recv().await {
            let _ = request.answer.send(Err(ControlError::new(Code::Busy, "nothing changes here")));
        }
    });
    let shown = director.clone();
    let render = move || Exposition {
        head: "# head\n".to_owned(),
        series: Series::take(
            &shown.published.cluster,
            &[],
            &shown.ledger,
            Unassigned::default(),
            Moment::ZERO,
        ),
    };
    let server = ControlServer::new(director.clone(), requests, render, director.health.clone());
    (runtime, server)
}

/// A director that stands still.
struct Director {
    plan: DirectorPlan,
    published: Arc<Published>,
    tables: Tables,
    ledger: Mutex<Ledger>,
    events: broadcast::Sender<Arc<Event>>,
    health: Arc<Health>,
}

impl Director {
    fn new(plan: DirectorPlan) -> Director {
        let cluster = Arc::new(Cluster::new(plan.cluster.clone(), HostView::default()));
        let mut ledger = Ledger::default();
        ledger.follow(&cluster, &[]);
        let published = Published {
            generation: 1,
            cluster,
            defaults: plan.defaults.clone(),
            states: Default::default(),
            hash_key: None,
        };
        Director {
            plan,
            published: Arc::new(published),
            tables: Tables::new(1_000, 1),
            ledger: Mutex::new(ledger),
            events: broadcast::Sender::new(1),
            health: Arc::new(Health::new(|| Moment::ZERO)),
        }
    }
}

impl RunningDirector for Director {
    fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    fn plan(&self) -> &DirectorPlan {
        &self.plan
    }

    fn config_file(&self) -> Option<&str> {
        None
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn workers(&self) -> &[Arc<DirectorCounters>] {
        &[]
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no thread panics with it")
    }

    fn drops(&self) -> Vec<Grown<&'static str>> {
        Vec::new()
    }

    fn losses(&self) -> Vec<Grown<(String, LossCause)>> {
        Vec::new()
    }

    fn health_view(&self) -> Arc<View> {
        Arc::default()
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn now(&self) -> Moment {
        Moment::ZERO
    }

    fn since_epoch(&self) -> f64 {
        0.0
    }
}
