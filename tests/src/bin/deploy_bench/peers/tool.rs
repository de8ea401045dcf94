//! How each tool is called.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use super::Installed;
use crate::Act;

/// A peer. Its name is what it is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    Sam,
    Cdk,
    Serverless,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sam => "SAM",
            Self::Cdk => "CDK",
            Self::Serverless => "Serverless",
        }
    }

    /// As its registry calls it.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Sam => "aws-sam-cli",
            Self::Cdk => "aws-cdk",
            Self::Serverless => "serverless",
        }
    }

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Sam => "sam",
            Self::Cdk => "cdk",
            Self::Serverless => "serverless",
        }
    }

    /// Of its artifacts, if it wants one to be there.
    pub(super) fn bucket(self) -> Option<&'static str> {
        (self == Self::Sam).then_some("chat-sam-artifacts")
    }

    /// What prepares an account for it.
    pub(super) fn bootstrap(self) -> Option<&'static [&'static str]> {
        (self == Self::Cdk).then_some(&["bootstrap", "aws://123456789012/us-east-1", "--no-notices"])
    }

    /// The command itself: a wrapper such as `npx` would only add to its time.
    pub(super) fn program(self, installed: &Installed) -> Command {
        let node = |script: &str| {
            let mut command = Command::new("node");
            command.arg(installed.node_modules().join(script));
            command
        };
        match self {
            Self::Sam => Command::new(installed.python_bin().join("sam")),
            Self::Cdk => node("aws-cdk/bin/cdk"),
            Self::Serverless => node("serverless/bin/serverless.js"),
        }
    }

    pub(super) fn args(self, act: Act) -> &'static [&'static str] {
        const SAM: &[&str] = &[
            "deploy",
            "--stack-name",
            "chat-sam",
            "--s3-bucket",
            "chat-sam-artifacts",
            "--capabilities",
            "CAPABILITY_IAM",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
        ];
        match (self, act) {
            (Self::Sam, Act::Destroy) => {
                &["delete", "--stack-name", "chat-sam", "--no-prompts", "--region", "us-east-1"]
            }
            (Self::Sam, _) => SAM,
            (Self::Cdk, Act::OneFunction) => &["deploy", "--hotswap", "--no-notices", "--no-color"],
            (Self::Cdk, Act::Destroy) => &["destroy", "--force", "--no-notices", "--no-color"],
            (Self::Cdk, _) => &["deploy", "--no-notices", "--no-color"],
            (Self::Serverless, Act::OneFunction) => &["deploy", "function", "--function", "on_message"],
            (Self::Serverless, Act::Destroy) => &["remove"],
            (Self::Serverless, _) => &["deploy"],
        }
    }

    /// What it does for one changed function.
    pub(crate) fn short_path(self) -> &'static str {
        match self {
            Self::Sam => "`sam deploy`",
            Self::Cdk => "`cdk deploy --hotswap`",
            Self::Serverless => "`serverless deploy function`",
        }
    }
}

/// Nothing of the machine's own settings, no account, and nobody to report to.
pub(super) fn environment(command: &mut Command, endpoint: &str, home: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("CI", "1")
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "peer")
        .env("AWS_SECRET_ACCESS_KEY", "peer")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SAM_CLI_TELEMETRY", "0")
        .env("CDK_DISABLE_CLI_TELEMETRY", "true")
        .env("CDK_DISABLE_VERSION_CHECK", "1")
        .env("CDK_DEFAULT_ACCOUNT", "123456789012")
        .env("CDK_DEFAULT_REGION", "us-east-1")
        .env("SLS_TELEMETRY_DISABLED", "1")
        .env("SLS_NOTIFICATIONS_MODE", "off")
        .env("SLS_INTERACTIVE_SETUP_ENABLE", "0")
        .env("SLS_DEPRECATION_DISABLE", "*")
        .env("NODE_NO_WARNINGS", "1");
}
