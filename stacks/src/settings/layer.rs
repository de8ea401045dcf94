//! The file as it is written: every setting optional, unknown keys refused, and one layer laid over another.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::stage_key::StageKey;
use super::values::{
    Architecture, AuthMode, Endpoint, KeyId, Origin, Profile, PublicKey, Region, RetentionDays, TlsRoots,
    Whole,
};
use crate::names::AppName;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) app: AppName,
    pub(super) defaults: Option<StageLayer>,
    /// A stage may be empty: then it is the defaults.
    pub(super) stages: BTreeMap<StageKey, Option<StageLayer>>,
}

/// Lays a setting over the same setting of the layer below.
trait Over {
    fn over(self, below: Self) -> Self;
}

/// A group of settings is merged setting by setting; a single setting is replaced.
macro_rules! layer {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } groups { $($group:ident: $inner:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $field: Option<$type>,)*
            $(pub(super) $group: Option<$inner>,)*
        }

        impl $name {
            pub(super) fn over(self, below: Self) -> Self {
                Self {
                    $($field: self.$field.or(below.$field),)*
                    $($group: Over::over(self.$group, below.$group),)*
                }
            }
        }

        impl Over for Option<$name> {
            fn over(self, below: Self) -> Self {
                match (self, below) {
                    (Some(own), Some(below)) => Some(own.over(below)),
                    (own, below) => own.or(below),
                }
            }
        }
    };
}

layer!(
    /// One stage, or the defaults of all.
    StageLayer {
        region: Region,
        protect: bool,
        endpoint: Endpoint,
        origins: Vec<Origin>,
    }
    groups {
        auth: AuthLayer,
        table: TableLayer,
        messages: MessagesLayer,
        presence: PresenceLayer,
        limits: LimitsLayer,
        logs: LogsLayer,
        lambda: LambdaLayer,
        throttling: ThrottlingLayer,
        control_plane: ControlPlaneLayer,
        build: BuildLayer,
    }
);
layer!(AuthLayer { mode: AuthMode, public_keys: BTreeMap<KeyId, PublicKey> } groups {});
layer!(TableLayer { pitr: bool, deletion_protection: bool } groups {});
layer!(MessagesLayer { keep_days: Whole<0, 3650> } groups {});
layer!(PresenceLayer { max_members: Whole<0, 1000> } groups {});
// The rate limit counts within the tail of a room that a send reads anyway, which is 20 messages: protocol page.
layer!(LimitsLayer { sends_per_10s: Whole<0, 20>, rooms_per_connection: Whole<1, 100> } groups {});
layer!(LogsLayer { retention_days: RetentionDays } groups {});
layer!(
    /// API Gateway waits 29 s for an integration, so a longer timeout would only be paid for: aws-facts, quotas.
    LambdaLayer {
        memory_mb: Whole<128, 10240>,
        timeout_s: Whole<1, 29>,
        architecture: Architecture,
        tls_roots: TlsRoots,
    }
    groups {}
);
layer!(ThrottlingLayer { rate: Whole<1, 10000>, burst: Whole<1, 5000> } groups {});
layer!(ControlPlaneLayer { rate: Whole<0, 1000>, burst: Whole<0, 1000> } groups {});
layer!(BuildLayer { profile: Profile } groups {});
