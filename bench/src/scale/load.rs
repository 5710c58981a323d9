//! What many idle nodes cost the store: real nodes, a real server, and the processor time that all
//! processes of the server take while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use baton::machines::Machine;
use cluster::Presence;
use model::Millis;
use serde_json::{Value, json};
use store::{Options, Store};
use testbed::Postgres;

use crate::processor::ran_ns;
use crate::rig::program;

/// What the server must have besides the defaults: room for the sessions of 64 nodes (each has
/// eight of them, and the server's own), and the statistics that name the dear statements.
const SETTINGS: [&str; 3] = [
    "max_connections=700",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track=top",
];

/// After this much time everything that happens at the start is over: the last snapshot that was
/// read because somebody joined is older than a ttl.
const SETTLE: Duration = Duration::from_secs(10);

/// The longest that all nodes may take to join, on a machine that runs them all.
const JOIN_MAX: Duration = Duration::from_secs(120);

/// How many statements are told.
const DEAREST: u32 = 6;

/// Measures and prints one line.
pub fn measure(nodes: u32, groups: u32, ttl: Millis, seconds: u32) -> Result<()> {
    let server = Postgres::start_with(&SETTINGS)?;
    server.create_database("baton")?;
    let (url, folder) = (server.url("baton"), tempfile::tempdir()?);
    testbed::psql(&url, "CREATE EXTENSION pg_stat_statements")?;
    let runtime = tokio::runtime::Runtime::new()?;
    // Closed before anything is measured: a session of ours would be one too many.
    let machines = runtime.block_on(async {
        let store = store::open(&Options::new(&url, "bench")).await?;
        let definitions = serde_json::from_value(definitions(nodes, groups))?;
        store.apply(&definitions, 0, "bench").await?;
        let machines: Vec<Machine> = (0..nodes)
            .map(|number| Machine::start(&program()?, folder.path(), &name(number), &url, ttl))
            .collect::<Result<_>>()?;
        until_at_rest(&*store, nodes, groups).await?;
        anyhow::Ok(machines)
    })?;
    drop(runtime);
    std::thread::sleep(SETTLE);
    testbed::psql(&url, "SELECT pg_stat_statements_reset()")?;
    let before = server_ran_ns(&server)?;
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let used = server_ran_ns(&server)?.saturating_sub(before);
    let (statements, calls) = dearest(&url, seconds)?;
    let count = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = 'baton'";
    let sessions: u32 = testbed::psql(&url, count)?.trim().parse()?;
    drop(machines);
    println!(
        "{}",
        json!({
            "figure": "store_load", "store": "Postgres", "nodes": nodes, "groups": groups,
            "ttl_ms": ttl.0, "seconds": seconds, "sessions": sessions,
            "server_core_percent": (used as f64 / f64::from(seconds) / 1e5).round() / 1e2,
            "statements_per_second": calls, "dearest_statements": statements,
        })
    );
    Ok(())
}

/// Groups without members: each is a lease that its owner renews, and no process that would take
/// the machine's memory.
fn definitions(nodes: u32, groups: u32) -> Value {
    let group = |number: u32| {
        let best = name(number % nodes);
        json!({ "name": format!("group-{number:03}"), "preferred_owners": [best] })
    };
    json!({ "groups": (0..groups).map(group).collect::<Vec<_>>() })
}

fn name(number: u32) -> String {
    format!("node-{number:03}")
}

/// Waits until all nodes are there and every group has an owner.
async fn until_at_rest(store: &dyn Store, nodes: u32, groups: u32) -> Result<()> {
    let all = async {
        loop {
            let snapshot = store.snapshot().await?;
            let here = snapshot.nodes.iter().filter(|node| node.presence == Presence::Present);
            let owned = snapshot.leases.iter().filter(|lease| lease.holder.is_some());
            if here.count() == nodes as usize && owned.count() >= groups as usize {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(JOIN_MAX, all).await.context("not all nodes joined in time")?
}

/// Nanoseconds that the processes of the server have run, those that ended meanwhile with them.
fn server_ran_ns(server: &Postgres) -> Result<u64> {
    let processes = server.processes();
    ensure!(!processes.is_empty(), "the server does not run");
    // What has ended is counted by the kernel in ticks of 10 ms, at the process that waited for it.
    let mut sum = ended_ns(processes[0])?;
    for pid in processes {
        // An autovacuum worker may have ended since it was listed.
        sum += ran_ns(pid.cast_signed()).unwrap_or(0);
    }
    Ok(sum)
}

/// Fields 16 and 17 of `stat`: the time of children that ended, in user mode and in the kernel.
fn ended_ns(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("a short stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| -> Result<u64> {
        Ok(fields.get(place).context("a short stat")?.parse::<u64>()?)
    };
    Ok((ticks(13)? + ticks(14)?) * 10_000_000)
}

/// The statements that took most time (but for those that wait for a peer all the time), and how
/// many came in a second all together.
fn dearest(url: &str, seconds: u32) -> Result<(Vec<Value>, f64)> {
    let statement = format!(
        "SELECT round((total_exec_time / {seconds})::numeric, 2), \
             round((calls::numeric / {seconds}), 1), \
             left(regexp_replace(query, '\\s+', ' ', 'g'), 100) \
         FROM pg_stat_statements WHERE query NOT LIKE '%baton_watch%' \
         ORDER BY total_exec_time DESC LIMIT {DEAREST}"
    );
    let told = testbed::psql(url, &statement)?;
    let rows = told.lines().filter_map(|line| {
        let mut columns = line.splitn(3, '|');
        let (busy, calls) = (columns.next()?, columns.next()?);
        Some(json!({
            "ms_per_second": busy.parse::<f64>().ok()?, "calls_per_second":
            calls.parse::<f64>().ok()?, "statement": columns.next()?,
        }))
    });
    let all = testbed::psql(url, "SELECT sum(calls) FROM pg_stat_statements")?;
    let calls = all.trim().parse::<f64>()? / f64::from(seconds);
    Ok((rows.collect(), (calls * 10.0).round() / 10.0))
}
