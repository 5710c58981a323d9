//! Every statement of the PostgreSQL engine is understood by a fresh database.

use std::fs;
use std::path::Path;

use store::Options;

use crate::raw;

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    store::open(&Options::new(url.as_str(), "statements")).await.expect("a new schema");
    let client = raw(&url).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/postgres");
    let mut misunderstood = Vec::new();
    let mut prepared = 0;
    for entry in fs::read_dir(folder).expect("the folder of statements") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let sql = fs::read_to_string(&path).expect("a statement");
            prepared += 1;
            if let Err(error) = client.prepare(&sql).await {
                let why = error.as_db_error().map_or(error.to_string(), ToString::to_string);
                misunderstood.push(format!("{}: {why}", path.display()));
            }
        }
    }
    assert!(prepared > 40, "only {prepared} statements were found");
    assert!(misunderstood.is_empty(), "{}", misunderstood.join("\n"));
}
