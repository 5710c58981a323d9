//! A monitor without the rest of Baton, for this crate's tests: `baton monitor` does the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(error) = resources::exec_if_asked(std::env::args_os()) {
        eprintln!("{error}");
        return ExitCode::from(resources::EXIT_NOT_STARTED);
    }
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(resources::run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
