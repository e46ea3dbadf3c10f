//! Tests with real processes.

use std::future::pending;
use std::path::Path;
use std::time::Instant;

use super::*;

fn shell(script: &str) -> Program {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Program { arguments, ..Program::default() }
}

async fn run(program: &Program) -> Ended {
    program.run(&Starter::new().unwrap(), pending()).await.unwrap()
}

async fn run_for(program: &Program, limit: Duration) -> Ended {
    program.run(&Starter::new().unwrap(), sleep(limit)).await.unwrap()
}

fn is_alive(pid: &[u8]) -> bool {
    let pid = String::from_utf8_lossy(pid);
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// A signal takes a moment to arrive.
async fn ends(pid: &[u8]) -> bool {
    for _ in 0..200 {
        if !is_alive(pid) {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn the_exit_code_and_both_outputs_are_reported() {
    let ended = run(&shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!(ended, Ended { code: Some(7), is_interrupted: false, output: b"out\nerr\n".to_vec() });
    assert_eq!(run(&shell("kill -9 $$")).await.code, None);
}

#[tokio::test]
async fn a_program_gets_its_input_and_nothing_but_its_environment() {
    let mut program = shell("cat; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^PATH= -e ^OLDPWD=; pwd");
    program.environment = vec![("LVS_TUND_VIP", "172.25.3.100".to_owned())];
    program.input = b"{}\n".to_vec();
    let output = String::from_utf8(run(&program).await.output).unwrap();
    assert_eq!(output, "{}\nLVS_TUND_VIP=172.25.3.100\n/\n");
    let silent = run(&shell("readlink /proc/self/fd/0")).await;
    assert_eq!(silent.output, b"/dev/null\n");
}

#[tokio::test]
async fn a_program_that_reads_no_input_is_no_failure() {
    let mut program = shell("exit 0");
    program.input = vec![b' '; 1 << 20];
    assert_eq!(run(&program).await.code, Some(0));
}

#[tokio::test]
async fn a_program_inherits_no_descriptor_and_has_a_group_of_its_own() {
    // The shell opens 3 for the directory, and 10 for its own input.
    let (_inherited, _) = nix::unistd::pipe().unwrap();
    let script = "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done; read -r stat < /proc/$$/stat; set -- $stat; echo $5; echo $$";
    let output = String::from_utf8(run(&shell(script)).await.output).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    let (descriptors, ids) = lines.split_at(lines.len() - 2);
    assert!(descriptors.iter().all(|fd| fd.parse::<u32>().is_ok_and(|fd| fd <= 3 || fd == 10)), "{output}");
    assert_eq!(ids[0], ids[1], "{output}");
}

#[tokio::test]
async fn the_beginning_of_a_flood_is_kept_and_the_rest_is_read() {
    let ended = run(&shell("yes | head -c 10000000; exit 3")).await;
    assert_eq!((ended.code, ended.output.len()), (Some(3), OUTPUT_MAX));
}

#[tokio::test]
async fn a_program_without_end_is_terminated_with_its_children() {
    let begun = Instant::now();
    let ended = run_for(&shell("sleep 300 & echo $!; wait"), Duration::from_millis(300)).await;
    assert!(ended.is_interrupted && ended.code.is_none());
    assert!(begun.elapsed() < TERM_GRACE, "{:?}", begun.elapsed());
    assert!(ends(&ended.output).await, "the child outlives the program");
}

#[tokio::test]
async fn a_program_that_ignores_the_signal_is_killed_a_second_later() {
    let begun = Instant::now();
    let program = shell("trap '' TERM; echo $$; while :; do sleep 0.05; done");
    let ended = run_for(&program, Duration::from_millis(300)).await;
    assert!(ended.is_interrupted && ended.code.is_none());
    assert!((TERM_GRACE..3 * TERM_GRACE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(!is_alive(&ended.output));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_its_pipe_is_not_waited_for() {
    let begun = Instant::now();
    let ended = run(&shell("sleep 300 & echo $!")).await;
    assert_eq!((ended.code, ended.is_interrupted), (Some(0), false));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(ends(&ended.output).await);
}

#[tokio::test]
async fn an_abandoned_run_kills_the_group_and_leaves_no_zombie() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let program = shell(&format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 300", file.display()));
    let starter = Starter::new().unwrap();
    tokio::select! {
        _ = program.run(&starter, pending()) => panic!("it does not end by itself"),
        () = appears(&file) => {}
    }
    let pid = std::fs::read(&file).unwrap();
    assert!(ends(&pid).await);
    for _ in 0..200 {
        if !Path::new(&format!("/proc/{}", String::from_utf8_lossy(&pid).trim())).exists() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("a zombie is left");
}

async fn appears(file: &Path) {
    while !file.exists() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_of_another_user_has_that_user_s_group_and_no_other() {
    let mut program = shell("id -u; id -g; id -G");
    program.user = Some("nobody".to_owned());
    let nobody = User::from_name("nobody").unwrap().unwrap();
    if !nix::unistd::geteuid().is_root() {
        let NotStarted(why) = program.run(&Starter::new().unwrap(), pending()).await.unwrap_err();
        assert!(why.contains("CAP_SETUID"), "{why}");
        return;
    }
    let output = String::from_utf8(run(&program).await.output).unwrap();
    assert_eq!(output, format!("{}\n{1}\n{1}\n", nobody.uid, nobody.gid));
    program.group = Some("0".to_owned());
    let output = String::from_utf8(run(&program).await.output).unwrap();
    assert_eq!(output, format!("{}\n0\n0\n", nobody.uid));
}

#[tokio::test]
async fn why_a_program_cannot_be_started_is_said_with_the_remedy() {
    let starter = Starter::new().unwrap();
    let why = async |program: Program| program.run(&starter, pending()).await.unwrap_err().0;
    let named = |program: &str| Program { arguments: vec![program.to_owned()], ..Program::default() };
    assert_eq!(why(named("/no/such")).await, "there is no program /no/such; name its whole path");
    assert_eq!(why(named("/dev/null")).await, "/dev/null may not be executed; see: ls -l /dev/null");
    assert_eq!(why(Program::default()).await, "no command is configured");
    let user = Program { user: Some("no-such-user".to_owned()), ..shell("true") };
    assert_eq!(why(user).await, "there is no user no-such-user on this host");
    let group = Program { group: Some("no-such-group".to_owned()), ..shell("true") };
    assert_eq!(why(group).await, "there is no group no-such-group on this host");
}
