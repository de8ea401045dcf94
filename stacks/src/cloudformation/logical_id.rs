//! How a resource is called inside a template: letters and digits only, so `route/$connect` is `RouteConnect`.

use crate::address::{Address, Kind};

/// The logical id of a resource. It says nothing of app or stage, so the templates of two stages can be compared.
pub(crate) fn logical_id(address: &Address) -> String {
    match address.kind {
        // There is one of each, named after app or stage.
        Kind::Table | Kind::Api | Kind::Deployment | Kind::Stage => camel(address.kind.name()),
        kind => format!("{}{}", camel(kind.name()), camel(&address.name)),
    }
}

/// `integration-response` is `IntegrationResponse`, `on_message` is `OnMessage`.
fn camel(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        id.extend(letters);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_ids_hold_letters_and_digits_alone() {
        for (kind, name, id) in [
            (Kind::Route, "$connect", "RouteConnect"),
            (Kind::Function, "on_message", "FunctionOnMessage"),
            (Kind::IntegrationResponse, "ping", "IntegrationResponsePing"),
            (Kind::Permission, "connect/route-connect", "PermissionConnectRouteConnect"),
            (Kind::Table, "chat", "Table"),
            (Kind::Stage, "prod-eu", "Stage"),
        ] {
            assert_eq!(logical_id(&Address::new(kind, name)), id);
        }
    }
}
