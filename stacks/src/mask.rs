//! What must not be shown. A plan ends up in CI logs and pull requests, and what is live may hold what somebody put
//! there by hand.

use std::borrow::Cow;

use serde_json::Value;

/// Shown instead.
const HIDDEN: &str = "(hidden)";

/// Properties that are maps of names to values of which anybody may add some.
const OPEN_MAPS: [&str; 2] = ["environment", "variables"];

/// The live value of a property as it may be shown: of an open map, only what is declared as well. What the chat
/// itself declares holds no secrets (public keys, names, limits); what others added may be a password.
pub(crate) fn live<'a>(property: &str, old: &'a Value, declared: Option<&Value>) -> Cow<'a, Value> {
    let Some(map) = old.as_object().filter(|_| OPEN_MAPS.contains(&property)) else {
        return Cow::Borrowed(old);
    };
    let is_declared = |name: &str| declared.is_some_and(|declared| declared.get(name).is_some());
    let masked = map.iter().map(|(name, value)| {
        let value = if is_declared(name) { value.clone() } else { Value::String(HIDDEN.to_owned()) };
        (name.clone(), value)
    });
    Cow::Owned(Value::Object(masked.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_that_nobody_declared_are_named_but_not_shown() {
        let old = json!({ "CHAT_TABLE": "one", "DB_PASSWORD": "hunter2" });
        let declared = json!({ "CHAT_TABLE": "two" });
        let shown = live("environment", &old, Some(&declared));
        assert_eq!(*shown, json!({ "CHAT_TABLE": "one", "DB_PASSWORD": "(hidden)" }));
        // While the declared ones are not known yet, none can be told from the others.
        assert!(!live("environment", &old, None).to_string().contains("hunter2"));
    }

    #[test]
    fn other_properties_are_shown() {
        let policy = json!({ "Statement": [{ "Sid": "Store" }] });
        assert_eq!(*live("document", &policy, None), policy);
        assert_eq!(*live("environment", &json!("text"), None), json!("text"));
    }
}
