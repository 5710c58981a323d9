//! Hints between processes: LISTEN and NOTIFY, both on connections of their own.
//!
//! NOTIFY never stands in a transaction that writes: it takes a lock of the whole database over the
//! commit, which makes commits queue and costs a factor of ten. Here one session sends it, one at a
//! time; what is announced while one is under way goes with the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_postgres::{Client, Error};

use super::connect::{Connector, OnNotify};
use super::error::chain;
use crate::tasks::Tasks;
use crate::{Topic, Wakes};

/// Waits before a lost connection is made again: at first, and at most. Hints are only hints.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Longest wait for a NOTIFY; then its connection counts as dead.
const NOTIFY_LIMIT: Duration = Duration::from_secs(2);

const TOPICS: [Topic; 3] = [Topic::Cluster, Topic::Work, Topic::Events];

/// Hints of this process and to it.
pub(crate) struct Hints {
    board: Arc<Board>,
    connector: Connector,
    listening: Once,
    announcing: Once,
    /// Nothing is told to other processes.
    silent: bool,
}

/// What the tasks share with the store.
struct Board {
    place: String,
    channels: [Channel; TOPICS.len()],
    wanted: Notify,
}

struct Channel {
    /// Grows with each hint.
    hints: watch::Sender<u64>,
    /// To be announced to the other processes.
    pending: AtomicBool,
}

impl Hints {
    pub(crate) fn new(connector: Connector, silent: bool) -> Hints {
        let channel = || Channel { hints: watch::Sender::new(0), pending: AtomicBool::new(false) };
        let board = Arc::new(Board {
            place: connector.describe(),
            channels: TOPICS.map(|_| channel()),
            wanted: Notify::new(),
        });
        Hints { board, connector, listening: Once::new(), announcing: Once::new(), silent }
    }

    /// Wakes who waits for the topic, here at once and elsewhere soon.
    pub(crate) fn announce(&self, tasks: &Tasks, topic: Topic) {
        self.board.wake(topic);
        if self.silent {
            return;
        }
        self.board.channel(topic).pending.store(true, Ordering::SeqCst);
        self.board.wanted.notify_one();
        self.announcing.call_once(|| {
            tasks.spawn(announce(self.board.clone(), self.connector.clone()));
        });
    }

    /// How many hints of a topic there were; none when nobody listens here.
    pub(crate) fn count(&self, topic: Topic) -> Option<u64> {
        let count = *self.board.channel(topic).hints.borrow();
        self.listening.is_completed().then_some(count)
    }

    /// Hints of a topic from now on.
    pub(crate) fn subscribe(&self, tasks: &Tasks, topic: Topic) -> Wakes {
        self.listening.call_once(|| {
            tasks.spawn(listen(self.board.clone(), self.connector.clone()));
        });
        Wakes { receiver: self.board.channel(topic).hints.subscribe() }
    }
}

impl Board {
    fn channel(&self, topic: Topic) -> &Channel {
        match topic {
            Topic::Cluster => &self.channels[0],
            Topic::Work => &self.channels[1],
            Topic::Events => &self.channels[2],
        }
    }

    fn wake(&self, topic: Topic) {
        self.channel(topic).hints.send_modify(|hints| *hints += 1);
    }

    fn notified(&self, channel: &str) {
        for topic in TOPICS {
            if channel == name_of(topic) {
                self.wake(topic);
            }
        }
    }
}

fn name_of(topic: Topic) -> &'static str {
    match topic {
        Topic::Cluster => "baton_cluster",
        Topic::Work => "baton_work",
        Topic::Events => "baton_events",
    }
}

async fn announce(board: Arc<Board>, connector: Connector) {
    let mut session = None;
    let mut back_off = BACK_OFF_MIN;
    loop {
        board.wanted.notified().await;
        let mut words = String::new();
        for topic in TOPICS {
            if board.channel(topic).pending.swap(false, Ordering::SeqCst) {
                words.push_str(&format!("NOTIFY {};", name_of(topic)));
            }
        }
        let sent = tokio::time::timeout(NOTIFY_LIMIT, notify(&connector, &mut session, &words));
        if matches!(sent.await, Ok(Ok(()))) {
            back_off = BACK_OFF_MIN;
        } else {
            session = None;
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
            // Which topics it was about does not matter any more: waking twice harms nobody.
            board.channels.iter().for_each(|it| it.pending.store(true, Ordering::SeqCst));
            board.wanted.notify_one();
        }
    }
}

async fn notify(
    connector: &Connector,
    session: &mut Option<deadpool_postgres::ClientWrapper>,
    words: &str,
) -> Result<(), Error> {
    if session.is_none() {
        let client = connector.connect_apart().await?;
        // A NOTIFY is a commit with a record in the log. Nobody needs it on disk, and waiting for
        // the disk would take that time from the publishers.
        client.batch_execute("SET synchronous_commit = off").await?;
        *session = Some(client);
    }
    match session {
        Some(client) if !words.is_empty() => client.batch_execute(words).await,
        _ => Ok(()),
    }
}

async fn listen(board: Arc<Board>, connector: Connector) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        match begin_to_listen(&board, &connector).await {
            Ok((_client, ended)) => {
                back_off = BACK_OFF_MIN;
                // What was announced while we were deaf is not told again.
                TOPICS.iter().for_each(|topic| board.wake(*topic));
                // It ends with the connection, and the client must live as long.
                let _ = ended.await;
            }
            Err(error) => {
                tracing::debug!("no hints from {}: {}", board.place, chain(&error));
            }
        }
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

async fn begin_to_listen(
    board: &Arc<Board>,
    connector: &Connector,
) -> Result<(Client, tokio::task::JoinHandle<()>), Error> {
    let hearing = board.clone();
    let on_notify: OnNotify = Arc::new(move |channel| hearing.notified(channel));
    let (client, ended) = connector.listen(on_notify).await?;
    let words: String = TOPICS.iter().map(|topic| format!("LISTEN {};", name_of(*topic))).collect();
    client.batch_execute(&words).await?;
    Ok((client, ended))
}
