//! `ocf`: an OCF resource agent, unchanged, as Pacemaker runs it.
//!
//! The contract: https://github.com/ClusterLabs/OCF-spec, with the exit codes that Pacemaker
//! documents. An agent is a program of others: it may hang, fork, flood its output and lie, so
//! each run is bounded, and what it says after `start` and `stop` is checked by `monitor`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::definition::{EffectivePolicy, Ocf, ResourceKind, ResourceSpec};
use model::{Epoch, Millis, NodeName};
use tokio::sync::OnceCell;

use crate::command::{Ran, Run};
use crate::driver::{Driver, Failure, Health, Outcome};
use crate::ocf_metadata::Metadata;
use crate::{launch, not_mine, tree};

/// Time limit of an action for which neither the definition nor the agent names a longer one:
/// Pacemaker's default operation timeout.
const TIMEOUT_LEAST: Duration = Duration::from_secs(20);

/// Longest time for an agent to print what it is.
const METADATA_WITHIN: Duration = Duration::from_secs(20);

/// The version of the standard that we speak: the one with promotable clones, as Pacemaker 2.
const VERSION: (&str, &str) = ("1", "1");

/// The driver of an `ocf`.
pub(crate) fn driver(spec: &ResourceSpec, node: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let ResourceKind::Ocf(ocf) = &spec.resource.kind else {
        return Err(not_mine(&spec.resource.kind));
    };
    let named = ocf.agent.strip_prefix("ocf:").unwrap_or(&ocf.agent);
    let plain = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        !word.is_empty() && !word.starts_with('.') && word.chars().all(plain)
    };
    let (provider, kind) = named
        .split_once(':')
        .filter(|(provider, kind)| plain(provider) && plain(kind))
        .ok_or_else(|| {
            Failure::fatal(format!(
                "agent: {:?} is no agent: write provider:type, such as heartbeat:IPaddr2",
                ocf.agent
            ))
        })?;
    for name in ocf.parameters.keys() {
        if !plain(name) {
            return Err(Failure::fatal(format!("parameters: {name:?} is no parameter's name")));
        }
    }
    Ok(Arc::new(OcfDriver {
        resource: spec.resource.name.to_string(),
        node: node.to_string(),
        program: ocf.root.join("resource.d").join(provider).join(kind),
        provider: provider.to_owned(),
        kind: kind.to_owned(),
        check_every: spec.policy.is_alive_interval,
        ocf: ocf.clone(),
        metadata: OnceCell::new(),
    }))
}

struct OcfDriver {
    resource: String,
    node: String,
    program: PathBuf,
    provider: String,
    kind: String,
    check_every: Millis,
    ocf: Ocf,
    metadata: OnceCell<Metadata>,
}

/// Exit codes of agents.
mod code {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const ARGUMENTS: i32 = 2;
    pub(super) const UNIMPLEMENTED: i32 = 3;
    pub(super) const PERMISSION: i32 = 4;
    pub(super) const INSTALLED: i32 = 5;
    pub(super) const CONFIGURED: i32 = 6;
    pub(super) const NOT_RUNNING: i32 = 7;
    pub(super) const PROMOTED: i32 = 8;
    pub(super) const FAILED_PROMOTED: i32 = 9;
    pub(super) const DEGRADED: i32 = 190;
    pub(super) const DEGRADED_PROMOTED: i32 = 191;
}

/// What `monitor` says of a resource.
enum Seen {
    Running,
    Degraded,
    Down,
    /// It cannot say: it may be anything.
    Unclear(Failure),
}

#[async_trait]
impl Driver for OcfDriver {
    async fn probe(&self) -> Outcome<bool> {
        let ran = self.monitor(Millis(0), 0).await?;
        match seen(&ran, self) {
            Seen::Running | Seen::Degraded => Ok(true),
            Seen::Down => Ok(false),
            Seen::Unclear(failure) => match ran.code {
                // It can never run here, so it does not run here.
                Some(code::ARGUMENTS..=code::CONFIGURED) => Err(failure),
                _ => {
                    tracing::warn!(resource = self.resource, "{failure}; stopping it to be sure");
                    Ok(true)
                }
            },
        }
    }

    async fn online(&self, _: Epoch) -> Outcome {
        if self.metadata().await.has("validate-all") {
            let ran = self.act("validate-all", Millis(0), None).await?;
            if matches!(ran.code, Some(code::ARGUMENTS | code::PERMISSION..=code::CONFIGURED)) {
                return Err(self.failure("validate-all", &ran));
            }
        }
        let ran = match self.act("start", Millis(0), None).await {
            Ok(ran) => ran,
            Err(late) => {
                // What it forked must not come up after we have looked and said that it is down.
                tree::kill_descendants().await?;
                return Err(late);
            }
        };
        if ran.code != Some(code::SUCCESS) {
            return Err(self.failure("start", &ran));
        }
        match seen(&self.monitor(self.check_every, 0).await?, self) {
            Seen::Running | Seen::Degraded => Ok(()),
            Seen::Down => Err(Failure::soft(format!(
                "{} says that it started {}, but its monitor says that it does not run",
                self.ocf.agent, self.resource
            ))),
            Seen::Unclear(failure) => Err(failure),
        }
    }

    async fn offline(&self) -> Outcome {
        let ran = self.act("stop", Millis(0), None).await?;
        if ran.code != Some(code::SUCCESS) {
            return Err(self.failure("stop", &ran));
        }
        // Not whether it is well, only whether it is there: an agent that cannot say so when all
        // is down is not contradicted.
        match seen(&self.monitor(Millis(0), 0).await?, self) {
            Seen::Running | Seen::Degraded => Err(Failure::soft(format!(
                "{} says that it stopped {}, but its monitor says that it runs",
                self.ocf.agent, self.resource
            ))),
            Seen::Down | Seen::Unclear(_) => Ok(()),
        }
    }

    async fn terminate(&self) -> Outcome {
        // A service that it started is our descendant, however it was started; then the agent
        // clears away what is left.
        tree::kill_descendants().await?;
        self.offline().await
    }

    async fn looks_alive(&self) -> Outcome<Health> {
        self.check(0).await
    }

    async fn is_alive(&self) -> Outcome<Health> {
        self.check(self.ocf.check_level).await
    }

    fn online_within(&self, _: &EffectivePolicy) -> Duration {
        // Each of its actions has a limit of its own.
        Duration::from_secs(24 * 3600)
    }

    fn check_within(&self) -> Duration {
        Duration::from_secs(24 * 3600)
    }
}

impl OcfDriver {
    async fn check(&self, level: u32) -> Outcome<Health> {
        let ran = self.monitor(self.check_every, level).await?;
        match seen(&ran, self) {
            Seen::Running => Ok(Health::Well),
            Seen::Degraded => Ok(Health::Poor(format!("{}: monitor {}", self.ocf.agent, ran.how))),
            Seen::Down => Err(Failure::soft(format!(
                "{}: monitor says that it does not run any more",
                self.ocf.agent
            ))),
            Seen::Unclear(failure) => Err(failure),
        }
    }

    async fn monitor(&self, interval: Millis, level: u32) -> Outcome<Ran> {
        self.act("monitor", interval, Some(level)).await
    }

    async fn metadata(&self) -> &Metadata {
        self.metadata
            .get_or_init(|| async {
                let limits = (METADATA_WITHIN, false);
                let printed = self.run("meta-data", Millis(0), None, limits).await;
                let read = printed.map_err(|failure| failure.how).and_then(|ran| {
                    if ran.code != Some(code::SUCCESS) {
                        return Err(format!("meta-data {}", ran.how));
                    }
                    Metadata::read(&ran.output.bytes, ran.output.cut)
                });
                read.unwrap_or_else(|why| {
                    tracing::warn!(
                        resource = self.resource,
                        "{} does not say what it can do ({why}); each action gets \
                         {TIMEOUT_LEAST:?}",
                        self.ocf.agent
                    );
                    Metadata::default()
                })
            })
            .await
    }

    async fn act(&self, action: &str, interval: Millis, level: Option<u32>) -> Outcome<Ran> {
        let own = match action {
            "start" => self.ocf.start_timeout,
            "stop" => self.ocf.stop_timeout,
            "monitor" => self.ocf.monitor_timeout,
            _ => None,
        };
        let within = match own {
            Some(own) => own.as_duration(),
            None => self.metadata().await.timeout_of(action, level).max(TIMEOUT_LEAST),
        };
        self.run(action, interval, level, (within, true)).await
    }

    async fn run(
        &self,
        action: &str,
        interval: Millis,
        level: Option<u32>,
        (within, log_output): (Duration, bool),
    ) -> Outcome<Ran> {
        let program = self.program.display();
        launch::find(&self.program.to_string_lossy()).map_err(|failure| {
            Failure::hard(format!(
                "{}; install the agent {} (Debian: resource-agents), or mend `root`",
                failure.how, self.ocf.agent
            ))
        })?;
        let run = Run {
            resource: &self.resource,
            program: &self.program,
            arguments: &[action.to_owned()],
            environment: &self.environment(action, interval, level, within),
            within,
            log_output,
        };
        run.run().await.map_err(|failure| {
            Failure::soft(format!("{}: {} ({program})", self.ocf.agent, failure.how))
        })
    }

    fn environment(
        &self,
        action: &str,
        interval: Millis,
        level: Option<u32>,
        within: Duration,
    ) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = vec![
            ("OCF_ROOT".into(), self.ocf.root.to_string_lossy().into_owned()),
            ("OCF_RA_VERSION_MAJOR".into(), VERSION.0.into()),
            ("OCF_RA_VERSION_MINOR".into(), VERSION.1.into()),
            ("OCF_RESOURCE_INSTANCE".into(), self.resource.clone()),
            ("OCF_RESOURCE_TYPE".into(), self.kind.clone()),
            ("OCF_RESOURCE_PROVIDER".into(), self.provider.clone()),
            ("OCF_RESKEY_CRM_meta_timeout".into(), within.as_millis().to_string()),
            ("OCF_RESKEY_CRM_meta_name".into(), action.to_owned()),
            ("OCF_RESKEY_CRM_meta_interval".into(), interval.0.to_string()),
            ("OCF_RESKEY_CRM_meta_on_node".into(), self.node.clone()),
            ("OCF_RESKEY_CRM_meta_on_node_uuid".into(), self.node.clone()),
            ("OCF_RESKEY_crm_feature_set".into(), "3.16.2".into()),
        ];
        if let Some(level) = level {
            environment.push(("OCF_CHECK_LEVEL".into(), level.to_string()));
        }
        let parameters = self.ocf.parameters.iter();
        environment
            .extend(parameters.map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone())));
        environment
    }

    /// An action that ended badly, with how far that reaches.
    fn failure(&self, action: &str, ran: &Ran) -> Failure {
        let (agent, how) = (&self.ocf.agent, &ran.how);
        match ran.code {
            Some(code::ARGUMENTS) => {
                Failure::hard(format!("{agent}: {action} {how}: it does not take its parameters"))
            }
            Some(code::UNIMPLEMENTED) => {
                Failure::hard(format!("{agent}: {action} {how}: it cannot do that"))
            }
            Some(code::PERMISSION) => {
                Failure::hard(format!("{agent}: {action} {how}: it may not do that on this node"))
            }
            Some(code::INSTALLED) => Failure::hard(format!(
                "{agent}: {action} {how}: what it needs is not installed on this node"
            )),
            Some(code::CONFIGURED) => Failure::fatal(format!(
                "{agent}: {action} {how}: its parameters are wrong; mend the definition"
            )),
            _ => Failure::soft(format!("{agent}: {action} {how}")),
        }
    }
}

fn seen(ran: &Ran, driver: &OcfDriver) -> Seen {
    match ran.code {
        Some(code::SUCCESS | code::PROMOTED) => Seen::Running,
        Some(code::DEGRADED | code::DEGRADED_PROMOTED) => Seen::Degraded,
        Some(code::NOT_RUNNING) => Seen::Down,
        Some(code::FAILED_PROMOTED) => {
            Seen::Unclear(Failure::soft(format!("{}: monitor {}", driver.ocf.agent, ran.how)))
        }
        _ => Seen::Unclear(driver.failure("monitor", ran)),
    }
}
