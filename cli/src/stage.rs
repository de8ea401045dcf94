//! A stage in work: its settings, the connection to its cloud, and its handlers packed for upload. What every verb on
//! a stage starts from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_stacks::code::Changed;
use chat_stacks::ledger::{Applied, Changes, Ledger, Patience, Pointers, Record, Ticket};
use chat_stacks::settings::{AuthMode, Endpoint, KeyId, PublicKey};
use chat_stacks::verify::{Check, Pass};
use chat_stacks::{
    Artifacts, Aws, Observed, Outcome, Plan, PlanOptions, Settings, Stack, StageName, StageSettings,
    StaticCredentials, Target, Verification, apply, code, drift, observe, plan, pointers, status, under_lock,
    verify_change, verify_gone,
};

use crate::args;
use crate::artifacts;
use crate::cloud;
use crate::context::Context;
use crate::env;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::handlers::{self, Built};
use crate::output::Mode;
use crate::output::progress::show;
use crate::project::Project;
use crate::token::{Claims, SigningKey};
use crate::toolchain::{self, Toolchain};
use crate::who;

/// The owner of the local cloud. They are no secret: it listens on loopback only.
const LOCAL_KEY: &str = "chatctl";

/// A stage whose cloud can be called.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) project: Project,
    pub(crate) settings: StageSettings,
    pub(crate) aws: Arc<Aws>,
    /// The process that runs the stage's cloud, if that is on this machine.
    pub(crate) cloud: Option<cloud::Record>,
}

/// A stage as it was seen in order to change it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) observed: Observed,
    pub(crate) ledger: Ledger,
    pub(crate) ticket: Ticket,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// The stage as it is now.
    pub(crate) observed: Observed,
    /// What the verification has seen.
    pub(crate) verified: Option<String>,
}

/// What came of the short way.
#[derive(Debug)]
pub(crate) struct CutOver {
    pub(crate) functions: Vec<String>,
    /// Where clients connect.
    pub(crate) url: Option<String>,
    pub(crate) verified: Option<String>,
}

/// How the address of a cloud on this machine begins.
const LOOPBACK: [&str; 3] = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];

/// Seconds that the token of a verification is good for: longer than any verification takes.
const VERIFY_TOKEN_S: i64 = 120;

impl Stage {
    /// Reads the settings and connects. A local cloud that does not run is started in the background.
    pub(crate) async fn open(context: &Context, port: u16) -> Result<Self> {
        let project = context.project()?;
        let settings = read(context, &project)?;
        let mut cloud = None;
        if settings.endpoint == Endpoint::Local {
            let (record, started) = cloud::ensure(&project, port).await?;
            if started {
                let text = format!("started the local cloud in the background at {}", record.endpoint());
                context.output.note("cloud_started", &text);
            }
            cloud = Some(record);
        }
        let aws = connect(&settings, cloud.as_ref().map(cloud::Record::endpoint)).await?;
        Ok(Self { project, settings, aws: Arc::new(aws), cloud })
    }

    /// The stage in a local cloud that runs.
    pub(crate) async fn of_cloud(
        project: &Project,
        settings: &StageSettings,
        cloud: cloud::Record,
    ) -> Result<Self> {
        let aws = connect(settings, Some(cloud.endpoint())).await?;
        Ok(Self {
            project: project.clone(),
            settings: settings.clone(),
            aws: Arc::new(aws),
            cloud: Some(cloud),
        })
    }

    pub(crate) async fn observe(&self) -> Result<Observed> {
        Ok(observe(&self.aws, &self.settings.scope()).await?)
    }

    /// Refuses what belongs to a stack of CloudFormation: it would not know of a change that is made past it.
    pub(crate) fn require_direct(&self, observed: &Observed) -> Result<()> {
        self.require(!observed.is_of_cloudformation())
    }

    fn require(&self, direct: bool) -> Result<()> {
        if direct {
            return Ok(());
        }
        let stage = &self.settings.stage;
        Err(CliError::refused("other_engine", format!("stage {stage} belongs to CloudFormation")).help(
            "add --engine cloudformation; if a `chatctl eject --execute` was interrupted, run it again first",
        ))
    }

    /// The ledger of this stage.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.aws.clone(), self.settings.scope())
    }

    /// Observes the stage in order to change it, and does `work` meanwhile, which changes nothing. Refuses, or waits,
    /// while somebody else changes it, and refuses what belongs to CloudFormation.
    pub(crate) async fn look<T>(
        &self,
        context: &Context,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        let (done, seen) = self.look_anyway(context, wait, work).await?;
        self.require_direct(&seen.observed)?;
        Ok((done, seen))
    }

    /// The same of a stage that may be CloudFormation's already.
    pub(crate) async fn look_anyway<T>(
        &self,
        context: &Context,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        let started = tokio::time::Instant::now();
        let ledger = self.ledger();
        let open = self.open_ledger(context, &ledger, wait);
        let identify = async { Ok(self.aws.identity().await?) };
        let (done, mut observed, ticket, _) = tokio::try_join!(work, self.observe(), open, identify)?;
        if ticket.is_stale_for(started) {
            observed = self.observe().await?;
        }
        Ok((done, Seen { observed, ledger, ticket }))
    }

    /// How to see that the chat answers.
    pub(crate) fn verification(&self, args: args::Verify) -> Result<Option<Verification>> {
        if args.no_verify {
            return Ok(None);
        }
        let user = Check::new_user();
        let pass = match self.settings.auth.mode {
            AuthMode::Open => Pass::Name,
            AuthMode::Token => match SigningKey::existing(&self.project, &self.settings.stage)? {
                Some(key) if self.settings.auth.public_keys.keys().any(|kid| kid.as_str() == key.kid()) => {
                    let now = jiff::Timestamp::now().as_second();
                    let rooms = Vec::new();
                    let exp = now + VERIFY_TOKEN_S;
                    Pass::Token(key.sign(&Claims { sub: user.clone(), name: None, rooms, iat: now, exp })?)
                }
                _ => Pass::Nothing,
            },
        };
        let own = self.settings.origins.iter().map(|origin| origin.as_str());
        let origin = match own.clone().any(|origin| origin == "*") {
            true => None,
            false => own.map(str::to_owned).next(),
        };
        Ok(Some(Verification { check: Check { user, pass, origin }, rollback: !args.no_rollback }))
    }

    /// Carries a plan out under the stage's lock and a live rendering, and writes it down. Stops in an orderly way when
    /// the user wants to.
    pub(crate) async fn carry_out(
        &self,
        context: &Context,
        verb: &str,
        seen: Seen,
        stack: &Stack,
        plan: &Plan,
        verification: Option<Verification>,
    ) -> Result<Done> {
        if plan.is_empty() {
            return Ok(Done { outcome: Outcome::default(), observed: seen.observed, verified: None });
        }
        let record = Record {
            changes: Changes::of(plan),
            before: Pointers::of(&seen.observed, stack.scope()),
            ..who::record(self, verb).await?
        };
        let last = stack.is_empty();
        let ((outcome, observed), record) = show(&context.output, plan.steps.len(), async |events| {
            let Seen { ledger, ticket, .. } = &seen;
            let work = async |record: &mut Record, cancel| {
                let outcome = Box::pin(apply(&self.aws, stack, plan, &events, &cancel)).await?;
                if last {
                    verify_gone(&self.aws, stack.scope()).await?;
                    return Ok((outcome, Observed::default()));
                }
                let observed = Observed::after(stack, &outcome);
                record.after = Some(Pointers::of(&observed, stack.scope()));
                record.leaves = Some(Applied::of(&observed));
                let url = status::of(&observed, stack.scope()).websocket_url;
                if let (Some(verification), Some(url)) = (&verification, url) {
                    verify_change(ledger, &url, verification, record, &events, &cancel).await?;
                }
                Ok((outcome, observed))
            };
            Box::pin(under_lock(ledger, ticket, record, last, &events, &context.stop, work)).await
        })
        .await?;
        Ok(Done { outcome, observed, verified: record.verified })
    }

    /// The short way for code that changed: nothing else is looked at. Names the functions that were cut over. With
    /// `strict` it refuses if more than code is declared otherwise than the last run left it.
    pub(crate) async fn cut_over(
        &self,
        context: &Context,
        verb: &str,
        wait: Duration,
        artifacts: &Artifacts,
        verify: args::Verify,
        strict: bool,
    ) -> Result<CutOver> {
        let (aws, scope) = (&self.aws, self.settings.scope());
        let started = tokio::time::Instant::now();
        let ledger = self.ledger();
        let look = async {
            Ok(tokio::try_join!(code::changed(aws, &scope, artifacts), pointers::observe(aws, &scope))?)
        };
        let open = self.open_ledger(context, &ledger, wait);
        let identify = async { Ok(aws.identity().await?) };
        let ((mut changed, mut serving), ticket, identity) = tokio::try_join!(look, open, identify)?;
        if ticket.is_stale_for(started) {
            (changed, serving) =
                tokio::try_join!(code::changed(aws, &scope, artifacts), pointers::observe(aws, &scope))?;
        }
        self.require(!serving.of_cloudformation)?;
        if strict {
            let stack = chat_stacks::chat::stack(&self.settings, identity, artifacts)?;
            let others = match ticket.applied() {
                Some(applied) => code::others(&stack, applied, &serving),
                None => vec!["nothing is written down of the last deploy".to_owned()],
            };
            if !others.is_empty() {
                return Err(chat_stacks::Error::NotOnlyCode { others }.into());
            }
        }
        let url = serving.url(&scope);
        let before = serving.pointers;
        if changed.is_empty() {
            return Ok(CutOver { functions: Vec::new(), url, verified: None });
        }
        let steps = changed.iter().map(|changed| format!("update function/{}", changed.handler)).collect();
        let changes = Changes { update: changed.len(), steps, ..Changes::default() };
        let record = Record { changes, before, ..who::record(self, verb).await? };
        let verification = self.verification(verify)?;
        let change = show(&context.output, 0, async |events| {
            let work = async |record: &mut Record, cancel| {
                let versions = code::cut_over(aws, &scope, &changed, artifacts).await?;
                let mut after = record.before.clone();
                after.versions.extend(versions);
                record.leaves = ticket.applied().cloned().map(|mut applied| {
                    applied.point(&scope, &after);
                    for Changed { handler, .. } in &changed {
                        if let Some(artifact) = artifacts.get(handler) {
                            applied.code(*handler, artifact.sha256());
                        }
                    }
                    applied
                });
                record.after = Some(after);
                match (&verification, &url) {
                    (Some(verification), Some(url)) => {
                        verify_change(&ledger, url, verification, record, &events, &cancel).await
                    }
                    _ => Ok(()),
                }
            };
            Box::pin(under_lock(&ledger, &ticket, record, false, &events, &context.stop, work)).await
        });
        let ((), record) = change.await?;
        let functions = changed.iter().map(|changed| changed.handler.name().to_owned()).collect();
        Ok(CutOver { functions, url, verified: record.verified })
    }

    async fn open_ledger(&self, context: &Context, ledger: &Ledger, wait: Duration) -> Result<Ticket> {
        let is_here = match &self.settings.endpoint {
            Endpoint::Local => true,
            Endpoint::Url(url) => LOOPBACK.iter().any(|start| url.starts_with(start)),
            Endpoint::Aws => false,
        };
        let patience = Patience {
            wait,
            // Whoever changes a cloud on this machine is on it, too.
            is_gone: is_here.then_some(who::is_gone as fn(&_) -> _),
            make_table: context.global.yes,
        };
        show(&context.output, 0, async |events| Ok(Box::pin(ledger.open(&patience, &events)).await?)).await
    }

    /// Builds and packs the handlers.
    pub(crate) async fn artifacts(&self, context: &Context) -> Result<Artifacts> {
        pack(&self.project, &build(context, &self.project, &self.settings).await?).await
    }

    /// Builds and packs the handlers while the account is observed, and compares.
    pub(crate) async fn plan(&self, context: &Context, options: &PlanOptions) -> Result<(Stack, Plan)> {
        let ledger = self.ledger();
        let (artifacts, observed, identity, (applied, _)) = tokio::try_join!(
            self.artifacts(context),
            self.observe(),
            async { Ok(self.aws.identity().await?) },
            async { Ok(ledger.left().await?) }
        )?;
        self.require_direct(&observed)?;
        let stack = chat_stacks::chat::stack(&self.settings, identity, &artifacts)?;
        let mut plan = plan(&stack, &observed, options)?;
        if let Some(applied) = &applied {
            drift::mark(&mut plan, applied);
        }
        Ok((stack, plan))
    }
}

/// Tries again from the start when somebody else was faster: what was planned is no longer what it was planned for.
pub(crate) async fn again_if_overtaken<T>(
    context: &Context,
    wait: Duration,
    attempt: impl AsyncFn(Duration) -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        let left = wait.saturating_sub(started.elapsed());
        match attempt(left).await {
            Err(error) if error.code == "overtaken" && tries < 3 => {
                context.output.note("overtaken", &format!("{}; looking again", error.message));
            }
            Err(error) if error.code == "locked" && !left.is_zero() => {
                context.output.note("locked", &format!("{}; waiting", error.message));
            }
            result => return result,
        }
        tries += 1;
    }
}

/// The stage's settings. A stage that wants tokens but names no keys gets the public half of the key in `.chatctl/`.
pub(crate) fn read(context: &Context, project: &Project) -> Result<StageSettings> {
    let settings = Settings::load(&project.settings_as_typed())?;
    let mut broken = None;
    let on_runner = env::read(env::CI).is_some()
        && settings.stage_as_written(&context.global.stage)?.endpoint != Endpoint::Local;
    let own = || {
        let kept = project.state(&format!("keys/{}.pk8", context.global.stage)).exists();
        if on_runner && !kept {
            let message =
                format!("stage {} wants tokens, but its settings name no key", context.global.stage);
            broken = Some(CliError::new(ExitCode::Settings, "key_needed", message).help(
                "a key that is made here is lost with the runner: make one at your own machine, and put what `chatctl \
                 token --public-key` prints into `auth.public_keys`",
            ));
            return None;
        }
        let key = StageName::parse(&context.global.stage)
            .map_err(|e| CliError::usage("invalid_stage", e.to_string()))
            .and_then(|stage| own_key(context, project, &stage));
        match key {
            Ok(key) => Some(key),
            Err(error) => {
                broken = Some(error);
                None
            }
        }
    };
    let stage = settings.stage_with_key(&context.global.stage, own);
    match (stage, broken) {
        (_, Some(error)) => Err(error),
        (stage, None) => Ok(stage?),
    }
}

/// The stage's settings for what needs no keys, which are then not made either. `--stage` may be a key that stands for
/// many stages; the name is then one of theirs.
pub(crate) fn read_names(context: &Context, project: &Project) -> Result<StageSettings> {
    let asked = &context.global.stage;
    let name = asked.strip_suffix('*').map_or_else(|| asked.clone(), |start| format!("{start}0"));
    Ok(Settings::load(&project.settings_as_typed())?.stage_as_written(&name)?)
}

fn own_key(context: &Context, project: &Project, stage: &StageName) -> Result<(KeyId, PublicKey)> {
    let key = SigningKey::of_stage(project, stage)?;
    if key.made_now {
        context.output.note("key_made", &format!("made the signing key {} of stage {stage}", key.kid()));
    }
    let parse_failed =
        |e: String| CliError::failed("key_unreadable", format!("the signing key is not usable: {e}"));
    let kid = KeyId::parse(&key.kid()).map_err(parse_failed)?;
    Ok((kid, PublicKey::parse(&key.public()).map_err(parse_failed)?))
}

/// Makes the clients. `local` is the local cloud's endpoint.
pub(crate) async fn connect(settings: &StageSettings, local: Option<String>) -> Result<Aws> {
    let target = Target::new(settings);
    let target = match (&settings.endpoint, local) {
        (Endpoint::Local, Some(endpoint)) => {
            let credentials = StaticCredentials {
                access_key_id: LOCAL_KEY.to_owned(),
                secret_access_key: LOCAL_KEY.to_owned(),
                session_token: None,
            };
            target.at(endpoint, credentials)
        }
        // Whatever the settings name, with the caller's own credentials.
        (Endpoint::Url(url), _) => Target { endpoint: Some(url.clone()), ..target },
        (Endpoint::Aws | Endpoint::Local, _) => target,
    };
    Ok(Aws::connect(&target).await?)
}

/// Builds the handlers as the stage wants them, with a spinner for what cargo is doing.
pub(crate) async fn build(context: &Context, project: &Project, settings: &StageSettings) -> Result<Built> {
    if let Some(directory) = &context.global.handlers {
        let built = handlers::find(directory)?;
        check(settings, &built)?;
        return Ok(built);
    }
    let toolchain = Toolchain::of(settings)?;
    let output = &context.output;
    let bar = output.spinner("building the handlers");
    let on_step = |line: &str| {
        if ["Compiling", "Blocking", "Downloading", "Updating"].iter().any(|word| line.starts_with(word)) {
            bar.set_message(format!("building the handlers: {line}"));
            output.json_event("build", serde_json::json!({ "line": line }));
            // The only one of these that may last for minutes and needs something else to end.
            if output.mode == Mode::Plain && line.starts_with("Blocking") {
                output.note("build_waits", &format!("building the handlers: {line}"));
            }
        }
    };
    let built =
        handlers::build(project, &toolchain, settings.build_profile.name(), output.color(), &on_step).await;
    output.remove(&bar);
    let built = built?;
    check(settings, &built)?;
    if !built.warnings.is_empty() {
        output.event(
            "build_warnings",
            serde_json::json!({ "text": built.warnings }),
            built.warnings.trim_end(),
        );
    }
    if built.compiled > 0 {
        let text = format!("built the handlers in {}", crate::output::progress::seconds(built.took));
        output.note("built", &text);
    }
    Ok(built)
}

/// Refuses handlers that would not start where the stage is, whoever built them.
fn check(settings: &StageSettings, built: &Built) -> Result<()> {
    if settings.endpoint == Endpoint::Aws {
        for (handler, binary) in &built.binaries {
            toolchain::check(*handler, binary, settings.lambda.architecture)?;
        }
    }
    Ok(())
}

/// Packs the handlers, each on a thread of its own.
pub(crate) async fn pack(project: &Project, built: &Built) -> Result<Artifacts> {
    let cache = project.state_dir()?.join("artifacts");
    let jobs: Vec<_> = built
        .binaries
        .iter()
        .map(|(handler, path)| {
            let (handler, path, cache) = (*handler, path.clone(), cache.clone());
            tokio::task::spawn_blocking(move || {
                artifacts::pack(&cache, handler, &path).map(|packed| (handler, packed))
            })
        })
        .collect();
    let mut artifacts = Artifacts::new();
    for job in jobs {
        let packed = job
            .await
            .map_err(|e| CliError::failed("pack_failed", "failed to pack the handlers").because(&e))?;
        let (handler, artifact) = packed?;
        artifacts.insert(handler, artifact);
    }
    Ok(artifacts)
}
