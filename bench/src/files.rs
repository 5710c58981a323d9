//! Many small files: vsftpd to a folder, durable, beside `lftp mirror`, which keeps nothing
//! durable and remembers nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::rig::{Engine, Rig, count};

/// Runs both in turn and prints a line for each run and one for the medians.
pub fn measure(engine: Engine, files: u32, bytes: usize, runs: u32) -> Result<()> {
    let mut rig = Rig::start(engine, &["a"])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        fill(&rig, files, bytes)?;
        theirs.push(lftp(&rig, files)?);
        ours.push(baton(&mut rig, files)?);
        let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) else { continue };
        print(run, files, *ours, *theirs);
    }
    ours.sort();
    theirs.sort();
    println!(
        "{}",
        json!({
            "figure": "files", "store": format!("{engine:?}"), "files": files, "bytes": bytes,
            "baton_seconds_median": ours[ours.len() / 2].as_secs_f64(),
            "lftp_seconds_median": theirs[theirs.len() / 2].as_secs_f64(),
            "ratio_of_rates": theirs[theirs.len() / 2].as_secs_f64()
                / ours[ours.len() / 2].as_secs_f64(),
        })
    );
    Ok(())
}

fn fill(rig: &Rig, files: u32, bytes: usize) -> Result<()> {
    for number in 0..files {
        let content: Vec<u8> = (0..bytes).map(|at| (number as usize * 31 + at * 7) as u8).collect();
        rig.partner.put(&format!("file-{number:06}"), &content)?;
    }
    Ok(())
}

fn lftp(rig: &Rig, files: u32) -> Result<Duration> {
    let target = rig.folder.path().join("lftp");
    let script = format!(
        "set net:timeout 30; open -u {},{} -p {} 127.0.0.1; mirror --parallel=4 {} {}; quit",
        rig.partner.user(),
        rig.partner.password(),
        rig.partner.port(),
        if rig.partner.folder().is_empty() { "." } else { rig.partner.folder() },
        target.display(),
    );
    let begun = Instant::now();
    let status = Command::new("lftp").arg("-c").arg(script).stdin(Stdio::null()).status()?;
    let took = begun.elapsed();
    ensure!(status.success(), "lftp: {status}");
    ensure!(count(&target)? == files, "lftp fetched {} of {files}", count(&target)?);
    std::fs::remove_dir_all(&target)?;
    Ok(took)
}

fn baton(rig: &mut Rig, files: u32) -> Result<Duration> {
    let begun = Instant::now();
    rig.apply(true)?;
    rig.wait("all files", |rig| Ok(count(&rig.delivered())? >= files))?;
    let took = begun.elapsed();
    rig.apply(false)?;
    rig.wait_until_at_rest()?;
    for entry in std::fs::read_dir(rig.delivered())? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(took)
}

fn print(run: u32, files: u32, ours: Duration, theirs: Duration) {
    let rate = |took: Duration| (f64::from(files) / took.as_secs_f64()).round();
    println!(
        "{}",
        json!({
            "run": run,
            "baton_files_per_s": rate(ours),
            "lftp_files_per_s": rate(theirs),
            "ratio": theirs.as_secs_f64() / ours.as_secs_f64(),
        })
    );
}
