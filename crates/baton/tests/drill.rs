//! A drill on a cluster at work: nodes as processes, faults for real, and the proof.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use baton::machines::Machine;
use model::Millis;
use serde_json::{Value, json};

const WAIT_MAX: Duration = Duration::from_secs(30);

fn baton(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .env_remove("BATON_CONFIG")
        .env("BATON_STORE", format!("sqlite:{}", folder.join("baton.db").display()))
        .output()
        .expect("baton runs")
}

#[track_caller]
fn run(folder: &Path, line: &str, code: i32) -> String {
    let output = baton(folder, line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "baton {line}\n{out}{err}");
    out + &err
}

#[test]
fn a_marked_group_is_drilled_and_no_other() {
    let site = tempfile::tempdir().expect("a folder");
    let folder = site.path();
    for side in ["in", "out"] {
        std::fs::create_dir(folder.join(side)).expect("a folder");
    }
    let definitions = json!({
        "groups": [{"name": "rehearsal", "policy": {"restarts_max": 9, "failovers_max": 9}}],
        "hosts": [{"name": "drill", "group": "rehearsal"}],
        "receive_ports": [{"name": "in", "locations": [{
            "name": "in-file", "host": "drill", "poll_interval": "20ms", "stability": "none",
            "transport": {"file": {"folder": folder.join("in"), "file_mask": "*.txt"}},
        }]}],
        "send_ports": [{
            "name": "out", "host": "drill", "filter": "BTS.ReceivePortName == 'in'",
            "retry_interval": "1s",
            "transport": {"file": {"folder": folder.join("out")}},
        }],
    });
    std::fs::write(folder.join("d.yaml"), definitions.to_string()).expect("written");
    run(folder, "apply d.yaml", 0);
    let said = run(folder, "drill rehearsal", 3);
    assert!(said.contains("not marked for drills: touch "), "{said}");
    for side in ["in", "out"] {
        std::fs::write(folder.join(side).join(".baton-drill"), "").expect("marked");
    }
    assert!(run(folder, "drill rehearsal", 3).contains("nobody owns group rehearsal"));
    let said = run(folder, "drill rehearsal --items 0", 2);
    assert!(said.contains("--items"), "{said}");

    let program = Path::new(env!("CARGO_BIN_EXE_baton"));
    let store = format!("sqlite:{}", folder.join("baton.db").display());
    // Names of their own: other tests of this machine have nodes too, and none must be struck.
    let names = ["one", "two"].map(|name| format!("drill-{}-{name}", std::process::id()));
    let ttl = Millis::seconds(2);
    let start = |name: &String| Machine::start(program, folder, name, &store, ttl);
    let _machines = names.each_ref().map(|name| start(name).expect("a node starts"));
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let status = baton(folder, "status -o json");
        let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
        let up = |node: &Value| node["state"] == "up";
        let nodes = status["nodes"].as_array().expect("nodes");
        if nodes.iter().filter(|node| up(node)).count() == 2
            && !status["groups"][0]["owner"].is_null()
        {
            break;
        }
        assert!(Instant::now() < deadline, "the cluster does not form: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = run(folder, "drill rehearsal --fault cut-store", 3);
    assert!(said.contains("reached by no network"), "{said}");
    let faults = "--fault kill-host --fault freeze-node --fault move";
    let said = run(folder, &format!("drill rehearsal {faults} --items 100"), 0);
    println!("{said}");
    assert!(said.contains("sent 100   received 100   lost 0   duplicates 0"), "{said}");
    let events = run(folder, "events -o json", 0);
    assert!(events.contains("6001") && events.contains("sent 100, lost 0"), "{events}");
    let left = std::fs::read_dir(folder.join("out")).expect("listed").count();
    assert_eq!(left, 1, "only the mark is left, a drill clears up");
}
