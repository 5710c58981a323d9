//! One large file, FTP → store → folder: memory of the host, and the receiving beside a bare
//! script that writes the same bytes, in chunks of 1 MiB, durably, into the same kind of store.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::rig::{Engine, Rig};

const MIB: usize = 1024 * 1024;
const NAME: &str = "large.bin";

/// Measures and prints one line.
pub fn measure(engine: Engine, mib: u64, kill_at_half: bool) -> Result<()> {
    let nodes: &[&str] = if kill_at_half { &["a", "b"] } else { &["a"] };
    let mut rig = Rig::start(engine, nodes)?;
    let source = rig.partner.root().join(NAME);
    write_file(&source, mib)?;
    let checksum = sum(&source)?;
    let curl = curl(&rig)?;
    let bare = bare(engine, &rig, mib)?;
    let begun = Instant::now();
    rig.apply(true)?;
    let resumed = if kill_at_half { Some(kill(&mut rig, mib)?) } else { None };
    rig.wait("the end of the download", |_| Ok(!source.exists()))?;
    let receive = begun.elapsed().as_secs_f64();
    let memory: Vec<u64> =
        rig.machines.iter().flat_map(|machine| machine.peak_memory_kib("receive")).collect();
    let target = rig.delivered().join(NAME);
    rig.wait("delivery", |_| Ok(target.exists()))?;
    let whole = begun.elapsed().as_secs_f64();
    let send: Vec<u64> =
        rig.machines.iter().flat_map(|machine| machine.peak_memory_kib("send")).collect();
    ensure!(sum(&target)? == checksum, "the delivered bytes are not those that were sent");
    println!(
        "{}",
        json!({
            "figure": "large", "store": format!("{engine:?}"), "mib": mib,
            "receive_seconds": receive, "bare_seconds": bare, "curl_seconds": curl,
            "ratio_to_bare": bare / receive,
            "to_folder_seconds": whole,
            "receive_host_peak_rss_mib": memory.iter().max().map(|kib| kib / 1024),
            "send_host_peak_rss_mib": send.iter().max().map(|kib| kib / 1024),
            "resumed_at_mib": resumed,
            "bytes_equal": true,
        })
    );
    Ok(())
}

fn write_file(path: &Path, mib: u64) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(MIB, std::fs::File::create(path)?);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut block = vec![0u8; MIB];
    for _ in 0..mib {
        for eight in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            eight.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

fn sum(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output()?;
    ensure!(output.status.success(), "sha256sum of {}", path.display());
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("sha256sum said nothing")?.to_owned())
}

fn curl(rig: &Rig) -> Result<f64> {
    let url = format!(
        "ftp://{}:{}@127.0.0.1:{}/{}/{NAME}",
        rig.partner.user(),
        rig.partner.password(),
        rig.partner.port(),
        rig.partner.folder(),
    );
    let target = rig.folder.path().join("curl.bin");
    let begun = Instant::now();
    let status = Command::new("curl").args(["-s", "-o"]).arg(&target).arg(url).status()?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "curl: {status}");
    std::fs::remove_file(target)?;
    Ok(took)
}

/// The bare script: the same bytes, a chunk a transaction, synced.
fn bare(engine: Engine, rig: &Rig, mib: u64) -> Result<f64> {
    let chunk: Vec<u8> = (0..MIB).map(|at| (at * 31) as u8).collect();
    match engine {
        Engine::Sqlite => {
            let path = rig.folder.path().join("bare.db");
            let database = rusqlite::Connection::open(&path)?;
            database.pragma_update(None, "journal_mode", "WAL")?;
            database.pragma_update(None, "synchronous", "FULL")?;
            database.execute_batch("CREATE TABLE chunk (at INTEGER PRIMARY KEY, data BLOB)")?;
            let begun = Instant::now();
            let mut insert = database.prepare("INSERT INTO chunk VALUES (?1, ?2)")?;
            for at in 0..mib {
                insert.execute((i64::try_from(at)?, &chunk))?;
            }
            let took = begun.elapsed().as_secs_f64();
            drop(insert);
            drop(database);
            std::fs::remove_file(path)?;
            Ok(took)
        }
        Engine::Postgres => bare_postgres(rig, mib, &chunk),
    }
}

fn bare_postgres(rig: &Rig, mib: u64, chunk: &[u8]) -> Result<f64> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&rig.url, tokio_postgres::NoTls).await?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        client
            .batch_execute(
                "CREATE TABLE bare_chunk (at bigint PRIMARY KEY, data bytea);
                 ALTER TABLE bare_chunk ALTER COLUMN data SET STORAGE EXTERNAL",
            )
            .await?;
        let insert = client.prepare("INSERT INTO bare_chunk VALUES ($1, $2)").await?;
        let begun = Instant::now();
        for at in 0..mib {
            client.execute(&insert, &[&i64::try_from(at)?, &chunk]).await?;
        }
        let took = begun.elapsed().as_secs_f64();
        client.batch_execute("DROP TABLE bare_chunk").await?;
        Ok(took)
    })
}

/// Kills the owner's receive host when half of the file is in the store, and answers from which
/// MiB on its successor went on.
fn kill(rig: &mut Rig, mib: u64) -> Result<u64> {
    let half = mib / 2 * MIB as u64;
    rig.wait("half of the file", |rig| Ok(staged(rig)? >= half))?;
    let owner = rig.owner()?.context("nobody owns the group")?;
    let at = staged(rig)?;
    for machine in &rig.machines {
        if machine.name.as_str() == owner {
            machine.kill_host("receive")?;
        }
    }
    rig.wait("the successor", |rig| Ok(rig.owner()?.is_some_and(|now| now != owner)))?;
    Ok(at / MIB as u64)
}

/// Bytes of the body that is being staged.
fn staged(rig: &Rig) -> Result<u64> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    // The staged bytes are not told by the store's public methods; its size on disk is close
    // enough to choose the moment of the kill.
    if let Some(path) = rig.url.strip_prefix("sqlite:") {
        return Ok(size(Path::new(path)) + size(Path::new(&format!("{path}-wal"))) / 2);
    }
    let text = testbed::psql(&rig.url, "SELECT coalesce(sum(length(data)),0) FROM body_chunk")?;
    Ok(text.trim().parse()?)
}
