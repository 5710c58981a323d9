//! Faults that an examination must find, and what it must not leave behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use store::{Finding, FindingResult, Options, Store, StoreError};
use testbed::Postgres;

use crate::{count, open, owner, raw, until};

async fn examine(store: &dyn Store) -> BTreeMap<&'static str, Finding> {
    let findings = store.examine().await.expect("what fails is a finding");
    findings.into_iter().map(|finding| (finding.id, finding)).collect()
}

/// A finding with this result that says this, and what to do.
#[track_caller]
fn assert_found(
    found: &BTreeMap<&'static str, Finding>,
    id: &str,
    result: FindingResult,
    says: &str,
) {
    let finding = &found[id];
    assert_eq!(finding.result, result, "{finding:?}");
    assert!(finding.what.contains(says), "{finding:?}");
    assert!(!finding.remedy.is_empty(), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_behind_also_of_one_that_died() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let store = open(&url, "operator").await;
    let client = raw(&url).await;
    let died = "CREATE SCHEMA baton_examine; CREATE TABLE baton_examine.lease (name text)";
    client.batch_execute(died).await.expect("the remains of one that died");
    let found = examine(store.as_ref()).await;
    assert_eq!(found["store.fence"].result, FindingResult::Passed, "{found:?}");
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'baton_examine'";
    assert_eq!(count(&client, schemas).await, 0);
    until("its sessions are gone", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'examination by %'";
        count(&client, sessions).await == 0
    })
    .await;
    assert_found(&found, "store.standby", FindingResult::Warning, "single point of failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_was_altered_is_found() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (store, _) = owner(&url, "a", crate::LONG).await;
    let plain = "CREATE OR REPLACE FUNCTION baton_fence(
        fence_lease text, fence_epoch bigint, fence_holder text, routed_by bigint DEFAULT NULL
    ) RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN; END $$";
    raw(&url).await.batch_execute(plain).await.expect("a fence that lets everybody through");
    let found = examine(store.as_ref()).await;
    assert_found(&found, "store.fence", FindingResult::Failed, "baton_fence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_make_a_schema_is_told_so() {
    let Some(server) = testbed::or_skip(Postgres::start()) else { return };
    server.create_database("store").expect("a database");
    let client = raw(&server.url("store")).await;
    let user = "CREATE ROLE baton LOGIN; GRANT CREATE ON SCHEMA public TO baton;
        REVOKE CREATE ON DATABASE store FROM PUBLIC";
    client.batch_execute(user).await.expect("a user");
    let url = server.url("store").replace("postgres@", "baton@");
    let store = open(&url, "operator").await;
    let found = examine(store.as_ref()).await;
    assert_found(&found, "store.fence", FindingResult::Warning, "may not make a schema");
    // Other settings of the same server that hurt one day.
    let unsafe_settings = "ALTER SYSTEM SET fsync = off";
    client.batch_execute(unsafe_settings).await.expect("a setting");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    until("it is in force", async || {
        let found = examine(store.as_ref()).await;
        found["store.durable"].result == FindingResult::Failed
    })
    .await;
}

/// pgbouncer before a server, in a mode.
struct Pooler {
    child: Child,
    _folder: tempfile::TempDir,
    url: String,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

async fn pooler(server: &Postgres, mode: &str, ignored: &str) -> Option<Pooler> {
    if !Path::new(PGBOUNCER).exists() {
        testbed::skip_or_fail("no pgbouncer: apt-get install pgbouncer");
        return None;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    drop(listener);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\nstore = host=127.0.0.1 port={} dbname=store user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\nignore_startup_parameters = {ignored}\n",
        server.port()
    );
    std::fs::write(&settings, text).expect("it can be written");
    // It refuses to be root, and must read its settings.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("ours");
    let mut command = Command::new(PGBOUNCER);
    if rustix::process::getuid().is_root() {
        command.args(["-u", "postgres"]);
    }
    let child = command
        .arg(&settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let url = format!("postgresql://postgres@127.0.0.1:{port}/store");
    let pooler = Pooler { child, _folder: folder, url };
    until("the pooler accepts", async || {
        tokio_postgres::connect(&pooler.url, tokio_postgres::NoTls).await.is_ok()
    })
    .await;
    Some(pooler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_the_way_is_found() {
    let Some(server) = testbed::or_skip(Postgres::start()) else { return };
    server.create_database("store").expect("a database");
    open(&server.url("store"), "first").await;
    let through = async |pooler: &Pooler| -> Result<Arc<dyn Store>, StoreError> {
        store::open(&Options::new(pooler.url.as_str(), "operator")).await
    };
    // As it comes, it refuses what it does not know; the answer says what to do.
    let Some(strict) = pooler(&server, "session", "extra_float_digits").await else { return };
    let refused = through(&strict).await.err().expect("it takes no options");
    assert!(refused.to_string().contains("pooler"), "{refused}");
    for (mode, says) in [("transaction", "pooler"), ("session", "do not arrive")] {
        let Some(lenient) = pooler(&server, mode, "options,extra_float_digits").await else {
            return;
        };
        match through(&lenient).await {
            Ok(store) => {
                let found = examine(store.as_ref()).await;
                println!("{mode}: {}", found["store.pooler"].what);
                assert_found(&found, "store.pooler", FindingResult::Failed, says);
                assert_eq!(found["store.fence"].result, FindingResult::Failed, "{found:?}");
            }
            // In transaction mode it may not even open.
            Err(error) => {
                assert!(mode == "transaction" && error.to_string().contains("pooler"), "{error}");
            }
        }
    }
    let client = raw(&server.url("store")).await;
    let joined = count(&client, "SELECT count(*) FROM node").await;
    assert_eq!(joined, 0, "nothing was tried in the real tables");
}
