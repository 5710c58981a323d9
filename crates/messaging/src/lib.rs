//! Decides what a message means: filters, subscriptions, retry, receipts.
//!
//! Pure: values go in, decisions come out. Nothing here touches a clock, a store, a socket or a
//! file. Read [`receipt`] first: it is why nothing is received twice and nothing is lost.

pub mod filter;
pub mod receipt;
pub mod retry;
pub mod routes;

pub use filter::{Filter, FilterError};
pub use receipt::{Identity, Known, ReceiptState, Step};
pub use retry::{AfterFailure, after_failure};
pub use routes::{Routing, RoutingError};
