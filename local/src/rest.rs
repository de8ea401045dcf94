//! What the REST JSON services share: path templates, query parameters, JSON bodies and answers.

use std::collections::BTreeMap;

use http::Method;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::error::AwsError;

/// One operation of a REST service. In `template` a segment `{Name}` takes one segment, `{Name+}` all that follow.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    pub(crate) operation: &'static str,
}

/// The decoded parameters of a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The value of a parameter that the template has; empty if it has none of that name.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The operation that a method and a raw path mean.
pub(crate) fn find(
    table: &'static [Endpoint],
    method: &Method,
    path: &str,
) -> Option<(&'static Endpoint, Params)> {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    table
        .iter()
        .filter(|endpoint| method.as_str() == endpoint.method)
        .find_map(|endpoint| matches(endpoint.template, &segments).map(|params| (endpoint, params)))
}

fn matches(template: &'static str, segments: &[&str]) -> Option<Params> {
    let mut params = Params::default();
    let mut rest = segments;
    for part in template.trim_matches('/').split('/') {
        let (first, tail) = rest.split_first()?;
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) if name.ends_with('+') => {
                params.0.push((&name[..name.len() - 1], decode(&rest.join("/"))));
                return Some(params);
            }
            Some(_) if first.is_empty() => return None,
            Some(name) => params.0.push((name, decode(first))),
            None if part == *first => {}
            None => return None,
        }
        rest = tail;
    }
    rest.is_empty().then_some(params)
}

/// Undoes percent-encoding. A stray `%` stays as it is.
pub(crate) fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Query parameters; the first value wins where one is wanted.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(raw: &str) -> Self {
        Self(url::form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// In the order of the names, all values of each.
    pub(crate) fn grouped(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, value) in &self.0 {
            groups.entry(key).or_default().push(value);
        }
        groups
    }
}

/// The body as JSON; an empty one counts as `{}`. `code` is what the service answers to anything else.
pub(crate) fn body<T: DeserializeOwned>(call: &Call, code: &'static str) -> Result<T, AwsError> {
    let bytes: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    serde_json::from_slice(bytes).map_err(|error| {
        AwsError::bad_request(code, format!("Could not parse request body into json: {error}"))
    })
}

/// One page of a list that is ordered by `key`, after the given marker, and the marker of the next page.
pub(crate) fn page<T>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
    after: Option<&str>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    let mut items = items.skip_while(|item| after.is_some_and(|after| key(item).as_str() <= after));
    let page: Vec<T> = items.by_ref().take(limit.max(1)).collect();
    let next = items.next().and_then(|_| page.last().map(key));
    (page, next)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Endpoint, decode, find, page};

    const TABLE: &[Endpoint] = &[
        Endpoint { method: "GET", template: "/v2/apis", operation: "List" },
        Endpoint { method: "GET", template: "/v2/apis/{ApiId}/routes/{RouteId}", operation: "GetRoute" },
        Endpoint { method: "GET", template: "/v2/tags/{Arn+}", operation: "GetTags" },
    ];

    #[test]
    fn a_path_finds_its_operation_and_its_parameters_are_decoded() {
        let (endpoint, params) = find(TABLE, &Method::GET, "/v2/apis/a%3Ab/routes/r1").unwrap();
        assert_eq!(endpoint.operation, "GetRoute");
        assert_eq!((params.get("ApiId"), params.get("RouteId")), ("a:b", "r1"));
        let (_, params) = find(TABLE, &Method::GET, "/v2/tags/arn%3Aaws::/apis/x").unwrap();
        assert_eq!(params.get("Arn"), "arn:aws::/apis/x");
        assert_eq!(find(TABLE, &Method::GET, "/v2/apis/?x=1").unwrap().0.operation, "List");
        assert!(find(TABLE, &Method::POST, "/v2/apis").is_none());
        assert!(find(TABLE, &Method::GET, "/v2/apis/a/routes").is_none());
        assert!(find(TABLE, &Method::GET, "/v2/apis//routes/r").is_none());
    }

    #[test]
    fn stray_percent_signs_survive_decoding() {
        assert_eq!(decode("a%3D%zz%4"), "a=%zz%4");
    }

    #[test]
    fn pages_continue_after_the_marker_until_none_is_left() {
        let items = || ["a", "b", "c"].into_iter();
        let key = |item: &&str| (*item).to_owned();
        assert_eq!(page(items(), key, None, 2), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(page(items(), key, Some("b"), 2), (vec!["c"], None));
        assert_eq!(page(items(), key, None, 3), (vec!["a", "b", "c"], None));
    }
}
