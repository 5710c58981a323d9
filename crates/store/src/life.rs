//! Whether the life of a node that a join finds unended was another process's, or this one's.

use std::sync::{Mutex, PoisonError};

use model::{Cause, Epoch, Evidence, NodeName};

/// What this process found when it first tried to become a node.
#[derive(Default)]
pub(crate) struct Life(Mutex<Option<(NodeName, Epoch)>>);

/// How the life of a node before this one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    /// Why this life begins: a start, or because the one before was lost.
    pub(crate) cause: Cause,
    /// How sure the store is that the one before has ended.
    pub(crate) evidence: Evidence,
    /// What to add to the reason.
    pub(crate) remark: &'static str,
}

impl Life {
    /// Judges the life before: `unended` is the evidence against one that did not say goodbye.
    ///
    /// The answer to a join may get lost, and then it is asked for again: what it finds the second
    /// time is its own first try, which is no life that ended badly.
    pub(crate) fn before(&self, node: &NodeName, seen: Epoch, unended: Option<Evidence>) -> Former {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match &*first {
            Some((name, epoch)) if name == node => seen > *epoch,
            _ => {
                *first = Some((node.clone(), seen));
                false
            }
        };
        match unended {
            Some(evidence) if !own => Former {
                cause: Cause::NodeLost,
                evidence,
                remark: "; its life before did not end in good order",
            },
            _ => Former { cause: Cause::Start, evidence: Evidence::Vacated, remark: "" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_try_is_no_life_that_ended_badly() {
        let (a, b): (NodeName, NodeName) = ("a".parse().expect("name"), "b".parse().expect("name"));
        let dead = Some(Evidence::ConfirmedDead);
        let cause =
            |life: &Life, node, seen, unended| life.before(node, Epoch(seen), unended).cause;
        let life = Life::default();
        assert_eq!(cause(&life, &a, 3, None), Cause::Start);
        assert_eq!(cause(&life, &a, 4, dead), Cause::Start, "its own first try");
        assert_eq!(cause(&life, &b, 4, dead), Cause::NodeLost, "another name");
        let life = Life::default();
        assert_eq!(cause(&life, &a, 3, dead), Cause::NodeLost);
        assert_eq!(cause(&life, &a, 3, dead), Cause::NodeLost, "the first try did not get through");
        assert_eq!(cause(&life, &a, 4, dead), Cause::Start, "it did, unheard");
    }
}
