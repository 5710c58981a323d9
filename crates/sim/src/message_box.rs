//! The MessageBox of the one-page store: receipts, messages, and work for send ports.

use std::collections::BTreeMap;

use messaging::ReceiptState;
use model::{Epoch, HostName, LeaseName};

/// An item of a source: the host whose location lists it, and its key there.
pub type ItemKey = (HostName, u64);

/// Receipts, messages and work.
#[derive(Debug, Clone, Default)]
pub struct MessageBox {
    /// Whether an item is a message, and whether its source is released.
    pub receipts: BTreeMap<ItemKey, Receipt>,
    /// Every message ever published, in the order of publishing.
    pub messages: Vec<Message>,
}

/// The receipt of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Whether its source is not known to be released.
    pub open: bool,
    /// When it was closed, in milliseconds since the begin of the world.
    pub closed_at: u64,
}

/// A message, with the one piece of work that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it was received as.
    pub item: ItemKey,
    /// The host that sends it.
    pub to: HostName,
    /// What became of it.
    pub work: Work,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// It waits to be taken.
    Ready,
    /// An owner has taken it, under this lease and epoch.
    Held(LeaseName, Epoch),
    /// It was sent.
    Done,
}

impl MessageBox {
    /// The state of a receipt for a listing begun at this time.
    pub fn receipt(&self, item: &ItemKey, listed_at: u64) -> ReceiptState {
        match self.receipts.get(item) {
            None => ReceiptState::None,
            Some(receipt) if receipt.open => ReceiptState::Open,
            Some(receipt) => ReceiptState::Closed { listed_since: receipt.closed_at < listed_at },
        }
    }

    /// Writes a receipt; false if it is open already.
    pub fn open(&mut self, item: &ItemKey) -> bool {
        let known = self.receipts.get(item).is_some_and(|receipt| receipt.open);
        if !known {
            self.receipts.insert(item.clone(), Receipt { open: true, closed_at: 0 });
        }
        !known
    }

    /// Writes a message.
    pub fn put(&mut self, item: ItemKey, to: HostName) {
        self.messages.push(Message { item, to, work: Work::Ready });
    }

    /// Records that an item's source is released.
    pub fn close(&mut self, item: &ItemKey, now: u64) {
        if let Some(receipt) = self.receipts.get_mut(item) {
            *receipt = Receipt { open: false, closed_at: now };
        }
    }

    /// Takes up to so many pieces of work of a host, oldest first; an ordered port gets the next
    /// one only when the one before is done.
    pub fn take(
        &mut self,
        host: &HostName,
        (lease, epoch): (&LeaseName, Epoch),
        limit: usize,
        ordered: bool,
    ) -> Vec<usize> {
        let mut taken = Vec::new();
        for (id, message) in self.messages.iter_mut().enumerate() {
            if message.to != *host || message.work == Work::Done {
                continue;
            }
            if message.work == Work::Ready && taken.len() < limit {
                message.work = Work::Held(lease.clone(), epoch);
                taken.push(id);
            } else if ordered {
                break;
            }
        }
        taken
    }

    /// Ends a piece of work, if it is held under this lease and epoch.
    pub fn settle(&mut self, id: usize, lease: &LeaseName, epoch: Epoch) {
        if let Some(message) = self.messages.get_mut(id)
            && message.work == Work::Held(lease.clone(), epoch)
        {
            message.work = Work::Done;
        }
    }

    /// Makes ready what a host's present owner holds and does not know of.
    pub fn give_back(&mut self, host: &HostName, held_by: Option<(&LeaseName, Epoch)>) {
        for message in self.messages.iter_mut().filter(|message| message.to == *host) {
            let back = match (&message.work, held_by) {
                (Work::Held(lease, epoch), Some((by, at))) => lease == by && *epoch == at,
                (Work::Held(..), None) => true,
                (Work::Ready | Work::Done, _) => false,
            };
            if back {
                message.work = Work::Ready;
            }
        }
    }

    /// The lease changed hands: what was held under it is ready again.
    pub fn requeue(&mut self, lease: &LeaseName) {
        for message in &mut self.messages {
            if matches!(&message.work, Work::Held(by, _) if by == lease) {
                message.work = Work::Ready;
            }
        }
    }
}
