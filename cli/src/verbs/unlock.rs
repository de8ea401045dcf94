//! `unlock`: takes the lock away from whoever holds it. The holder notices, and begins nothing more.

use std::fmt;

use chat_stacks::ledger::Holder;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::stage::Stage;
use crate::verbs::deploy::ask;
use crate::who;

#[derive(Debug, Serialize)]
struct Report {
    /// Whether there was a lock to take away.
    unlocked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => write!(f, "unlocked: it was held by {holder}"),
            None => f.write_str("nothing to do: nobody holds the lock"),
        }
    }
}

pub(crate) async fn run(context: &Context, args: &args::Unlock) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let ledger = stage.ledger();
    let (by, held) = tokio::try_join!(who::holder(&stage, "unlock"), async { Ok(ledger.holder().await?) })?;
    let Some((holder, remaining)) = held else {
        context.output.result(&Report { unlocked: false, holder: None });
        return Ok(ExitCode::Ok);
    };
    if !remaining.is_zero() {
        // It may well be at work.
        let seconds = remaining.as_secs();
        let question = format!(
            "{holder} was alive a moment ago (its lease lasts {seconds} s more). Take the lock away all the same?"
        );
        ask(context, &question).await?;
    }
    let holder = ledger.unlock(&by, &args.reason).await?;
    context.output.result(&Report { unlocked: holder.is_some(), holder });
    Ok(ExitCode::Ok)
}
