//! What happens in the demo, in order.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use model::{Epoch, GroupName, Millis};
use store::{Options, Store};
use tokio::task::JoinSet;

use super::DemoArgs;
use super::partner::{Observer, Partner};
use super::report::{Fault, Kind, Outcome, Story};
use super::wire::Wire;
use crate::machines::Machine;
use crate::proof;
use crate::watch::Watch;

/// The machines.
const NODES: [&str; 3] = ["a", "b", "c"];

/// The clustered group, and its host.
const GROUP: &str = "partners";
const RECEIVE_HOST: &str = "receive";
const LOCATION: &str = "orders-ftp";

/// Longest wait for the cluster to form, and for an owner after a fault: beyond it the demo has
/// failed and says what it was waiting for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the last files after the last fault.
const DELIVERY_MAX: Duration = Duration::from_secs(180);

/// How often the demo looks whether what it waits for has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Time between two faults, for the cluster to have all its standbys again.
const CALM: Duration = Duration::from_millis(1500);

/// Plays the whole demo.
pub async fn play(args: &DemoArgs, store: Option<&str>) -> Result<Outcome> {
    ensure!(args.files > 0, "--files must be at least 1");
    let kept = args.keep.is_some();
    let folder = match &args.keep {
        Some(folder) => folder.clone(),
        None => tempfile::tempdir()?.keep(),
    };
    std::fs::create_dir_all(&folder)?;
    let played = Stage::set(args, store, &folder).await;
    let outcome = match played {
        Ok(mut stage) => stage.play().await,
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(outcome) if outcome.is_proof() && !kept => std::fs::remove_dir_all(&folder)?,
        _ => eprintln!("the demo's files and logs are in {}", folder.display()),
    }
    outcome
}

struct Stage<'a> {
    args: &'a DemoArgs,
    story: Story,
    folder: PathBuf,
    store: Arc<dyn Store>,
    partner: Partner,
    machines: Vec<Machine>,
    /// Each machine's way to the store, if there is a network between them.
    wires: Vec<Wire>,
    offered: Arc<AtomicU32>,
    begun: Instant,
}

impl<'a> Stage<'a> {
    async fn set(args: &'a DemoArgs, store: Option<&str>, folder: &Path) -> Result<Stage<'a>> {
        let mut story = Story::new(args.json);
        let partner = match (&args.ftp, &args.ftp_folder) {
            (Some(server), Some(files)) => Partner::of(server, files)?,
            _ => Partner::start(&folder.join("partner")).await?,
        };
        std::fs::create_dir_all(folder.join("delivered"))?;
        let url = match store {
            Some(url) => url.to_owned(),
            None => format!("sqlite:{}", folder.join("baton.db").display()),
        };
        let store = store::open(&Options::new(&url, "demo")).await?;
        let (version, _) = store.definitions().await?;
        ensure!(
            version == 0,
            "{} has definitions already; give the demo an empty database",
            store.describe()
        );
        story.line(&format!(
            "partner's FTP server on {}:{}, store {}",
            partner.settings["server"].as_str().unwrap_or_default(),
            partner.settings["port"],
            store.describe()
        ));
        let definitions = serde_json::from_value(definitions(&partner, folder, args.ttl))?;
        store.apply(&definitions, 0, "demo").await?;
        let program = std::env::current_exe()?;
        let (mut machines, mut wires) = (Vec::new(), Vec::new());
        for name in NODES {
            let wire = Wire::to(&url).await?;
            let url = wire.as_ref().map_or(&url, |wire| &wire.url);
            machines.push(Machine::start(&program, folder, name, url, args.ttl)?);
            wires.extend(wire);
        }
        Ok(Stage {
            args,
            story,
            folder: folder.to_owned(),
            store,
            partner,
            machines,
            wires,
            offered: Arc::default(),
            begun: Instant::now(),
        })
    }

    async fn play(&mut self) -> Result<Outcome> {
        let first = self.watch()?.owner_after(Epoch(0)).await?;
        self.story.line(&format!(
            "group {GROUP} is online on {} (epoch {}); files begin to come",
            first.node, first.epoch
        ));
        self.begun = Instant::now();
        let all_faults_done = Arc::new(AtomicBool::new(false));
        let mut writer = JoinSet::new();
        writer.spawn(write_files(
            self.partner.folder.clone(),
            self.args.files,
            self.pace(),
            self.offered.clone(),
            all_faults_done.clone(),
        ));
        self.first_download().await?;
        let mut faults = Vec::new();
        let kinds = Kind::all(!self.wires.is_empty());
        for number in 0..self.args.faults {
            let kind = kinds[number as usize % kinds.len()];
            self.calm().await?;
            faults.push(self.fault(number, kind).await?);
        }
        all_faults_done.store(true, Ordering::Relaxed);
        writer.join_next().await.context("the partner has stopped")???;
        self.all_delivered().await?;
        let delivered = proof::check(&self.folder.join("delivered"), 0..self.args.files)?;
        Ok(Outcome {
            sent: self.args.files,
            delivered,
            faults,
            store: self.store.describe(),
            seconds: self.begun.elapsed().as_secs_f64(),
        })
    }

    /// The time between two files: so that they come all the time that faults take.
    fn pace(&self) -> Duration {
        // At most two of four or five kinds last until a lease ends.
        let frozen = self.args.ttl.as_duration() * self.args.faults / 2;
        let expected = (CALM + Duration::from_millis(700)) * self.args.faults + frozen;
        (expected / self.args.files).min(Duration::from_millis(50))
    }

    /// Waits until somebody is at work.
    async fn first_download(&self) -> Result<()> {
        let Some(observer) = &self.partner.observer else {
            self.watch()?.listed_under(LOCATION, Epoch(1)).await?;
            return Ok(());
        };
        let nobody = BTreeSet::new();
        let deadline = Instant::now() + WAIT_MAX;
        while observer.first_of_others(&nobody, self.begun).is_none() {
            ensure!(Instant::now() < deadline, "nobody downloads from the partner's server");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets the cluster come to rest: all nodes there, and no process of ours ended by itself.
    async fn calm(&mut self) -> Result<()> {
        tokio::time::sleep(CALM).await;
        for machine in &mut self.machines {
            if machine.has_ended() {
                bail!("node {} has ended by itself; see its log", machine.name);
            }
        }
        Ok(())
    }

    /// One fault, from the blow to the new owner's first download.
    async fn fault(&mut self, number: u32, kind: Kind) -> Result<Fault> {
        let before = self.watch()?.owner().await?.context("nobody owns the group")?;
        let active = self.sessions_at_work().await?;
        let place = self
            .machines
            .iter()
            .position(|machine| machine.name == before.node)
            .context("the owner is none of the demo's nodes")?;
        let blow_at = self.store.now().await?;
        let blow = Instant::now();
        match kind {
            Kind::HostKilled => self.machines[place].kill_host(RECEIVE_HOST)?,
            Kind::NodeKilled => self.machines[place].kill()?,
            Kind::NodeFrozen => self.machines[place].freeze()?,
            Kind::NodeCutOff => self.wires[place].cut(),
            Kind::Moved => self.watch()?.ask_for_a_move("demo").await?,
        }
        let after = self.watch()?.owner_after(before.epoch).await?;
        let taken = blow + after.at.since(blow_at).as_duration();
        let gap = match &self.partner.observer {
            Some(observer) => self.gap(observer, kind, blow..taken, &active).await?,
            None => self
                .watch()?
                .listed_under(LOCATION, after.epoch)
                .await?
                .since(blow_at)
                .as_duration(),
        };
        match kind {
            Kind::NodeKilled => self.machines[place].restart()?,
            Kind::NodeFrozen => self.machines[place].thaw()?,
            Kind::NodeCutOff => self.wires[place].mend(),
            Kind::HostKilled | Kind::Moved => {}
        }
        let fault = Fault {
            number: number + 1,
            kind,
            from: before.node.to_string(),
            to: after.node.to_string(),
            epoch: after.epoch.0,
            evidence: after.evidence,
            reason: after.reason,
            gap,
        };
        let delivered = proof::count(&self.folder.join("delivered"));
        let offered = self.offered.load(Ordering::Relaxed);
        self.story.fault(&fault, self.args.faults, offered, delivered);
        Ok(fault)
    }

    /// The sessions that download now: those seen since the last fault, or if none was seen yet,
    /// the next ones.
    async fn sessions_at_work(&self) -> Result<BTreeSet<String>> {
        let Some(observer) = &self.partner.observer else { return Ok(BTreeSet::new()) };
        let seen = observer.active_sessions();
        if !seen.is_empty() {
            return Ok(seen);
        }
        self.first_download().await?;
        Ok(observer.active_sessions())
    }

    /// How long nobody was active: from the blow to the new owner's first download. A planned
    /// move has no blow; there the old owner is missed from its last download on.
    async fn gap(
        &self,
        observer: &Observer,
        kind: Kind,
        blow: Range<Instant>,
        active: &BTreeSet<String>,
    ) -> Result<Duration> {
        // A node that is cut off from the store still reaches the partner, and may open another
        // session that is not its successor's.
        let seen_from = if kind == Kind::NodeCutOff { blow.end } else { blow.start };
        let deadline = Instant::now() + WAIT_MAX;
        let back = loop {
            if let Some(at) = observer.first_of_others(active, seen_from) {
                break at;
            }
            if self.offered.load(Ordering::Relaxed) >= self.args.files {
                // No file is left that could show the new owner at work.
                break Instant::now();
            }
            ensure!(Instant::now() < deadline, "the new owner downloads nothing");
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let missed_from = match kind {
            Kind::Moved => observer.last_of(active).unwrap_or(blow.start).max(blow.start),
            _ => blow.start,
        };
        Ok(back.saturating_duration_since(missed_from))
    }

    fn watch(&self) -> Result<Watch<'_>> {
        Ok(Watch { store: self.store.as_ref(), group: GroupName::new(GROUP)? })
    }

    /// Waits until as many files are delivered as were sent, or nothing comes any more.
    async fn all_delivered(&mut self) -> Result<()> {
        let delivered = self.folder.join("delivered");
        let deadline = Instant::now() + DELIVERY_MAX;
        while proof::count(&delivered) < self.args.files {
            if Instant::now() > deadline {
                self.story.line("not everything was delivered in time");
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A duplicate would come late: whatever is still under way gets the time to show itself.
        tokio::time::sleep(CALM).await;
        for machine in &self.machines {
            machine.thaw()?;
        }
        Ok(())
    }
}

/// The partner's work: files at a steady pace while there are faults, then the rest at once.
async fn write_files(
    folder: PathBuf,
    files: u32,
    pace: Duration,
    offered: Arc<AtomicU32>,
    all_faults_done: Arc<AtomicBool>,
) -> Result<()> {
    let begun = Instant::now();
    for number in 0..files {
        if !all_faults_done.load(Ordering::Relaxed) {
            tokio::time::sleep_until((begun + pace * number).into()).await;
        }
        proof::offer(&folder, number)?;
        offered.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// What an operator would have written in YAML.
fn definitions(partner: &Partner, folder: &Path, ttl: Millis) -> serde_json::Value {
    let mut ftp = partner.settings.clone();
    ftp["file_mask"] = "*.txt".into();
    serde_json::json!({
        "groups": [{
            "name": GROUP,
            "preferred_owners": NODES,
            // A demo has more faults in a minute than a year should; the defaults would park it.
            "policy": {
                "restarts_max": 1000,
                "restart_delay": "0ms",
                "failovers_max": 1000,
                "hang_timeout": ttl,
            },
        }],
        "hosts": [{ "name": RECEIVE_HOST, "group": GROUP }, { "name": "send" }],
        "receive_ports": [{
            "name": "orders",
            "locations": [{
                "name": LOCATION,
                "host": RECEIVE_HOST,
                "poll_interval": "10ms",
                "stability": "none",
                "transport": { "ftp": ftp },
            }],
        }],
        "send_ports": [{
            "name": "archive",
            "host": "send",
            "filter": "BTS.ReceivePortName == \"orders\"",
            "retry_interval": "1s",
            "transport": { "file": {
                "folder": folder.join("delivered"),
                "file_name": "%SourceFileName%.%MessageID%",
            } },
        }],
    })
}
