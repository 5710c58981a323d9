//! Logging, to standard error: a node's by its configuration, a host's as its node tells it.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// How a node tells its hosts to log.
const LOG_LEVEL_VARIABLE: &str = "BATON_LOG_LEVEL";
const LOG_FORMAT_VARIABLE: &str = "BATON_LOG_FORMAT";

/// Starts logging to standard error, and answers the environment that makes a child log alike.
pub fn start(log: &Log) -> Result<Vec<(String, String)>> {
    // The pool's warnings repeat what the store says in its own words.
    let filter = EnvFilter::try_new(format!("{},deadpool=error", log.level))
        .ok()
        .filter(|_| is_level(&log.level))
        .with_context(|| format!("log.level {:?}: use error, warn, info or debug", log.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = match log.format {
        LogFormat::Text => {
            builder.with_ansi(ansi).init();
            "text"
        }
        LogFormat::Json => {
            builder.json().init();
            "json"
        }
    };
    Ok(vec![
        (LOG_LEVEL_VARIABLE.into(), log.level.clone()),
        (LOG_FORMAT_VARIABLE.into(), format.into()),
    ])
}

/// Whether a level, or directives for parts of the program (`info,host=debug`), says something: a
/// lone word would be taken for the name of a part, and silence all others.
fn is_level(level: &str) -> bool {
    level.split(',').all(|directive| {
        let (_, level) = directive.rsplit_once('=').unwrap_or(("", directive));
        level.trim().parse::<tracing::Level>().is_ok() || level.trim() == "off"
    })
}

/// Starts it in a host instance.
pub fn start_as_told() -> Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let format = match variable(LOG_FORMAT_VARIABLE).as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    let level = Some(variable(LOG_LEVEL_VARIABLE)).filter(|level| !level.is_empty());
    start(&Log { level: level.unwrap_or_else(|| Log::default().level), format }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_would_silence_everything_is_refused() {
        for (level, expected) in [
            ("info", true),
            ("INFO", true),
            ("off", true),
            ("info,host=debug", true),
            ("verbose", false),
            ("host=loud", false),
            ("", false),
        ] {
            assert_eq!(is_level(level), expected, "{level}");
        }
    }
}
