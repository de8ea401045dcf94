//! `doctor`: looks at everything that a stage needs here and there, and says of each how to mend it.

use std::fmt;

use chat_stacks::settings::Endpoint;
use chat_stacks::{Aws, Error, StageSettings, health};
use console::style;
use serde::Serialize;

use crate::cloud::{self, Presence};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::project::Project;
use crate::stage;
use crate::toolchain::{INSTALL_ZIGBUILD, Machine, Toolchain, output, target, zig};
use crate::{args, env};

/// Requests are refused at five minutes; half of that is on the way there.
const SKEW_REFUSED_S: i64 = 300;
const SKEW_SUSPICIOUS_S: i64 = 60;

/// New accounts start with 10, the usual is 1,000: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const FEW_ENVIRONMENTS: i32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It works, but not well, or not for everything.
    Warning,
    Failed,
    /// It could not be looked at.
    Skipped,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), mend: None }
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    fn of_error(check: &'static str, verdict: Verdict, error: &CliError) -> Self {
        let causes = error.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self { check, verdict, found: format!("{}{causes}", error.message), mend: error.help.clone() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verdict {
            Verdict::Ok => style("ok     ").green(),
            Verdict::Warning => style("warning").yellow(),
            Verdict::Failed => style("failed ").red(),
            Verdict::Skipped => style("skipped").dim(),
        };
        write!(f, "{sign} {:12}{}", self.check, self.found)?;
        if let Some(mend) = &self.mend {
            write!(f, "\n                    {}", style(mend).cyan())?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Report {
    checks: usize,
    warnings: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warnings = match self.warnings {
            0 => String::new(),
            1 => ", one with a warning".to_owned(),
            many => format!(", {many} with a warning"),
        };
        write!(f, "{} checks, none failed{warnings}", self.checks)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Doctor) -> Result<ExitCode> {
    let mut seen = Seen { context, checks: Vec::new() };
    let project = context.project()?;
    seen.add(rust());
    seen.add(compiler());
    seen.add(state(&project));
    match stage::read_names(context, &project) {
        Ok(settings) => {
            seen.add(Check::new("settings", Verdict::Ok, describe(&settings)));
            seen.add(handlers(&settings));
            for check in cross(&settings) {
                seen.add(check);
            }
            account(&mut seen, &project, &settings, args.cloud.port).await;
        }
        Err(error) => seen.add(Check::of_error("settings", Verdict::Failed, &error)),
    }
    let count = |verdict| seen.checks.iter().filter(|(_, found)| *found == verdict).count();
    let failed: Vec<&str> = seen
        .checks
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Failed)
        .map(|(check, _)| *check)
        .collect();
    if failed.is_empty() {
        context.output.result(&Report { checks: seen.checks.len(), warnings: count(Verdict::Warning) });
        return Ok(ExitCode::Ok);
    }
    Err(CliError::failed("unhealthy", format!("not in order: {}", failed.join(", ")))
        .help("mend what is said above, then run `chatctl doctor` again"))
}

/// Shows each check as soon as it is made: some wait for the network.
struct Seen<'a> {
    context: &'a Context,
    checks: Vec<(&'static str, Verdict)>,
}

impl Seen<'_> {
    fn add(&mut self, check: Check) {
        self.context.output.data_event("check", &check, &check);
        self.checks.push((check.check, check.verdict));
    }
}

fn describe(settings: &StageSettings) -> String {
    let place = match &settings.endpoint {
        Endpoint::Aws => format!("AWS, {}", settings.region.as_str()),
        Endpoint::Local => "the cloud on this machine".to_owned(),
        Endpoint::Url(url) => url.clone(),
    };
    format!("stage {} of {} on {place}", settings.stage, settings.app)
}

fn rust() -> Check {
    const NAME: &str = "rust";
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let install = "install or update Rust: https://rustup.rs, then rustup update stable";
    let cargo = env::read(env::CARGO).unwrap_or_else(|| "cargo".to_owned());
    let (Some(rustc), Some(cargo)) = (output("rustc", &["--version"]), output(&cargo, &["--version"])) else {
        return Check::new(NAME, Verdict::Failed, "there is no cargo or no rustc").mend(install);
    };
    let number = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    // `rustc 1.95.0 (59807616e 2026-04-14)`, perhaps with `-nightly` behind the number.
    let version = rustc.split_whitespace().nth(1).unwrap_or_default().split('-').next().unwrap_or_default();
    if number(version) < number(needed) {
        return Check::new(NAME, Verdict::Failed, format!("{rustc}, needed is {needed}")).mend(install);
    }
    Check::new(NAME, Verdict::Ok, format!("{rustc}; {cargo}"))
}

/// ring and SQLite have parts in C.
fn compiler() -> Check {
    let found = output("cc", &["--version"]);
    match found.and_then(|text| text.lines().next().map(str::to_owned)) {
        Some(compiler) => Check::new("c compiler", Verdict::Ok, compiler),
        None => Check::new("c compiler", Verdict::Failed, "there is no cc")
            .mend("install one: apt install gcc, dnf install gcc, or xcode-select --install"),
    }
}

fn state(project: &Project) -> Check {
    let tried = project.state_dir().and_then(|dir| {
        let probe = dir.join(format!(".doctor-{}", std::process::id()));
        std::fs::write(&probe, "")
            .and_then(|()| std::fs::remove_file(&probe))
            .map_err(|e| project.unwritable(&e))?;
        Ok(Project::short(dir))
    });
    match tried {
        Ok(dir) => Check::new("state", Verdict::Ok, format!("{dir} can be written")),
        Err(error) => Check::of_error("state", Verdict::Failed, &error),
    }
}

/// Whether the handlers of this stage can be built here.
fn handlers(settings: &StageSettings) -> Check {
    let architecture = settings.lambda.architecture.name();
    match Toolchain::of(settings) {
        Ok(toolchain) => {
            let found = format!("built for {architecture} by {}", toolchain.name());
            let check = Check::new("handlers", Verdict::Ok, found);
            if settings.endpoint == Endpoint::Aws && toolchain == Toolchain::Cargo {
                let mend = format!("to be independent of this machine's C library: {INSTALL_ZIGBUILD}");
                return Check { verdict: Verdict::Warning, ..check }.mend(mend);
            }
            check
        }
        Err(error) => Check::of_error("handlers", Verdict::Failed, &error),
    }
}

/// What there is for building for Lambda from here. A stage on this machine does not need it.
fn cross(settings: &StageSettings) -> Vec<Check> {
    let machine = Machine::this();
    let missing = if settings.endpoint == Endpoint::Aws { Verdict::Warning } else { Verdict::Skipped };
    let wanted = target(settings.lambda.architecture);
    let mut checks = vec![match (machine.has_zigbuild, zig()) {
        (true, Some(version)) => Check::new("zig", Verdict::Ok, format!("cargo-zigbuild, zig {version}")),
        (true, None) => {
            Check::new("zig", missing, "cargo-zigbuild without zig").mend(crate::toolchain::INSTALL_ZIG)
        }
        (false, _) => Check::new("zig", missing, "there is no cargo-zigbuild").mend(INSTALL_ZIGBUILD),
    }];
    checks.push(if machine.targets.iter().any(|target| target == wanted) {
        Check::new("target", Verdict::Ok, wanted)
    } else {
        Check::new("target", missing, format!("{wanted} is not installed"))
            .mend(format!("rustup target add {wanted}"))
    });
    checks
}

/// Credentials, clock and quotas, as far as somebody answers.
async fn account(seen: &mut Seen<'_>, project: &Project, settings: &StageSettings, port: u16) {
    let local = match (&settings.endpoint, cloud::find(project).await) {
        (Endpoint::Local, Ok(Presence::Running(record))) => Some(record.endpoint()),
        (Endpoint::Local, Ok(_)) => {
            let found = format!("the cloud on this machine does not run; verbs start it on port {port}");
            seen.add(Check::new("account", Verdict::Skipped, found).mend("chatctl local up --detach"));
            return;
        }
        (Endpoint::Local, Err(error)) => {
            return seen.add(Check::of_error("account", Verdict::Failed, &error));
        }
        (Endpoint::Aws | Endpoint::Url(_), _) => None,
    };
    let aws = match stage::connect(settings, local).await {
        Ok(aws) => aws,
        Err(error) => return seen.add(Check::of_error("account", Verdict::Failed, &error)),
    };
    seen.add(clock(&aws).await);
    match aws.identity().await {
        Ok(identity) => {
            let found = format!("{} in account {}, {}", identity.arn, identity.account, identity.region);
            seen.add(Check::new("account", Verdict::Ok, found));
        }
        Err(error) => {
            let error = CliError::from(error);
            let mend = error.help.clone().unwrap_or_default();
            let mend = format!("{mend}; sign in with `aws login` or `aws sso login`, or set AWS_PROFILE");
            return seen.add(
                Check::of_error("account", Verdict::Failed, &error).mend(mend.trim_start_matches("; ")),
            );
        }
    }
    seen.add(quotas(&aws).await);
}

async fn clock(aws: &Aws) -> Check {
    const NAME: &str = "clock";
    let mend = "set this machine's clock: timedatectl set-ntp true, or sntp -sS time.apple.com";
    match health::clock_skew_s(aws).await {
        Ok(Some(skew)) if skew.abs() >= SKEW_REFUSED_S => {
            Check::new(NAME, Verdict::Failed, format!("it is off by {} s: requests are refused", skew.abs()))
                .mend(mend)
        }
        Ok(Some(skew)) if skew.abs() >= SKEW_SUSPICIOUS_S => {
            Check::new(NAME, Verdict::Warning, format!("it is off by {} s", skew.abs())).mend(mend)
        }
        Ok(Some(_)) => Check::new(NAME, Verdict::Ok, "it agrees with the other side"),
        Ok(None) => Check::new(NAME, Verdict::Skipped, "the answer told no time"),
        Err(error) => Check::of_error(NAME, Verdict::Skipped, &error.into()),
    }
}

async fn quotas(aws: &Aws) -> Check {
    const NAME: &str = "quotas";
    match health::lambda_limits(aws).await {
        Ok(limits) => {
            let found =
                format!("{} of {} Lambda environments are unreserved", limits.unreserved, limits.concurrency);
            if limits.unreserved < FEW_ENVIRONMENTS {
                return Check::new(
                    NAME,
                    Verdict::Warning,
                    format!("{found}: that many events at once, for all functions"),
                )
                .mend("ask for more: Service Quotas, AWS Lambda, Concurrent executions");
            }
            Check::new(NAME, Verdict::Ok, found)
        }
        Err(Error::Aws { failure, .. }) if failure.status == Some(403) => Check::new(
            NAME,
            Verdict::Skipped,
            "reading them needs lambda:GetAccountSettings, which deploying does not",
        ),
        Err(error) => Check::of_error(NAME, Verdict::Skipped, &error.into()),
    }
}
