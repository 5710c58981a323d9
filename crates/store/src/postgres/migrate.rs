//! Brings the schema of a database to this version's.

use super::transaction::{Database, Transaction, step};
use crate::Result;
use crate::schema::{Applied, Migration, Unknown, pending, works_beside};

/// The migrations in order. One that was released is never changed again.
pub(crate) const MIGRATIONS: [Migration; 2] = [
    Migration {
        name: "0001_store",
        sql: include_str!("../../sql/postgres/migrations/0001_store.sql"),
        usable_from: 1,
    },
    Migration {
        name: "0002_failover_cluster",
        sql: include_str!("../../sql/postgres/migrations/0002_failover_cluster.sql"),
        usable_from: 2,
    },
];

/// The step that brought the column `usable_from`.
const SAYS_SINCE: usize = 2;

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
    let (rest, unknown) = pending(&MIGRATIONS, &applied)?;
    if unknown > 0 {
        let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        let read = include_str!("../../sql/postgres/migrate_unknown.sql");
        let rows = transaction.run(&[step(read, &[&known])]).await?;
        let unknown: Vec<Unknown> = rows
            .iter()
            .flatten()
            .map(|row| Unknown {
                name: row.get("name"),
                usable_from: row.get::<_, Option<i32>>("usable_from").map(i64::from),
            })
            .collect();
        works_beside(&MIGRATIONS, &unknown)?;
    }
    let mut version = applied.len();
    for migration in rest {
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
    let says = version >= SAYS_SINCE;
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    let sha256 = migration.sha256();
    let record = include_str!("../../sql/postgres/migrate.sql");
    transaction.run(&[step(record, &[&version, &migration.name, &sha256])]).await?;
    if says {
        let usable_from = i32::try_from(migration.usable_from).unwrap_or(i32::MAX);
        let say = include_str!("../../sql/postgres/migrate_usable.sql");
        transaction.run(&[step(say, &[&version, &usable_from])]).await?;
    }
    tracing::info!("{} has schema step {} now", database.place, migration.name);
    Ok(())
}
