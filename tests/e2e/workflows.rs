//! The deployment jobs of `.github/workflows/`, step by step as a runner would take them, against the cloud on this
//! machine and with the credentials that the job's role would have.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use chat_local::{Cloud, CloudConfig};
use chat_stacks::{AppName, Identity, StaticCredentials, permissions};
use chat_tests::{Account, root};
use serde_json::Value;
use tempfile::TempDir;

const NUMBER: &str = "17";

/// Needs the network, and what it installs is not for this machine's cloud.
const NOT_HERE: &str = "Install what builds for Lambda";

/// What GitHub fills into an expression.
const EXPRESSIONS: [(&str, &str); 2] =
    [("${{ github.event.number }}", NUMBER), ("${{ github.token }}", "a token of the job")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn main_is_deployed_by_the_steps_of_its_job() {
    let runner = Runner::start("dev").await;
    let job = job("deploy.yml", "deploy");

    for _ in 0..2 {
        let last = runner.run(&job);
        assert!(last.contains("websocket_url") && last.contains("ws://") && last.contains("/dev"), "{last}");
    }

    let summary = runner.file("summary.md");
    assert!(summary.contains("### Plan for <code>chat</code> in stage <code>dev</code>"), "{summary}");
    assert!(summary.contains("39 to create") && summary.contains("Nothing to do: all 39"), "{summary}");
    assert!(runner.account.everything().await.contains(&"table chat-dev".to_owned()));
    runner.cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_has_a_stage_until_it_is_closed() {
    let runner = Runner::start("pr-*").await;
    let nothing = runner.account.everything().await;

    runner.run(&job("preview.yml", "deploy"));

    let said = runner.file("gh.log");
    assert!(
        said.starts_with(&format!("pr comment {NUMBER} --repo octo/chat --edit-last --create-if-none")),
        "{said}"
    );
    assert!(said.contains("### Plan for") && said.contains("ws://") && said.contains("/pr-17`"), "{said}");
    assert!(said.contains("token: a token of the job"), "{said}");
    assert!(runner.account.everything().await.contains(&format!("table chat-pr-{NUMBER}")));

    runner.run(&job("preview.yml", "destroy"));
    // Locks and history outlive the stages that they tell of.
    let left: Vec<String> =
        runner.account.everything().await.into_iter().filter(|name| name != "table chatctl").collect();
    assert_eq!(left, nothing);
    runner.cloud.shutdown().await;
}

#[test]
fn no_step_takes_what_others_write_into_its_script() {
    for file in ["test.yml", "deploy.yml", "preview.yml"] {
        let text = std::fs::read_to_string(root().join(".github/workflows").join(file)).expect("a workflow");
        let workflow: Value = serde_yaml::from_str(&text).unwrap_or_else(|why| panic!("{file}: {why}"));
        // Everybody may read what the job may do: nothing that is not said.
        assert!(
            workflow.get("permissions").is_some(),
            "{file} has the permissions of whoever set the repository up"
        );
        assert!(workflow.get("concurrency").is_some(), "{file}");
        for (name, job) in workflow["jobs"].as_object().expect("jobs") {
            assert!(job["timeout-minutes"].is_u64(), "{file}, {name}: a job that hangs costs six hours");
            for step in job["steps"].as_array().expect("steps") {
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{file}, {name}: {script}");
            }
        }
    }
}

/// A job with its environment, and its steps that run a script.
struct Job {
    environment: BTreeMap<String, String>,
    steps: Vec<Step>,
}

struct Step {
    name: String,
    script: String,
    environment: BTreeMap<String, String>,
}

fn job(file: &str, name: &str) -> Job {
    let text = std::fs::read_to_string(root().join(".github/workflows").join(file)).expect("a workflow");
    let workflow: Value = serde_yaml::from_str(&text).unwrap_or_else(|why| panic!("{file}: {why}"));
    assert_eq!(workflow["defaults"]["run"]["shell"], "bash", "the shell that this test imitates");
    let job = &workflow["jobs"][name];
    let steps = job["steps"].as_array().unwrap_or_else(|| panic!("{file} has no job {name}"));
    let steps = steps.iter().filter_map(|step| {
        Some(Step {
            name: step["name"].as_str().unwrap_or_default().to_owned(),
            script: step["run"].as_str()?.to_owned(),
            environment: environment(&step["env"]),
        })
    });
    Job { environment: environment(&job["env"]), steps: steps.filter(|step| step.name != NOT_HERE).collect() }
}

fn environment(value: &Value) -> BTreeMap<String, String> {
    let fill = |text: &str| {
        EXPRESSIONS.iter().fold(text.to_owned(), |text, (expression, value)| text.replace(expression, value))
    };
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), fill(value.as_str().unwrap_or_default()))).collect()
}

/// A machine with a checkout, and the session of a role in a cloud.
struct Runner {
    folder: TempDir,
    cloud: Cloud,
    account: Account,
    session: StaticCredentials,
}

impl Runner {
    /// `stage` is what the role may deploy.
    async fn start(stage: &str) -> Self {
        let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
        let account = Account::of(&cloud.endpoint());
        let app = AppName::parse("chat").expect("an app");
        let identity = Identity::of_account("000000000000", "us-east-1");
        let policy = permissions::document(&permissions::deployer(&app, stage, &identity));
        account.create_role("ci", &policy).await;
        let session = account.assume("ci").await;
        let folder = TempDir::new().expect("no temporary directory");
        let settings = format!(
            "app: chat\ndefaults:\n  endpoint: {}\n  auth: {{ mode: open }}\n  lambda: {{ architecture: native }}\n  \
             control_plane: {{ rate: 0 }}\n  build: {{ profile: dev }}\nstages:\n  dev:\n  pr-*:\n",
            cloud.endpoint()
        );
        std::fs::write(folder.path().join("chat.yaml"), settings).expect("settings");
        // What the job says to GitHub stays here.
        let gh = "#!/bin/sh\n{ echo \"$@\"; echo \"token: $GH_TOKEN\"; for last; do :; done; cat \"$last\"; } >> \"$GH_LOG\"\n";
        std::fs::create_dir(folder.path().join("bin")).expect("a folder");
        std::fs::write(folder.path().join("bin/gh"), gh).expect("a stand-in for gh");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("bin/gh"), executable).expect("an executable");
        Self { folder, cloud, account, session }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Takes all steps, and returns what the last one printed.
    fn run(&self, job: &Job) -> String {
        assert!(!job.steps.is_empty());
        let mut printed = String::new();
        for step in &job.steps {
            let done = self.step(job, step);
            printed = String::from_utf8_lossy(&done.stdout).into_owned();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {}\n{printed}\n{said}", step.name, done.status);
            assert!(
                !printed.contains('\u{1b}') && !said.contains('\u{1b}'),
                "{}: colours in a log",
                step.name
            );
        }
        printed
    }

    fn step(&self, job: &Job, step: &Step) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let in_folder = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("bash");
        // As GitHub starts `shell: bash`.
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &step.script]);
        command.current_dir(root()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let leftover =
                ["AWS_", "CHATCTL_", "CARGO_", "OUT_DIR"].iter().any(|start| name_text.starts_with(start));
            if leftover
                && name_text != "CARGO_HOME"
                && name_text != "CARGO_TARGET_DIR"
                && name_text != "CARGO_BUILD_JOBS"
            {
                command.env_remove(&name);
            }
        }
        command
            .env("CI", "true")
            .env("GITHUB_REPOSITORY", "octo/chat")
            .env("GITHUB_STEP_SUMMARY", in_folder("summary.md"))
            .env("RUNNER_TEMP", in_folder(""))
            .env("GH_LOG", in_folder("gh.log"))
            .env("PATH", format!("{}:{path}", in_folder("bin").display()))
            .env("CHATCTL_SETTINGS", in_folder("chat.yaml"))
            .env("CHATCTL_STATE_DIR", in_folder("state"))
            .env("AWS_ACCESS_KEY_ID", &self.session.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.session.secret_access_key)
            .env("AWS_SESSION_TOKEN", self.session.session_token.as_deref().unwrap_or_default())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(&job.environment)
            .envs(&step.environment);
        command.output().unwrap_or_else(|why| panic!("bash: {why}"))
    }
}
