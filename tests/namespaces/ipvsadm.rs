//! A director that is filled by commands: the classic recipe as it is typed, quiescing, restore in one step,
//! lists that are never half of something.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use lvs_tund::lab::{self, Cluster, Daemon, Lab};

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, assert_round_robin, poll_until, same_subnet,
    start_real_servers, web, web_address,
};

/// An operator at the director's shell.
pub struct Shell<'a> {
    lab: &'a Lab,
    pub socket: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl<'a> Shell<'a> {
    pub fn new(lab: &'a Lab) -> Shell<'a> {
        Shell { lab, socket: lab.directory().join("control.sock") }
    }

    /// `lvs-tund director --interface IF`: empty.
    pub fn start_empty_director(&self) -> Result<Daemon, lab::LabError> {
        let interface = self.lab.director.interface();
        let arguments = [
            "director".as_ref(),
            "--interface".as_ref(),
            interface.as_ref(),
            "--control".as_ref(),
            self.socket.as_os_str(),
        ];
        let mut daemon = self.lab.director.spawn_daemon(&arguments)?;
        daemon.wait_until_ready(&self.lab.director, Cluster::DIRECTOR_METRICS)?;
        Ok(daemon)
    }

    pub fn run(&self, words: &str, input: &str) -> Said {
        self.run_program(Path::new(env!("CARGO_BIN_EXE_lvs-tund")), words, input)
    }

    /// The program by another name.
    fn link(&self, name: &str) -> PathBuf {
        let link = self.lab.directory().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvs-tund"), &link).expect("a link");
        link
    }

    fn run_program(&self, program: &Path, words: &str, input: &str) -> Said {
        let mut command = Command::new(program);
        command.args(words.split_whitespace()).env("LVS_TUND_CONTROL", &self.socket).env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.lab.director.run(|| {
            let mut child = command.spawn().expect("the program starts");
            child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
            child.wait_with_output().expect("it ends")
        });
        Said {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// What `ipvsadm …` prints; it must succeed in silence on standard error.
    pub fn ipvsadm(&self, words: &str) -> String {
        let said = self.run(&format!("ipvsadm {words}"), "");
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "ipvsadm {words}");
        said.stdout
    }

    /// As behind `| true`: the reader has gone before the first line.
    fn run_unread(&self, words: &str) -> (Option<i32>, String) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lvs-tund"));
        command.args(words.split_whitespace()).env("LVS_TUND_CONTROL", &self.socket).stdout(writer);
        let output = self.lab.director.run(|| command.stderr(Stdio::piped()).output().expect("it ends"));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn refused(&self, words: &str, code: i32, begin: &str) {
        let said = self.run(&format!("ipvsadm {words}"), "");
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "ipvsadm {words}: {}", said.stderr);
        assert!(said.stderr.starts_with(begin), "ipvsadm {words}: {}", said.stderr);
    }
}

const HEADING: &str = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

pub fn recipe() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    assert_eq!(shell.ipvsadm("-Ln"), format!("IP Virtual Server version 1.2.1 (size=1048576)\n{HEADING}"));

    assert_eq!(shell.ipvsadm("-A -t 172.25.3.100:80 -s rr"), "");
    assert_eq!(shell.ipvsadm("-a -t 172.25.3.100:80 -r 172.25.3.2:80 -i"), "");
    assert_eq!(shell.ipvsadm("-a -t 172.25.3.100:80 -r 172.25.3.3:80 -i"), "");
    assert_round_robin(&ask_times(&lab, 6)?, 2);

    shell.refused("-A -t 172.25.3.100:80 -s rr", 255, "Service already exists\n");
    shell.refused("-a -t 172.25.3.100:80 -r 172.25.3.3:80 -i", 255, "Destination already exists\n");
    shell.refused("-a -t 172.25.3.100:80 -r 172.25.3.4:80", 2, "lvs-tund: without -i");
    shell.refused("-d -t 172.25.3.100:80 -r 172.25.3.4:80", 255, "No such destination\n");
    shell.refused("-d -t 172.25.3.100:81 -r 172.25.3.4:80", 255, "Service not defined\n");
    shell.refused("-E -t 172.25.3.100:81 -s rr", 255, "No such service\n");
    shell.refused("-A -t 172.25.3.100:81 -s best", 255, "Scheduler or persistence engine not found\n");
    shell.refused("-Ln -t 172.25.3.100:81", 1, "No such service\n");
    shell.refused(
        "-a -t 172.25.3.100:80 -r 172.25.3.100 -i",
        255,
        "Invalid operation.  Possibly wrong module version",
    );

    let rows = shell.ipvsadm("-Ln -t 172.25.3.100:80");
    let without_counts: Vec<String> =
        rows.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        without_counts[2..],
        ["TCP 172.25.3.100:80 rr", "-> 172.25.3.2:80 Tunnel 1", "-> 172.25.3.3:80 Tunnel 1"]
    );
    let statistics = shell.ipvsadm("-Ln --stats");
    assert!(statistics.contains("\nTCP  172.25.3.100:80                     6 "), "{statistics}");
    assert!(statistics.contains("\n  -> 172.25.3.2:80                       3 "), "{statistics}");
    let connections = shell.ipvsadm("-Lnc");
    assert!(connections.contains("172.25.3.100:80    172.25.3.3:80\n"), "{connections}");
    let unread =
        ["ipvsadm -Ln", "ipvsadm -Lnc", "ipvsadm -Sn", "status", "status --watch", "connections", "save"];
    for words in unread {
        assert_eq!(shell.run_unread(words), (Some(0), String::new()), "{words}");
    }
    shell.ipvsadm("-Z");
    let statistics = shell.ipvsadm("-Ln --stats");
    assert!(statistics.contains("\nTCP  172.25.3.100:80                     0        0 "), "{statistics}");
    assert_conserved(&lab)
}

pub fn quiesce() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    for words in [
        "-A -t 172.25.3.100:80 -s rr",
        "-a -t 172.25.3.100:80 -r 172.25.3.2 -i",
        "-a -t 172.25.3.100:80 -r 172.25.3.3 -i",
    ] {
        shell.ipvsadm(words);
    }
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    let rip = if server == "server2" { "172.25.3.2" } else { "172.25.3.3" };
    shell.ipvsadm(&format!("-e -t 172.25.3.100:80 -r {rip} -i -w 0"));
    assert!(!ask_times(&lab, 6)?.contains(&server), "weight 0 gets no new connections");
    assert_eq!(kept.get("/")?.text(), server, "an open connection continues");
    shell.ipvsadm(&format!("-e -t 172.25.3.100:80 -r {rip} -i -w 1"));
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    shell.ipvsadm(&format!("-d -t 172.25.3.100:80 -r {rip}"));
    assert!(!ask_times(&lab, 4)?.contains(&server));

    // Another service on the VIP stays, so that its capture stays too: the cleared port is refused at once.
    shell.ipvsadm("-A -t 172.25.3.100:8080 -s rr");
    shell.ipvsadm("-D -t 172.25.3.100:80");
    let since = Instant::now();
    assert_eq!(ask(&lab).expect_err("no host serves it").kind(), ErrorKind::ConnectionRefused);
    assert!(since.elapsed() < PATIENCE / 5, "a refusal is no timeout");
    assert_conserved(&lab)
}

/// No host has the VIP: it stays captured for a while after its last service, so that clients get an answer, and a
/// script that clears everything before it sets it up again leaves no gap.
pub fn cleared_elsewhere() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let mut director = shell.start_empty_director()?;
    shell.run("ipvsadm -R", ONE);
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    shell.ipvsadm("-C");
    let since = Instant::now();
    assert_eq!(ask(&lab).expect_err("no host serves it").kind(), ErrorKind::ConnectionRefused);
    assert!(since.elapsed() < PATIENCE / 5, "a refusal is no timeout");
    shell.run("ipvsadm -R", ONE);
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_eq!(kept.get("/")?.text(), server, "a connection without traffic continues");
    assert!(!director.log().contains("is no longer captured"), "{}", director.log());
    assert_conserved(&lab)?;
    shell.ipvsadm("-C");
    director.wait_for_log("VIP 172.25.3.100 is no longer captured", PATIENCE * 4)?;
    Ok(())
}

/// The VIP is an address of the director's host, where the classic recipe puts it: without a service the host
/// answers.
pub fn cleared() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    lab.director.add_address(lab.vip, 32)?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    let silence = Said { code: 0, stdout: String::new(), stderr: String::new() };
    for _ in 0..2 {
        assert_eq!(shell.run("ipvsadm -R", ONE), silence);
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        assert_conserved(&lab)?;
        shell.ipvsadm("-C");
        let since = Instant::now();
        assert_eq!(ask(&lab).expect_err("no host serves it").kind(), ErrorKind::ConnectionRefused);
        assert!(since.elapsed() < PATIENCE / 5, "a refusal is no timeout");
        assert_eq!(shell.ipvsadm("-Sn"), "");
    }
    Ok(())
}

pub const ONE: &str = "\
-A -t 172.25.3.100:80 -s rr
-a -t 172.25.3.100:80 -r 172.25.3.2:80 -i -w 1 --tun-type ipip -x 100 -y 50
-a -t 172.25.3.100:80 -r 172.25.3.3:80 -i -w 1 --tun-type ipip
";
const OTHER: &str = "\
-A -t 172.25.3.100:80 -s wlc -p 300
-a -t 172.25.3.100:80 -r 172.25.3.3:80 -i -w 7 --tun-type ipip
-A -u 172.25.3.100:53 -s sh -b sh-fallback,sh-port
";

pub fn restore() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    let restore = |text: &str| shell.run("ipvsadm -R", text);
    let silence = Said { code: 0, stdout: String::new(), stderr: String::new() };
    assert_eq!(restore(ONE), silence);
    assert_eq!(shell.ipvsadm("-Sn"), ONE);
    assert_round_robin(&ask_times(&lab, 4)?, 2);

    // Half of it is legal: nothing of it is done.
    let said = restore(&format!("-C\n{OTHER}-a -t 172.25.3.100:80 -r 172.25.3.3:80 -i\n"));
    assert_eq!((said.code, said.stdout.as_str()), (255, ""));
    assert!(said.stderr.starts_with("Destination already exists\n"), "{}", said.stderr);
    assert!(said.stderr.contains("line 5 of the restore; nothing was changed"), "{}", said.stderr);
    assert_eq!(shell.ipvsadm("-Sn"), ONE);

    // Under the names of ipvsadm's package, the second of which begins with an empty table.
    let (save, anew) = (shell.link("ipvsadm-save"), shell.link("ipvsadm-restore"));
    assert_eq!(shell.run_program(&save, "-n", "").stdout, ONE);
    assert_eq!(shell.run_program(&anew, "", OTHER), silence);
    assert_eq!(shell.run_program(&save, "-n", "").stdout, OTHER);
    assert_eq!(shell.run_program(&anew, "-h", "").code, 2);
    assert_eq!(shell.run_program(&anew, "", ONE), silence);

    // Two tables in turn: who looks sees one or the other.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = [0u32; 2];
            while !is_over.load(Ordering::Relaxed) {
                let list = shell.ipvsadm("-Sn");
                let which = [ONE, OTHER].iter().position(|table| list == *table);
                seen[which.unwrap_or_else(|| panic!("half of something:\n{list}"))] += 1;
            }
            seen
        });
        for _ in 0..40 {
            for table in [OTHER, ONE] {
                assert_eq!(restore(&format!("-C\n{table}")), silence);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let seen = looker.join().expect("no list was half of something");
        assert!(seen.iter().all(|count| *count > 0), "both were seen: {seen:?}");
    });
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)
}

/// A client adds and removes, real servers and then services; another that lists meanwhile, in order or as they
/// stand, sees what was there after one of the changes, and never goes back in time.
pub fn lists_while_others_write() -> Outcome {
    const COUNT: usize = 30;
    let lab = same_subnet(1).build()?;
    let shell = Shell::new(&lab);
    let _director = shell.start_empty_director()?;
    shell.ipvsadm("-A -t 172.25.3.100:1 -s rr");
    let server = |number: usize| format!("172.25.3.{}", 101 + number);
    let add_server = |number: usize| format!("-a -t 172.25.3.100:1 -r {} -i", server(number));
    let remove_server = |number: usize| format!("-d -t 172.25.3.100:1 -r {}", server(number));
    let add_service = |number: usize| format!("-A -t 172.25.3.100:{} -s rr", 1000 + number);
    let remove_service = |number: usize| format!("-D -t 172.25.3.100:{}", 1000 + number);
    let servers_in = |list: &str| -> Vec<usize> {
        list.lines()
            .filter_map(|line| line.strip_prefix("  -> 172.25.3.")?.split(':').next()?.parse().ok())
            .collect()
    };
    let services_in = |list: &str| -> Vec<usize> {
        list.lines()
            .filter_map(|line| line.strip_prefix("TCP  172.25.3.100:")?.split(' ').next()?.parse().ok())
            .filter(|port| *port >= 1000)
            .collect()
    };
    type Command<'a> = &'a (dyn Fn(usize) -> String + Sync);
    type Items<'a> = &'a (dyn Fn(&str) -> Vec<usize> + Sync);
    let phases: [(&str, Command, Items, usize, bool); 4] = [
        ("real servers come", &add_server, &servers_in, 101, true),
        ("real servers go", &remove_server, &servers_in, 101, false),
        ("services come", &add_service, &services_in, 1000, true),
        ("services go", &remove_service, &services_in, 1000, false),
    ];
    for (name, command, items_in, first, comes) in phases {
        for order in ["", " --nosort"] {
            let is_over = AtomicBool::new(false);
            if !comes && !order.is_empty() {
                // What went in order comes back, to go once more.
                let back: Command = if first == 101 { &add_server } else { &add_service };
                (0..COUNT).for_each(|number| drop(shell.ipvsadm(&back(number))));
            }
            thread::scope(|scope| {
                let looker = scope.spawn(|| {
                    let (mut last, mut looks) = (if comes { 0 } else { COUNT }, 0);
                    while !is_over.load(Ordering::Relaxed) {
                        let mut items = items_in(&shell.ipvsadm(&format!("-Ln{order}")));
                        items.sort_unstable();
                        let count = items.len();
                        let expected: Vec<usize> = match comes {
                            true => (first..first + count).collect(),
                            false => (first + COUNT - count..first + COUNT).collect(),
                        };
                        assert_eq!(items, expected, "{name}{order}: no moment had this list");
                        assert!(if comes { count >= last } else { count <= last }, "{name}: back in time");
                        (last, looks) = (count, looks + 1);
                    }
                    looks
                });
                (0..COUNT).for_each(|number| drop(shell.ipvsadm(&command(number))));
                is_over.store(true, Ordering::Relaxed);
                let looks = looker.join().expect("every list was that of a moment");
                assert!(looks > 2, "{name}: {looks} lists");
            });
            if comes && order.is_empty() {
                let away: Command = if first == 101 { &remove_server } else { &remove_service };
                (0..COUNT).for_each(|number| drop(shell.ipvsadm(&away(number))));
            }
        }
    }
    Ok(())
}

/// Every verb once, at a director with a file.
pub fn verbs() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let shell = Shell::new(&lab);
    let file = web(&lab, &format!("control = \"{}\"", shell.socket.display()));
    let _director = lab::start_director(&lab, &file)?;
    let said = |words: &str| {
        let said = shell.run(words, "");
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{words}");
        said.stdout
    };
    let status = said("status");
    assert!(status.contains("web: tcp 172.25.3.100:80") && status.contains("server2 172.25.3.2"), "{status}");
    let json: serde_json::Value = serde_json::from_str(&said("status --format json")).expect("one object");
    assert_eq!(json["virtual_services"][0]["real_servers"][1]["rip"], "172.25.3.3");

    let noted = shell.run("ipvsadm -Sn", "");
    assert!(noted.code == 0 && noted.stdout.starts_with("-A -t 172.25.3.100:80 -s rr\n"), "{noted:?}");
    assert!(noted.stderr.contains(": web: name; web server2: name; web server3: name;"), "{noted:?}");

    assert_eq!(said("weight server2 5"), "web server2: weight 1 -> 5\n");
    assert_eq!(said("weight server2 5"), "nothing to change\n");
    assert_eq!(said("weight server2 6 --dry-run"), "web server2: weight 5 -> 6\n");
    let saved = said("save");
    assert!(saved.contains("weight = 5"), "{saved}");
    let file = lab.director.write_file("saved.toml", &saved)?;
    assert_eq!(said(&format!("diff {}", file.display())), "nothing to change\n");
    let checked = said(&format!("check {}", file.display()));
    assert!(checked.ends_with("valid for a director with 1 virtual service, 2 real servers\n"), "{checked}");
    let copy = lab.directory().join("copy.toml");
    assert_eq!(said(&format!("save {}", copy.display())), "");
    assert_eq!(std::fs::read_to_string(&copy)?, saved);

    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    said(&format!("drain {server} --timeout 10m --then keep"));
    let answers = ask_times(&lab, 3)?;
    assert!(!answers.contains(&server), "{answers:?}");
    assert_eq!(kept.get("/")?.text(), server);
    let status = said("status");
    assert!(status.contains("draining, ") && status.contains("then kept"), "{status}");
    said(&format!("undrain {server}"));
    poll_until("its share", || ask(&lab).ok().filter(|answer| *answer == server));

    let all = said("connections --format json");
    let rows: Vec<serde_json::Value> =
        all.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert!(rows.len() >= 4 && rows.iter().all(|row| row["virtual_service"] == "web"), "{all}");
    let only = said(&format!(
        "connections --format json --real-server {server} --virtual-service tcp:172.25.3.100:80"
    ));
    let (count, of_server) =
        (only.lines().count(), all.lines().filter(|line| line.contains(&server)).count());
    assert!(count == of_server && (1..rows.len()).contains(&count), "{only}");
    assert!(only.lines().all(|line| line.contains(&server)), "{only}");
    assert_eq!(said("connections --format json --client 192.0.2.0/24"), "");
    assert!(said("connections").lines().count() > 1);

    let drained = said(&format!("drain {server} --timeout 1s --wait"));
    assert_eq!(drained.trim_end(), format!("web {server}: state active -> draining"));
    let status = said("status");
    assert!(status.contains("removed by a drain"), "it is removed after its second: {status}");
    let reloaded = said("reload");
    assert_eq!(reloaded.trim_end(), format!("web {server}: state removed -> active"), "the file lists it");
    assert!(!said("status").contains("removed by a drain"));
    assert_refusals(&lab, &shell)?;
    assert_conserved(&lab)
}

/// A name that nothing has, and a file with a typing error: one line each.
fn assert_refusals(lab: &Lab, shell: &Shell) -> Outcome {
    let refusal = shell.run("weight server9 1", "");
    assert_eq!((refusal.code, refusal.stderr.lines().count()), (2, 1), "{}", refusal.stderr);
    assert!(refusal.stderr.contains("server9"), "{}", refusal.stderr);
    let broken = lab.director.write_file("broken.toml", "interfce = \"eth0\"\n")?;
    let refusal = shell.run(&format!("diff {}", broken.display()), "");
    let place = format!("lvs-tund: {}:1: ", broken.display());
    assert!(refusal.code == 2 && refusal.stderr.starts_with(&place), "{}", refusal.stderr);
    Ok(())
}
