//! Stories of a cluster, as an operator would tell them: `tests/scenarios/*.txt`.
//!
//! Each file holds nodes, definitions and what happens when (`sim::script`); below the line stands
//! what the agents said and did. `BLESS=1 cargo test -p sim --test scenarios` writes that part
//! anew; `SCENARIO=quarantine` plays those only whose file name has that in it.

use std::io::Write;
use std::path::{Path, PathBuf};

use sim::script::Script;

const LINE: &str = "--- what happened ---\n";

/// So many there are at least: a folder that is read wrongly must not look like success.
const FEWEST: usize = 60;

#[test]
fn stories_are_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= FEWEST, "only {} scenarios in {}", files.len(), folder.display());
    if let Ok(part) = std::env::var("SCENARIO") {
        files.retain(|file| file.file_name().unwrap().to_string_lossy().contains(&part));
        assert!(!files.is_empty(), "no scenario has {part:?} in its name");
    }
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let (script, told) = text.split_once(LINE).unwrap_or((&text, ""));
        let script = format!("{}\n\n", script.trim_end());
        let happened = play(&script).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        if told == happened {
            continue;
        }
        if bless {
            std::fs::write(file, format!("{script}{LINE}{happened}")).unwrap();
        } else {
            let first = told.lines().zip(happened.lines()).find(|(told, now)| told != now);
            wrong.push(format!("{}: first difference {first:#?}\n{happened}", file.display()));
        }
    }
    // Past the harness, which would keep it to itself.
    writeln!(std::io::stderr(), "{} scenarios played, {} differ", files.len(), wrong.len())
        .unwrap();
    assert!(wrong.is_empty(), "BLESS=1 if this is meant:\n{}", wrong.join("\n"));
}

/// Plays a script and tells what happened; what may never happen is told as well.
fn play(script: &str) -> Result<String, String> {
    let script: Script = script.parse().map_err(|unclear| format!("{unclear}"))?;
    let world = script.play().map_err(|unclear| unclear.to_string())?;
    Ok(world.log.iter().map(|line| format!("{line}\n")).collect())
}
