//! Which migrations a database still needs, and why a database cannot be used. Shared by the
//! engines; running the SQL is theirs.

use sha2::{Digest, Sha256};

use crate::{Result, StoreError};

/// One step of a schema, in a file of its own. Once released it never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// Its file name without `.sql`, beginning with its number.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// A step that a database says it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The migration's name.
    pub name: String,
    /// The checksum it had.
    pub sha256: String,
}

impl Migration {
    /// The checksum kept in the database.
    pub(crate) fn sha256(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The steps a database still needs, given those it has taken, both in order.
pub(crate) fn pending<'a>(known: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration]> {
    for (at, step) in applied.iter().enumerate() {
        let Some(migration) = known.get(at) else {
            return Err(StoreError::Corrupt(format!(
                "the store has been brought to schema {} by a newer Baton; this one knows {} of \
                 its {} steps: run that version, or restore a backup made before",
                step.name,
                known.len(),
                applied.len()
            )));
        };
        if migration.name != step.name || migration.sha256() != step.sha256 {
            return Err(StoreError::Corrupt(format!(
                "schema step {} of the store is not the {} of this Baton: it was made by a build \
                 of another source; run that build, or export and begin with an empty store",
                step.name, migration.name
            )));
        }
    }
    Ok(&known[applied.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 2] =
        [Migration { name: "0001_a", sql: "A" }, Migration { name: "0002_b", sql: "B" }];

    fn applied(migrations: &[Migration]) -> Vec<Applied> {
        let step = |m: &Migration| Applied { name: m.name.into(), sha256: m.sha256() };
        migrations.iter().map(step).collect()
    }

    #[test]
    fn the_rest_is_pending() {
        for taken in 0..=KNOWN.len() {
            let rest = pending(&KNOWN, &applied(&KNOWN[..taken])).expect("a prefix");
            assert_eq!(rest.len(), KNOWN.len() - taken);
        }
    }

    #[test]
    fn a_newer_or_altered_store_is_refused() {
        let newer = pending(&KNOWN[..1], &applied(&KNOWN)).expect_err("it is newer");
        assert!(newer.to_string().contains("newer"), "{newer}");
        let altered = [Migration { sql: "A'", ..KNOWN[0] }];
        let altered = pending(&KNOWN, &applied(&altered)).expect_err("it was altered");
        assert!(altered.to_string().contains("0001_a"), "{altered}");
    }
}
