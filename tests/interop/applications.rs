//! Applications behind their own checks: PostgreSQL, MariaDB, memcached, redis, and servers of SMTP, FTP and gRPC. Each is up
//! while it works, down in words while it runs but does not serve, and down when it has ended.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::control::Client;
use lvs_tund::lab::{self, Cluster, Host, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Outcome, configuration, poll_within, same_subnet, service};
use crate::programs::{PYTHON, Program, run};

/// A database takes a while to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections that vsftpd, redis and MariaDB are allowed here; MariaDB's smallest limit is 10.
const CONNECTIONS_MAX: &str = "10";

const AS_POSTGRES: [&str; 3] = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// One of them, on the only real server.
struct Application {
    name: &'static str,
    port: u16,
    /// The options of its check, in addition to its name and the times.
    options: &'static str,
    start: fn(&Lab, &Host) -> Result<Program, Failed>,
    /// It runs on, and does not serve.
    disturb: fn(&Lab, &Host, &mut Program) -> Result<Disturbance, Failed>,
    /// The reason that the check then has.
    words: &'static str,
}

const APPLICATIONS: [Application; 7] = [
    Application {
        name: "postgres",
        port: 5432,
        options: ", user = \"director\"",
        start: postgres,
        disturb: |lab, host, program| {
            // A standby without its primary, which admits no one.
            program.end(Signal::SIGQUIT);
            std::fs::write(postgres_folder(lab).join("standby.signal"), "")?;
            *program = postgres(lab, host)?;
            Ok(Disturbance::Standby(postgres_folder(lab).join("promote")))
        },
        words: "the database system is not accepting connections",
    },
    Application {
        name: "mysql",
        port: 3306,
        options: "",
        start: mariadb,
        disturb: |_, host, _| occupy(host, 3306, "", "Too many connections"),
        words: "error 1040: \"Too many connections\"",
    },
    Application {
        name: "redis",
        port: 6379,
        options: "",
        start: redis,
        disturb: |_, host, _| occupy(host, 6379, "PING\r\n", "max number of clients"),
        words: "ERR max number of clients reached",
    },
    Application {
        name: "memcached",
        port: 11211,
        options: "",
        start: |_, host| {
            Program::start(
                host,
                "memcached",
                &["-u", "root", "-l", "0.0.0.0", "-p", "11211", "-U", "0", "-m", "8"],
            )
        },
        disturb: |_, _, program| {
            program.signal(Signal::SIGSTOP)?;
            Ok(Disturbance::Paused)
        },
        words: "no answer in time from 172.25.3.2 through the tunnel",
    },
    Application {
        name: "smtp",
        port: 25,
        options: "",
        start: |lab, host| python(lab, host, "smtp"),
        disturb: |lab, _, _| make_file(lab, "smtp"),
        words: "452 no room for mail",
    },
    Application {
        name: "ftp",
        port: 21,
        options: "",
        start: vsftpd,
        disturb: |_, host, _| occupy(host, 21, "", "421"),
        words: "421 There are too many connected users",
    },
    Application {
        name: "grpc",
        port: 50051,
        options: ", service = \"shop.Cart\"",
        start: |lab, host| python(lab, host, "shop"),
        disturb: |lab, _, _| make_file(lab, "shop"),
        words: "NOT_SERVING",
    },
];

/// What keeps an application from serving, until its end.
enum Disturbance {
    Standby(PathBuf),
    Paused,
    Connections(Vec<TcpStream>),
    File(PathBuf),
}

impl Disturbance {
    fn end(self, program: &mut Program) -> Outcome {
        match self {
            // As `pg_ctl promote` does.
            Disturbance::Standby(promote) => {
                std::fs::write(promote, "")?;
                program.signal(Signal::SIGUSR1)?;
            }
            Disturbance::Paused => program.signal(Signal::SIGCONT)?,
            Disturbance::Connections(connections) => drop(connections),
            Disturbance::File(path) => std::fs::remove_file(path)?,
        }
        Ok(())
    }
}

/// Opens connections to an application on its own host until it refuses further ones with these words.
fn occupy(host: &Host, port: u16, hello: &str, refusal: &str) -> Result<Disturbance, Failed> {
    let open = || -> std::io::Result<(TcpStream, String)> {
        let mut stream = TcpStream::connect(SocketAddr::from((host.address, port)))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(hello.as_bytes())?;
        let mut answer = [0; 200];
        let length = stream.read(&mut answer)?;
        Ok((stream, String::from_utf8_lossy(&answer[..length]).into_owned()))
    };
    let deadline = Instant::now() + PATIENCE;
    let (mut connections, mut refused) = (Vec::new(), 0);
    // A probe may have a place for a moment, which has to be taken afterwards.
    while refused < 5 {
        assert!(Instant::now() < deadline, "port {port} of {} refuses no one", host.name);
        // Some are reset with their words unread.
        match host.run(open) {
            Ok((_, answer)) if answer.contains(refusal) => refused += 1,
            Ok((stream, _)) => connections.push(stream),
            Err(_) => refused += 1,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Disturbance::Connections(connections))
}

/// The file that makes a server in Python refuse.
fn refusing(lab: &Lab, name: &str) -> PathBuf {
    lab.directory().join(format!("{name}-refuses"))
}

fn make_file(lab: &Lab, name: &str) -> Result<Disturbance, Failed> {
    let path = refusing(lab, name);
    std::fs::write(&path, "")?;
    Ok(Disturbance::File(path))
}

fn python(lab: &Lab, host: &Host, name: &str) -> Result<Program, Failed> {
    let script = format!("{}/tests/interop/{name}.py", env!("CARGO_MANIFEST_DIR"));
    Program::start(host, PYTHON, &[&script, &refusing(lab, name).display().to_string()])
}

fn postgres_folder(lab: &Lab) -> PathBuf {
    lab.directory().join("postgres")
}

/// Makes the cluster before the first start. It refuses to run as root.
fn postgres(lab: &Lab, host: &Host) -> Result<Program, Failed> {
    let folder = postgres_folder(lab);
    let data = folder.display().to_string();
    if !folder.exists() {
        std::fs::set_permissions(lab.directory(), Permissions::from_mode(0o711))?;
        run(host, "install", &["-d", "-o", "postgres", "-g", "postgres", "-m", "700", &data])?;
        let make =
            ["initdb", "-D", &data, "-A", "scram-sha-256", "-U", "postgres", "--no-sync", "--locale=C"];
        let password = lab.director.write_file("password", "secret\n")?;
        std::fs::set_permissions(&password, Permissions::from_mode(0o644))?;
        let password = format!("--pwfile={}", password.display());
        run(host, "setpriv", &[&AS_POSTGRES[..], &make, &[&password]].concat())?;
        let mut access = std::fs::OpenOptions::new().append(true).open(folder.join("pg_hba.conf"))?;
        access.write_all(b"host all all 0.0.0.0/0 scram-sha-256\n")?;
    }
    let settings = [
        "listen_addresses=0.0.0.0",
        "unix_socket_directories=",
        "hot_standby=off",
        "fsync=off",
        "shared_buffers=1MB",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
    let serve = ["postgres", "-D", &data];
    let mut program = Program::start(host, "setpriv", &[&AS_POSTGRES[..], &serve, &settings].concat())?;
    // Killed, it would leave shared memory behind.
    program.ends_by(Signal::SIGQUIT);
    Ok(program)
}

/// Without tables of users, which takes longer to make than to start.
fn mariadb(lab: &Lab, host: &Host) -> Result<Program, Failed> {
    let folder = lab.directory().join("mariadb");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.display().to_string();
    let arguments = [
        "--no-defaults",
        "--user=root",
        &format!("--datadir={folder}"),
        &format!("--socket={folder}/socket"),
        &format!("--pid-file={folder}/pid"),
        "--bind-address=0.0.0.0",
        "--skip-grant-tables",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=8M",
        "--innodb-log-file-size=4M",
        &format!("--max-connections={CONNECTIONS_MAX}"),
        "--max-connect-errors=1000000",
        "--connect-timeout=60",
    ];
    Program::start(host, "mariadbd", &arguments)
}

fn redis(lab: &Lab, host: &Host) -> Result<Program, Failed> {
    let folder = lab.directory().display().to_string();
    let limits = ["--maxclients", CONNECTIONS_MAX, "--save", "", "--dir", &folder];
    let arguments = ["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no"];
    Program::start(host, "redis-server", &[&arguments[..], &limits].concat())
}

fn vsftpd(lab: &Lab, host: &Host) -> Result<Program, Failed> {
    let empty = lab.directory().join("empty");
    std::fs::create_dir_all(&empty)?;
    let text = format!(
        "listen=YES\nbackground=NO\nanonymous_enable=YES\nisolate=NO\nisolate_network=NO\n\
         max_clients={CONNECTIONS_MAX}\nsecure_chroot_dir={}\n",
        empty.display()
    );
    let file = host.write_file("vsftpd.conf", &text)?;
    Program::start(host, "vsftpd", &[file.to_str().expect("UTF-8")])
}

/// A virtual service for each application.
fn file(lab: &Lab) -> String {
    let services = APPLICATIONS.map(|Application { name, port, options, .. }| {
        let times = "interval = \"500ms\", timeout = \"1s\", rise = 1, fall = 2, start = \"down\"";
        let check = format!("check = {{ type = \"{name}\", {times}{options} }}\nscheduler");
        service(lab, name, "tcp", port, 1).replacen("scheduler", &check, 1)
    });
    configuration(lab, &format!("control = \"{}\"", Cluster::control_path(lab).display()), &services)
}

/// Waits until the real server of an application is in this state, for a reason that contains these words.
fn await_state(lab: &Lab, name: &str, state: &str, words: &str) {
    let client = Client::new(Some(&Cluster::control_path(lab))).expect("a client");
    let mut last = Value::Null;
    let begun = Instant::now();
    let is_it = || {
        let all: Value = client.get("/api/v1/virtual_services").expect("the virtual services");
        let mut services = all["virtual_services"].as_array()?.iter();
        last = services.find(|service| service["name"] == name)?["real_servers"][0]["health"].clone();
        let why = last["why"].as_str().unwrap_or_default();
        let is_late = begun.elapsed() + Duration::from_secs(1) > PATIENCE;
        assert!(!is_late, "{name} is not {state} because of {words:?}, but {last}");
        (last["state"] == state && why.contains(words)).then(|| why.to_owned())
    };
    let why = poll_within(PATIENCE, &format!("{name} is {state}: {words}"), is_it);
    println!("{name} is {state} {why}");
}

/// The disturbances of all of them last at the same time, and so do their ends.
pub fn explained() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let _real_server = lab::start_real_server(&lab, host)?;
    let start = |application: &Application| (application.start)(&lab, host);
    let mut programs = APPLICATIONS.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let _director = lab::start_director(&lab, &file(&lab))?;
    let await_all = |state: &str, words: fn(&Application) -> &str| {
        APPLICATIONS.iter().for_each(|it| await_state(&lab, it.name, state, words(it)));
    };
    await_all("up", |_| "");
    require_password(host)?;

    let mut disturbances = Vec::new();
    for (application, program) in APPLICATIONS.iter().zip(&mut programs) {
        disturbances.push((application.disturb)(&lab, host, program)?);
    }
    await_all("down", |application| application.words);
    for (disturbance, program) in disturbances.into_iter().zip(&mut programs) {
        disturbance.end(program)?;
    }
    await_all("up", |_| "");

    programs.clear();
    await_all("down", |_| "connection refused by 172.25.3.2 through the tunnel");
    let _programs = APPLICATIONS.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    await_all("up", |_| "");
    Ok(())
}

/// Clients of redis need a password from now on; the real server stays up.
fn require_password(host: &Host) -> Outcome {
    let answer = host.run(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::from((host.address, 6379)))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"CONFIG SET requirepass secret\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })?;
    assert_eq!(answer, "+OK\r\n");
    Ok(())
}
