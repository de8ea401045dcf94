//! `token`: signs a token for a user. Prints it alone, so that `$(chatctl token --user alice)` works.

use std::fmt;

use chat_stacks::StageName;
use jiff::SignedDuration;
use serde::Serialize;

use crate::args::Token;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::ids::is_id;
use crate::time::parse_duration;
use crate::token::{Claims, SigningKey};

/// Longer than any sensible session; a token cannot be called back before it expires.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366);

#[derive(Debug, Serialize)]
struct Signed {
    token: String,
    kid: String,
    expires: jiff::Timestamp,
    #[serde(flatten)]
    claims: Claims,
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

/// The half of the key that the stage gets.
#[derive(Debug, Serialize)]
struct PublicHalf {
    kid: String,
    public_key: String,
}

impl fmt::Display for PublicHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kid, self.public_key)
    }
}

pub(crate) fn run(context: &Context, args: &Token) -> Result<ExitCode> {
    let Some(user) = &args.user else {
        let key = signing_key(context)?;
        context.output.result(&PublicHalf { kid: key.kid(), public_key: key.public() });
        return Ok(ExitCode::Ok);
    };
    for (what, id) in std::iter::once(("--user", user)).chain(args.rooms.iter().map(|room| ("--room", room)))
    {
        if !is_id(id) {
            return Err(CliError::usage("invalid_id", format!("{what} {id:?} is not an id"))
                .help("ids are 1 to 64 characters of A-Z a-z 0-9 _ . : -"));
        }
    }
    let ttl =
        parse_duration(&args.ttl).filter(|ttl| ttl.is_positive() && *ttl <= LONGEST).ok_or_else(|| {
            CliError::usage(
                "invalid_duration",
                format!("--ttl {:?} is not a duration of up to a year", args.ttl),
            )
            .help("write for instance 90s, 10m, 12h or 7d")
        })?;
    let key = signing_key(context)?;
    let now = jiff::Timestamp::now();
    let expires = now
        .checked_add(ttl)
        .map_err(|e| CliError::usage("invalid_duration", "--ttl leads beyond the end of time").because(&e))?;
    let claims = Claims {
        sub: user.clone(),
        name: args.name.clone(),
        rooms: args.rooms.clone(),
        iat: now.as_second(),
        exp: expires.as_second(),
    };
    let token = key.sign(&claims)?;
    context.output.result(&Signed { token, kid: key.kid(), expires, claims });
    Ok(ExitCode::Ok)
}

fn signing_key(context: &Context) -> Result<SigningKey> {
    let stage = StageName::parse(&context.global.stage)
        .map_err(|e| CliError::usage("invalid_stage", e.to_string()))?;
    let key = SigningKey::of_stage(&context.project()?, &stage)?;
    if key.made_now {
        context.output.note(
            "key_made",
            &format!(
                "made the signing key {} of stage {stage}; deploy the stage to make it known there",
                key.kid()
            ),
        );
    }
    Ok(key)
}
