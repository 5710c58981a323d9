//! What a failure of PostgreSQL means to the caller, in a sentence without credentials.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError, SqlState};

use crate::{Fence, StoreError};

/// Raised by `baton_fence` for a stale fence.
const STALE_FENCE: &str = "BT001";

/// Raised by `baton_fence` for stale routes; the message is the version in force.
const STALE_ROUTES: &str = "BT002";

/// What the caller knows of a failure of a statement at `place` (the store without credentials).
pub(crate) fn store_error(error: &tokio_postgres::Error, place: &str) -> StoreError {
    match error.as_db_error() {
        Some(refusal) => of_server(refusal, place),
        None if is_connection(error) => StoreError::Unavailable(format!(
            "the connection to {place} failed ({}); it is made again with the next request",
            chain(error)
        )),
        None => StoreError::Corrupt(format!(
            "{place} was asked or answered in a way that this version of Baton does not \
             understand ({}); look for a newer version",
            chain(error)
        )),
    }
}

/// The same for a transaction that showed a fence, and routes made from a version.
pub(crate) fn fenced_error(
    error: &tokio_postgres::Error,
    place: &str,
    fence: &Fence,
    routed_by: Option<u64>,
) -> StoreError {
    match (error.code().map(SqlState::code), routed_by) {
        (Some(STALE_FENCE), _) => fence.refused(),
        (Some(STALE_ROUTES), Some(seen)) => {
            let now = error.as_db_error().and_then(|refusal| refusal.message().parse().ok());
            StoreError::StaleRoutes { seen, now: now.unwrap_or_default() }
        }
        _ => store_error(error, place),
    }
}

/// A transaction did not end in time.
pub(crate) fn too_slow(place: &str, patience: model::Millis) -> StoreError {
    StoreError::Unavailable(format!(
        "{place} did not answer within {patience}; look at its load and its locks \
         (pg_stat_activity), and at the network in between"
    ))
}

/// Whether the server gave up waiting for a lock.
pub(crate) fn is_lock_timeout(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether the transaction may be rolled back and the connection used again.
pub(crate) fn leaves_connection_usable(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|refusal| {
        refusal.severity() == "ERROR" && !refusal.code().code().starts_with("08")
    })
}

fn of_server(refusal: &DbError, place: &str) -> StoreError {
    let said = refusal.message();
    let code = refusal.code().code();
    match code {
        "25006" => StoreError::Unavailable(format!(
            "{place} only reads: it is a standby; name all hosts in the store's URL and add \
             target_session_attrs=read-write"
        )),
        "57014" => StoreError::Unavailable(format!(
            "{place} took too long and was told to stop ({said}); look at its load and its locks \
             (pg_stat_activity)"
        )),
        "42501" => StoreError::Refused(format!(
            "{place} does not let this user do that ({said}); all nodes must use one user, which \
             owns the tables"
        )),
        "3D000" => StoreError::Refused(format!("{place}: {said}; make it with createdb")),
        "26000" => StoreError::Refused(format!(
            "{place} forgot what was prepared in this session ({said}): a pooler in transaction \
             mode stands in between; connect to PostgreSQL itself, or give Baton a pool in session \
             mode"
        )),
        "08P01" if said.contains("startup parameter") => StoreError::Refused(format!(
            "{place} is a pooler that does not take the settings of a session ({said}); connect to \
             PostgreSQL itself"
        )),
        "23505" => {
            StoreError::Refused(format!("{place} has that already ({said}); nothing was written"))
        }
        "25P02" => StoreError::Unavailable(format!(
            "{place} ended the transaction ({said}); nothing was written, try again"
        )),
        "42P01" | "42703" | "42883" => StoreError::Corrupt(format!(
            "{place} lacks something that this version of Baton needs ({said}); was its schema \
             changed by hand?"
        )),
        _ => match code.get(..2) {
            Some("28") => StoreError::Refused(format!(
                "{place} does not let us in ({said}); look at the user, the password and \
                 pg_hba.conf"
            )),
            Some("08" | "40" | "53" | "55" | "57" | "58") => StoreError::Unavailable(format!(
                "{place} ended the transaction: {said} (SQLSTATE {code}); nothing is lost, it is \
                 tried again"
            )),
            Some("25") => StoreError::Unavailable(format!(
                "{place} ended a transaction that stood still: {said} (SQLSTATE {code})"
            )),
            Some("22") => {
                StoreError::Refused(format!("{place} cannot keep that: {said} (SQLSTATE {code})"))
            }
            _ => StoreError::Corrupt(format!(
                "{place} refused a statement: {said} (SQLSTATE {code}); was its schema changed by \
                 hand?"
            )),
        },
    }
}

fn is_connection(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || error.to_string().starts_with("error connecting")
        || error.to_string().starts_with("timeout")
        || error.source().is_some_and(|cause| cause.downcast_ref::<io::Error>().is_some())
        // All hosts were tried and none is what target_session_attrs asks for; TLS failed.
        || error.to_string().starts_with("error performing TLS")
}

/// The error and its causes. tokio-postgres puts no passwords into any of them.
pub(crate) fn chain(error: &tokio_postgres::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        told.push_str(": ");
        told.push_str(&inner.to_string());
        cause = inner.source();
    }
    told
}
