//! One AWS call, as every resource makes it: paced where the control plane is, retried by the rules of
//! [`crate::retry`], and reported.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::aws::Aws;
use crate::error::{AwsFailure, Error};
use crate::event::{Event, Events};
use crate::names::Scope;
use crate::permissions::Permitted;
use crate::resource::{Desired, Live, Outputs, Resource};
use crate::retry;

/// For this long what is waited for is looked at twice a second.
const LOOK_CLOSELY: Duration = Duration::from_secs(15);

/// What a resource is given to work with.
pub(crate) struct Cx<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) scope: &'a Scope,
    pub(crate) address: Option<Address>,
    pub(crate) outputs: Outputs,
    pub(crate) events: &'a Events,
    pub(crate) locks: &'a Locks,
    /// Triggered when the run is to stop: what is being made is finished, but nothing is waited for any more.
    pub(crate) stop: &'a CancellationToken,
}

/// Does `work` with what a call needs around it where no plan is carried out: nobody watches, and nothing stops it.
pub(crate) async fn alone<T>(
    aws: &Aws,
    scope: &Scope,
    address: Option<Address>,
    work: impl AsyncFnOnce(&Cx<'_>) -> T,
) -> T {
    let (events, locks, stop) = (Events::none(), Locks::default(), CancellationToken::new());
    let outputs = Outputs::default();
    work(&Cx { aws, scope, address, outputs, events: &events, locks: &locks, stop: &stop }).await
}

impl Cx<'_> {
    /// Makes a call of a service that needs no pacing.
    pub(crate) async fn call<T, E, Fut>(&self, send: impl Fn() -> Fut) -> Result<T, AwsFailure>
    where
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + Permitted + std::error::Error + 'static,
    {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let failure = match send().await {
                Ok(answer) => return Ok(answer),
                Err(error) => AwsFailure::of(E::OPERATION, &error),
            };
            let Some(wait) = retry::wait_before_next(&failure, attempt, started.elapsed()) else {
                return Err(failure);
            };
            attempt += 1;
            self.report_retry(&failure, wait);
            if !self.pause(wait).await {
                return Err(failure);
            }
        }
    }

    /// Makes a call of API Gateway's control plane, which is limited for the whole account.
    pub(crate) async fn gateway<T, E, Fut>(&self, send: impl Fn() -> Fut) -> Result<T, AwsFailure>
    where
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + Permitted + std::error::Error + 'static,
    {
        self.call(|| async {
            self.aws.pace.take().await;
            send().await
        })
        .await
    }

    /// Sleeps, and says whether it slept: a run that is to stop does not.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    /// The resource that is worked on.
    fn resource(&self) -> Address {
        self.address.clone().unwrap_or_else(|| Address::new(crate::address::Kind::Stage, ""))
    }

    fn report_retry(&self, failure: &AwsFailure, wait: Duration) {
        if let Some(resource) = &self.address {
            self.events.send(Event::Retrying {
                resource: resource.clone(),
                operation: failure.operation.to_owned(),
                code: failure.code.clone().unwrap_or_default(),
                message: failure.message.clone(),
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
        }
    }

    pub(crate) fn progress(&self, detail: impl Into<String>) {
        if let Some(resource) = &self.address {
            self.events.send(Event::Progress { resource: resource.clone(), detail: detail.into() });
        }
    }

    /// Tells of a part that is left for the next deploy.
    pub(crate) fn postpone(&self, what: impl Into<String>) {
        if let Some(resource) = &self.address {
            self.events.send(Event::Postponed { resource: resource.clone(), what: what.into() });
        }
    }

    /// An output of a resource that this one needs.
    pub(crate) fn output(&self, address: &Address, name: &str) -> Result<&str, Error> {
        self.outputs
            .get(address, name)
            .ok_or_else(|| Error::bug(format!("{address} did not tell its {name}")))
    }

    /// The properties of `resource` that differ from `live`, now that everything it needs is known.
    pub(crate) fn drifted(
        &self,
        resource: &dyn Resource,
        live: Option<&Live>,
    ) -> Result<Vec<&'static str>, Error> {
        let desired = self.resolved(resource)?;
        Ok(match live {
            Some(live) => desired.drifted(&live.properties),
            None => desired.iter().map(|(name, _)| name).collect(),
        })
    }

    fn resolved(&self, resource: &dyn Resource) -> Result<Desired, Error> {
        let desired = resource.desired(&self.outputs);
        let unknown = desired.iter().find(|(_, value)| value.is_none()).map(|(name, _)| name);
        match unknown {
            Some(name) => {
                Err(Error::bug(format!("{} is applied before its {name} is known", resource.address())))
            }
            None => Ok(desired),
        }
    }

    /// Polls until `look` finds what it waits for. `what` completes the sentence "waiting until …".
    pub(crate) async fn wait<T, Fut>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<Option<T>, Error>>,
    {
        let started = Instant::now();
        // Short first: the cloud on one machine is ready at once. Then towards what a region takes.
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if started.elapsed() > limit {
                return Err(Error::TimedOut {
                    resource: self.resource(),
                    what: format!("waited until {what}"),
                    seconds: limit.as_secs(),
                });
            }
            if pause > Duration::from_millis(100) {
                self.progress(format!("waiting until {what}"));
            }
            if !self.pause(pause).await {
                return Err(Error::Stopped {
                    resource: self.resource(),
                    what: format!("waiting until {what}"),
                });
            }
            // A table takes some 8 s, and what waits for it longest is a first deploy.
            let longest = if started.elapsed() < LOOK_CLOSELY { 500 } else { 2_000 };
            pause = (pause * 2).min(Duration::from_millis(longest));
        }
    }
}

/// One lock a name, for writes of which AWS loses all but one when they are made at the same time.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    pub(crate) async fn hold(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// An answer that may be "there is no such thing".
pub(crate) trait OrAbsent<T> {
    /// Turns the failure with this code into `None`.
    fn or_absent(self, code: &str) -> Result<Option<T>, AwsFailure>;
}

impl<T> OrAbsent<T> for Result<T, AwsFailure> {
    fn or_absent(self, code: &str) -> Result<Option<T>, AwsFailure> {
        match self {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is(code) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
