//! The settings of every stage: `stacks/chat.yaml`, read strictly. A stage is its own layer over `defaults:` over what
//! is built in here, and every mistake says where it is and what was probably meant.

mod error;
mod layer;
mod locate;
mod stage_key;
mod values;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use error::{SettingsError, Span};
pub use values::{
    Architecture, AuthMode, Endpoint, KeyId, Origin, Profile, PublicKey, Region, RetentionDays, TlsRoots,
};

use crate::names::{AppName, Scope, StageName};
use crate::pace::Rate;
use layer::{Document, StageLayer};
use stage_key::StageKey;

/// A parsed settings file. Nothing is resolved yet: ask for a [`stage`](Self::stage).
#[derive(Clone, Debug)]
pub struct Settings {
    source: Source,
    document: Document,
}

/// The text that errors point into.
#[derive(Clone, Debug)]
struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

/// Everything that a stage can be told, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSettings {
    pub app: AppName,
    pub stage: StageName,
    pub region: Region,
    /// Guards tables and user data against destroy and replacement.
    pub protect: bool,
    /// Which cloud: AWS, the one in `local/`, or any other endpoint.
    pub endpoint: Endpoint,
    pub auth: Auth,
    /// `Origin`s that may connect. `*` allows all of them, and clients that send none.
    pub origins: Vec<Origin>,
    pub table: Table,
    /// Days a message is kept; 0 keeps it for ever.
    pub keep_days: u32,
    /// Presence is announced in rooms of up to this many connections; 0 never.
    pub presence_max_members: u32,
    pub limits: Limits,
    pub log_retention: RetentionDays,
    pub lambda: Lambda,
    /// Requests a second to the WebSocket stage.
    pub throttling: Throttling,
    /// The pace of the deploy itself on API Gateway's control plane.
    pub control_plane: Rate,
    pub build_profile: Profile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub mode: AuthMode,
    /// Who may sign tokens, by `kid`. Public halves only.
    pub public_keys: BTreeMap<KeyId, PublicKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub pitr: bool,
    pub deletion_protection: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sends one user may make to one room in ten seconds; 0 does not limit.
    pub sends_per_10s: u32,
    pub rooms_per_connection: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lambda {
    pub memory_mb: u32,
    pub timeout_s: u32,
    pub architecture: Architecture,
    pub tls_roots: TlsRoots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttling {
    pub rate: u32,
    pub burst: u32,
}

impl StageSettings {
    pub fn scope(&self) -> Scope {
        Scope { app: self.app.clone(), stage: self.stage.clone() }
    }
}

impl Settings {
    /// Reads `path`, which also names the file in errors.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| SettingsError::unreadable(&name, &error))?;
        Self::parse(&text, &name)
    }

    /// Parses `text`; errors call it `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, SettingsError> {
        let source = Source { name: Arc::from(name), text: Arc::from(text) };
        let document = match serde_yaml::from_str(text) {
            Ok(document) => document,
            Err(error) => return Err(source.refused(&error)),
        };
        Ok(Self { source, document })
    }

    pub fn app(&self) -> &AppName {
        &self.document.app
    }

    /// The stages that are named one by one.
    pub fn stage_names(&self) -> impl Iterator<Item = StageName> {
        self.document.stages.keys().filter_map(StageKey::name)
    }

    /// Resolves one stage and checks what only shows when the layers are together.
    pub fn stage(&self, name: &str) -> Result<StageSettings, SettingsError> {
        self.stage_with_key(name, || None)
    }

    /// As [`stage`](Self::stage), but a stage that wants tokens and names no key may be given the caller's own.
    pub fn stage_with_key(
        &self,
        name: &str,
        own_key: impl FnOnce() -> Option<(KeyId, PublicKey)>,
    ) -> Result<StageSettings, SettingsError> {
        let mut settings = self.stage_as_written(name)?;
        if settings.auth.mode == AuthMode::Token && settings.auth.public_keys.is_empty() {
            settings.auth.public_keys.extend(own_key());
        }
        self.check(&settings)?;
        Ok(settings)
    }

    /// Resolves one stage, whether it could be deployed like this or not: for what needs no more than its names.
    pub fn stage_as_written(&self, name: &str) -> Result<StageSettings, SettingsError> {
        let Some((key, own)) = self.entry(name) else { return Err(self.unknown_stage(name)) };
        let stage = StageName::parse(name)
            .map_err(|bad| self.source.error_at(&["stages", key.as_str()], bad.to_string(), String::new()))?;
        let layer = own.clone().unwrap_or_default().over(self.document.defaults.clone().unwrap_or_default());
        Ok(resolve(self.document.app.clone(), stage, layer))
    }

    /// What the file says about a stage: the key that fits its name best.
    fn entry(&self, name: &str) -> Option<(&StageKey, &Option<StageLayer>)> {
        let fits = self.document.stages.iter().filter_map(|entry| Some((entry.0.fit(name)?, entry)));
        fits.max_by_key(|(fit, _)| *fit).map(|(_, entry)| entry)
    }

    fn unknown_stage(&self, name: &str) -> SettingsError {
        let known: Vec<&str> = self.document.stages.keys().map(StageKey::as_str).collect();
        let help = match error::nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? The stages are: {}", known.join(", ")),
            None => format!("the stages are: {}", known.join(", ")),
        };
        self.source.error_at(&["stages"], format!("there is no stage `{name}`"), help)
    }

    fn check(&self, settings: &StageSettings) -> Result<(), SettingsError> {
        let stage = settings.stage.as_str();
        if settings.protect && settings.auth.mode == AuthMode::Open {
            return Err(self.at_setting(
                stage,
                &["auth", "mode"],
                format!("stage `{stage}` is protected, but lets everybody in under any name"),
                "set `auth: { mode: token }`, or `protect: false` if nothing in it matters",
            ));
        }
        if settings.auth.mode == AuthMode::Token && settings.auth.public_keys.is_empty() {
            return Err(self.at_setting(
                stage,
                &["auth", "mode"],
                format!("stage `{stage}` wants tokens, but nobody can sign one: `auth.public_keys` is empty"),
                "`chatctl token --public-key` prints the public half of your key pair, to put here",
            ));
        }
        Ok(())
    }

    /// An error about a setting wherever it comes from: the stage, the defaults, or neither (then the stage itself).
    fn at_setting(&self, stage: &str, path: &[&str], message: String, help: &str) -> SettingsError {
        let stage = self.entry(stage).map_or(stage, |(key, _)| key.as_str());
        let in_stage = [&["stages", stage], path].concat();
        let in_defaults = [&["defaults"], path].concat();
        let place = [in_stage, in_defaults]
            .into_iter()
            .find(|path| locate::value(&self.source.text, path).is_some())
            .unwrap_or_else(|| vec!["stages", stage]);
        self.source.error_at(&place, message, help.to_owned())
    }
}

/// What is built in: the values of a stage that says nothing.
fn resolve(app: AppName, stage: StageName, layer: StageLayer) -> StageSettings {
    let auth = layer.auth.unwrap_or_default();
    let table = layer.table.unwrap_or_default();
    let limits = layer.limits.unwrap_or_default();
    let lambda = layer.lambda.unwrap_or_default();
    let throttling = layer.throttling.unwrap_or_default();
    let control_plane = layer.control_plane.unwrap_or_default();
    let protect = layer.protect.unwrap_or(false);
    StageSettings {
        app,
        stage,
        region: layer.region.unwrap_or_default(),
        protect,
        endpoint: layer.endpoint.unwrap_or_default(),
        auth: Auth {
            mode: auth.mode.unwrap_or(AuthMode::Token),
            public_keys: auth.public_keys.unwrap_or_default(),
        },
        origins: layer.origins.unwrap_or_else(|| vec![Origin::any()]),
        table: Table {
            pitr: table.pitr.unwrap_or(protect),
            deletion_protection: table.deletion_protection.unwrap_or(protect),
        },
        keep_days: layer.messages.unwrap_or_default().keep_days.map_or(0, |days| days.0),
        presence_max_members: layer.presence.unwrap_or_default().max_members.map_or(100, |max| max.0),
        limits: Limits {
            sends_per_10s: limits.sends_per_10s.map_or(20, |sends| sends.0),
            rooms_per_connection: limits.rooms_per_connection.map_or(20, |rooms| rooms.0),
        },
        log_retention: layer.logs.unwrap_or_default().retention_days.unwrap_or_default(),
        lambda: Lambda {
            memory_mb: lambda.memory_mb.map_or(256, |memory| memory.0),
            timeout_s: lambda.timeout_s.map_or(10, |timeout| timeout.0),
            architecture: lambda.architecture.unwrap_or(Architecture::Arm64),
            tls_roots: lambda.tls_roots.unwrap_or(TlsRoots::Embedded),
        },
        throttling: Throttling {
            rate: throttling.rate.map_or(1_000, |rate| rate.0),
            burst: throttling.burst.map_or(500, |burst| burst.0),
        },
        control_plane: Rate {
            per_second: control_plane.rate.map_or(Rate::API_GATEWAY.per_second, |rate| rate.0),
            burst: control_plane.burst.map_or(Rate::API_GATEWAY.burst, |burst| burst.0),
        },
        build_profile: layer.build.unwrap_or_default().profile.unwrap_or(Profile::Lambda),
    }
}

#[cfg(test)]
mod tests;
