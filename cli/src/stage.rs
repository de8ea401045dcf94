//! A stage in work: its settings, the connection to its cloud, and its handlers packed for upload. What every verb on
//! a stage starts from.

use std::sync::Arc;

use chat_stacks::settings::{Endpoint, KeyId, PublicKey};
use chat_stacks::{
    Artifacts, Aws, Observed, Plan, PlanOptions, Settings, Stack, StageName, StageSettings,
    StaticCredentials, Target, observe, plan,
};

use crate::artifacts;
use crate::cloud::{self, Record};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::handlers::{self, Built};
use crate::output::Mode;
use crate::project::Project;
use crate::token::SigningKey;

/// The owner of the local cloud. They are no secret: it listens on loopback only.
const LOCAL_KEY: &str = "chatctl";

/// A stage whose cloud can be called.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) project: Project,
    pub(crate) settings: StageSettings,
    pub(crate) aws: Arc<Aws>,
    /// The process that runs the stage's cloud, if that is on this machine.
    pub(crate) cloud: Option<Record>,
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
        let aws = connect(&settings, cloud.as_ref().map(Record::endpoint)).await?;
        Ok(Self { project, settings, aws: Arc::new(aws), cloud })
    }

    /// The stage in a local cloud that runs.
    pub(crate) async fn of_cloud(project: &Project, settings: &StageSettings, cloud: Record) -> Result<Self> {
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

    /// Builds and packs the handlers while the account is observed, and compares.
    pub(crate) async fn plan(&self, context: &Context, options: &PlanOptions) -> Result<(Stack, Plan)> {
        let build = async {
            let built = build(context, &self.project, &self.settings).await?;
            pack(&self.project, &built).await
        };
        let (artifacts, observed, identity) =
            tokio::try_join!(build, self.observe(), async { Ok(self.aws.identity().await?) })?;
        let stack = chat_stacks::chat::stack(&self.settings, identity, &artifacts)?;
        let plan = plan(&stack, &observed, options)?;
        Ok((stack, plan))
    }
}

/// The stage's settings. A stage that wants tokens but names no keys gets the public half of the key in `.chatctl/`.
pub(crate) fn read(context: &Context, project: &Project) -> Result<StageSettings> {
    let settings = Settings::load(&project.settings_as_typed())?;
    let mut broken = None;
    let own = || {
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
        return handlers::find(directory);
    }
    if settings.endpoint == Endpoint::Aws {
        handlers::check_host(settings.lambda.architecture.name())?;
    }
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
    let built = handlers::build(project, settings.build_profile.name(), output.color(), &on_step).await;
    output.remove(&bar);
    let built = built?;
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
