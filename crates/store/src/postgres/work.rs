//! Sending: work is taken, settled, resumed, terminated and shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::{BodyId, Context, MessageId, Millis, Timestamp, WorkId};
use tokio_postgres::Row;

use super::Postgres;
use super::text::plain;
use super::transaction::{Step, step};
use crate::{
    Backlog, Fence, Outcome, Result, Route, Settlement, StoreError, Topic, Work, WorkBody,
    WorkQuery, WorkState, WorkView,
};

impl Postgres {
    pub(super) async fn take_work(
        &self,
        fence: &Fence,
        host: &str,
        limit: usize,
    ) -> Result<Vec<Work>> {
        if self.took_all.load(Ordering::Relaxed) && !self.is_work_due(fence, host).await? {
            return Ok(Vec::new());
        }
        let lease = fence.lease().to_string();
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX);
        let take = Step {
            sql: include_str!("../../sql/postgres/take.sql"),
            params: &[&lease, &fence.epoch().0.cast_signed(), &host, &wanted],
        };
        let rows = self.database.fenced(fence, &[take]).await?;
        let work: Vec<Work> = rows.iter().flatten().map(work_of).collect::<Result<_>>()?;
        self.took_all.store(work.len() < limit, Ordering::Relaxed);
        Ok(work)
    }

    /// A look before a take that will probably find nothing.
    async fn is_work_due(&self, fence: &Fence, host: &str) -> Result<bool> {
        let rows = self
            .database
            .query(
                include_str!("../../sql/postgres/take_look.sql"),
                &[
                    &fence.lease().to_string(),
                    &fence.epoch().0.cast_signed(),
                    &fence.holder().as_str(),
                    &host,
                ],
            )
            .await?;
        match rows.first() {
            Some(row) if row.get("current") => Ok(row.get("due")),
            _ => Err(fence.refused()),
        }
    }

    pub(super) async fn give_back_work(
        &self,
        fence: &Fence,
        host: &str,
        in_flight: &[WorkId],
    ) -> Result<()> {
        let lease = fence.lease().to_string();
        let epoch = fence.epoch().0.cast_signed();
        let ids: Vec<i64> = in_flight.iter().map(|id| id.0).collect();
        let step = Step {
            sql: include_str!("../../sql/postgres/give_back.sql"),
            params: &[&lease, &epoch, &host, &ids],
        };
        let lock =
            Step { sql: include_str!("../../sql/postgres/give_back_lock.sql"), params: &[&lease] };
        self.database.fenced(fence, &[lock, step]).await?;
        self.hints.announce(&self.tasks, Topic::Work);
        Ok(())
    }

    pub(super) async fn settle_work(
        &self,
        fence: &Fence,
        settlements: &[Settlement],
    ) -> Result<()> {
        let settled = Settled::of(settlements);
        let lease = fence.lease().to_string();
        let epoch = fence.epoch().0.cast_signed();
        let done = Step {
            sql: include_str!("../../sql/postgres/settle_done.sql"),
            params: &[&lease, &epoch, &settled.done],
        };
        let other = Step {
            sql: include_str!("../../sql/postgres/settle_other.sql"),
            params: &[
                &lease,
                &epoch,
                &settled.ids,
                &settled.states,
                &settled.afters,
                &settled.tries,
                &settled.errors,
                &settled.maybe,
            ],
        };
        let steps = match (settled.done.is_empty(), settled.ids.is_empty()) {
            (false, true) => vec![done],
            (true, false) => vec![other],
            (false, false) => vec![done, other],
            (true, true) => vec![],
        };
        self.database.fenced(fence, &steps).await?;
        if settled.gives_back {
            self.hints.announce(&self.tasks, Topic::Work);
        }
        Ok(())
    }

    pub(super) async fn wait_of(&self, host: &str) -> Result<Option<Millis>> {
        let sql = include_str!("../../sql/postgres/next_ready_at.sql");
        let rows = self.database.query(sql, &[&host]).await?;
        Ok(rows.first().map(|row| Millis(row.get::<_, i64>("wait").cast_unsigned())))
    }

    pub(super) async fn count_backlog(&self) -> Result<Vec<Backlog>> {
        let rows = self.database.query(include_str!("../../sql/postgres/backlog.sql"), &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(Backlog {
                    host: row.get("host"),
                    port: row.get("port"),
                    state: state_of(row.get("state"))?,
                    count: row.get::<_, i64>("count").cast_unsigned(),
                    oldest_at: row.get::<_, Option<i64>>("oldest_at").map(Timestamp),
                })
            })
            .collect()
    }

    pub(super) async fn view_work(&self, query: &WorkQuery) -> Result<Vec<WorkView>> {
        let state = query.state.map(|state| match state {
            WorkState::Ready => 0_i16,
            WorkState::Active => 1,
            WorkState::Suspended => 2,
        });
        let ids: Vec<i64> = query.ids.iter().map(|id| id.0).collect();
        let limit = i64::try_from(query.rows_max()).unwrap_or(i64::MAX);
        let messages: Vec<uuid::Uuid> = query.messages.iter().map(|message| message.0).collect();
        let rows = self
            .database
            .query(
                include_str!("../../sql/postgres/list_work.sql"),
                &[&state, &query.port, &ids, &limit, &messages, &query.after.0],
            )
            .await?;
        rows.iter().map(view_of).collect()
    }

    pub(super) async fn resume_work(
        &self,
        work: &[WorkId],
        routes: &BTreeMap<WorkId, Vec<Route>>,
    ) -> Result<u64> {
        let ids: Vec<i64> = work.iter().map(|id| id.0).collect();
        let mut routed = (Vec::new(), Vec::new(), Vec::new());
        for (id, route) in work
            .iter()
            .filter_map(|id| Some((id, routes.get(id)?)))
            .flat_map(|(id, routes)| routes.iter().map(move |route| (id, route)))
        {
            routed.0.push(id.0);
            routed.1.push(route.port.as_str());
            routed.2.push(route.host.as_str());
        }
        let rows = self
            .database
            .at_once(
                "BEGIN",
                &[
                    step(include_str!("../../sql/postgres/resume.sql"), &[&ids]),
                    step(
                        include_str!("../../sql/postgres/resume_routed.sql"),
                        &[&routed.0, &routed.1, &routed.2],
                    ),
                ],
            )
            .await?;
        self.hints.announce(&self.tasks, Topic::Work);
        Ok(rows.iter().flatten().map(|row| row.get::<_, i64>(0).cast_unsigned()).sum())
    }

    pub(super) async fn terminate_work(&self, work: &[WorkId]) -> Result<u64> {
        let ids: Vec<i64> = work.iter().map(|id| id.0).collect();
        let sql = include_str!("../../sql/postgres/terminate.sql");
        let rows = self.database.at_once("BEGIN", &[step(sql, &[&ids])]).await?;
        Ok(rows.iter().flatten().map(|row| row.get::<_, i64>(0).cast_unsigned()).sum())
    }
}

/// Settlements as columns.
#[derive(Default)]
struct Settled<'a> {
    done: Vec<i64>,
    ids: Vec<i64>,
    states: Vec<i16>,
    afters: Vec<i64>,
    tries: Vec<i32>,
    errors: Vec<Option<Cow<'a, str>>>,
    maybe: Vec<bool>,
    gives_back: bool,
}

impl<'a> Settled<'a> {
    fn of(settlements: &'a [Settlement]) -> Settled<'a> {
        let mut settled = Settled::default();
        for settlement in settlements {
            let Settlement { work, outcome, maybe_delivered: _ } = settlement;
            match outcome {
                Outcome::Done => settled.done.push(work.0),
                Outcome::Retry { after, error } => {
                    settled.push(settlement, 3, *after, 1, Some(error))
                }
                Outcome::Return => settled.push(settlement, 0, Millis(0), 0, None),
                Outcome::Suspend { error } => {
                    settled.push(settlement, 2, Millis(0), 1, Some(error))
                }
            }
            settled.gives_back |= matches!(outcome, Outcome::Retry { .. } | Outcome::Return);
        }
        settled
    }

    fn push(
        &mut self,
        settlement: &Settlement,
        state: i16,
        after: Millis,
        tries: i32,
        error: Option<&'a String>,
    ) {
        self.ids.push(settlement.work.0);
        self.maybe.push(settlement.maybe_delivered);
        self.states.push(state);
        self.afters.push(after.0.cast_signed());
        self.tries.push(tries);
        self.errors.push(error.map(|error| plain(error)));
    }
}

fn work_of(row: &Row) -> Result<Work> {
    let body = match row.get::<_, Option<uuid::Uuid>>("body_id") {
        Some(id) => WorkBody::Chunks(BodyId(id)),
        None => WorkBody::Inline(inline_of(row).unwrap_or_default()),
    };
    Ok(Work {
        id: WorkId(row.get("id")),
        port: row.get("port"),
        message: MessageId(row.get("message_id")),
        context: context_of(row)?,
        body_bytes: row.get::<_, i64>("body_bytes").cast_unsigned(),
        body,
        attempts: row.get::<_, i32>("attempts").cast_unsigned(),
        maybe_delivered: row.get("maybe_delivered"),
    })
}

fn view_of(row: &Row) -> Result<WorkView> {
    Ok(WorkView {
        id: WorkId(row.get("id")),
        message: MessageId(row.get("message_id")),
        port: row.get("port"),
        host: row.get("host"),
        state: state_of(row.get("state"))?,
        attempts: row.get::<_, i32>("attempts").cast_unsigned(),
        ready_at: Timestamp(row.get("ready_at")),
        error: row.get("error"),
        published_at: Timestamp(row.get("published_at")),
        publisher: row.get("publisher"),
        context: context_of(row)?,
        body_bytes: row.get::<_, i64>("body_bytes").cast_unsigned(),
        body: inline_of(row),
        body_id: row.get::<_, Option<uuid::Uuid>>("body_id").map(BodyId),
    })
}

fn inline_of(row: &Row) -> Option<Bytes> {
    row.get::<_, Option<&[u8]>>("inline_body").map(Bytes::copy_from_slice)
}

fn context_of(row: &Row) -> Result<Context> {
    serde_json::from_str(row.get("context")).map_err(|error| {
        let id: uuid::Uuid = row.get("message_id");
        StoreError::Corrupt(format!("the context of message {id} cannot be read: {error}"))
    })
}

fn state_of(column: i16) -> Result<WorkState> {
    match column {
        0 => Ok(WorkState::Ready),
        1 => Ok(WorkState::Active),
        2 => Ok(WorkState::Suspended),
        other => Err(StoreError::Corrupt(format!(
            "work has state {other}, which this version of Baton does not know"
        ))),
    }
}
