//! Brings the schema of a database to this version's.

use super::transaction::{Database, Transaction, step};
use crate::Result;
use crate::schema::{Applied, Migration, pending};

/// The migrations in order. One that was released is never changed again.
const MIGRATIONS: [Migration; 1] = [Migration {
    name: "0001_store",
    sql: include_str!("../../sql/postgres/migrations/0001_store.sql"),
}];

/// Runs the migrations that this database does not have yet, all in one transaction; of several
/// processes that begin at the same time one does it and the others wait.
pub(crate) async fn migrate(database: &Database) -> Result<()> {
    let lock = step(include_str!("../../sql/postgres/migrate_lock.sql"), &[]);
    let table = step(include_str!("../../sql/postgres/migrate_table.sql"), &[]);
    let begun = database.begin("BEGIN", &[lock, table]).await?;
    let (transaction, _) = begun.map_err(|error| database.error(&error))?;
    let read = step(include_str!("../../sql/postgres/migrate_read.sql"), &[]);
    let rows = transaction.run(&[read]).await?;
    let applied: Vec<Applied> = rows
        .iter()
        .flatten()
        .map(|row| Applied { name: row.get("name"), sha256: row.get("sha256") })
        .collect();
    let mut version = applied.len();
    for migration in pending(&MIGRATIONS, &applied)? {
        version += 1;
        run(database, &transaction, version, migration).await?;
    }
    transaction.commit(&[]).await?;
    Ok(())
}

async fn run(
    database: &Database,
    transaction: &Transaction<'_>,
    version: usize,
    migration: &Migration,
) -> Result<()> {
    transaction.batch(migration.sql).await?;
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    let sha256 = migration.sha256();
    let record = include_str!("../../sql/postgres/migrate.sql");
    transaction.run(&[step(record, &[&version, &migration.name, &sha256])]).await?;
    tracing::info!("{} has schema step {} now", database.place, migration.name);
    Ok(())
}
