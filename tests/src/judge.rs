//! Holds every frame that crosses the wire against `docs/asyncapi.yaml`, in both directions and without leniency: a
//! field that the document does not name is as wrong as one of the wrong type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Client,
    Server,
}

/// The document's messages, compiled, and which of them were seen.
pub struct Judge {
    messages: BTreeMap<(Sender, String), Validator>,
    seen: Mutex<BTreeSet<(Sender, String)>>,
}

impl Judge {
    /// Reads the project's document.
    pub fn of_project() -> Self {
        let path = crate::root().join("docs/asyncapi.yaml");
        Self::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        let document: Value = serde_yaml::from_str(&text).map_err(|e| e.to_string())?;
        let mut messages = BTreeMap::new();
        for operation in document["operations"].as_object().into_iter().flat_map(|all| all.values()) {
            // `action` is the server's: what it receives, clients send. The reply goes the other way.
            let (asks, answers) = match operation["action"].as_str() {
                Some("receive") => (Sender::Client, Sender::Server),
                _ => (Sender::Server, Sender::Client),
            };
            for (sender, list) in [(asks, &operation["messages"]), (answers, &operation["reply"]["messages"])]
            {
                for reference in list.as_array().into_iter().flatten() {
                    let name = last(reference["$ref"].as_str().ok_or("a message is not a $ref")?);
                    let schema = json!({
                        "$schema": "https://json-schema.org/draft/2020-12/schema",
                        "$ref": format!("#/components/messages/{name}/payload"),
                        "unevaluatedProperties": false,
                        "components": document["components"],
                    });
                    let validator = jsonschema::validator_for(&schema).map_err(|e| format!("{name}: {e}"))?;
                    messages.insert((sender, name.to_owned()), validator);
                }
            }
        }
        if messages.is_empty() {
            return Err("the document has no operations".to_owned());
        }
        Ok(Self { messages, seen: Mutex::default() })
    }

    /// The name of the message that the frame is.
    ///
    /// # Errors
    /// What is wrong with the frame, by every message that it could have been.
    pub fn name(&self, sender: Sender, frame: &Value) -> Result<&str, String> {
        let key = if sender == Sender::Client { "action" } else { "type" };
        let mut wrong = Vec::new();
        for ((of, name), validator) in self.messages.iter().filter(|((of, _), _)| *of == sender) {
            match validator.iter_errors(frame).map(|e| format!("{} at {}", e, e.instance_path())).next() {
                None => {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.insert((*of, name.clone()));
                    return Ok(name);
                }
                // Of the messages that it clearly is not, nobody wants to read.
                Some(why) if !why.contains(&format!("at /{key}")) => wrong.push(format!("as {name}: {why}")),
                Some(_) => {}
            }
        }
        Err(format!("no {sender:?} frame of docs/asyncapi.yaml: {frame}\n  {}", wrong.join("\n  ")))
    }

    /// Messages of one side that the document names, and those of them that were seen.
    pub fn coverage(&self, sender: Sender) -> (BTreeSet<&str>, BTreeSet<String>) {
        let documented =
            self.messages.keys().filter(|(of, _)| *of == sender).map(|(_, name)| name.as_str()).collect();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (documented, seen.iter().filter(|(of, _)| *of == sender).map(|(_, name)| name.clone()).collect())
    }
}

fn last(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_wrong_ones_refused() {
        let judge = Judge::of_project();
        let server = |frame: Value| judge.name(Sender::Server, &frame).map(str::to_owned);
        assert_eq!(server(json!({"type": "ack", "id": "1", "room": "r"})), Ok("joined".to_owned()));
        let sent = json!({"type": "ack", "id": "1", "room": "r", "seq": 1, "ts": 5, "dup": false});
        assert_eq!(server(sent.clone()), Ok("sent".to_owned()));
        for (field, value) in [
            ("seq", json!(0)),
            ("seq", json!("1")),
            ("dup", json!(null)),
            ("room", json!("R#r")),
            ("undocumented", json!(1)),
        ] {
            let mut wrong = sent.clone();
            wrong[field] = value;
            assert!(server(wrong).is_err(), "{field}");
        }
        assert!(judge.name(Sender::Client, &sent).is_err());
    }
}
