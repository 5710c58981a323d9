//! `network_name`, with a real BIND.

mod rig;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use child::protocol::FromChild;
use model::{Epoch, FailureReach, Millis};
use rig::{Monitor, read, resource, until};
use serde_json::{Value, json};

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0IHdpdGggMzIgYnl0ZXMhISE=";
const OTHER_SECRET: &str = "YW5vdGhlciBzZWNyZXQsIGFsc28gb2YgMzIgYnl0ZXMhISE=";

/// A BIND of the test's own, primary of example.org.
struct Bind {
    server: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Bind {
    fn start() -> Option<Bind> {
        // A port that was free may be another test's by the time that BIND wants it.
        const TRIES: u32 = 5;
        for _ in 0..TRIES {
            let bind = Bind::try_start()?;
            until("BIND runs", || {
                assert!(!bind.log().contains("exiting"), "{}", bind.log());
                bind.log().contains("running")
            });
            if !bind.log().contains("address in use") {
                until("BIND answers", || !bind.records("example.org", "SOA").is_empty());
                return Some(bind);
            }
        }
        panic!("BIND found no free port");
    }

    fn try_start() -> Option<Bind> {
        let named = ["/usr/sbin/named", "/usr/local/sbin/named"];
        let Some(named) = named.into_iter().find(|path| Path::new(path).exists()) else {
            testbed::skip_or_fail("there is no BIND; `cargo xtask deps` installs it");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display().to_string();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let conf = format!(
            "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; recursion no; pid-file none; session-keyfile \
             \"{at}/session.key\"; managed-keys-directory \"{at}\"; dnssec-validation no; }};\n\
             controls {{ }};\n\
             key baton {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             key powerless {{ algorithm hmac-sha512; secret \"{SECRET}\"; }};\n\
             zone example.org {{ type primary; file \"{at}/zone\";\n\
             update-policy {{ grant baton zonesub ANY; }}; }};\n"
        );
        let zone = "$TTL 60\n@ SOA ns.example.org. root.example.org. 1 60 60 60 60\n\
                    @ NS ns.example.org.\nns A 127.0.0.1\n";
        std::fs::write(folder.path().join("conf"), conf).expect("a file");
        std::fs::write(folder.path().join("zone"), zone).expect("a file");
        std::fs::write(folder.path().join("secret"), SECRET).expect("a file");
        std::fs::write(folder.path().join("other"), OTHER_SECRET).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", named, "-g", "-n", "1", "-c"])
            .arg(folder.path().join("conf"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv, of util-linux");
        Some(Bind { server, folder, port })
    }

    fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    fn kind(&self) -> Value {
        json!({"network_name": {
            "name": "partners.example.org", "server": format!("127.0.0.1:{}", self.port),
            "tsig": {"key": "baton", "secret_file": self.folder.path().join("secret")}}})
    }

    fn records(&self, name: &str, kind: &str) -> String {
        let port = self.port.to_string();
        let words = ["dig", "@127.0.0.1", "-p", &port, "+short", "+tcp", "+norecurse", name, kind];
        let (ok, printed) = rig::try_tool(&words);
        if ok { printed.trim().to_owned() } else { String::new() }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const ADDRESSES: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn start(kind: Value) -> Monitor {
    Monitor::start_by(&mut Command::new(rig::program()), resource(kind), &ADDRESSES)
}

#[test]
fn a_name_is_set_and_deleted() {
    let Some(bind) = Bind::start() else { return };
    let mut monitor = start(bind.kind());
    monitor.bring_online(7);
    assert_eq!(bind.records("partners.example.org", "A"), "192.0.2.10");
    assert_eq!(bind.records("partners.example.org", "AAAA"), "2001:db8::10");
    assert_eq!(bind.records("_baton.partners.example.org", "TXT"), "\"a 7\"");
    monitor.take_offline(7);
    assert_eq!(bind.records("partners.example.org", "ANY"), "");
    assert_eq!(bind.records("_baton.partners.example.org", "TXT"), "");
    // And by the end of trust.
    monitor.activate_for(8, Millis(2000));
    monitor.expect(FromChild::Active { epoch: Epoch(8) });
    assert_eq!(monitor.ended().code(), Some(75));
    assert_eq!(bind.records("partners.example.org", "A"), "");
}

#[test]
fn an_owner_that_was_replaced_neither_sets_nor_deletes_the_name() {
    let Some(bind) = Bind::start() else { return };
    let mut old = start(bind.kind());
    old.bring_online(7);
    let mut kind = bind.kind();
    kind["network_name"]["addresses"] = json!(["192.0.2.99"]);
    let mut new = start(kind);
    new.bring_online(8);
    assert_eq!(bind.records("partners.example.org", "A"), "192.0.2.99");
    // The old one finds that it was changed, and lets go of what is no longer its own.
    old.expect_failed(FailureReach::Soft, "somebody has changed it");
    assert_eq!(bind.records("partners.example.org", "A"), "192.0.2.99");
    let mut late = start(bind.kind());
    late.expect(FromChild::Ready);
    late.activate(7);
    late.expect_failed(FailureReach::Soft, "under epoch 8, which is newer than ours, 7");
    assert_eq!(bind.records("partners.example.org", "A"), "192.0.2.99");
    new.take_offline(8);
    assert_eq!(bind.records("partners.example.org", "A"), "");
}

#[test]
fn a_name_that_somebody_changes_is_a_failure() {
    let Some(bind) = Bind::start() else { return };
    let mut monitor = start(bind.kind());
    monitor.bring_online(1);
    let script = format!(
        "server 127.0.0.1 {}\nkey hmac-sha256:baton {SECRET}\nupdate delete \
         partners.example.org A\nsend\n",
        bind.port
    );
    let path = bind.folder.path().join("script");
    std::fs::write(&path, script).expect("a file");
    rig::tool(&["nsupdate", &path.display().to_string()]);
    monitor.expect_failed(FailureReach::Soft, "somebody has changed it");
}

#[test]
fn every_refusal_is_named() {
    let Some(bind) = Bind::start() else { return };
    let other = bind.folder.path().join("other");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let away = nobody.local_addr().expect("its address").to_string();
    drop(nobody);
    for (path, value, reach, words) in [
        ("/tsig/secret_file", json!(other), FailureReach::Hard, "BADSIG"),
        ("/tsig/key", json!("nobody"), FailureReach::Hard, "BADKEY"),
        ("/tsig/secret_file", json!("/no/file"), FailureReach::Hard, "cannot read the TSIG secret"),
        ("/zone", json!("org"), FailureReach::Fatal, "not the primary of zone org"),
        ("/server", json!(away), FailureReach::Soft, "Connection refused"),
    ] {
        let mut kind = bind.kind();
        kind["network_name"]["zone"] = json!("example.org");
        *kind["network_name"].pointer_mut(path).expect(path) = value;
        let mut monitor = start(kind);
        monitor.expect(FromChild::Ready);
        monitor.activate(1);
        monitor.expect_failed(reach, words);
    }
    for tsig in [
        json!(null),
        json!({"key": "powerless", "algorithm": "hmac-sha512",
               "secret_file": bind.folder.path().join("secret")}),
    ] {
        let mut kind = bind.kind();
        kind["network_name"]["tsig"] = tsig;
        let mut monitor = start(kind);
        monitor.expect(FromChild::Ready);
        monitor.activate(1);
        monitor.expect_failed(FailureReach::Hard, "grant A, AAAA of partners.example.org");
    }
    assert_eq!(bind.records("partners.example.org", "A"), "");
}

#[test]
fn a_server_that_is_away_degrades_the_name_and_does_not_hold_it() {
    let Some(mut bind) = Bind::start() else { return };
    let mut monitor = start(bind.kind());
    monitor.bring_online(1);
    bind.server.kill().expect("it is ours");
    bind.server.wait().expect("it is dead");
    match monitor.hear() {
        Some(FromChild::Degraded { how }) => assert!(how.contains("cannot check"), "{how}"),
        other => panic!("{other:?}; log:\n{}", monitor.log()),
    }
    monitor.take_offline(1);
    assert!(monitor.log().contains("stays in the DNS"), "{}", monitor.log());
}

#[test]
fn a_name_without_addresses_is_refused() {
    let kind = json!({"network_name": {"name": "x.example.org", "server": "127.0.0.1:53"}});
    Monitor::start(resource(kind)).expect_failed(FailureReach::Fatal, "has no address");
}
