//! Brings a database file to this version's schema.

use rusqlite::{Connection, TransactionBehavior, params};

use super::database::now;
use super::rows::{get, rows, run, sql};
use crate::Result;
use crate::schema::{Applied, Migration, pending};

const MIGRATIONS: [Migration; 1] =
    [Migration { name: "0001_store", sql: sql!("migrations/0001_store") }];

/// Takes the steps that are missing, all in one transaction. The write lock is held.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql!("migrate_table"))?;
    let applied = rows(&transaction, sql!("migrate_read"), [], |row| {
        Ok(Applied { name: get(row, 0)?, sha256: get(row, 1)? })
    })?;
    for migration in pending(&MIGRATIONS, &applied)? {
        transaction.execute_batch(migration.sql)?;
        let step = params![migration.name, migration.sha256(), now().0];
        run(&transaction, sql!("migrate"), step)?;
        tracing::info!(step = migration.name, "the store's schema was brought forward");
    }
    transaction.commit()?;
    Ok(())
}
