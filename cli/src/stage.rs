//! A stage in work: its settings, the connection to its cloud, and its handlers packed for upload. What every verb on
//! a stage starts from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chat_stacks::chat::stack_in_build;
use chat_stacks::ledger::{Applied, Ledger};
use chat_stacks::settings::{AuthMode, Endpoint, KeyId, PublicKey};
use chat_stacks::socket::{Caller, Pass};
use chat_stacks::{
    Artifacts, Aws, Building, Effort, Handler, Observed, Plan, PlanOptions, Settings, Stack, StageName,
    StageSettings, StaticCredentials, Target, drift, observe, plan,
};

use crate::artifacts::{self, Packed};
use crate::cloud;
use crate::context::Context;
use crate::env;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::handlers::{self, Binaries, Built};
use crate::output::Mode;
use crate::project::Project;
use crate::token::{Claims, SigningKey};
use crate::toolchain::{self, Toolchain};

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

    /// The ledger of this stage.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.aws.clone(), self.settings.scope())
    }

    /// A client of the chat as the stage wants it, with a token for so many seconds where it wants one. Whose key is not
    /// here has nothing to show.
    pub(crate) fn caller(&self, user: String, token_s: i64) -> Result<Caller> {
        let pass = match self.settings.auth.mode {
            AuthMode::Open => Pass::Name,
            AuthMode::Token => match SigningKey::existing(&self.project, &self.settings.stage)? {
                Some(key) if self.settings.auth.public_keys.keys().any(|kid| kid.as_str() == key.kid()) => {
                    let now = jiff::Timestamp::now().as_second();
                    let (rooms, exp) = (Vec::new(), now + token_s);
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
        Ok(Caller { user, pass, origin })
    }

    /// Builds and packs the handlers.
    pub(crate) async fn artifacts(&self, context: &Context) -> Result<Artifacts> {
        artifacts(context, &self.project, &self.settings).await
    }

    /// Builds and packs the handlers while the account is observed, and compares.
    pub(crate) async fn plan(&self, context: &Context, options: &PlanOptions) -> Result<Plan> {
        let ledger = self.ledger();
        let (artifacts, observed, _, (applied, _)) = tokio::try_join!(
            self.artifacts(context),
            self.observe(),
            async { Ok(self.aws.identity().await?) },
            async { Ok(ledger.left().await?) }
        )?;
        observed.require_direct(&self.settings.scope())?;
        let building = Building::over(artifacts);
        Ok(self.compare(&building, &observed, applied.as_ref(), options).await?.1)
    }

    /// What is declared, and how it differs from what was observed. What somebody else did since the last run, which
    /// left `applied`, is marked.
    pub(crate) async fn compare(
        &self,
        building: &Building,
        observed: &Observed,
        applied: Option<&Applied>,
        options: &PlanOptions,
    ) -> Result<(Stack, Plan)> {
        let stack = stack_in_build(&self.settings, self.aws.identity().await?, building);
        let mut plan = plan(&stack, observed, options)?;
        if let Some(applied) = applied {
            drift::mark(&mut plan, applied);
        }
        Ok((stack, plan))
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

/// Builds and packs the handlers. What was built last is packed while cargo looks at the sources: mostly it finds nothing
/// to do, and then they are packed already.
pub(crate) async fn artifacts(
    context: &Context,
    project: &Project,
    settings: &StageSettings,
) -> Result<Artifacts> {
    let ahead = async {
        // Only a guess, and nothing is kept of it: what fails here is said when it counts.
        let guess = async {
            let toolchain = Toolchain::of(settings)?;
            let last = handlers::last(project.sources()?, &toolchain, settings.build_profile);
            let (cache, effort) = (cache(project)?, effort(settings));
            each(&last, move |handler, binary| artifacts::pack(&cache, handler, binary, effort, None)).await
        };
        Ok(if context.global.handlers.is_none() { guess.await.unwrap_or_default() } else { BTreeMap::new() })
    };
    let (built, ahead) = tokio::try_join!(build(context, project, settings), ahead)?;
    pack(project, settings, &built.binaries, ahead).await
}

/// Packs the handlers, as far as they are not packed already.
pub(crate) async fn pack(
    project: &Project,
    settings: &StageSettings,
    binaries: &Binaries,
    ahead: BTreeMap<Handler, Packed>,
) -> Result<Artifacts> {
    let (cache, effort) = (cache(project)?, effort(settings));
    each(binaries, move |handler, binary| {
        Ok(artifacts::pack(&cache, handler, binary, effort, ahead.get(&handler))?.keep(&cache))
    })
    .await
}

/// Where packed handlers are kept.
fn cache(project: &Project) -> Result<PathBuf> {
    Ok(project.state_dir()?.join("artifacts"))
}

const fn effort(settings: &StageSettings) -> Effort {
    match settings.endpoint {
        Endpoint::Local => Effort::Quick,
        Endpoint::Aws | Endpoint::Url(_) => Effort::Small,
    }
}

/// Does something with each binary, on a thread of its own.
async fn each<T: Send + 'static>(
    binaries: &Binaries,
    work: impl Fn(Handler, &Path) -> std::result::Result<T, chat_stacks::Error> + Send + Sync + 'static,
) -> Result<BTreeMap<Handler, T>> {
    let work = Arc::new(work);
    let jobs: Vec<_> = binaries
        .iter()
        .map(|(handler, path)| {
            let (handler, path, work) = (*handler, path.clone(), Arc::clone(&work));
            tokio::task::spawn_blocking(move || work(handler, &path).map(|done| (handler, done)))
        })
        .collect();
    let mut all = BTreeMap::new();
    for job in jobs {
        let done = job
            .await
            .map_err(|e| CliError::failed("pack_failed", "failed to pack the handlers").because(&e))?;
        all.extend([done?]);
    }
    Ok(all)
}
