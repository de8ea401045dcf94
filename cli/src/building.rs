//! Building the handlers beside everything else: while the account is looked at, and, where no function exists yet, also
//! while table, roles and log groups are made.

use std::pin::{Pin, pin};

use chat_stacks::{Artifacts, Builder, Building, Kind, Observed};

use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;

/// A build that was begun. It goes on while [`beside`](Self::beside) or [`through`](Self::through) do something else.
pub(crate) struct Build<'a> {
    work: Pin<Box<dyn Future<Output = Result<Artifacts>> + 'a>>,
    /// Whoever is told of its end, until then.
    builder: Option<Builder>,
    building: Building,
}

impl<'a> Build<'a> {
    pub(crate) fn begin(work: impl Future<Output = Result<Artifacts>> + 'a) -> Self {
        let (builder, building) = Building::begin();
        Self { work: Box::pin(work), builder: Some(builder), building }
    }

    pub(crate) fn building(&self) -> &Building {
        &self.building
    }

    /// Does `other`, which changes nothing, meanwhile. A build that fails ends it.
    pub(crate) async fn beside<T>(&mut self, other: impl Future<Output = Result<T>>) -> Result<T> {
        let mut other = pin!(other);
        if self.builder.is_some() {
            tokio::select! {
                built = self.finish() => built?,
                done = &mut other => return done,
            }
        }
        other.await
    }

    /// Waits as far as a plan has to. Where functions exist, whether their code changes is what a plan is for; where
    /// none does, they are created whatever comes.
    pub(crate) async fn for_plan_of(&mut self, observed: &Observed) -> Result<()> {
        if observed.iter().any(|(at, _)| at.kind == Kind::Function) { self.finish().await } else { Ok(()) }
    }

    /// Does `other` to its end, whatever becomes of the build, and says how that ended if it did.
    pub(crate) async fn alongside<T>(&mut self, other: impl Future<Output = T>) -> (T, Result<()>) {
        let mut other = pin!(other);
        if self.builder.is_some() {
            tokio::select! {
                built = self.finish() => return (other.await, built),
                done = &mut other => return (done, Ok(())),
            }
        }
        (other.await, Ok(()))
    }

    /// Does `deploy` meanwhile. If the build fails it still comes to its end, without what needs the build.
    pub(crate) async fn through<T>(
        mut self,
        deploy: impl Future<Output = Result<T>>,
    ) -> std::result::Result<T, Failed> {
        let mut deploy = pin!(deploy);
        let built = tokio::select! {
            biased;
            built = self.finish() => built,
            done = &mut deploy => return done.map_err(Failed::Deploy),
        };
        match (deploy.await, built) {
            // Whoever stops a run with Ctrl-C stops cargo with it.
            (Err(error), Err(_)) if error.exit == ExitCode::Interrupted => Err(Failed::Deploy(error)),
            (Err(_), Err(failed)) => Err(Failed::Build(failed)),
            (done, _) => done.map_err(Failed::Deploy),
        }
    }

    /// Finishes the build, and tells those who wait for it.
    async fn finish(&mut self) -> Result<()> {
        if self.builder.is_none() {
            return Ok(());
        }
        let built = self.work.as_mut().await;
        let Some(builder) = self.builder.take() else { return Ok(()) };
        match built {
            Ok(artifacts) => {
                builder.finish(Ok(artifacts));
                Ok(())
            }
            Err(error) => {
                builder.finish(Err(format!("the handlers are not built: {error}")));
                Err(error)
            }
        }
    }
}

/// What failed of a deploy and the build beside it.
#[derive(Debug)]
pub(crate) enum Failed {
    Build(CliError),
    Deploy(CliError),
}

impl Failed {
    /// For a verb that goes on by itself.
    pub(crate) fn into_error(self) -> CliError {
        match self {
            Self::Build(error) | Self::Deploy(error) => error,
        }
    }
}

/// For a verb that ends with it.
impl From<Failed> for CliError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Build(error) => error.help(AFTER_FAILURE),
            Failed::Deploy(error) => error,
        }
    }
}

const AFTER_FAILURE: &str =
    "mend it and run the same command again: what was made meanwhile stays and is gone on with";

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str) -> CliError {
        CliError::failed(code, code)
    }

    #[tokio::test]
    async fn a_build_that_fails_ends_what_changes_nothing() {
        let mut build = Build::begin(async { Err(failed("compile")) });
        let error = build.beside(std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.code, "compile");
    }

    #[tokio::test]
    async fn a_deploy_comes_to_its_end_and_the_compiler_has_the_last_word() {
        let build = Build::begin(async { Err(failed("compile")) });
        let deploy = async {
            tokio::task::yield_now().await;
            Err::<(), _>(failed("apply"))
        };
        let error = CliError::from(build.through(deploy).await.unwrap_err());
        assert_eq!(error.code, "compile");
        assert!(error.help.is_some_and(|help| help.contains("stays")));
    }

    #[tokio::test]
    async fn what_is_done_alongside_is_done_though_the_build_failed() {
        let mut build = Build::begin(async { Err(failed("compile")) });
        let slower = async {
            tokio::task::yield_now().await;
            7
        };
        let (done, built) = build.alongside(slower).await;
        assert_eq!((done, built.unwrap_err().code.as_str()), (7, "compile"));
    }

    #[tokio::test]
    async fn a_deploy_that_is_over_first_does_not_wait() {
        let build = Build::begin(std::future::pending());
        assert_eq!(build.through(async { Ok(7) }).await.unwrap(), 7);
    }
}
