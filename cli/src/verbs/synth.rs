//! `synth`: writes the stage as a CloudFormation template. Neither an account nor a cloud is asked: the same sources
//! give the same text everywhere.

use std::fmt;
use std::path::{Path, PathBuf};

use chat_stacks::{Artifacts, cloudformation};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::stage;

#[derive(Debug, Serialize)]
struct Report {
    /// The template itself, unless it was written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    resources: usize,
    /// The bucket that the code has to be in, in the words of `Fn::Sub`.
    bucket: String,
    /// What has to be in it.
    keys: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.template, &self.file) {
            (Some(template), _) => f.write_str(template),
            (None, Some(file)) => write!(f, "{}: {} resources", file.display(), self.resources),
            (None, None) => Ok(()),
        }
    }
}

pub(crate) async fn run(context: &Context, args: &args::Synth) -> Result<ExitCode> {
    let project = context.project()?;
    let settings = stage::read(context, &project)?;
    let artifacts = stage::artifacts(context, &project, &settings).await?;
    let template = cloudformation::synth(&settings, &artifacts)?;
    if let Some(folder) = &args.artifacts {
        write_artifacts(folder, &artifacts)?;
    }
    if let Some(file) = &args.out {
        std::fs::write(file, template.body()).map_err(|e| unwritable(file, &e))?;
    }
    let report = Report {
        template: args.out.is_none().then(|| template.body().to_owned()),
        file: args.out.clone(),
        resources: template.len(),
        bucket: cloudformation::bucket_in_template(&settings.app),
        keys: artifacts.values().map(chat_stacks::Artifact::key).collect(),
    };
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

fn write_artifacts(folder: &Path, artifacts: &Artifacts) -> Result<()> {
    for artifact in artifacts.values() {
        let file = folder.join(artifact.key());
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&file, artifact.zip()))
            .map_err(|e| unwritable(&file, &e))?;
    }
    Ok(())
}

fn unwritable(file: &Path, cause: &std::io::Error) -> CliError {
    CliError::failed("not_writable", format!("failed to write {}", file.display()))
        .because(cause)
        .help("choose a place that exists and can be written")
}
