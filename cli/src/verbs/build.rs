//! `build`: builds and packs the handlers as a deploy does, and checks that they would start where the stage is. What a
//! CI job does before it has credentials.

use std::collections::BTreeMap;
use std::fmt;

use chat_stacks::glibc::{Program, Version};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::stage;
use crate::toolchain::Toolchain;

#[derive(Debug, Serialize)]
struct Report {
    architecture: &'static str,
    built_by: &'static str,
    handlers: Vec<Packed>,
}

#[derive(Debug, Serialize)]
struct Packed {
    handler: &'static str,
    zip_bytes: usize,
    sha256: String,
    /// The version of the C library that it needs at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    glibc: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "built for {} by {}", self.architecture, self.built_by)?;
        for Packed { handler, zip_bytes, glibc, .. } in &self.handlers {
            write!(f, "\n  {handler:12}{zip_bytes:>10} bytes")?;
            if let Some(glibc) = glibc {
                write!(f, "  glibc {glibc}")?;
            }
        }
        Ok(())
    }
}

pub(crate) async fn run(context: &Context) -> Result<ExitCode> {
    let project = context.project()?;
    let settings = stage::read_names(context, &project)?;
    let built = stage::build(context, &project, &settings).await?;
    let artifacts = stage::pack(&project, &settings, &built.binaries, BTreeMap::new()).await?;
    let needs = |binary: &std::path::Path| -> Option<Version> {
        // A handler for another system than Linux has no such needs.
        Program::read(&std::fs::read(binary).ok()?).ok()?.needs
    };
    let handlers = artifacts
        .iter()
        .map(|(handler, artifact)| Packed {
            handler: handler.name(),
            zip_bytes: artifact.zip().len(),
            sha256: artifact.sha256().to_owned(),
            glibc: built
                .binaries
                .get(handler)
                .and_then(|binary| needs(binary))
                .map(|needs| needs.to_string()),
        })
        .collect();
    let built_by = match &context.global.handlers {
        Some(_) => "somebody else",
        None => Toolchain::of(&settings)?.name(),
    };
    context.output.result(&Report { architecture: settings.lambda.architecture.name(), built_by, handlers });
    Ok(ExitCode::Ok)
}
