//! What happened, line by line, as an operator reads it.

use std::fmt;

use cluster::{AcquireRequest, Effect};
use model::{Millis, NodeName};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    /// How long after the begin of the world.
    pub at: Millis,
    /// Who: a node, `--` for an operator or fate, or nobody.
    pub who: String,
    /// What. A sentence that a node says stands behind two spaces.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { at, who, what } = self;
        write!(f, "{:>5}.{:03}  {who:<2} {what}", at.0 / 1000, at.0 % 1000)
    }
}

/// An effect as an operator reads it; what only keeps things going is left out.
pub(crate) fn line(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::ReadSnapshot | Effect::Renew(_) | Effect::Trust { .. } | Effect::WakeAt(_) => {
            return None;
        }
        Effect::Acquire(AcquireRequest { lease, seen_epoch, cause, .. }) => {
            format!("acquire {lease} after epoch {seen_epoch}, cause {cause}")
        }
        Effect::Release { lease, epoch, cause, offered_to, .. } => {
            let to = offered_to.as_ref().map_or("nobody", NodeName::as_str);
            format!("release {lease} epoch {epoch}, cause {cause}, offered to {to}")
        }
        Effect::Bury { lease, seen_epoch, reason: _ } => format!("bury {lease} epoch {seen_epoch}"),
        Effect::DropMove { group, .. } => format!("drop the request to move {group}"),
        Effect::Spawn { resource, .. } => format!("spawn {resource}"),
        Effect::Activate { resource, lease, epoch, .. } => {
            format!("activate {resource} under {lease} epoch {epoch}")
        }
        Effect::Deactivate { resource, within } => format!("deactivate {resource} within {within}"),
        Effect::Kill(resource) => format!("kill {resource}"),
        Effect::Report(reports) => {
            let of = |report: &cluster::ResourceReport| {
                let detail = report.detail.as_ref().map(|what| format!(" ({what})"));
                format!("{} {}{}", report.resource, report.state, detail.unwrap_or_default())
            };
            format!("report {}", reports.iter().map(of).collect::<Vec<_>>().join(", "))
        }
        Effect::Say(reason) => format!("  {}: {}", reason.subject, reason.sentence),
        Effect::Exit => "exit".to_owned(),
    })
}
