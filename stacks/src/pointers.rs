//! What serves: the version behind each function's alias and the deployment behind the API's stage. Moving these
//! pointers is the cut-over and the rollback; nothing else of a stage changes, and open connections stay open.

use std::fmt;

use chat_functions::contract::Handler;
use futures_util::future::{join_all, try_join, try_join_all};
use serde::Serialize;

use crate::aws::Aws;
use crate::call::{Cx, OrAbsent, alone};
use crate::error::Error;
use crate::ledger::Pointers;
use crate::names::Scope;
use crate::observe::is_of_cloudformation;
use crate::resource::Values;
use crate::resources::{alias, api, stage};

/// Where the pointers are, and the API that they are in.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    pub pointers: Pointers,
    pub(crate) api: Values,
    /// Whether it belongs to a stack of CloudFormation.
    pub of_cloudformation: bool,
}

impl Serving {
    /// Where clients connect, if there is an API.
    pub fn url(&self, scope: &Scope) -> Option<String> {
        Some(format!("{}/{}", self.api.get("endpoint")?, scope.stage))
    }
}

/// Looks where the pointers are: two rounds of calls.
pub async fn observe(aws: &Aws, scope: &Scope) -> Result<Serving, Error> {
    let mut serving = find(aws, scope).await?;
    serving.pointers.deployment = deployment(aws, scope, &serving).await?;
    Ok(serving)
}

/// Looks where the aliases point and which API there is, in one round of calls. Which deployment that serves takes
/// [another](deployment).
pub async fn find(aws: &Aws, scope: &Scope) -> Result<Serving, Error> {
    alone(aws, scope, None, async |cx| {
        let versions = try_join_all(Handler::ALL.map(|handler| alias::observe(cx, handler.name())));
        let (versions, api) = try_join(versions, api::find(cx)).await?;
        let versions = versions
            .into_iter()
            .flatten()
            .filter_map(|(at, live)| Some((at.name, text(&live.properties, "version")?)))
            .collect();
        let of_cloudformation = api.as_ref().is_some_and(is_of_cloudformation);
        let (id, outputs) = api.map(|api| (api.id, api.outputs)).unzip();
        let pointers = Pointers { api: id, deployment: None, versions };
        Ok(Serving { pointers, api: outputs.unwrap_or_default(), of_cloudformation })
    })
    .await
}

/// The deployment that the stage of the API that was found serves.
pub async fn deployment(aws: &Aws, scope: &Scope, found: &Serving) -> Result<Option<String>, Error> {
    let Some(api) = &found.pointers.api else { return Ok(None) };
    let stages = alone(aws, scope, None, async |cx| stage::observe(cx, api).await).await?;
    let own = stages.into_iter().find(|(at, _)| *at == stage::address(scope));
    Ok(own.and_then(|(_, live)| text(&live.properties, "deployment")))
}

fn text(properties: &crate::resource::Properties, name: &str) -> Option<String> {
    properties.get(name)?.as_str().map(str::to_owned)
}

/// One pointer that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "pointer", rename_all = "snake_case")]
pub enum Move {
    Version {
        /// As in `connect`.
        function: String,
        from: String,
        to: String,
    },
    Deployment {
        from: String,
        to: String,
    },
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { function, from, to } => write!(f, "{function}: version {from} → {to}"),
            Self::Deployment { from, to } => write!(f, "API: deployment {from} → {to}"),
        }
    }
}

impl Move {
    fn back(&self) -> Self {
        match self.clone() {
            Self::Version { function, from, to } => Self::Version { function, from: to, to: from },
            Self::Deployment { from, to } => Self::Deployment { from: to, to: from },
        }
    }
}

/// What has to move for `to` to serve where `from` does. What only one of them has stays as it is. Pure.
pub fn moves(from: &Pointers, to: &Pointers) -> Vec<Move> {
    let versions = from.versions.iter().filter_map(|(function, from)| {
        let to = to.versions.get(function).filter(|to| *to != from)?;
        Some(Move::Version { function: function.clone(), from: from.clone(), to: to.clone() })
    });
    let deployment = match (&from.deployment, &to.deployment) {
        (Some(from), Some(to)) if from != to => Some(Move::Deployment { from: from.clone(), to: to.clone() }),
        _ => None,
    };
    versions.chain(deployment).collect()
}

/// Which of the versions and deployments that are to serve do not exist any more.
pub async fn missing(aws: &Aws, scope: &Scope, api: &str, moves: &[Move]) -> Result<Vec<String>, Error> {
    alone(aws, scope, None, async |cx| {
        let looks = moves.iter().map(|one| async move {
            Ok::<_, Error>(match one {
                Move::Version { function, to, .. } => {
                    let name = scope.named(function);
                    let found = cx
                        .call(|| {
                            aws.lambda.get_function_configuration().function_name(&name).qualifier(to).send()
                        })
                        .await
                        .or_absent("ResourceNotFoundException")?;
                    found.is_none().then(|| format!("version {to} of the function {name}"))
                }
                Move::Deployment { to, .. } => {
                    let found = cx
                        .gateway(|| aws.apigateway.get_deployment().api_id(api).deployment_id(to).send())
                        .await
                        .or_absent("NotFoundException")?;
                    found.is_none().then(|| format!("deployment {to} of the API {api}"))
                }
            })
        });
        Ok(try_join_all(looks).await?.into_iter().flatten().collect())
    })
    .await
}

/// Moves the pointers, all at the same time. If one cannot be moved, the others are moved back.
///
/// # Errors
/// Why it could not be moved; what could not be moved back either is named there.
pub async fn point(aws: &Aws, scope: &Scope, api: &str, moves: &[Move]) -> Result<(), Error> {
    alone(aws, scope, None, async |cx| {
        let (moved, failed) = point_all(cx, api, moves.to_vec()).await;
        let Some((_, error)) = failed.into_iter().next() else { return Ok(()) };
        let back = moved.iter().map(Move::back).collect();
        let (_, stuck) = point_all(cx, api, back).await;
        if stuck.is_empty() {
            return Err(error);
        }
        let stuck: Vec<String> = stuck.iter().map(|(one, error)| format!("{one}: {error}")).collect();
        Err(Error::HalfMoved { error: Box::new(error), stuck })
    })
    .await
}

async fn point_all(cx: &Cx<'_>, api: &str, moves: Vec<Move>) -> (Vec<Move>, Vec<(Move, Error)>) {
    let all = moves.into_iter().map(|one| async move {
        let result = match &one {
            Move::Version { function, to, .. } => alias::point_to(cx, &cx.scope.named(function), to)
                .await
                .map_err(|error| error.at(&alias::address(function))),
            Move::Deployment { to, .. } => {
                stage::point_to(cx, api, to).await.map_err(|error| error.at(&stage::address(cx.scope)))
            }
        };
        (one, result)
    });
    let (mut moved, mut failed) = (Vec::new(), Vec::new());
    for (one, result) in join_all(all).await {
        match result {
            Ok(()) => moved.push(one),
            Err(error) => failed.push((one, error)),
        }
    }
    (moved, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(deployment: &str, versions: &[(&str, &str)]) -> Pointers {
        Pointers {
            api: Some("api".into()),
            deployment: Some(deployment.into()),
            versions: versions
                .iter()
                .map(|(function, version)| ((*function).into(), (*version).into()))
                .collect(),
        }
    }

    #[test]
    fn only_what_differs_moves() {
        let old = pointers("d1", &[("connect", "1"), ("on_message", "4"), ("gone", "1")]);
        let new = pointers("d1", &[("connect", "1"), ("on_message", "5"), ("added", "1")]);
        let back = moves(&new, &old);
        assert_eq!(back, [Move::Version { function: "on_message".into(), from: "5".into(), to: "4".into() }]);
        assert_eq!(back[0].back(), moves(&old, &new)[0]);
        assert!(moves(&old, &old).is_empty());
        assert!(moves(&new, &Pointers::default()).is_empty());
    }

    #[test]
    fn a_deployment_moves_too() {
        let moved = moves(&pointers("d2", &[]), &pointers("d1", &[]));
        assert_eq!(moved[0].to_string(), "API: deployment d2 → d1");
    }
}
