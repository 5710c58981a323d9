//! PostgreSQL under the suite: a database of its own on a server of the test bed.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use store::{FenceToken, Options, Store};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::Engine;

struct Postgres {
    url: String,
}

/// A database of its own for one case; none when PostgreSQL cannot be had here.
pub async fn engine() -> Option<Box<dyn Engine>> {
    let url = testbed::or_skip(testbed::fresh_database())?;
    Some(Box::new(Postgres { url }))
}

#[async_trait]
impl Engine for Postgres {
    async fn open(&self, application: &str) -> Arc<dyn Store> {
        let options = Options::new(self.url.as_str(), application);
        store::open(&options).await.expect("the database opens")
    }

    async fn begin_publish(&self, fence: &FenceToken) -> Box<dyn Any + Send> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, NoTls).await.expect("the server accepts");
        let mut driver = JoinSet::new();
        driver.spawn(async { connection.await.unwrap_or_default() });
        client.batch_execute("BEGIN").await.expect("a transaction");
        let (lease, epoch) = (fence.lease.to_string(), fence.epoch.0.cast_signed());
        client
            .execute("SELECT baton_fence($1, $2, $3)", &[&lease, &epoch, &fence.holder.as_str()])
            .await
            .expect("the fence is current");
        Box::new((client, driver))
    }
}
