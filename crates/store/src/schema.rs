//! Which migrations a database still needs, whether one that a newer release made can be used, and
//! why a database cannot be. Shared by the engines; running the SQL is theirs.

use sha2::{Digest, Sha256};

use crate::{Result, StoreError};

/// One step of a schema, in a file of its own. Once released it never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// Its file name without `.sql`, beginning with its number.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
    /// The number of the step that an older Baton must know at least to work on a store that has
    /// taken this one. A step that only adds says that of the release before; one that changes
    /// what was there says its own.
    pub usable_from: usize,
}

/// A step that a database says it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The migration's name.
    pub name: String,
    /// The checksum it had.
    pub sha256: String,
}

/// A step that a database has taken and that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Its name.
    pub name: String,
    /// What it says of older versions; none: nothing.
    pub usable_from: Option<i64>,
}

impl Migration {
    /// The checksum kept in the database.
    pub(crate) fn sha256(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The steps a database still needs, given those it has taken, both in order; how many of those
/// it has taken are not known here.
pub(crate) fn pending<'a>(
    known: &'a [Migration],
    applied: &[Applied],
) -> Result<(&'a [Migration], usize)> {
    for (migration, step) in known.iter().zip(applied) {
        if migration.name != step.name || migration.sha256() != step.sha256 {
            return Err(StoreError::Corrupt(format!(
                "schema step {} of the store is not the {} of this Baton: it was made by a build \
                 of another source; run that build, or export and begin with an empty store",
                step.name, migration.name
            )));
        }
    }
    let rest = known.get(applied.len()..).unwrap_or_default();
    Ok((rest, applied.len().saturating_sub(known.len())))
}

/// Whether this version may work on a store that has taken steps it does not know: each of them
/// must say so. That is how nodes of one release work beside those of the next.
pub(crate) fn works_beside(known: &[Migration], unknown: &[Unknown]) -> Result<()> {
    let is_too_new = |step: &&Unknown| {
        let from = step.usable_from.and_then(|from| usize::try_from(from).ok());
        from.is_none_or(|from| from > known.len())
    };
    let Some(step) = unknown.iter().find(is_too_new) else {
        if let Some(last) = unknown.last() {
            tracing::info!(step = last.name, "the store has a newer schema, which fits this Baton");
        }
        return Ok(());
    };
    Err(StoreError::Corrupt(format!(
        "the store has been brought to schema {} by a newer Baton; this one knows {} of its {} \
         steps, and that one cannot be worked with by so old a version: run the newer version, or \
         restore a backup made before",
        step.name,
        known.len(),
        known.len() + unknown.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 2] = [
        Migration { name: "0001_a", sql: "A", usable_from: 1 },
        Migration { name: "0002_b", sql: "B", usable_from: 2 },
    ];

    fn applied(migrations: &[Migration]) -> Vec<Applied> {
        let step = |m: &Migration| Applied { name: m.name.into(), sha256: m.sha256() };
        migrations.iter().map(step).collect()
    }

    #[test]
    fn the_rest_is_pending() {
        for taken in 0..=KNOWN.len() {
            let (rest, unknown) = pending(&KNOWN, &applied(&KNOWN[..taken])).expect("a prefix");
            assert_eq!((rest.len(), unknown), (KNOWN.len() - taken, 0));
        }
    }

    #[test]
    fn an_altered_store_is_refused() {
        let altered = [Migration { sql: "A'", ..KNOWN[0] }];
        let altered = pending(&KNOWN, &applied(&altered)).expect_err("it was altered");
        assert!(altered.to_string().contains("0001_a"), "{altered}");
    }

    #[test]
    fn a_newer_store_is_worked_with_only_if_all_its_steps_say_so() {
        let (rest, unknown) = pending(&KNOWN[..1], &applied(&KNOWN)).expect("it is only newer");
        assert_eq!((rest.len(), unknown), (0, 1));
        let step = |usable_from| Unknown { name: "0003_c".into(), usable_from };
        for (steps, fits) in [
            (&[][..], true),
            (&[step(Some(2))], true),
            (&[step(Some(1)), step(Some(2))], true),
            (&[step(Some(2)), step(Some(3))], false),
            (&[step(None)], false),
            (&[step(Some(-1))], false),
        ] {
            let answer = works_beside(&KNOWN, steps);
            assert_eq!(answer.is_ok(), fits, "{steps:?}");
            if let Err(newer) = answer {
                assert!(newer.to_string().contains("newer"), "{newer}");
            }
        }
    }
}
