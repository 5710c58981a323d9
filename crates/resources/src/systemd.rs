//! `systemd`: a unit, driven over D-Bus.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::definition::{ResourceKind, ResourceSpec, Systemd};
use model::{Epoch, NodeName};
use tokio::time::{sleep, timeout};

use crate::bus::{Bus, UnitState};
use crate::driver::{Driver, Failure, Health, Outcome};
use crate::not_mine;

/// Longest wait for systemd's answer to a question; jobs are waited for as long as they take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a unit may take to end after all its processes were killed.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Wait before the bus is watched again, after a watch was lost.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The driver of a `systemd`.
pub(crate) fn driver(spec: &ResourceSpec, _: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let ResourceKind::Systemd(systemd) = &spec.resource.kind else {
        return Err(not_mine(&spec.resource.kind));
    };
    if !systemd.unit.contains('.') {
        return Err(Failure::fatal(format!(
            "unit: {:?} has no type: write it with one, as in postgresql@15-main.service",
            systemd.unit
        )));
    }
    Ok(Arc::new(UnitDriver { systemd: systemd.clone() }))
}

struct UnitDriver {
    systemd: Systemd,
}

#[async_trait]
impl Driver for UnitDriver {
    async fn probe(&self) -> Outcome<bool> {
        let state = self.state().await?;
        self.refuse_unloadable(&state)?;
        Ok(!is_down(&state))
    }

    async fn online(&self, _: Epoch) -> Outcome {
        self.refuse_unloadable(&self.state().await?)?;
        let bus = self.bus().await?;
        let unit = &self.systemd.unit;
        let ended = bus.job("StartUnit", unit).await.map_err(|error| self.refused(&error))?;
        let state = self.state().await?;
        if ended != "done" || !is_up(&state) {
            return Err(Failure::soft(format!(
                "{unit}: its start ended as {ended}, it is {}; see journalctl -u {unit}",
                shown(&state)
            )));
        }
        Ok(())
    }

    async fn offline(&self) -> Outcome {
        let bus = self.bus().await?;
        let unit = &self.systemd.unit;
        let ended = bus.job("StopUnit", unit).await.map_err(|error| self.refused(&error))?;
        let state = self.state().await?;
        if !is_down(&state) {
            return Err(Failure::soft(format!(
                "{unit}: its stop ended as {ended}, it is {}",
                shown(&state)
            )));
        }
        Ok(())
    }

    async fn terminate(&self) -> Outcome {
        if is_down(&self.state().await?) {
            return Ok(());
        }
        let bus = self.bus().await?;
        let unit = &self.systemd.unit;
        // Killed alone, it might be started again by its own Restart=; stopped alone, it might
        // take its time.
        let stop = bus.job("StopUnit", unit);
        let kill = async {
            if let Err(error) = bus.kill(unit).await {
                tracing::debug!("{unit}: {error}");
            }
        };
        let (stopped, ()) = tokio::join!(timeout(KILLED_WITHIN, stop), kill);
        if let Ok(Err(error)) = stopped {
            return Err(self.refused(&error));
        }
        let state = self.state().await?;
        if !is_down(&state) {
            return Err(Failure::soft(format!("{unit} is still {}", shown(&state))));
        }
        Ok(())
    }

    async fn looks_alive(&self) -> Outcome<Health> {
        let state = self.state().await?;
        if is_up(&state) { Ok(Health::Well) } else { Err(self.ended(&state)) }
    }

    async fn is_alive(&self) -> Outcome<Health> {
        self.looks_alive().await
    }

    async fn failed(&self) -> Failure {
        loop {
            let watch = async {
                let bus = self.bus().await?;
                let state = bus.wait_for(&self.systemd.unit, |state| !is_up(state)).await;
                state.map_err(|error| self.refused(&error))
            };
            match watch.await {
                Ok(state) => return self.ended(&state),
                // The checks go on meanwhile.
                Err(failure) => tracing::warn!("{failure}; watching again"),
            }
            sleep(WATCH_AGAIN_AFTER).await;
        }
    }
}

impl UnitDriver {
    /// A connection of its own for each operation: nothing is held that another one needs.
    async fn bus(&self) -> Outcome<Bus> {
        let connected = timeout(ANSWER_WITHIN, Bus::connect(self.systemd.bus.as_deref())).await;
        let shown = self.systemd.bus.as_deref().unwrap_or("the system bus");
        match connected {
            Ok(Ok(bus)) => Ok(bus),
            Ok(Err(error)) => Err(Failure::soft(format!(
                "cannot talk to systemd over {shown}: {error}; is it the machine's init?"
            ))),
            Err(_) => Err(Failure::soft(format!(
                "cannot talk to systemd over {shown}: no answer within {ANSWER_WITHIN:?}"
            ))),
        }
    }

    async fn state(&self) -> Outcome<UnitState> {
        let bus = self.bus().await?;
        match timeout(ANSWER_WITHIN, bus.state(&self.systemd.unit)).await {
            Ok(state) => state.map_err(|error| self.refused(&error)),
            Err(_) => {
                Err(Failure::soft(format!("systemd does not answer within {ANSWER_WITHIN:?}")))
            }
        }
    }

    fn refuse_unloadable(&self, state: &UnitState) -> Outcome {
        let unit = &self.systemd.unit;
        match state.load.as_str() {
            "not-found" => Err(Failure::hard(format!("this node has no unit {unit}: install it"))),
            "masked" => Err(Failure::hard(format!("{unit} is masked: systemctl unmask {unit}"))),
            "bad-setting" | "error" => Err(Failure::hard(format!(
                "{unit} cannot be loaded ({}): see systemctl status {unit}",
                state.load
            ))),
            _ => Ok(()),
        }
    }

    fn refused(&self, error: &zbus::Error) -> Failure {
        let unit = &self.systemd.unit;
        match error {
            zbus::Error::MethodError(name, why, _) => {
                let why = why.as_deref().unwrap_or(name.as_str());
                if name.contains("AccessDenied") || name.contains("InteractiveAuthorization") {
                    return Failure::hard(format!(
                        "systemd does not let this node control {unit}: {why}; run it as root, or \
                         allow it by polkit"
                    ));
                }
                Failure::soft(format!("{unit}: {why}"))
            }
            error => Failure::soft(format!("{unit}: {error}")),
        }
    }

    fn ended(&self, state: &UnitState) -> Failure {
        let unit = &self.systemd.unit;
        Failure::soft(format!("{unit} is {}; see journalctl -u {unit}", shown(state)))
    }
}

fn is_up(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "active" | "reloading" | "refreshing")
}

fn is_down(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "inactive" | "failed")
}

fn shown(state: &UnitState) -> String {
    let UnitState { active, sub, result, .. } = state;
    match result.as_str() {
        "" | "success" => format!("{active} ({sub})"),
        result => format!("{active} ({sub}, result {result})"),
    }
}
