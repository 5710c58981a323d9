//! The composition root: the command line, the reading of files, the demo.
//!
//! Start at [`serve`]: what `baton node` and `baton host` run.

pub mod cli;
pub mod config;
pub mod demo;
pub mod drill;
mod log;
pub mod machines;
pub mod proof;
pub mod render;
pub mod serve;
mod watch;
pub mod yaml;
