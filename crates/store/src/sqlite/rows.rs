//! Values as SQLite has them, and back.

use std::fmt::Display;
use std::str::FromStr;

use model::{BodyId, Cause, Epoch, Evidence, LeaseName, MessageId, NodeName, Timestamp};
use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Connection, Params, Row};
use uuid::Uuid;

use crate::{Result, StoreError, WorkState};

/// The text of `sql/sqlite/<name>.sql`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/sqlite/", $name, ".sql"))
    };
}
pub(super) use sql;

/// Work that waits, taken, suspended or postponed, as the column `work.state` has it.
pub(super) mod state {
    pub(in crate::sqlite) const READY: i64 = 0;
    pub(in crate::sqlite) const ACTIVE: i64 = 1;
    pub(in crate::sqlite) const SUSPENDED: i64 = 2;
    pub(in crate::sqlite) const POSTPONED: i64 = 3;
}

/// Runs a statement, and answers how many rows it changed.
pub(super) fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Reads all rows of a query.
pub(super) fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement: CachedStatement<'_> = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads the row of a query that has at most one.
pub(super) fn row<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    row_of(&mut connection.prepare_cached(sql)?, params, read)
}

/// The same for a statement that is run again and again.
pub(super) fn row_of<T>(
    statement: &mut CachedStatement<'_>,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut rows = statement.query(params)?;
    let found = rows.next()?.map(read).transpose()?;
    // To its end, or a RETURNING that has more rows would not be done.
    while rows.next()?.is_some() {}
    Ok(found)
}

/// A column's value.
pub(super) fn get<T: FromSql>(row: &Row<'_>, column: usize) -> Result<T> {
    Ok(row.get(column)?)
}

/// SQLite's integers have a sign; nothing that Baton counts comes near to their end.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count as it came from the store.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(unsigned(get(row, column)?))
}

pub(super) fn epoch(row: &Row<'_>, column: usize) -> Result<Epoch> {
    Ok(Epoch(count(row, column)?))
}

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    Ok(Timestamp(get(row, column)?))
}

pub(super) fn timestamp_or_none(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp))
}

pub(super) fn message_id(row: &Row<'_>, column: usize) -> Result<MessageId> {
    Ok(MessageId(Uuid::from_bytes(get(row, column)?)))
}

pub(super) fn body_id(row: &Row<'_>, column: usize) -> Result<BodyId> {
    Ok(BodyId(Uuid::from_bytes(get(row, column)?)))
}

pub(super) fn body_id_or_none(row: &Row<'_>, column: usize) -> Result<Option<BodyId>> {
    Ok(get::<Option<[u8; 16]>>(row, column)?.map(|bytes| BodyId(Uuid::from_bytes(bytes))))
}

pub(super) fn lease(row: &Row<'_>, column: usize) -> Result<LeaseName> {
    parsed(&get::<String>(row, column)?)
}

pub(super) fn node(row: &Row<'_>, column: usize) -> Result<NodeName> {
    parsed(&get::<String>(row, column)?)
}

pub(super) fn node_or_none(row: &Row<'_>, column: usize) -> Result<Option<NodeName>> {
    get::<Option<String>>(row, column)?.map(|text| parsed(&text)).transpose()
}

pub(super) fn cause(row: &Row<'_>, column: usize) -> Result<Cause> {
    let word: String = get(row, column)?;
    Cause::from_word(&word).ok_or_else(|| unreadable(&word))
}

pub(super) fn evidence(row: &Row<'_>, column: usize) -> Result<Evidence> {
    let word: String = get(row, column)?;
    Evidence::from_word(&word).ok_or_else(|| unreadable(&word))
}

/// The state of work as others see it: postponed is ready, not before its time.
pub(super) fn work_state(row: &Row<'_>, column: usize) -> Result<WorkState> {
    match get::<i64>(row, column)? {
        state::READY | state::POSTPONED => Ok(WorkState::Ready),
        state::ACTIVE => Ok(WorkState::Active),
        state::SUSPENDED => Ok(WorkState::Suspended),
        other => Err(unreadable(other)),
    }
}

pub(super) fn parsed<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| unreadable(text))
}

/// Reads JSON that the store keeps.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        StoreError::Corrupt(format!("the store has {what} that this Baton cannot read: {error}"))
    })
}

/// Writes JSON for the store to keep.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Refused(format!("it cannot be written as JSON: {error}")))
}

pub(super) fn unreadable(found: impl Display) -> StoreError {
    StoreError::Corrupt(format!("the store says {found:#}, which this Baton cannot read"))
}
