//! What every service gets to do its work: the account, the settings, and the services it leans on.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Settings;
use crate::faults::Faults;
use crate::iam::Iam;
use crate::logs::Logs;
use crate::s3::S3;
use crate::store::Store;

/// The only account of this cloud.
pub(crate) const ACCOUNT: &str = "000000000000";

/// Shared as `Arc<Context>`.
pub(crate) struct Context {
    pub(crate) account: String,
    pub(crate) region: String,
    /// `http://127.0.0.1:4620`, known after the listener is bound.
    pub(crate) endpoint: String,
    /// Directory of the state, if it is kept on disk.
    pub(crate) data: Option<PathBuf>,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) iam: Arc<Iam>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) s3: Arc<S3>,
    pub(crate) faults: Faults,
}

impl Context {
    /// A context without a listener, for tests of a single service.
    #[cfg(test)]
    pub(crate) fn for_tests(settings: Settings) -> Arc<Self> {
        let store = Store::open(None).expect("failed to open a store in memory");
        let faults = settings.faults.clone();
        Arc::new(Self {
            account: ACCOUNT.to_owned(),
            region: settings.region.clone(),
            endpoint: "http://127.0.0.1:4620".to_owned(),
            data: None,
            iam: Arc::new(
                Iam::open(store.clone(), faults.clone(), ACCOUNT, &settings.region)
                    .expect("failed to open IAM"),
            ),
            logs: Arc::new(Logs::open(None, ACCOUNT, &settings.region).expect("failed to open the logs")),
            s3: Arc::new(S3::open(store.clone(), &settings.region).expect("failed to open S3")),
            store,
            settings,
            faults,
        })
    }
}
