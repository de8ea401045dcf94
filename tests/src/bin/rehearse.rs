//! Brings a stage to an edition, as `chatctl deploy` and `chatctl destroy` do once the handlers are built: what the
//! crash sweep kills. `chatctl` itself would ask cargo about the handlers before each of a few hundred kills.

use std::process::ExitCode;

use chat_tests::{Edition, Rehearsal};

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(endpoint), Some(settings)) = (args.next(), args.next()) else {
        eprintln!("usage: rehearse ENDPOINT SETTINGS [CODE]; without CODE the stage is destroyed");
        return ExitCode::from(2);
    };
    let edition = Edition { settings, code: args.next() };
    match Rehearsal::at(&endpoint).await.bring_to(&edition).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
