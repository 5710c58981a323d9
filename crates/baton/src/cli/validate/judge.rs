//! What a test says of one subject.

use std::pin::Pin;

use store::FindingResult;

/// What was found of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it is about: `location orders-ftp`.
    pub subject: String,
    /// How it went.
    pub result: FindingResult,
    /// What was found, as a sentence.
    pub what: String,
    /// How to mend it; empty when there is nothing to do.
    pub remedy: String,
}

impl Judgement {
    /// As it should be.
    pub fn passed(subject: impl Into<String>, what: impl Into<String>) -> Judgement {
        Judgement::new(FindingResult::Passed, subject, what, "")
    }

    /// It does not matter here.
    pub fn not_applicable(subject: impl Into<String>, what: impl Into<String>) -> Judgement {
        Judgement::new(FindingResult::NotApplicable, subject, what, "")
    }

    /// It works, but something will hurt one day.
    pub fn warning(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Judgement {
        Judgement::new(FindingResult::Warning, subject, what, remedy)
    }

    /// It does not work.
    pub fn failed(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Judgement {
        Judgement::new(FindingResult::Failed, subject, what, remedy)
    }

    fn new(
        result: FindingResult,
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Judgement {
        let (subject, what, remedy) = (subject.into(), what.into(), remedy.into());
        Judgement { subject, result, what, remedy }
    }
}

/// One thing to be tried, which may take a while.
pub struct Attempt {
    /// What it is about.
    pub subject: String,
    /// The work.
    pub work: Pin<Box<dyn Future<Output = Judgement> + Send>>,
}

impl Attempt {
    /// Something that waits.
    pub fn new(
        subject: impl Into<String>,
        work: impl Future<Output = Judgement> + Send + 'static,
    ) -> Attempt {
        Attempt { subject: subject.into(), work: Box::pin(work) }
    }

    /// Something that blocks a thread: files, which may be on a share that hangs.
    pub fn blocking(
        subject: impl Into<String>,
        work: impl FnOnce(String) -> Judgement + Send + 'static,
    ) -> Attempt {
        let subject = subject.into();
        let about = subject.clone();
        Attempt::new(subject, async move {
            let ended = tokio::task::spawn_blocking({
                let about = about.clone();
                move || work(about)
            });
            ended.await.unwrap_or_else(|stopped| {
                Judgement::failed(about, format!("the test itself ended: {stopped}"), "tell us")
            })
        })
    }
}
