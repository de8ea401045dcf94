//! Intrinsic functions: `Ref`, `Fn::GetAtt`, `Fn::Sub` and `Fn::Join`. Others are refused by name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::model::{Properties, Stack};
use super::template::{invalid, unknown};
use crate::context::Context;
use crate::error::AwsError;

/// The logical ids that properties refer to.
pub(super) fn references(properties: &Properties) -> Result<BTreeSet<String>, AwsError> {
    let mut found = BTreeSet::new();
    for value in properties.values() {
        collect(value, &mut found)?;
    }
    Ok(found)
}

fn collect(value: &Value, found: &mut BTreeSet<String>) -> Result<(), AwsError> {
    let mut add = |id: &str| {
        if !id.starts_with("AWS::") {
            found.insert(id.to_owned());
        }
    };
    match (value, function(value)?) {
        (_, Some(("Ref", Value::String(id)))) => add(id),
        (_, Some(("Fn::GetAtt", of))) => add(&attribute(of)?.0),
        (_, Some(("Fn::Sub", Value::String(text)))) => {
            pieces(text)?
                .iter()
                .filter_map(Piece::name)
                .for_each(|name| add(name.split('.').next().unwrap_or(name)));
        }
        (_, Some(("Fn::Join", Value::Array(_)))) => {
            let (_, items) = join(value)?;
            items.iter().try_for_each(|item| collect(item, found))?;
        }
        (_, Some((name, _))) => {
            return Err(invalid(format!("Template error: {name} is not used as it is meant.")));
        }
        (Value::Array(items), None) => items.iter().try_for_each(|item| collect(item, found))?,
        (Value::Object(members), None) => members.values().try_for_each(|item| collect(item, found))?,
        _ => {}
    }
    Ok(())
}

/// Properties with every function replaced by its value.
pub(super) fn resolve(properties: &Properties, stack: &Stack, cx: &Context) -> Result<Properties, AwsError> {
    properties.iter().map(|(name, value)| Ok((name.clone(), evaluate(value, stack, cx)?))).collect()
}

fn evaluate(value: &Value, stack: &Stack, cx: &Context) -> Result<Value, AwsError> {
    Ok(match (function(value)?, value) {
        (Some(("Ref", Value::String(id))), _) => Value::String(reference(id, stack, cx)?),
        (Some(("Fn::GetAtt", of)), _) => {
            let (id, name) = attribute(of)?;
            Value::String(attribute_of(&id, &name, stack)?)
        }
        (Some(("Fn::Sub", Value::String(text))), _) => {
            let mut whole = String::new();
            for piece in pieces(text)? {
                match &piece {
                    Piece::Text(text) => whole.push_str(text),
                    Piece::Name(name) => whole.push_str(&match name.split_once('.') {
                        Some((id, name)) => attribute_of(id, name, stack)?,
                        None => reference(name, stack, cx)?,
                    }),
                }
            }
            Value::String(whole)
        }
        (Some(("Fn::Join", _)), _) => {
            let (separator, items) = join(value)?;
            let items: Vec<String> = items
                .iter()
                .map(|item| match evaluate(item, stack, cx)? {
                    Value::String(text) => Ok(text),
                    other => Ok(other.to_string()),
                })
                .collect::<Result<_, AwsError>>()?;
            Value::String(items.join(&separator))
        }
        (_, Value::Array(items)) => {
            Value::Array(items.iter().map(|item| evaluate(item, stack, cx)).collect::<Result<_, _>>()?)
        }
        (_, Value::Object(members)) => Value::Object(resolve(members, stack, cx)?),
        (_, plain) => plain.clone(),
    })
}

/// Name and argument, if an object is a function.
fn function(value: &Value) -> Result<Option<(&str, &Value)>, AwsError> {
    let Some((name, argument)) = value.as_object().filter(|it| it.len() == 1).and_then(|it| it.iter().next())
    else {
        return Ok(None);
    };
    match name.as_str() {
        "Ref" | "Fn::GetAtt" | "Fn::Sub" | "Fn::Join" => Ok(Some((name, argument))),
        other if other.starts_with("Fn::") => Err(unknown(&format!("the function {other}"))),
        _ => Ok(None),
    }
}

fn attribute(argument: &Value) -> Result<(String, String), AwsError> {
    let pair = match argument {
        Value::String(text) => text.split_once('.').map(|(id, name)| (id.to_owned(), name.to_owned())),
        Value::Array(items) => match items.as_slice() {
            [Value::String(id), Value::String(name)] => Some((id.clone(), name.clone())),
            _ => None,
        },
        _ => None,
    };
    pair.ok_or_else(|| {
        invalid("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the \
                 resource attribute")
    })
}

fn join(value: &Value) -> Result<(String, Vec<Value>), AwsError> {
    match value.get("Fn::Join").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(separator), Value::Array(items)]) => Ok((separator.clone(), items.clone())),
        _ => Err(invalid("Template error: every Fn::Join object requires a delimiter and a list")),
    }
}

/// What a text of `Fn::Sub` consists of.
enum Piece {
    Text(String),
    Name(String),
}

impl Piece {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, AwsError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        pieces.push(Piece::Text(before.to_owned()));
        let (name, tail) = after
            .split_once('}')
            .ok_or_else(|| invalid("Template error: a variable of Fn::Sub has no end"))?;
        // `${!Literal}` is the text `${Literal}`.
        pieces.push(match name.strip_prefix('!') {
            Some(literal) => Piece::Text(format!("${{{literal}}}")),
            None => Piece::Name(name.to_owned()),
        });
        rest = tail;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

fn reference(name: &str, stack: &Stack, cx: &Context) -> Result<String, AwsError> {
    Ok(match name {
        "AWS::AccountId" => cx.account.clone(),
        "AWS::Region" => cx.region.clone(),
        "AWS::Partition" => "aws".to_owned(),
        "AWS::StackName" => stack.name.clone(),
        "AWS::StackId" => stack.id.clone(),
        "AWS::URLSuffix" => "amazonaws.com".to_owned(),
        pseudo if pseudo.starts_with("AWS::") => {
            return Err(unknown(&format!("the pseudo parameter {pseudo}")));
        }
        id => {
            let resource = stack.resources.get(id).ok_or_else(|| not_made(id))?;
            // Most refer to themselves by their physical id; some by a part of it.
            resource.attributes.get("Ref").unwrap_or(&resource.physical_id).clone()
        }
    })
}

fn attribute_of(id: &str, name: &str, stack: &Stack) -> Result<String, AwsError> {
    let resource = stack.resources.get(id).ok_or_else(|| not_made(id))?;
    resource.attributes.get(name).cloned().ok_or_else(|| {
        invalid(format!(
            "Template error: resource {id} does not support attribute type {name} in Fn::GetAtt, or the local cloud \
             does not know it"
        ))
    })
}

fn not_made(id: &str) -> AwsError {
    invalid(format!("Template error: {id} is referred to before it exists"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_wherever_they_stand_and_other_functions_are_refused_by_name() {
        let properties = json!({
            "A": { "Ref": "One" },
            "B": [{ "Fn::GetAtt": ["Two", "Arn"] }, { "Fn::GetAtt": "Three.Arn" }],
            "C": { "Fn::Sub": "x/${Four}/${Five.Id}/${AWS::Region}/${!Six}" },
            "D": { "Deep": { "Fn::Join": ["-", ["a", { "Ref": "Seven" }]] } },
        });
        let found = references(properties.as_object().unwrap()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["Five", "Four", "One", "Seven", "Three", "Two"]);

        let select = json!({ "A": { "Fn::Select": [0, ["a"]] } });
        let error = references(select.as_object().unwrap()).unwrap_err();
        assert!(error.message.contains("Fn::Select"), "{error}");
    }
}
