//! Handlers that may still be being built while a first plan is made and carried out: compiling takes longer than
//! anything else then, and only functions have to wait for it.

use chat_functions::contract::Handler;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::artifact::{Artifact, Artifacts};
use crate::error::Error;

/// How the build ended, once it has. A failure is one line.
type Over = Option<Result<Artifacts, String>>;

/// A build as those see it who wait for it.
#[derive(Clone, Debug)]
pub struct Building(watch::Receiver<Over>);

/// The same build as whoever does it tells of it.
#[derive(Debug)]
pub struct Builder(watch::Sender<Over>);

impl Building {
    /// One that has begun.
    pub fn begin() -> (Builder, Self) {
        let (sender, receiver) = watch::channel(None);
        (Builder(sender), Self(receiver))
    }

    /// One that is over.
    pub fn over(artifacts: Artifacts) -> Self {
        Self(watch::channel(Some(Ok(artifacts))).1)
    }

    pub(crate) fn code(&self, handler: Handler) -> Code {
        Code { handler, build: self.clone() }
    }
}

impl Builder {
    pub fn finish(self, result: Result<Artifacts, String>) {
        self.0.send_replace(Some(result));
    }
}

/// What a function is made of.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    handler: Handler,
    build: Building,
}

impl Code {
    /// The packed code, if it is built.
    pub(crate) fn known(&self) -> Option<Artifact> {
        self.built()?.ok()
    }

    /// Waits for the build; `None` if the run is to stop before that is over.
    ///
    /// # Errors
    /// [`Error::Artifact`] if it failed.
    pub(crate) async fn ready(&self, stop: &CancellationToken) -> Result<Option<Artifact>, Error> {
        let mut build = self.build.0.clone();
        tokio::select! {
            biased;
            over = build.wait_for(Option::is_some) => {
                // Whoever built is gone without a word.
                over.map_err(|_| Error::Artifact { what: "the build was given up".to_owned() })?;
            }
            () = stop.cancelled() => return Ok(None),
        }
        self.built().transpose()
    }

    fn built(&self) -> Option<Result<Artifact, Error>> {
        let artifact = match self.build.0.borrow().as_ref()? {
            Ok(artifacts) => artifacts.get(&self.handler).cloned(),
            Err(what) => return Some(Err(Error::Artifact { what: what.clone() })),
        };
        let missing = || Error::Artifact { what: format!("the handler {} is not built", self.handler) };
        Some(artifact.ok_or_else(missing))
    }
}
