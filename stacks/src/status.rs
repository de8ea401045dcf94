//! What a deployed stage looks like from outside: its URL, its table, its functions and where they log.

use chat_functions::contract::Handler;
use serde::Serialize;
use serde_json::Value;

use crate::address::{Address, Kind};
use crate::names::Scope;
use crate::observe::Observed;
use crate::resource::Live;

/// A summary of what was observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub scope: Scope,
    /// Whether everything that a client needs is there.
    pub deployed: bool,
    pub api_id: Option<String>,
    /// Where clients connect: `wss://….amazonaws.com/dev`.
    pub websocket_url: Option<String>,
    pub table: Option<String>,
    pub functions: Vec<FunctionStatus>,
    /// Resources of this stage by kind, for an overview.
    pub resources: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionStatus {
    /// `connect`, `disconnect` or `on_message`.
    pub handler: &'static str,
    pub name: String,
    /// The version that `live` points to.
    pub version: Option<String>,
    /// Of the zip, as Lambda tells it.
    pub code_sha256: Option<String>,
    pub log_group: Option<String>,
}

/// Sums up what was observed of `scope`.
pub fn of(observed: &Observed, scope: &Scope) -> Status {
    let find = |kind: Kind, name: &str| observed.get(&Address::new(kind, name)).filter(|live| live.owned);
    let api = find(Kind::Api, scope.app.as_str());
    let stage = find(Kind::Stage, scope.stage.as_str());
    let functions: Vec<FunctionStatus> = Handler::ALL
        .into_iter()
        .filter_map(|handler| {
            let function = find(Kind::Function, handler.name())?;
            let alias = find(Kind::Alias, handler.name());
            Some(FunctionStatus {
                handler: handler.name(),
                name: function.id.clone(),
                version: alias.and_then(|alias| text(alias, "version")),
                code_sha256: text(function, "code_sha256"),
                log_group: find(Kind::LogGroup, handler.name()).map(|group| group.id.clone()),
            })
        })
        .collect();
    let endpoint = api.and_then(|api| api.outputs.get("endpoint"));
    Status {
        scope: scope.clone(),
        deployed: stage.is_some() && functions.len() == Handler::ALL.len(),
        api_id: api.map(|api| api.id.clone()),
        websocket_url: stage.and(endpoint).map(|endpoint| format!("{endpoint}/{}", scope.stage)),
        table: find(Kind::Table, scope.app.as_str()).map(|table| table.id.clone()),
        functions,
        resources: observed.iter().filter(|(_, live)| live.owned).count(),
    }
}

fn text(live: &Live, property: &str) -> Option<String> {
    live.properties.get(property).and_then(Value::as_str).map(str::to_owned)
}
