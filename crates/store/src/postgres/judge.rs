//! Whether a lease may be taken: the evidence that its holder has let go. Pure.

use model::{Epoch, Evidence, LeaseName, Millis, NodeName, Timestamp};

/// What the database knows of a lease and its holder, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its epoch and holder; none when it was never taken.
    pub(crate) held: Option<(Epoch, Option<String>)>,
    /// When it runs out, if it was ever given a time at this epoch.
    pub(crate) expires_at: Option<Timestamp>,
    /// For how long it was last given to the holder.
    pub(crate) ttl: Millis,
    /// Whether the holder has its liveness lock, and when it last took it.
    pub(crate) connected: bool,
    pub(crate) connected_at: Timestamp,
    /// Since when the database server could have heard from owners.
    pub(crate) up_since: Timestamp,
    /// The store's clock.
    pub(crate) now: Timestamp,
}

/// Who asks, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) lease: &'a LeaseName,
    /// The node that wants it; none when it is only to be vacated.
    pub(crate) by: Option<&'a NodeName>,
    pub(crate) seen: Epoch,
    /// It has effects that no fence holds back: a connection that is gone says nothing of them, so
    /// the lease must have run out, by when its holder has let go by itself.
    pub(crate) external: bool,
}

/// The evidence for letting the lease change hands, or a sentence why it may not.
pub(crate) fn judge(asked: Asked<'_>, known: &Known) -> Result<Evidence, String> {
    let Asked { lease, seen, external, .. } = asked;
    let (epoch, holder) = match &known.held {
        None if seen == Epoch(0) => return Ok(Evidence::Vacated),
        None => return Err(format!("{lease} was never taken, so it is not at epoch {seen}")),
        Some(held) => held,
    };
    if *epoch != seen {
        let holder = holder.as_deref().unwrap_or("nobody");
        return Err(format!(
            "{lease} is at epoch {epoch} by now, not {seen}, and held by {holder}"
        ));
    }
    let Some(holder) = holder else { return Ok(Evidence::Vacated) };
    if asked.by.is_some_and(|node| node.as_str() == holder) {
        // It asks for what is its own: its supervisor has reaped the worker.
        return Ok(Evidence::ConfirmedDead);
    }
    let gone = !known.connected && heard_since_return(known);
    let left = known.expires_at.map_or(Millis(0), |expires_at| expires_at.since(known.now));
    if gone && (!external || left == Millis(0)) {
        return Ok(Evidence::ConnectionGone);
    }
    if gone {
        return Err(format!(
            "{lease} is held by {holder} at epoch {epoch}: its connection is gone, but its \
             resources may still be up outside the store, so its lease must run out first, in {}",
            seconds(left)
        ));
    }
    if left > Millis(0) {
        return Err(format!(
            "{lease} is held by {holder} at epoch {epoch}, its lease runs out in {}",
            seconds(left)
        ));
    }
    let up = known.now.since(known.up_since);
    if up < known.ttl {
        return Err(format!(
            "{lease} is held by {holder} at epoch {epoch}; the store came back {} ago and gives \
             owners {} to renew",
            seconds(up),
            known.ttl
        ));
    }
    Ok(Evidence::Silent)
}

/// Whether a missing liveness lock says something: all are gone when the store itself comes back,
/// until the nodes have connected again.
pub(crate) fn heard_since_return(known: &Known) -> bool {
    known.connected_at >= known.up_since || known.now.since(known.up_since) >= known.ttl
}

fn seconds(millis: Millis) -> String {
    format!("{}.{}s", millis.0 / 1000, millis.0 % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held by b at epoch 7, connected, with 1.2 s to go, an hour after the store's start.
    fn held() -> Known {
        Known {
            held: Some((Epoch(7), Some("b".into()))),
            expires_at: Some(Timestamp(3_601_200)),
            ttl: Millis::seconds(3),
            connected: true,
            connected_at: Timestamp(1000),
            up_since: Timestamp(0),
            now: Timestamp(3_600_000),
        }
    }

    fn check(known: &Known, by: &str, seen: u64) -> Result<Evidence, String> {
        let lease: LeaseName = "group/g".parse().expect("a lease");
        let by: NodeName = by.parse().expect("a node");
        let asked = Asked { lease: &lease, by: Some(&by), seen: Epoch(seen), external: false };
        judge(asked, known)
    }

    #[test]
    fn a_lease_that_is_held_is_refused_with_a_sentence() {
        assert_eq!(
            check(&held(), "a", 7),
            Err("group/g is held by b at epoch 7, its lease runs out in 1.2s".into())
        );
        assert_eq!(
            check(&held(), "a", 6),
            Err("group/g is at epoch 7 by now, not 6, and held by b".into())
        );
    }

    #[test]
    fn each_evidence_has_its_mark() {
        assert_eq!(check(&held(), "b", 7), Ok(Evidence::ConfirmedDead));
        let gone = Known { connected: false, ..held() };
        assert_eq!(check(&gone, "a", 7), Ok(Evidence::ConnectionGone));
        let silent = Known { expires_at: Some(Timestamp(3_600_000)), ..held() };
        assert_eq!(check(&silent, "a", 7), Ok(Evidence::Silent));
        let vacant = Known { held: Some((Epoch(7), None)), ..held() };
        assert_eq!(check(&vacant, "a", 7), Ok(Evidence::Vacated));
        let new = Known { held: None, expires_at: None, ..held() };
        assert_eq!(check(&new, "a", 0), Ok(Evidence::Vacated));
    }

    #[test]
    fn effects_outside_the_store_wait_for_the_lease_to_run_out() {
        let lease: LeaseName = "group/g".parse().expect("a lease");
        let by: NodeName = "a".parse().expect("a node");
        let external = |known: &Known| {
            let asked = Asked { lease: &lease, by: Some(&by), seen: Epoch(7), external: true };
            judge(asked, known)
        };
        let gone = Known { connected: false, ..held() };
        let why = external(&gone).expect_err("it has not run out");
        assert!(why.contains("connection is gone") && why.ends_with("in 1.2s"), "{why}");
        let run_out = Known { expires_at: Some(Timestamp(3_600_000)), ..gone.clone() };
        assert_eq!(external(&run_out), Ok(Evidence::ConnectionGone));
        let vacant = Known { held: Some((Epoch(7), None)), ..gone };
        assert_eq!(external(&vacant), Ok(Evidence::Vacated));
        let silent = Known { expires_at: Some(Timestamp(3_600_000)), ..held() };
        assert_eq!(external(&silent), Ok(Evidence::Silent));
    }

    #[test]
    fn after_the_store_came_back_owners_have_a_full_ttl() {
        let back = Known {
            connected: false,
            expires_at: Some(Timestamp(0)),
            up_since: Timestamp(3_599_000),
            ..held()
        };
        assert_eq!(
            check(&back, "a", 7),
            Err("group/g is held by b at epoch 7; the store came back 1.0s ago and gives owners \
                 3s to renew"
                .into())
        );
        let later = Known { up_since: Timestamp(3_597_000), ..back.clone() };
        assert_eq!(check(&later, "a", 7), Ok(Evidence::ConnectionGone));
        // It had connected again, and then its connection went: that says something.
        let seen = Known { connected_at: Timestamp(3_599_500), ..back };
        assert_eq!(check(&seen, "a", 7), Ok(Evidence::ConnectionGone));
    }
}
