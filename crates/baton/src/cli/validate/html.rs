//! A report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use store::FindingResult;

use super::junit::escaped;
use super::report::{Found, Report, word, worst};
use super::tests::TESTS;

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let (store, node) = (escaped(&report.store), escaped(&report.node));
    let verdict = match (report.failed(), report.count(FindingResult::Warning)) {
        (0, 0) => FindingResult::Passed,
        (0, _) => FindingResult::Warning,
        _ => FindingResult::Failed,
    };
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Baton validation of {node}, {at}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>Baton validation report</h1>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n\
         <dl>\n<dt>From</dt><dd>{node}{role}</dd>\n<dt>At</dt><dd>{at} by the store's clock</dd>\n\
         <dt>Store</dt><dd>{store}</dd>\n<dt>Version</dt><dd>Baton {version}</dd>\n</dl>\n\
         </header>\n<main>\n",
        at = escaped(&report.at.to_string()),
        class = class(verdict),
        verdict = escaped(&report.verdict()),
        role = if report.is_node { "" } else { ", which is no node of this cluster" },
        version = escaped(&report.version),
    );
    summary(&mut page, report);
    for (id, all) in report.by_test() {
        details(&mut page, id, &all);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn class(result: FindingResult) -> &'static str {
    match result {
        FindingResult::Passed => "passed",
        FindingResult::NotApplicable => "none",
        FindingResult::Warning => "warning",
        FindingResult::Failed => "failed",
    }
}

/// What a test looks at; those of a store's engine say it in what they find.
fn about(id: &str) -> &'static str {
    let test = TESTS.iter().find(|test| test.id == id);
    test.map_or("the store, examined by its own engine", |test| test.about)
}

fn badge(result: FindingResult) -> String {
    format!("<span class=\"badge {}\">{}</span>", class(result), word(result))
}

fn summary(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Summary</h2>\n<table class=\"summary\">\n<thead><tr><th>Test</th>\
         <th>Looks at</th><th>Result</th><th class=\"number\">Findings</th></tr></thead>\n\
         <tbody>\n",
    );
    for (id, all) in report.by_test() {
        let _ = writeln!(
            page,
            "<tr><td><a href=\"#{id}\">{id}</a></td><td>{}</td><td>{}</td>\
             <td class=\"number\">{}</td></tr>",
            escaped(about(id)),
            badge(worst(&all)),
            all.len(),
            id = escaped(id),
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

fn details(page: &mut String, id: &str, all: &[&Found]) {
    let _ = write!(
        page,
        "<section id=\"{id}\">\n<h2>{id} {badge}</h2>\n<p class=\"about\">{about}</p>\n\
         <table>\n<thead><tr><th>Subject</th><th>Result</th><th>Found</th>\
         <th class=\"number\">Took</th></tr></thead>\n<tbody>\n",
        id = escaped(id),
        badge = badge(worst(all)),
        about = escaped(about(id)),
    );
    for found in all {
        let remedy = match found.remedy.is_empty() {
            true => String::new(),
            false => format!("<p class=\"remedy\">{}</p>", escaped(&found.remedy)),
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}{remedy}</td><td class=\"number\">{}</td></tr>",
            escaped(&found.subject),
            badge(found.result),
            escaped(&found.what),
            found.took,
        );
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::super::junit::tests::hostile_report;
    use super::*;

    #[test]
    fn nothing_that_was_said_becomes_markup() {
        let page = page(&hostile_report());
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;"));
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}') && !page.contains('\0'));
        // Apart from the doctype and void elements it is XML too, so that every element is closed.
        let body = page.split("<body>").nth(1).and_then(|rest| rest.split("</body>").next());
        let body = format!("<body>{}</body>", body.expect("a body"));
        if let Err(error) = roxmltree::Document::parse(&body) {
            panic!("{error}: {body}");
        }
    }
}
