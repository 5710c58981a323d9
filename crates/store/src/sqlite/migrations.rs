//! Brings a database file to this version's schema.

use rusqlite::{Connection, TransactionBehavior, params};

use super::database::now;
use super::rows::{get, rows, run, signed, sql};
use crate::Result;
use crate::schema::{Applied, Migration, Unknown, pending, works_beside};

/// The migrations in order. One that was released is never changed again.
pub(super) const MIGRATIONS: [Migration; 2] = [
    Migration { name: "0001_store", sql: sql!("migrations/0001_store"), usable_from: 1 },
    Migration {
        name: "0002_failover_cluster",
        sql: sql!("migrations/0002_failover_cluster"),
        usable_from: 2,
    },
];

/// The step that brought the column `usable_from`.
const SAYS_SINCE: usize = 2;

/// Takes the steps that are missing, all in one transaction. The write lock is held.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql!("migrate_table"))?;
    let applied = rows(&transaction, sql!("migrate_read"), [], |row| {
        Ok(Applied { name: get(row, 0)?, sha256: get(row, 1)? })
    })?;
    let (rest, unknown) = pending(&MIGRATIONS, &applied)?;
    if unknown > 0 {
        let known = [signed(MIGRATIONS.len() as u64)];
        let unknown = rows(&transaction, sql!("migrate_unknown"), known, |row| {
            Ok(Unknown { name: get(row, 0)?, usable_from: get(row, 1)? })
        })?;
        works_beside(&MIGRATIONS, &unknown)?;
    }
    for (at, migration) in (applied.len() + 1..).zip(rest) {
        transaction.execute_batch(migration.sql)?;
        let step = params![migration.name, migration.sha256(), now().0];
        run(&transaction, sql!("migrate"), step)?;
        if at >= SAYS_SINCE {
            let says = [signed(at as u64), signed(migration.usable_from as u64)];
            run(&transaction, sql!("migrate_usable"), says)?;
        }
        tracing::info!(step = migration.name, "the store's schema was brought forward");
    }
    transaction.commit()?;
    Ok(())
}
