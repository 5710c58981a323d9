//! `baton validate` as operators and CI servers meet it: faults are seeded, findings expected.

use std::path::Path;
use std::process::Command;

use model::{Millis, NodeName};
use serde_json::Value;
use store::{NodeFacts, Options};

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site { folder: tempfile::tempdir().expect("folder") }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path("baton.db"))
    }

    /// Runs a line as node `a`: exit code, and what it printed.
    fn run(&self, line: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_baton"))
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("BATON_CONFIG")
            .env("BATON_STORE", self.url())
            .env("BATON_NODE", "a")
            .output()
            .expect("baton runs");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
    }

    fn validate(&self, arguments: &str) -> (i32, Vec<Value>) {
        let (code, out, err) = self.run(&format!("validate -o json {arguments}"));
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        (code, report["found"].as_array().expect("findings").clone())
    }

    /// Applies definitions, and joins as node `a`.
    async fn set_up(&self, definitions: &str) -> std::sync::Arc<dyn store::Store> {
        std::fs::write(self.path("d.yaml"), definitions).expect("written");
        let (code, out, err) = self.run("apply d.yaml");
        assert_eq!(code, 0, "{out}{err}");
        let store = store::open(&Options::new(self.url(), "test")).await.expect("store");
        let a = NodeName::new("a").expect("a name");
        store.join(&a, &NodeFacts::default(), Millis::minutes(5)).await.expect("joined");
        store
    }
}

#[track_caller]
fn finds(found: &[Value], id: &str, subject: &str, result: &str, words: &str) {
    let is = |one: &&Value| one["id"] == id && one["subject"] == subject;
    let of = found.iter().filter(is).collect::<Vec<_>>();
    let says = |one: &&&Value| {
        one["result"] == result && one["what"].as_str().is_some_and(|what| what.contains(words))
    };
    assert!(of.iter().any(|one| says(&one)), "no {id} {subject} {result} {words:?}: {found:#?}");
    if result != "passed" && result != "not_applicable" {
        let remedy = of.iter().find(says).and_then(|one| one["remedy"].as_str());
        assert!(remedy.is_some_and(|remedy| !remedy.is_empty()), "{of:#?}");
    }
}

fn definitions(site: &Site) -> String {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("its address").port();
    format!(
        "
groups:
  - {{name: partners, possible_owners: [a, b]}}
hosts:
  - {{name: receive, group: partners}}
resources:
  - name: '1-gateway'
    group: partners
    kind: {{process: {{command: [/nowhere/gateway]}}}}
  - name: '2-agent'
    group: partners
    kind: {{ocf: {{agent: 'heartbeat:NoSuchAgent', root: {root}}}}}
receive_ports:
  - name: orders
    locations:
      - name: orders-ftp
        host: receive
        transport: {{ftp: {{server: 127.0.0.1, port: {port}, password_file: {secret}}}}}
      - name: orders-file
        host: receive
        transport: {{file: {{folder: {missing}}}}}
send_ports:
  - name: archive
    host: receive
    filter: 'true'
    transport: {{file: {{folder: {out}}}}}
",
        root = site.path("ocf"),
        secret = site.path("secret"),
        missing = site.path("missing"),
        out = site.path("out"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_faults_are_found() {
    let site = Site::new();
    std::fs::create_dir(site.path("out")).expect("a folder");
    std::fs::write(site.path("secret"), "hunter2\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(site.path("secret"), mode).expect("mode");
    let _store = site.set_up(&definitions(&site)).await;

    let arguments = format!("--html {} --junit {}", site.path("r.html"), site.path("r.xml"));
    let (code, found) = site.validate(&arguments);
    assert_eq!(code, 1);
    finds(&found, "definitions.valid", "definitions", "passed", "version 1 keeps all rules");
    finds(&found, "group.owners", "group partners", "warning", "b never joined");
    finds(&found, "group.online", "group partners", "failed", "nobody has it");
    finds(&found, "node.up", "node a", "passed", "it is up");
    finds(&found, "node.validated", "node b", "warning", "never validated from there");
    finds(&found, "machine.clock", "machine", "passed", "apart");
    let secret = "password_file of location orders-ftp";
    finds(&found, "machine.secrets", secret, "warning", "has mode 644");
    finds(&found, "endpoint.ftp", "location orders-ftp", "failed", "cannot be reached from here");
    finds(&found, "endpoint.file", "location orders-file", "failed", "No such file");
    finds(&found, "endpoint.file", "send port archive", "passed", "may make files in");
    finds(&found, "resource.process", "process 1-gateway", "failed", "no such program");
    finds(&found, "resource.ocf", "ocf 2-agent", "failed", "no such program");
    finds(&found, "resource.systemd", "cluster", "not_applicable", "nothing of this kind");
    finds(&found, "store.fence", "store", "passed", "");
    reports_are_whole(&site, &found);

    // What was found is remembered, and told on other nodes.
    let (code, found) = site.validate("--node b --only node.validated");
    assert_eq!(code, 0, "{found:#?}");
    finds(&found, "node.validated", "node a", "warning", "endpoint.ftp of location orders-ftp");
}

fn reports_are_whole(site: &Site, found: &[Value]) {
    let read = |name: &str| std::fs::read_to_string(Path::new(&site.path(name))).expect("a report");
    let xml = read("r.xml");
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let count = |tag: &str| document.descendants().filter(|node| node.has_tag_name(tag)).count();
    assert_eq!(count("testcase"), found.len());
    let failed = found.iter().filter(|one| one["result"] == "failed").count();
    assert_eq!(count("failure"), failed);
    let html = read("r.html");
    assert!(html.contains("NOT fit to fail over") && html.contains("orders-ftp"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_are_chosen_and_listed() {
    let site = Site::new();
    let _store = site.set_up("groups:\n  - {name: g, single_node: true}\n").await;
    let (code, found) = site.validate("--only node --skip node.duty");
    let ids: Vec<_> = found.iter().map(|one| one["id"].as_str().unwrap_or_default()).collect();
    assert_eq!(ids, ["node.up", "node.version", "node.validated"]);
    assert_eq!(code, 0, "{found:#?}");
    let (code, out, _) = site.run("validate --list --only endpoint");
    assert!(code == 0 && out.starts_with("endpoint.ftp   FTP servers "), "{out}");
    assert_eq!(out.lines().count(), 2);
    let (code, _, err) = site.run("validate --only nonsense");
    assert!(code == 3 && err.contains("there is no test \"nonsense\"; tests, "), "{err}");
    // A part of a validation is not remembered as one.
    let (_, found) = site.validate("--node b --only node.validated");
    finds(&found, "node.validated", "node a", "warning", "never validated");
    let (_, out, _) = site.run("validate --only node");
    assert!(out.contains("\nfit to fail over: 3 passed") || out.contains("passed"), "{out}");
}

#[test]
fn a_store_that_cannot_be_reached_is_a_finding() {
    let site = Site::new();
    let url = "--store postgresql://u:hunter2@127.0.0.1:1/d";
    let (code, out, _) = site.run(&format!("validate {url} --junit {}", site.path("r.xml")));
    assert!(code == 4 && out.contains("store.reach"), "{out}");
    let xml = std::fs::read_to_string(site.path("r.xml")).expect("a report");
    assert!(xml.contains("failures=\"1\"") && !(xml + &out).contains("hunter2"));
}
