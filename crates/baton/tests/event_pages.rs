//! Each operator event has a page under docs/reference/events, made from the list of them.
//!
//! `BLESS=1 cargo test -p baton --test event_pages` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use baton::render::event::{index, page, page_name};
use model::event::EVENTS;

#[test]
fn pages_say_what_the_list_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/events");
    let mut pages: BTreeMap<String, String> =
        EVENTS.iter().map(|kind| (page_name(kind), page(kind))).collect();
    pages.insert("README.md".into(), index());
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(&folder).expect("the folder");
        for (name, text) in &pages {
            std::fs::write(folder.join(name), text).expect("the page");
        }
    }
    for (name, text) in &pages {
        let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(there, *text, "{name} differs from the list; BLESS=1 if this is meant");
    }
    for entry in std::fs::read_dir(&folder).expect("the folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(pages.contains_key(&name), "no event has the page {name}: numbers are for life");
    }
}
