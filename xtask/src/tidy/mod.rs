//! `cargo xtask tidy`: the habits of STYLE.md, as tests.
//!
//! Each check is a plain function from the tree to what is wrong with it, and stands in [`CHECKS`].
//! A message names the file and line, what is wrong, and how to mend it.

mod functions;
mod layers;
mod map;
mod sql;
mod text;
mod tree;

use std::path::Path;

use anyhow::bail;

use tree::Tree;

/// What is wrong, one message each.
type Problems = Vec<String>;

const CHECKS: &[fn(&Tree) -> Problems] = &[
    text::every_file_says_what_it_is_for,
    text::imports_fit_a_glance,
    text::lines_fit_the_screen,
    text::files_are_short,
    text::todos_have_an_issue,
    text::no_traces_of_a_workplace,
    functions::functions_fit_a_screen,
    sql::statements_come_in_pairs,
    sql::only_the_store_speaks_sql,
    layers::manifests_take_the_workspace_lints,
    layers::pure_crates_depend_on_nothing_impure,
    layers::pure_crates_use_no_clock_file_or_socket,
    layers::tasks_are_spawned_in_one_place,
    layers::anyhow_stays_at_the_edge,
    layers::every_adapter_is_listed,
    map::every_crate_is_on_the_map,
    map::everything_on_the_map_exists,
    map::the_tour_takes_fifteen_minutes,
];

/// Checks the workspace; prints what is wrong.
pub(crate) fn run(workspace: &Path) -> anyhow::Result<()> {
    let tree = Tree::read(workspace)?;
    let problems: Problems = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} to mend (STYLE.md says why)", problems.len());
    }
    println!("{} checks on {} files: tidy", CHECKS.len(), tree.files.len());
    Ok(())
}
