//! `baton drill`: strikes the owner of a test group on a cluster at work, and proves with files of
//! its own that nothing was lost or came twice.

mod rules;
mod strike;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Args;
use model::{Epoch, EventId, Millis, OperatorEvent, Timestamp};
use store::Store;
use tokio::task::JoinSet;

use crate::cli::Refused;
use crate::demo::report::{self, Fault, Kind, Outcome, Story};
use crate::proof;
use crate::watch::{Owner, Watch};
use rules::Ground;
use strike::{Held, Strike};

/// Time between two faults, for the cluster to have all its standbys again.
const CALM: Duration = Duration::from_millis(1500);

/// How long this machine is cut off from the store: three times the default ttl, and a bit.
const CUT_FOR: Duration = Duration::from_secs(10);

/// Longest wait for the last files after the last fault: a retry of a send port takes minutes.
const DELIVERY_MAX: Duration = Duration::from_secs(330);

/// Numbers of one drill: each begins at another million, so that files of an earlier one differ.
const NUMBERS: u32 = 1_000_000;

/// Strike the owner of a test group, and prove that nothing is lost or comes twice.
///
/// Files with known content are put into the folder of the group's FILE location while its owner
/// is killed, frozen, cut off or moved; each must arrive once, with its own bytes, in the folder of
/// the send port that they are routed to. Printed are the gap of each fault and how sure the
/// cluster was that the old owner had let go; the drill is recorded as an operator event.
///
/// Only a group made for it is struck. The rules, which keep a drill off real traffic:
///   1. Each folder of its locations and send ports holds a file named .baton-drill (`touch` it),
///      and all its locations and send ports are of kind FILE.
///   2. Its files go to exactly one send port.
///   3. It has no resources but hosts.
///   4. kill-node, freeze-node and cut-store: the owner owns no other group, and runs no other host
///      with locations or send ports.
#[derive(Debug, Clone, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Processes are struck on this machine only: run it where the owner is, as root or as the node's user.
kill-node needs a service manager that starts the node again. cut-store needs root and nftables; it
cuts this whole machine off from the store for 10s, so its successor must be on another one, and
mends by itself if the drill is killed.

Examples:
  baton drill rehearsal
  baton drill rehearsal --fault kill-host --fault freeze-node --items 1000
  baton drill rehearsal --fault move --for 10m

Exit codes: 0 every file arrived once, 1 not, or a fault had no end, 3 a rule forbids it"
)]
pub struct DrillArgs {
    /// The test group.
    pub group: String,
    /// What to do to its owner, in this order. Default: kill-host, then move.
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<Kind>,
    /// Files to send meanwhile.
    #[arg(long, default_value_t = 200, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub items: u32,
    /// Spread the files over this time [default: 50ms for each].
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Millis>,
    /// Break rules 1, 3 and 4: I know what I strike.
    #[arg(long)]
    pub i_know: bool,
}

/// Runs a drill, and answers whether it is a proof.
pub async fn run(
    args: &DrillArgs,
    store: Arc<dyn Store>,
    url: &str,
    by: &str,
    json: bool,
) -> Result<bool> {
    let faults = match &args.fault[..] {
        [] => vec![Kind::HostKilled, Kind::Moved],
        faults => faults.to_vec(),
    };
    let snapshot = store.snapshot().await?;
    let ground = Ground::of(&snapshot, &args.group, &faults, args.i_know)?;
    let drill = Drill { args, store: store.as_ref(), url, by, ground };
    let outcome = drill.play(&faults, json).await?;
    report::print(&outcome, json);
    drill.record(&outcome).await?;
    Ok(outcome.is_proof())
}

struct Drill<'a> {
    args: &'a DrillArgs,
    store: &'a dyn Store,
    url: &'a str,
    by: &'a str,
    ground: Ground,
}

impl Drill<'_> {
    async fn play(&self, faults: &[Kind], json: bool) -> Result<Outcome> {
        let mut story = Story::new(json);
        let begun = Instant::now();
        let watch = Watch { store: self.store, group: self.ground.group.clone() };
        let owner = watch.owner().await?.ok_or_else(|| {
            Refused::new(format!(
                "nobody owns group {0}; `baton why {0}` says why",
                self.ground.group
            ))
        })?;
        for fault in faults.iter().filter(|fault| **fault != Kind::Moved) {
            // Before anything is begun: whether the first blow can fall at all.
            Strike::at(&owner.node, self.url)
                .aim(*fault, &self.ground)
                .map_err(|error| self.elsewhere(error, &owner.node))?;
        }
        let first = first_number();
        story.line(&format!(
            "group {} is on {} (epoch {}); files go from {} to {}",
            self.ground.group,
            owner.node,
            owner.epoch,
            self.ground.from.display(),
            self.ground.to.display()
        ));
        let offered = Arc::<AtomicU32>::default();
        let hurry = Arc::<AtomicBool>::default();
        let mut writer = JoinSet::new();
        let pace = self.args.duration.unwrap_or(Millis(50 * u64::from(self.args.items)));
        writer.spawn(offer(
            self.ground.from.clone(),
            first..first + self.args.items,
            pace.as_duration() / self.args.items,
            Arc::clone(&offered),
            Arc::clone(&hurry),
        ));
        let mut struck = Vec::new();
        for (number, kind) in faults.iter().enumerate() {
            tokio::time::sleep(CALM).await;
            let fault = self.fault(&watch, number as u32 + 1, *kind).await?;
            let delivered = proof::check(&self.ground.to, first..first + self.args.items)?;
            let offered = offered.load(Ordering::Relaxed);
            story.fault(&fault, faults.len() as u32, offered, delivered.received);
            struck.push(fault);
        }
        hurry.store(self.args.duration.is_none(), Ordering::Relaxed);
        writer.join_next().await.context("the drill's files were not written")???;
        let delivered = self.all_delivered(first).await?;
        Ok(Outcome {
            sent: self.args.items,
            delivered,
            faults: struck,
            store: self.store.describe(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// One fault, from the blow until the location is at work again.
    async fn fault(&self, watch: &Watch<'_>, number: u32, kind: Kind) -> Result<Fault> {
        let before = watch.owner().await?.context("nobody owns the group")?;
        let strike = Strike::at(&before.node, self.url);
        let aimed = match kind {
            Kind::Moved => None,
            kind => Some(
                strike
                    .aim(kind, &self.ground)
                    .map_err(|error| self.elsewhere(error, &before.node))?,
            ),
        };
        let blow_at = self.store.now().await?;
        let held = match aimed {
            None => {
                watch.ask_for_a_move(self.by).await?;
                Held::Nothing
            }
            Some(aimed) => aimed.strike().await?,
        };
        let (after, listed) = self.undone(watch, before.epoch, held).await?;
        Ok(Fault {
            number,
            kind,
            from: before.node.to_string(),
            to: after.node.to_string(),
            epoch: after.epoch.0,
            evidence: after.evidence,
            reason: after.reason,
            gap: listed.since(blow_at).as_duration(),
        })
    }

    /// Waits for the next owner, and undoes the blow, whatever comes of the wait.
    async fn undone(
        &self,
        watch: &Watch<'_>,
        before: Epoch,
        held: Held,
    ) -> Result<(Owner, Timestamp)> {
        // A cut blinds us too. What happened meanwhile stands in the history, by the store's clock.
        let held = match held {
            Held::Cut => {
                tokio::time::sleep(CUT_FOR).await;
                Held::Cut.let_go().await?;
                Held::Nothing
            }
            held => held,
        };
        let waited = async {
            let after = watch.owner_after(before).await?;
            let listed = watch.listed_under(&self.ground.location, after.epoch).await?;
            anyhow::Ok((after, listed))
        };
        let waited = waited.await;
        held.let_go().await?;
        waited
    }

    /// An owner whose processes are not here, with the machine they are on.
    fn elsewhere(&self, error: anyhow::Error, owner: &model::NodeName) -> anyhow::Error {
        match error.downcast::<strike::NotHere>() {
            Err(error) => error,
            Ok(strike::NotHere) => {
                let machine = self.ground.machine_of(owner);
                let group = &self.ground.group;
                Refused::new(format!(
                    "group {group} is on node {owner}, whose processes are not on this machine; \
                     run `baton drill {group}` on {machine}, or move the group here: baton group \
                     move {group} --to NODE"
                ))
                .into()
            }
        }
    }

    /// Waits until everything came, or nothing comes any more.
    async fn all_delivered(&self, first: u32) -> Result<proof::Delivered> {
        let numbers = first..first + self.args.items;
        let deadline = Instant::now() + DELIVERY_MAX;
        loop {
            let delivered = proof::check(&self.ground.to, numbers.clone())?;
            if delivered.received >= self.args.items || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // A duplicate would come late.
        tokio::time::sleep(CALM).await;
        let delivered = proof::check(&self.ground.to, numbers.clone())?;
        // Files of other origin are not ours to judge.
        let ours = proof::Delivered { corrupt: 0, ..delivered.clone() };
        if ours.received == self.args.items && ours.duplicates == 0 {
            proof::remove(&self.ground.to, numbers)?;
        }
        Ok(if self.args.i_know { ours } else { delivered })
    }

    async fn record(&self, outcome: &Outcome) -> Result<()> {
        let gaps: Vec<String> = outcome
            .faults
            .iter()
            .map(|fault| format!("{} {} ms", fault.kind.words(), fault.gap.as_millis()))
            .collect();
        let sentence = format!(
            "{} drilled: {}; sent {}, lost {}, duplicates {}, corrupt {}",
            self.by,
            gaps.join(", "),
            outcome.sent,
            outcome.lost(),
            outcome.delivered.duplicates,
            outcome.delivered.corrupt
        );
        let event = OperatorEvent {
            sequence: 0,
            at: Timestamp(0),
            id: EventId::DRILL_DONE,
            node: None,
            subject: format!("group {}", self.ground.group),
            sentence,
        };
        self.store.record_events(&[event]).await.context("the drill could not be recorded")
    }
}

/// Where the numbers of this drill begin.
fn first_number() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Comes again after an hour; by then the files are gone.
    let million = u32::try_from(since.as_secs() % u64::from(u32::MAX / NUMBERS - 1)).unwrap_or(0);
    million * NUMBERS
}

async fn offer(
    folder: std::path::PathBuf,
    numbers: std::ops::Range<u32>,
    pace: Duration,
    offered: Arc<AtomicU32>,
    hurry: Arc<AtomicBool>,
) -> Result<()> {
    let folder: &Path = &folder;
    for number in numbers {
        proof::offer(folder, number)?;
        offered.fetch_add(1, Ordering::Relaxed);
        if !hurry.load(Ordering::Relaxed) {
            tokio::time::sleep(pace).await;
        }
    }
    Ok(())
}
