//! Which run a rollback goes back to. Pure: decided by the history and what serves now.

use crate::error::Error;
use crate::ledger::{Outcome, Pointers, Record};
use crate::pointers::{Move, moves};

/// Where to, and what has to move for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub number: u64,
    pub moves: Vec<Move>,
}

/// Chooses the run `to`, or else the last good one before that which serves now. `history` is newest first.
///
/// # Errors
/// [`Error::CannotRollBack`] says why there is none.
pub fn target(history: &[Record], now: &Pointers, to: Option<u64>) -> Result<Target, Error> {
    match to {
        Some(number) => {
            let record = history.iter().find(|record| record.number == number);
            let record = record.ok_or_else(|| cannot(format!("there is no run {number} of this stage")))?;
            let after = good(record).ok_or_else(|| {
                cannot(format!(
                    "run {number} ({}) {}; nothing of it was left to serve",
                    record.by.verb,
                    ended(record)
                ))
            })?;
            if after.api != now.api {
                return Err(cannot(format!("run {number} was on an API that was destroyed since")));
            }
            Ok(Target { number, moves: moves(now, after) })
        }
        None => {
            // What serves came from the last good run, or from the one that it went back to.
            let serving = history.iter().find(|record| good(record).is_some());
            let serving =
                serving.ok_or_else(|| cannot("no run of this stage succeeded so far".to_owned()))?;
            let origin = serving.restores.unwrap_or(serving.number);
            let earlier = history.iter().filter(|record| record.number < origin);
            let target = earlier
                .filter_map(|record| Some((record.number, good(record)?)))
                .filter(|(_, after)| after.api == now.api)
                .map(|(number, after)| Target { number, moves: moves(now, after) })
                .find(|target| !target.moves.is_empty());
            target.ok_or_else(|| {
                cannot(format!("before run {origin} there is none on this API with other code or routes"))
            })
        }
    }
}

/// What served after a run that went well.
fn good(record: &Record) -> Option<&Pointers> {
    let after = record.after.as_ref()?;
    (record.outcome == Outcome::Succeeded && !after.is_empty()).then_some(after)
}

fn ended(record: &Record) -> String {
    match record.outcome {
        Outcome::Running => "has not ended".to_owned(),
        Outcome::Succeeded => "succeeded".to_owned(),
        other => format!("was not a success: {}", other.name()),
    }
}

fn cannot(why: String) -> Error {
    Error::CannotRollBack { why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Holder;

    fn run(number: u64, version: &str, outcome: Outcome) -> Record {
        let by = Holder {
            principal: "arn".into(),
            host: "h".into(),
            pid: 1,
            verb: "deploy".into(),
            since_ms: 0,
            run: None,
        };
        Record { number, outcome, after: Some(serving(version)), ..Record::begin(by, None, "0") }
    }

    fn serving(version: &str) -> Pointers {
        Pointers {
            api: Some("a".into()),
            deployment: Some("d".into()),
            versions: [("connect".to_owned(), version.to_owned())].into(),
        }
    }

    fn goes_to(history: &[Record], now: &str, to: Option<u64>) -> Result<u64, String> {
        target(history, &serving(now), to).map(|target| target.number).map_err(|error| error.to_string())
    }

    use Outcome::{Failed, RolledBack, Succeeded};

    #[test]
    fn it_goes_to_the_last_good_run_that_served_something_else() {
        let history = [
            run(5, "3", Succeeded),
            run(4, "3", Failed),
            run(3, "3", Succeeded),
            run(2, "2", Succeeded),
            run(1, "1", Succeeded),
        ];
        assert_eq!(goes_to(&history, "3", None), Ok(2));
        assert_eq!(goes_to(&history, "3", Some(1)), Ok(1));
    }

    #[test]
    fn rolling_back_again_goes_further_and_not_to_and_fro() {
        let back = Record { restores: Some(2), ..run(4, "2", Succeeded) };
        let history = [back, run(3, "3", Succeeded), run(2, "2", Succeeded), run(1, "1", Succeeded)];
        assert_eq!(goes_to(&history, "2", None), Ok(1));
        // Forward again, if somebody says so.
        assert_eq!(goes_to(&history, "2", Some(3)), Ok(3));
    }

    #[test]
    fn a_run_that_was_rolled_back_by_itself_is_none_to_go_to() {
        let history = [run(3, "3", RolledBack), run(2, "2", Succeeded), run(1, "1", Succeeded)];
        assert_eq!(goes_to(&history, "2", None), Ok(1));
        let error = goes_to(&history, "2", Some(3)).unwrap_err();
        assert!(error.contains("rolled back"), "{error}");
    }

    #[test]
    fn nothing_to_go_to_is_said_with_its_reason() {
        assert!(goes_to(&[], "1", None).unwrap_err().contains("no run"));
        assert!(goes_to(&[run(1, "1", Succeeded)], "1", None).unwrap_err().contains("before run 1"));
        assert!(goes_to(&[run(1, "1", Succeeded)], "1", Some(9)).unwrap_err().contains("no run 9"));
        let other = Record {
            after: Some(Pointers { api: Some("destroyed".into()), ..serving("1") }),
            ..run(1, "1", Succeeded)
        };
        assert!(goes_to(&[run(2, "2", Succeeded), other.clone()], "2", None).is_err());
        assert!(goes_to(&[other], "2", Some(1)).unwrap_err().contains("destroyed"));
    }
}
