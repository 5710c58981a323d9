//! `ocf`: Debian's agents as they are, and agents that misbehave.

mod rig;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use child::protocol::{FromChild, ToChild};
use model::{Epoch, FailureReach, Millis};
use rig::net::Machine;
use rig::{Monitor, lives, read, resource, tool, try_tool, until};
use serde_json::{Value, json};

/// Whether Debian's agents are here; else the test is skipped.
fn agents() -> bool {
    let there = Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy").exists();
    if !there {
        testbed::skip_or_fail("there are no OCF agents; `cargo xtask deps` installs them");
    }
    there
}

fn ocf(agent: &str, parameters: Value) -> Value {
    json!({"ocf": {"agent": agent, "parameters": parameters}})
}

/// A folder with an agent of the test's own, `test:agent`, whose script is given.
fn own_agent(script: &str) -> (tempfile::TempDir, Value) {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("resource.d/test");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("agent");
    let here = root.path().display();
    let metadata = r#"<resource-agent name="agent"><actions><action name="start" timeout="20s"/>
        <action name="stop" timeout="20s"/><action name="monitor" timeout="20s" depth="0"/>
        <action name="meta-data" timeout="5s"/></actions></resource-agent>"#;
    let text = format!(
        "#!/bin/sh\nhere={here}\nup() {{ test -e $here/up; }}\n\
         if [ $1 = meta-data ]; then cat <<'X'\n{metadata}\nX\nexit 0; fi\n{script}\n\
         case $1 in\nstart) touch $here/up;;\nstop) rm -f $here/up;;\n\
         monitor) up || exit 7;;\n*) exit 3;;\nesac\n"
    );
    std::fs::write(&path, text).expect("an agent");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    let kind = json!({"ocf": {"agent": "test:agent", "root": root.path()}});
    (root, kind)
}

#[test]
fn dummy_comes_goes_and_is_missed() {
    if !agents() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let kind = ocf("heartbeat:Dummy", json!({"state": state}));
    let mut monitor = Monitor::start(resource(kind.clone()));
    monitor.bring_online(1);
    assert!(state.exists());
    monitor.take_offline(1);
    assert!(!state.exists());
    monitor.activate(2);
    monitor.expect(FromChild::Active { epoch: Epoch(2) });
    std::fs::remove_file(&state).expect("it was there");
    monitor.expect_failed(FailureReach::Soft, "does not run any more");
    // One that is found running is stopped first.
    std::fs::write(&state, "").expect("a file");
    let mut next = Monitor::start(resource(kind));
    next.expect(FromChild::Ready);
    assert!(!state.exists());
}

#[test]
fn an_agent_s_resource_is_down_when_trust_ends_and_when_the_node_dies() {
    if !agents() {
        return;
    }
    for frozen in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let mut monitor = Monitor::start(resource(ocf("heartbeat:Dummy", json!({"state": state}))));
        monitor.expect(FromChild::Ready);
        monitor.activate_for(1, if frozen { Millis(2500) } else { Millis::minutes(5) });
        monitor.expect(FromChild::Active { epoch: Epoch(1) });
        assert!(state.exists());
        if !frozen {
            monitor.close_socket();
        }
        assert_eq!(monitor.ended().code(), Some(75));
        assert!(!state.exists());
    }
}

#[test]
fn ipaddr2_works_unchanged() {
    if !agents() {
        return;
    }
    let Some(machine) = Machine::start() else { return };
    let Some(peer) = Machine::start() else { return };
    machine.connect(&peer, &["192.0.2.1/24"], &["192.0.2.2/24"]);
    let kind = ocf(
        "heartbeat:IPaddr2",
        json!({"ip": "192.0.2.10", "cidr_netmask": "24", "nic": "eth0", "arp_count": "1"}),
    );
    let mut monitor = Monitor::start_by(&mut machine.monitor(), resource(kind), &[]);
    monitor.bring_online(1);
    assert!(peer.try_run(&["ping", "-c", "1", "-W", "2", "192.0.2.10"]), "{}", monitor.log());
    monitor.take_offline(1);
    assert!(!machine.run(&["ip", "address"]).contains("192.0.2.10/"));
}

#[test]
fn filesystem_works_unchanged() {
    if !agents() {
        return;
    }
    let Some(machine) = Machine::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (device, at) = (folder.path().join("device"), folder.path().join("at"));
    std::fs::create_dir_all(&device).expect("a folder");
    std::fs::create_dir_all(&at).expect("a folder");
    std::fs::write(device.join("file"), "here").expect("a file");
    let kind = ocf(
        "heartbeat:Filesystem",
        json!({"device": device, "directory": at, "fstype": "none", "options": "bind"}),
    );
    let mut monitor = Monitor::start_by(&mut machine.monitor(), resource(kind), &[]);
    monitor.bring_online(1);
    let file = at.join("file").display().to_string();
    assert_eq!(machine.run(&["cat", &file]), "here");
    assert!(!Path::new(&file).exists(), "mounted only there");
    monitor.take_offline(1);
    assert!(!machine.try_run(&["cat", &file]));
}

#[test]
fn pgsql_works_unchanged() {
    if !agents() {
        return;
    }
    let bin = "/usr/lib/postgresql/15/bin";
    let root = rustix::process::geteuid().is_root();
    if !Path::new(bin).join("pg_ctl").exists() || !root {
        return testbed::skip_or_fail("the agent pgsql needs root and PostgreSQL 15 of Debian");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("open");
    let (data, socket) = (folder.path().join("data"), folder.path().join("socket"));
    for folder in [&data, &socket] {
        std::fs::create_dir_all(folder).expect("a folder");
        tool(&["chown", "postgres", &folder.display().to_string()]);
    }
    let data_shown = data.display().to_string();
    tool(&[
        "runuser",
        "-u",
        "postgres",
        "--",
        &format!("{bin}/initdb"),
        "-A",
        "trust",
        "-D",
        &data_shown,
    ]);
    // The agent's `socketdir` is for its clients; the server is told where it listens.
    let conf = data.join("postgresql.conf");
    let listens = format!("unix_socket_directories = '{}'\n", socket.display());
    std::fs::write(&conf, read(&conf) + &listens).expect("its configuration");
    let port = free_port();
    let kind = ocf(
        "heartbeat:pgsql",
        json!({"pgctl": format!("{bin}/pg_ctl"), "psql": format!("{bin}/psql"),
               "pgdata": data, "pgport": port.to_string(), "socketdir": socket,
               "pglibs": "/usr/lib/postgresql/15/lib", "pgdba": "postgres",
               "logfile": folder.path().join("data/log"), "start_opt": "-h 127.0.0.1"}),
    );
    let mut definition = resource(kind);
    definition["policy"] = json!({"looks_alive_interval": "1s", "is_alive_interval": "2s"});
    let ask = |sql: &str| {
        let socket = socket.display().to_string();
        let port = port.to_string();
        try_tool(&["psql", "-h", &socket, "-p", &port, "-U", "postgres", "-Atc", sql])
    };
    let mut monitor = Monitor::start(definition);
    monitor.bring_online(1);
    let (ok, said) = ask("VALUES (6 * 7)");
    assert!(ok && said.trim() == "42", "{said}; log:\n{}", monitor.log());
    monitor.take_offline(1);
    assert!(!ask("VALUES (1)").0);
    // A database that dies is missed by its monitor.
    monitor.activate(2);
    monitor.expect(FromChild::Active { epoch: Epoch(2) });
    let pid = read(&data.join("postmaster.pid"));
    tool(&["kill", "-KILL", pid.lines().next().expect("a process id")]);
    monitor.expect_failed(FailureReach::Soft, "heartbeat:pgsql");
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn every_exit_code_of_start_has_its_reach() {
    use FailureReach::{Fatal, Hard, Soft};
    for (code, reach) in
        [(1, Soft), (2, Hard), (3, Hard), (4, Hard), (5, Hard), (6, Fatal), (7, Soft), (42, Soft)]
    {
        let (_root, kind) =
            own_agent(&format!("if [ $1 = start ]; then echo because >&2; exit {code}; fi"));
        let mut monitor = Monitor::start(resource(kind));
        monitor.expect(FromChild::Ready);
        monitor.activate(1);
        let words = format!("test:agent: start ended with exit code {code}: because");
        monitor.expect_failed(reach, &words);
    }
}

#[test]
fn every_exit_code_of_monitor_is_understood() {
    for (code, expected) in [
        (8, None),
        (
            190,
            Some(FromChild::Degraded {
                how: "test:agent: monitor ended with exit code 190".into(),
            }),
        ),
    ] {
        let (_root, kind) = own_agent(&format!("if [ $1 = monitor ] && up; then exit {code}; fi"));
        let mut monitor = Monitor::start(resource(kind));
        monitor.bring_online(1);
        if let Some(expected) = expected {
            monitor.expect(expected);
        }
        monitor.take_offline(1);
    }
    for (code, reach) in [
        (1, FailureReach::Soft),
        (5, FailureReach::Hard),
        (6, FailureReach::Fatal),
        (7, FailureReach::Soft),
        (9, FailureReach::Soft),
    ] {
        let (root, kind) = own_agent(&format!(
            "if [ $1 = monitor ] && test -e $here/sick && up; then exit {code}; fi"
        ));
        let mut monitor = Monitor::start(resource(kind));
        monitor.bring_online(1);
        std::fs::write(root.path().join("sick"), "").expect("a file");
        monitor.expect_failed(reach, "test:agent");
    }
}

#[test]
fn an_agent_that_is_not_there_is_a_hard_failure() {
    let kind = json!({"ocf": {"agent": "heartbeat:NoSuch"}});
    Monitor::start(resource(kind)).expect_failed(FailureReach::Hard, "install the agent");
    let kind = json!({"ocf": {"agent": "../../etc/passwd"}});
    Monitor::start(resource(kind)).expect_failed(FailureReach::Fatal, "is no agent");
}

#[test]
fn an_agent_that_hangs_is_killed_with_all_it_forked() {
    let (root, mut kind) = own_agent(
        "if [ $1 = start ]; then trap '' TERM; sh -c 'echo $$ >'$here'/pid; sleep 600' & \
         wait; fi",
    );
    kind["ocf"]["start_timeout"] = json!("1s");
    let mut monitor = Monitor::start(resource(kind));
    monitor.expect(FromChild::Ready);
    monitor.activate(1);
    let how = monitor.expect_failed(FailureReach::Soft, "did not end within 1s");
    assert!(how.contains("start"), "{how}");
    assert!(!lives(&root.path().join("pid")));
}

#[test]
fn an_agent_that_lies_is_found_out() {
    let (_root, kind) = own_agent("if [ $1 = start ]; then exit 0; fi");
    let mut monitor = Monitor::start(resource(kind));
    monitor.expect(FromChild::Ready);
    monitor.activate(1);
    monitor.expect_failed(FailureReach::Soft, "its monitor says that it does not run");
}

#[test]
fn what_cannot_be_stopped_is_stuck_until_it_can() {
    let (root, kind) =
        own_agent("if [ $1 = stop ] && test -e $here/hold; then echo it is in use >&2; exit 1; fi");
    let hold = root.path().join("hold");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    std::fs::write(&hold, "").expect("a file");
    monitor.say(&ToChild::Deactivate { within: Millis::seconds(5) });
    let how = match monitor.hear() {
        Some(FromChild::Stuck { how }) => how,
        other => panic!("{other:?}"),
    };
    assert!(how.contains("stop ended with exit code 1: it is in use"), "{how}");
    std::fs::remove_file(&hold).expect("it was there");
    loop {
        match monitor.hear() {
            Some(FromChild::Stuck { .. }) => {}
            Some(FromChild::Inactive { epoch }) => break assert_eq!(epoch, Epoch(1)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_that_says_it_stopped_and_did_not_is_stuck() {
    let (root, kind) = own_agent("if [ $1 = stop ] && test -e $here/lie; then exit 0; fi");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    std::fs::write(root.path().join("lie"), "").expect("a file");
    monitor.say(&ToChild::Deactivate { within: Millis::seconds(5) });
    match monitor.hear() {
        Some(FromChild::Stuck { how }) => assert!(how.contains("its monitor says"), "{how}"),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(root.path().join("lie")).expect("it was there");
}

#[test]
fn an_agent_that_floods_its_output_is_bounded() {
    let (_root, kind) = own_agent(
        "if [ $1 = start ]; then yes flood | head -c 100000000; \
         head -c 100000000 /dev/zero >&2; fi",
    );
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    monitor.take_offline(1);
    assert!(monitor.log().len() < 200_000, "{}", monitor.log().len());
    assert!(monitor.memory_kib() < 64 * 1024, "{} KiB", monitor.memory_kib());
}

#[test]
fn a_daemon_that_an_agent_starts_is_killed_when_its_stop_hangs() {
    let (root, mut kind) = own_agent(
        "pid=$here/pid\n\
         if [ $1 = start ]; then setsid sh -c 'echo $$ >'$pid'; exec sleep 600' >/dev/null 2>&1 & \
         fi\n\
         if [ $1 = stop ] && test -e $here/hang; then rm $here/hang; sleep 600; fi",
    );
    kind["ocf"]["stop_timeout"] = json!("1s");
    let pid = root.path().join("pid");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    until("the daemon runs", || lives(&pid));
    std::fs::write(root.path().join("hang"), "").expect("a file");
    let began = Instant::now();
    monitor.take_offline(1);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!lives(&pid));
}

#[test]
fn an_agent_knows_what_it_is_told() {
    let (root, mut kind) = own_agent("env | grep OCF | sort >$here/env.$1");
    kind["ocf"]["parameters"] = json!({"colour": "blue and green"});
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    let start = read(&root.path().join("env.start"));
    for wanted in [
        "OCF_RESKEY_colour=blue and green",
        "OCF_RESOURCE_TYPE=agent",
        "OCF_RESOURCE_PROVIDER=test",
        "OCF_RA_VERSION_MAJOR=1",
        "OCF_RESKEY_CRM_meta_timeout=20000",
        "OCF_RESKEY_CRM_meta_on_node=a",
    ] {
        assert!(start.contains(wanted), "{wanted} in {start}");
    }
    let deep = root.path().join("env.monitor");
    until("the deep check runs", || read(&deep).contains("OCF_CHECK_LEVEL=10"));
    assert!(read(&deep).contains("OCF_RESKEY_CRM_meta_interval=500"));
    monitor.take_offline(1);
}
