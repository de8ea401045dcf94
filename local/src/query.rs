//! The Query protocol of CloudFormation, IAM and STS: a form comes in, XML goes out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::StatusCode;

use crate::call::Reply;
use crate::error::AwsError;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Form {
    fields: BTreeMap<String, String>,
}

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Self {
        Self { fields: url::form_urlencoded::parse(body).into_owned().collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, AwsError> {
        self.get(name).ok_or_else(|| {
            let mut member = name.to_owned();
            if let Some(first) = member.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            invalid(&member, None, "Member must not be null")
        })
    }

    /// A number within bounds.
    pub(crate) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, AwsError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
            Ok(value) if value < least => Err(invalid(
                name,
                Some(text),
                &format!("Member must have value greater than or equal to {least}"),
            )),
            _ => Err(invalid(
                name,
                Some(text),
                &format!("Member must have value less than or equal to {most}"),
            )),
        }
    }

    /// `{list}.member.1`, `{list}.member.2`, …
    pub(crate) fn list(&self, list: &str) -> Vec<&str> {
        (1..).map_while(|index| self.get(&format!("{list}.member.{index}"))).collect()
    }

    /// `Tags.member.1.Key` and `Tags.member.1.Value`, …
    pub(crate) fn tags(&self) -> Result<BTreeMap<String, String>, AwsError> {
        let mut tags = BTreeMap::new();
        for index in 1.. {
            let Some(key) = self.get(&format!("Tags.member.{index}.Key")) else {
                break;
            };
            let value = self.required(&format!("Tags.member.{index}.Value"))?;
            if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
                return Err(invalid(
                    &format!("tags.{index}.member"),
                    Some(key),
                    "Keys have 1 to 128 characters, values up to 256",
                ));
            }
            if tags.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(AwsError::bad_request(
                    "InvalidInput",
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
                ));
            }
        }
        Ok(tags)
    }
}

pub(crate) fn invalid(member: &str, value: Option<&str>, constraint: &str) -> AwsError {
    let value = value.map_or_else(|| "null".to_owned(), |value| format!("'{value}'"));
    let mut member = member.to_owned();
    if let Some(first) = member.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    AwsError::bad_request(
        "ValidationError",
        format!(
            "1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {constraint}"
        ),
    )
}

/// XML under construction. Every element is closed by the call that opened it.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        content(self);
        self.close(name);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.element(name, |xml| xml.text.push_str(&escape(text)));
    }

    pub(crate) fn tags(&mut self, tags: &BTreeMap<String, String>) {
        self.element("Tags", |xml| {
            for (key, value) in tags {
                xml.element("member", |xml| {
                    xml.text("Key", key);
                    xml.text("Value", value);
                });
            }
        });
    }

    /// The outermost element, in a namespace.
    pub(crate) fn root(&mut self, name: &str, namespace: &str, content: impl FnOnce(&mut Self)) {
        self.text.push_str(&format!("<{name} xmlns=\"{namespace}\">"));
        content(self);
        self.close(name);
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }
}

/// The answer of an operation; `result` is what it returns, if anything.
pub(crate) fn reply(operation: &str, namespace: &str, request_id: &str, result: Option<Xml>) -> Reply {
    let mut xml = Xml::default();
    xml.text.push_str(&format!("<{operation}Response xmlns=\"{namespace}\">"));
    if let Some(result) = result {
        xml.element(&format!("{operation}Result"), |xml| xml.text.push_str(&result.text));
    }
    xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
    xml.close(&format!("{operation}Response"));
    Reply::new(StatusCode::OK, "text/xml", xml.text)
}

/// An error as the protocol shows it.
pub(crate) fn error_body(error: &AwsError, namespace: &str, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.text.push_str(&format!("<ErrorResponse xmlns=\"{namespace}\">"));
    xml.element("Error", |xml| {
        xml.text("Type", if error.status.is_server_error() { "Receiver" } else { "Sender" });
        xml.text("Code", &error.code);
        xml.text("Message", &error.message);
    });
    xml.text("RequestId", request_id);
    xml.close("ErrorResponse");
    xml.text
}

/// An error as S3 shows it.
pub(crate) fn plain_error_body(error: &AwsError, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.element("Error", |xml| {
        xml.text("Code", &error.code);
        xml.text("Message", &error.message);
        xml.text("RequestId", request_id);
    });
    xml.text
}

fn escape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
}

/// Everything but unreserved characters, as IAM encodes documents that it returns.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    crate::sigv4::push_encoded(&mut encoded, text.as_bytes());
    encoded
}
