//! Runs the tests that are wanted, each within its time.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use model::Millis;

use super::judge::{Attempt, Judgement};
use super::no_such_test;
use super::report::Found;
use super::scene::Scene;
use super::tests::{Run, TESTS, Test};
use crate::cli::Refused;

/// Longest time of one attempt: longer than a name that does not resolve (10 s) and an agent that
/// starts an interpreter; an operator is waiting.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Longest time of the store's examination, which tries a few dozen transactions.
const EXAMINE_MAX: Duration = Duration::from_secs(120);

/// Attempts at the same time: enough that a dozen dead servers take no minute, few enough to open
/// no burst of connections.
const AT_ONCE: usize = 8;

/// Which tests are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    only: Vec<String>,
    skip: Vec<String>,
}

impl Selection {
    /// Those of `--only` without those of `--skip`.
    pub fn new(only: &[String], skip: &[String]) -> Result<Selection, Refused> {
        let plain = |ids: &[String]| {
            let plain = |id: &String| {
                let word = id.strip_suffix(".*").unwrap_or(id).to_owned();
                // What an engine examines beyond our list is known only when it has done so.
                let is_known = TESTS.iter().any(|test| is_of(test.id, &word))
                    || is_of(&word, "store") && word.len() > "store.".len();
                if is_known { Ok(word) } else { Err(no_such_test(id)) }
            };
            ids.iter().map(plain).collect::<Result<Vec<_>, Refused>>()
        };
        Ok(Selection { only: plain(only)?, skip: plain(skip)? })
    }

    /// Whether a finding of this id is wanted.
    pub fn wants(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|word| is_of(id, word)))
            && !self.skip.iter().any(|word| is_of(id, word))
    }

    /// Whether a test must run for what is wanted: `store` has ids below it.
    fn runs(&self, test: &Test) -> bool {
        let below = |word: &String| is_of(word, test.id);
        self.wants(test.id) || self.only.iter().any(below) && !self.skip.contains(&test.id.into())
    }

    /// Whether nothing is left out.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.skip.is_empty()
    }
}

/// Whether an id is this one, or below it.
fn is_of(id: &str, word: &str) -> bool {
    id.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Runs them, in order.
pub async fn all(scene: &Scene, selection: &Selection) -> Vec<Found> {
    let mut found = Vec::new();
    for test in TESTS.iter().filter(|test| selection.runs(test)) {
        found.extend(one(test, scene).await);
    }
    found.retain(|found| selection.wants(found.id));
    found
}

async fn one(test: &Test, scene: &Scene) -> Vec<Found> {
    let begun = Instant::now();
    let mut found: Vec<Found> = match test.run {
        Run::Examine => examine(test.id, scene).await,
        Run::Look(look) => {
            let judged = look(scene);
            let took = Millis(millis(begun) / judged.len().max(1) as u64);
            let timed = |judgement| Found { took, ..Found::of(test.id, judgement) };
            judged.into_iter().map(timed).collect()
        }
        Run::Try(attempts) => {
            let attempts = attempts(scene).into_iter().map(|attempt| tried(test.id, attempt));
            stream::iter(attempts).buffered(AT_ONCE).collect().await
        }
    };
    if found.is_empty() {
        let what = test.nothing.to_owned();
        found.push(Found::of(test.id, Judgement::not_applicable("cluster", what)));
    }
    found
}

async fn tried(id: &'static str, attempt: Attempt) -> Found {
    let begun = Instant::now();
    let Attempt { subject, work } = attempt;
    let judgement = tokio::time::timeout(ATTEMPT_MAX, work).await.unwrap_or_else(|_| {
        let what = format!("no answer within {}", Millis(ATTEMPT_MAX.as_millis() as u64));
        Judgement::failed(subject, what, "find out what hangs: a share, a name server, a firewall")
    });
    Found { took: Millis(millis(begun)), ..Found::of(id, judgement) }
}

async fn examine(id: &'static str, scene: &Scene) -> Vec<Found> {
    let failed = |what: String| {
        let remedy = "look at the store's own log of this moment, then run this again";
        vec![Found::of(id, Judgement::failed("store", what, remedy))]
    };
    match tokio::time::timeout(EXAMINE_MAX, scene.store.examine()).await {
        Ok(Ok(findings)) => findings.into_iter().map(Found::from).collect(),
        Ok(Err(error)) => failed(format!("the store could not be examined: {error}")),
        Err(_) => failed(format!("the examination did not end within {EXAMINE_MAX:?}")),
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_chosen_by_id_or_kind() {
        let select = |only: &[&str], skip: &[&str]| {
            let strings = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
            Selection::new(&strings(only), &strings(skip))
        };
        let ran = |selection: &Selection| {
            TESTS.iter().filter(|test| selection.runs(test)).map(|test| test.id).collect::<Vec<_>>()
        };
        let all = select(&[], &[]).expect("known");
        assert!(all.is_whole() && all.wants("store.fence") && ran(&all).len() == TESTS.len());
        let one = select(&["store.fence"], &[]).expect("known");
        assert_eq!(ran(&one), ["store"]);
        assert!(one.wants("store.fence") && !one.wants("store.clock") && !one.wants("store"));
        let kind = select(&["endpoint.*"], &["endpoint.ftp"]).expect("known");
        assert_eq!(ran(&kind), ["endpoint.file"]);
        let error = select(&["endpont"], &[]).expect_err("unknown").to_string();
        assert!(error.starts_with("there is no test \"endpont\"; tests, "), "{error}");
        assert!(select(&[], &["stor"]).is_err());
    }
}
