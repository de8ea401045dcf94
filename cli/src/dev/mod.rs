//! `dev`: the whole chat on this machine, following the sources. Builds and starts the cloud at the same time, deploys,
//! serves the web client, shows the functions' logs, and cuts over to what is changed until Ctrl-C.

mod host;
mod watch;
mod web;

use std::fmt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chat_stacks::settings::Endpoint;
use chat_stacks::status::{self, Status};
use chat_stacks::{Action, Plan, PlanOptions, StageSettings};
use console::style;
use serde::Serialize;

use crate::args::Dev;
use crate::building::{Build, Failed};
use crate::change::{Seen, again_if_overtaken};
use crate::context::Context;
use crate::env;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output;
use crate::output::plan::summary;
use crate::output::progress::seconds;
use crate::project::Project;
use crate::stage::{self, Stage};
use crate::verbs::deploy::show_plan;
use crate::verbs::logs::Tail;
use host::Host;
use watch::{Changes, Watch};
use web::{WebConfig, WebServer};

/// What the ledger calls changes that are made here.
const VERB: &str = "dev";

/// How long a change waits for another run that changes the stage: as long as a run that died keeps its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(70);

#[derive(Debug, Serialize)]
struct Report {
    elapsed_ms: u64,
    #[serde(skip)]
    cloud_goes_on: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cloud_goes_on {
            "stopped; the local cloud goes on"
        } else {
            "stopped; `chatctl dev` goes on with the same data"
        })
    }
}

/// Where to find the chat.
#[derive(Debug, Serialize)]
struct Ready {
    web: String,
    websocket_url: String,
    elapsed_ms: u64,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = seconds(Duration::from_millis(self.elapsed_ms));
        let dim = |text: &str| style(text).for_stderr().dim().to_string();
        let cyan = |text: &str| style(text).for_stderr().cyan().bold().to_string();
        writeln!(f)?;
        writeln!(
            f,
            "  {} {}",
            style("the chat is up").for_stderr().green().bold(),
            dim(&format!("after {took}"))
        )?;
        writeln!(f)?;
        writeln!(f, "  {}  {}", dim("web client"), cyan(&self.web))?;
        writeln!(f, "  {}   {}", dim("WebSocket"), cyan(&self.websocket_url))?;
        writeln!(f)?;
        writeln!(f, "  {}", dim("changes under functions/ are picked up, Ctrl-C stops"))
    }
}

pub(crate) async fn run(context: &Context, args: &Dev) -> Result<ExitCode> {
    let started = Instant::now();
    // Whatever happens in between, what was started here is stopped here.
    let mut host = None;
    let result = tokio::select! {
        result = session(context, args, started, &mut host) => result,
        () = context.stop.cancelled() => Ok(()),
    };
    let cloud_goes_on = matches!(host, Some(Host::Other { .. }));
    if let Some(host) = host {
        host.stop().await;
    }
    result?;
    let elapsed_ms = milliseconds(started.elapsed());
    context.output.result(&Report { elapsed_ms, cloud_goes_on });
    Ok(ExitCode::Ok)
}

/// Everything up to Ctrl-C. The cloud goes into `slot` as soon as it runs.
async fn session(context: &Context, args: &Dev, started: Instant, slot: &mut Option<Host>) -> Result<()> {
    let project = context.project()?;
    project.sources()?;
    let settings = stage::read(context, &project)?;
    if settings.endpoint != Endpoint::Local {
        return Err(CliError::usage("not_local", format!("stage {} is not on this machine", settings.stage))
            .help("`dev` works on a stage with `endpoint: local`; for others there is `chatctl deploy`"));
    }
    let web = WebServer::start(args.web_port).await?;
    // Before the build, so that no change falls between the two.
    let watch = Watch::start(&project)?;

    let mut build = begin_build(context, &project, &settings);
    let prepare = async {
        let host = slot.insert(Host::start(context, &project, args.cloud.port, args.fresh).await?);
        let stage = Stage::of_cloud(&project, &settings, host.record().clone()).await?;
        let ((), seen) = stage.look(context, LOCK_PATIENCE, async { Ok(()) }).await?;
        Ok::<_, CliError>((stage, seen))
    };
    // A cloud with the old code serves, though the new code does not compile.
    let (prepared, mut built) = build.alongside(prepare).await;
    let (stage, seen) = prepared?;
    if built.is_ok() {
        built = build.for_plan_of(&seen.observed).await;
    }
    let host = slot.as_ref();

    let mut session = Session { context, project: &project, stage, web, args, started, ready: false, watch };
    let before = status::of(&seen.observed, &session.stage.settings.scope());
    let deployed = match built {
        Ok(()) => session.deploy(build, seen).await,
        Err(error) => Err(Failed::Build(error)),
    };
    match deployed {
        Err(Failed::Deploy(error)) if error.code == "overtaken" => session.deploy_again().await?,
        Err(Failed::Build(error)) => {
            session.build_failed(&error);
            if before.deployed {
                session.announce(&before);
            }
        }
        result => result?,
    }
    let tail = Tail::from_now(session.stage.aws.clone(), session.stage.settings.scope());
    let mut events = 0;
    let lost = async {
        match host {
            Some(host) => host.lost(&project).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = session.follow_changes() => result,
        result = tail.print(context, &mut events) => result,
        () = lost => Err(CliError::failed("cloud_lost", "the local cloud was stopped by somebody else")
            .help("start `chatctl dev` again: it brings its own")),
    }
}

/// A running `dev`.
struct Session<'a> {
    context: &'a Context,
    project: &'a Project,
    stage: Stage,
    web: WebServer,
    args: &'a Dev,
    started: Instant,
    /// Whether the addresses have been printed.
    ready: bool,
    watch: Watch,
}

impl Session<'_> {
    /// Plans against what was observed, and applies.
    async fn deploy(&mut self, build: Build<'_>, seen: Seen) -> std::result::Result<(), Failed> {
        let options = PlanOptions::of(&self.stage.settings);
        let compare =
            self.stage.compare(build.building(), &seen.observed, seen.ticket.applied(), &options).await;
        let (stack, plan) = compare.map_err(Failed::Deploy)?;
        let status = if plan.is_empty() {
            status::of(&seen.observed, stack.scope())
        } else {
            self.show_plan(&plan);
            let verify = crate::args::Verify::default();
            let verification = self.stage.verification(verify).map_err(Failed::Deploy)?;
            let deploy = self.stage.carry_out(self.context, VERB, seen, &stack, &plan, verification);
            let done = build.through(deploy).await?;
            status::of(&done.observed, stack.scope())
        };
        self.announce(&status);
        Ok(())
    }

    /// The plan. Of a first deploy, which creates everything, the number is enough: each will be named as it is made.
    fn show_plan(&self, plan: &Plan) {
        let output = &self.context.output;
        if plan.count(Action::Create) == plan.steps.len() && output.verbosity == 0 {
            output.event("plan", serde_json::json!({ "plan": plan }), format!("  {}", summary(plan)));
        } else {
            show_plan(self.context, plan);
        }
    }

    /// Tells the web client and the user where the chat is.
    fn announce(&mut self, status: &Status) {
        let Some(url) = status.websocket_url.clone() else { return };
        let settings = &self.stage.settings;
        self.web.configure(WebConfig {
            url: url.clone(),
            mode: settings.auth.mode.name().to_owned(),
            stage: settings.stage.to_string(),
        });
        if std::mem::replace(&mut self.ready, true) {
            return;
        }
        let ready = Ready {
            web: self.web.url(),
            websocket_url: url,
            elapsed_ms: milliseconds(self.started.elapsed()),
        };
        self.context.output.event("ready", &ready, &ready);
        if !self.args.no_open && self.context.output.can_ask() {
            open_browser(&ready.web);
        }
    }

    /// Brings every change to the cloud. A change that does not work is shown, and the old code goes on serving.
    async fn follow_changes(&mut self) -> Result<()> {
        loop {
            let changes = self.watch.changed().await;
            let result = match (changes, self.ready) {
                (Changes { settings: false, .. }, true) => self.cut_over().await,
                _ => self.deploy_again().await,
            };
            match result {
                Ok(()) => {}
                Err(error) if error.exit == ExitCode::Interrupted => return Err(error),
                Err(error) => self.build_failed(&error),
            }
        }
    }

    /// The short way for code that changed: nothing else is looked at.
    async fn cut_over(&mut self) -> Result<()> {
        let started = Instant::now();
        let artifacts = stage::artifacts(self.context, self.project, &self.stage.settings).await?;
        let functions = again_if_overtaken(self.context, LOCK_PATIENCE, async |wait| {
            let verify = crate::args::Verify::default();
            Ok(self.stage.cut_over(self.context, VERB, wait, &artifacts, verify, false).await?.functions)
        })
        .await?;
        let elapsed_ms = milliseconds(started.elapsed());
        let took = seconds(Duration::from_millis(elapsed_ms));
        let text = if functions.is_empty() {
            format!("{} the code is the same as before", style("✓").for_stderr().green())
        } else {
            format!(
                "{} {} cut over after {took}; connections stay open",
                style("✓").for_stderr().green(),
                functions.join(", ")
            )
        };
        let data = serde_json::json!({ "functions": functions, "elapsed_ms": elapsed_ms });
        self.context.output.event("cut_over", data, text);
        Ok(())
    }

    /// The long way, for changed settings and for a first deploy that could not be made so far.
    async fn deploy_again(&mut self) -> Result<()> {
        self.stage.settings = self.read_settings()?;
        let mut build = begin_build(self.context, self.project, &self.stage.settings);
        let ((), seen) = build.beside(self.stage.look(self.context, LOCK_PATIENCE, async { Ok(()) })).await?;
        build.for_plan_of(&seen.observed).await?;
        self.deploy(build, seen).await.map_err(Failed::into_error)
    }

    fn read_settings(&self) -> Result<StageSettings> {
        let settings = stage::read(self.context, self.project)?;
        if settings.scope() != self.stage.settings.scope() || settings.endpoint != Endpoint::Local {
            return Err(CliError::failed("other_stage", "the settings now name another app or cloud")
                .help("start `chatctl dev` again to work on that"));
        }
        Ok(settings)
    }

    fn build_failed(&self, error: &CliError) {
        let going_on = if self.ready {
            "what was deployed before goes on serving; waiting for a change"
        } else {
            "waiting for a change"
        };
        let output = &self.context.output;
        let text = output::render_error(error, output.color());
        let text = format!("{text}\n  {}", style(going_on).for_stderr().dim());
        output.event("build_failed", serde_json::json!({ "error": error }), text);
    }
}

fn begin_build<'a>(context: &'a Context, project: &'a Project, settings: &StageSettings) -> Build<'a> {
    let settings = settings.clone();
    Build::begin(async move { stage::artifacts(context, project, &settings).await })
}

/// Opens the page where there is a desktop. Whoever has none reads the address.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if env::DISPLAYS.iter().any(|name| env::read(name).is_some()) {
        "xdg-open"
    } else {
        return;
    };
    let _ = tokio::process::Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
