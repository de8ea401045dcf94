//! The chat's stack as tests break it on purpose: any settings, brought to any endpoint by the steps that `chatctl`
//! takes, with functions whose code is never run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chat_stacks::ledger::{Applied, Changes, Holder, Ledger, Patience, Pointers, Record};
use chat_stacks::{
    Artifact, Artifacts, Aws, Error, Events, Handler, Identity, Kind, Looking, Observed, Plan, PlanOptions,
    Scope, Settings, Stack, StageSettings, StaticCredentials, Target, apply, observe, plan, under_lock,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a stage should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Edition {
    /// Settings of the stage, as YAML in one line: `lambda: { memory_mb: 512 }, …`.
    pub settings: String,
    /// What the handlers' code is; `None` is no stage at all.
    pub code: Option<String>,
}

impl Edition {
    pub fn new(settings: &str, code: &str) -> Self {
        Self { settings: settings.to_owned(), code: Some(code.to_owned()) }
    }

    /// The same stage destroyed.
    #[must_use]
    pub fn gone(&self) -> Self {
        Self { code: None, ..self.clone() }
    }

    /// The settings are valid in any case: a test that gives others fails.
    fn stage(&self) -> StageSettings {
        let text = format!(
            "app: chat\ndefaults: {{ lambda: {{ architecture: native }} }}\nstages:\n  local: {{ endpoint: local, \
             control_plane: {{ rate: 0 }}, {} }}\n",
            self.settings
        );
        let settings = Settings::parse(&text, "chat.yaml").unwrap_or_else(|why| panic!("{text}\n{why}"));
        settings.stage("local").unwrap_or_else(|why| panic!("{text}\n{why}"))
    }

    fn artifacts(&self) -> Artifacts {
        let pack = |handler: Handler| {
            let code = format!("{handler} {}", self.code.as_deref().unwrap_or_default());
            (
                handler,
                Artifact::pack(code.as_bytes(), chat_stacks::Effort::Quick)
                    .unwrap_or_else(|why| panic!("{why}")),
            )
        };
        Handler::ALL.into_iter().map(pack).collect()
    }
}

/// A deployer of editions.
#[derive(Debug)]
pub struct Rehearsal {
    aws: Arc<Aws>,
    endpoint: String,
    /// Whether it takes over what has our names and not our tags.
    adopt: bool,
}

impl Rehearsal {
    pub async fn at(endpoint: &str) -> Self {
        let owner = StaticCredentials {
            access_key_id: "chatctl".to_owned(),
            secret_access_key: "chatctl".to_owned(),
            session_token: None,
        };
        let stage = Edition::new("auth: { mode: open }", "").stage();
        let aws = Aws::connect(&Target::new(&stage).at(endpoint, owner)).await;
        let aws = Arc::new(aws.unwrap_or_else(|why| panic!("{why}")));
        Self { aws, endpoint: endpoint.to_owned(), adopt: false }
    }

    /// One that is told `--adopt`.
    pub async fn adopting(endpoint: &str) -> Self {
        Self { adopt: true, ..Self::at(endpoint).await }
    }

    fn ledger(&self, scope: &Scope) -> Ledger {
        Ledger::new(self.aws.clone(), scope.clone())
    }

    /// Deploys an edition, or destroys the stage, by the steps of the verb that does it: looks, plans, takes the lock,
    /// applies, writes down and lets go. Only that the chat answers is not looked for, since nothing runs.
    pub async fn bring_to(&self, edition: &Edition) -> Result<(), Error> {
        let alive = Alive::begin();
        let started = Instant::now();
        let (events, scope) = (Events::none(), edition.stage().scope());
        let ledger = self.ledger(&scope);
        let cancel = CancellationToken::new();
        let patience = Patience { is_gone: Some(Alive::is_gone), make_table: true, ..Patience::default() };
        let begin = || Record::begin(alive.holder(), None, "rehearsal");
        if edition.code.is_none() {
            // Nobody is asked, so the lock is taken while the stage is still being observed.
            let looking = Looking::begin(self.aws.clone(), scope.clone());
            let ticket = ledger.open(&patience, &events).await?;
            if ticket.has_lock() {
                let work = async |record: &mut Record, cancel: CancellationToken| {
                    let observed = looking.end(&ticket).await?;
                    let (stack, plan) = self.compare(edition, &observed, self.aws.identity().await?)?;
                    record.changes = Changes::of(&plan);
                    record.before = Pointers::of(&observed, &scope);
                    Box::pin(apply(&self.aws, &stack, &plan, &events, &cancel)).await
                };
                return Box::pin(under_lock(&ledger, &ticket, begin(), true, &events, &cancel, work))
                    .await
                    .map(drop);
            }
        }
        let (mut observed, identity, ticket) = tokio::try_join!(
            self.observe(edition),
            async { self.aws.identity().await },
            ledger.open(&patience, &events)
        )?;
        if ticket.is_stale_for(started) {
            observed = self.observe(edition).await?;
        }
        let (stack, plan) = self.compare(edition, &observed, identity)?;
        if plan.is_empty() {
            return Ok(());
        }
        let record =
            Record { changes: Changes::of(&plan), before: Pointers::of(&observed, &scope), ..begin() };
        let work = async |record: &mut Record, cancel: CancellationToken| {
            let outcome = Box::pin(apply(&self.aws, &stack, &plan, &events, &cancel)).await?;
            if stack.is_empty() {
                return Ok(());
            }
            let observed = Observed::after(&stack, &outcome);
            record.after = Some(Pointers::of(&observed, &scope));
            record.leaves = Some(Applied::of(&observed));
            Ok(())
        };
        let last = stack.is_empty();
        Box::pin(under_lock(&ledger, &ticket, record, last, &events, &cancel, work)).await.map(drop)
    }

    fn compare(
        &self,
        edition: &Edition,
        observed: &Observed,
        identity: &Identity,
    ) -> Result<(Stack, Plan), Error> {
        let stage = edition.stage();
        let stack = match edition.code {
            Some(_) => chat_stacks::chat::stack(&stage, identity, &edition.artifacts())?,
            None => Stack::empty(stage.scope()),
        };
        let options =
            PlanOptions { adopt: self.adopt, drop_deletion_protection: true, ..PlanOptions::of(&stage) };
        let plan = plan(&stack, observed, &options)?;
        Ok((stack, plan))
    }

    /// What bringing the stage to an edition would still take, and everything of the stage as it is, without what AWS
    /// made up: ids, version numbers, and the hash over them.
    pub async fn look(&self, edition: &Edition) -> Result<(Plan, BTreeMap<String, Value>), Error> {
        let (observed, identity) =
            tokio::try_join!(self.observe(edition), async { self.aws.identity().await })?;
        let (_, plan) = self.compare(edition, &observed, identity)?;
        Ok((plan, state(&observed, &self.endpoint)))
    }

    /// Deploys what there is to deploy, and returns what then is there: nothing may be left to do.
    pub async fn settle(&self, edition: &Edition) -> Result<BTreeMap<String, Value>, String> {
        let failed = |why: Error| format!("the next run fails: {why}");
        let (plan, state) = self.look(edition).await.map_err(failed)?;
        if plan.is_empty() {
            return Ok(state);
        }
        self.bring_to(edition).await.map_err(failed)?;
        if let Some((holder, _)) = self.ledger(&edition.stage().scope()).holder().await.map_err(failed)? {
            return Err(format!("the next run leaves the lock to {holder}"));
        }
        let (plan, state) = self.look(edition).await.map_err(failed)?;
        if plan.is_empty() { Ok(state) } else { Err(format!("the next run leaves work: {:?}", plan.steps)) }
    }

    async fn observe(&self, edition: &Edition) -> Result<Observed, Error> {
        observe(&self.aws, &edition.stage().scope()).await
    }
}

/// A run of this process, as its lock names it: with a number of its own instead of the process's, so that a run that
/// was dropped in the middle is told from one that goes on.
struct Alive(u32);

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

impl Alive {
    fn begin() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Not a number that a process killed before it has had.
        let number =
            std::process::id().wrapping_mul(10_000).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        Self(number)
    }

    fn is_gone(holder: &Holder) -> bool {
        !RUNNING.lock().unwrap_or_else(PoisonError::into_inner).contains(&holder.pid)
    }

    fn holder(&self) -> Holder {
        Holder {
            principal: "the rehearsal".to_owned(),
            host: "here".to_owned(),
            pid: self.0,
            verb: "deploy".to_owned(),
            since_ms: i64::try_from(crate::now_ms()).unwrap_or(i64::MAX),
            run: None,
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

fn state(observed: &Observed, endpoint: &str) -> BTreeMap<String, Value> {
    let numbered = observed.iter().filter(|(address, _)| is_numbered(address.kind));
    let mut names: Vec<(&str, String)> =
        numbered.map(|(address, live)| (live.id.as_str(), format!("<{address}>"))).collect();
    names.push((endpoint.trim_start_matches("http://"), "<endpoint>".to_owned()));
    // A role has a name of ours, and an id besides.
    let roles = observed.iter().filter(|(address, _)| address.kind == Kind::Role);
    names.extend(
        roles.filter_map(|(address, live)| Some((live.outputs.get("id")?.as_str(), format!("<{address}>")))),
    );
    // Longer ids first: one may be part of another.
    names.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
    let state = observed.iter().map(|(address, live)| {
        let mut properties = json!(live.properties);
        for made_up in ["version", "hash"] {
            if let Some(value) = properties.get_mut(made_up).filter(|value| !value.is_null()) {
                *value = json!(format!("<{made_up}>"));
            }
        }
        let mut outputs = live.outputs.clone();
        outputs.entry("version").and_modify(|version| *version = "<version>".to_owned());
        let shown = json!({ "properties": properties, "outputs": outputs, "owned": live.owned });
        let text = names.iter().fold(shown.to_string(), |text, (id, name)| text.replace(id, name));
        let shown = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
        (address.to_string(), shown)
    });
    state.collect()
}

/// Whether AWS gives resources of the kind their ids.
fn is_numbered(kind: Kind) -> bool {
    matches!(kind, Kind::Api | Kind::Authorizer | Kind::Integration | Kind::Route | Kind::Deployment)
}
