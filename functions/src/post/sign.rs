//! AWS Signature Version 4 for one request made many times: a fan-out posts the same body to paths that differ only in
//! the connection, so the key, the dates and the body's hash are worked out once, and each post costs two short hashes.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderValue;
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::endpoint::Header;
use crate::settings::Aws;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Signs for one host with the credentials of the process, which live as long as it does.
pub(super) struct Signer {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    region: String,
    /// In whose name requests are signed.
    service: &'static str,
    host: String,
    /// Sent with every request, and so signed. Sorted between the date and the token.
    more: Option<Header>,
    /// The derived key, and the day that it is for.
    key: RefCell<Option<(String, hmac::Key)>>,
}

/// What all posts of one body share.
pub(super) struct Shared {
    key: hmac::Key,
    /// `20250101T000000Z`.
    pub(super) date: HeaderValue,
    /// From the empty query string to the hash of the body.
    canonical_rest: String,
    /// Algorithm, date and scope.
    string_to_sign: String,
    /// Up to the signature.
    authorization: String,
}

impl Signer {
    pub(super) fn new(aws: &Aws, service: &'static str, host: &str, more: Option<Header>) -> Self {
        Self {
            access_key_id: aws.access_key_id.clone(),
            secret_access_key: aws.secret_access_key.clone(),
            session_token: aws.session_token.clone(),
            region: aws.region.clone(),
            service,
            host: host.to_owned(),
            more,
            key: RefCell::new(None),
        }
    }

    /// Prepares posts of `body`, valid for the five minutes that AWS allows clocks to differ.
    pub(super) fn share(&self, body: &Bytes, now_s: u64) -> Shared {
        let date = iso_basic(now_s);
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let token = self.session_token.as_deref().map(|token| ("x-amz-security-token", token));
        let (mut headers, mut signed_headers) = (String::new(), "host;x-amz-date".to_owned());
        for (name, value) in self.more.into_iter().chain(token) {
            headers.push_str(&format!("{name}:{value}\n"));
            signed_headers.push(';');
            signed_headers.push_str(name);
        }
        Shared {
            key: self.key_of(day),
            canonical_rest: format!(
                "\n\nhost:{}\nx-amz-date:{date}\n{headers}\n{signed_headers}\n{}",
                self.host,
                hex(digest(&SHA256, body).as_ref()),
            ),
            string_to_sign: format!("{ALGORITHM}\n{date}\n{scope}\n"),
            authorization: format!(
                "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed_headers}, Signature=",
                self.access_key_id
            ),
            // Digits, `T` and `Z`.
            date: HeaderValue::from_str(&date).unwrap_or_else(|_| HeaderValue::from_static("")),
        }
    }

    fn key_of(&self, day: &str) -> hmac::Key {
        let mut cached = self.key.borrow_mut();
        if let Some((of, key)) = cached.as_ref()
            && of == day
        {
            return key.clone();
        }
        let step =
            |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let key = step(format!("AWS4{}", self.secret_access_key).as_bytes(), day);
        let key = step(key.as_ref(), &self.region);
        let key = step(key.as_ref(), self.service);
        let key = step(key.as_ref(), "aws4_request");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        *cached = Some((day.to_owned(), key.clone()));
        key
    }
}

impl Shared {
    /// The `Authorization` header of a POST to `path`, which is as it goes over the wire.
    pub(super) fn authorization(&self, path: &str) -> Option<HeaderValue> {
        let mut canonical = String::with_capacity(path.len() + self.canonical_rest.len() + 32);
        canonical.push_str("POST\n");
        // Outside of S3 the canonical path is encoded once more than the one that is sent.
        encode(path, true, &mut canonical);
        canonical.push_str(&self.canonical_rest);
        let mut to_sign = String::with_capacity(self.string_to_sign.len() + 64);
        to_sign.push_str(&self.string_to_sign);
        to_sign.push_str(&hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
        let signature = hex(hmac::sign(&self.key, to_sign.as_bytes()).as_ref());
        HeaderValue::from_maybe_shared(Bytes::from(format!("{}{signature}", self.authorization))).ok()
    }
}

/// Percent-encodes all but unreserved characters, and slashes if they are to separate segments.
pub(super) fn encode(text: &str, keep_slashes: bool, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte))
            }
            b'/' if keep_slashes => into.push('/'),
            _ => {
                into.push('%');
                into.push(char::from(HEX[usize::from(byte >> 4)].to_ascii_uppercase()));
                into.push(char::from(HEX[usize::from(byte & 15)].to_ascii_uppercase()));
            }
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// `20250101T000000Z`, after Howard Hinnant's days-to-civil.
fn iso_basic(now_s: u64) -> String {
    let (days, rest) = (now_s / 86_400, now_s % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;

    use super::*;
    use crate::settings::Roots;

    /// A request to a path of a host, in the name of a service.
    type To<'a> = (&'static str, &'a str, &'a str, Option<Header>);

    fn aws(token: Option<&str>) -> Aws {
        Aws {
            region: "eu-central-1".into(),
            access_key_id: "AKID".into(),
            secret_access_key: "secret".into(),
            session_token: token.map(str::to_owned),
            dynamodb_endpoint: None,
            lambda_endpoint: None,
            roots: Roots::Embedded,
        }
    }

    /// What AWS's own signer makes of the same request.
    fn by_aws(token: Option<&str>, (service, host, path, more): To<'_>, body: &[u8], now_s: u64) -> String {
        let identity = Credentials::new("AKID", "secret", token.map(str::to_owned), None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(service)
            .time(UNIX_EPOCH + Duration::from_secs(now_s))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let url = format!("https://{host}{path}");
        let headers = [("host", host)].into_iter().chain(more);
        let request = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(body)).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        let header = headers.iter().find(|header| header.name() == "authorization").unwrap();
        header.value().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_aws_signer() {
        for token in [None, Some("FwoGZXIvYXdzE//token+with=signs==")] {
            for to in [
                (
                    "execute-api",
                    "a1.execute-api.eu-central-1.amazonaws.com",
                    "/prod/@connections/L0SM9cOFvHcCIhw%3D",
                    None,
                ),
                ("execute-api", "127.0.0.1:4620", "/a1/local/@connections/abc", None),
                (
                    "lambda",
                    "lambda.eu-central-1.amazonaws.com",
                    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A1%3Afunction%3Af%3Alive/invocations",
                    Some(("x-amz-invocation-type", "Event")),
                ),
            ] {
                let (service, host, path, more) = to;
                for now_s in [0, 951_782_400, 1_700_000_000, 4_102_444_799] {
                    let body = Bytes::from_static(b"{\"type\":\"message\"}");
                    let signer = Signer::new(&aws(token), service, host, more);
                    let ours = signer.share(&body, now_s).authorization(path).unwrap();
                    assert_eq!(ours.to_str().unwrap(), by_aws(token, to, &body, now_s));
                }
            }
        }
    }

    #[test]
    fn the_key_follows_the_day() {
        let signer = Signer::new(&aws(None), "execute-api", "h", None);
        let body = Bytes::new();
        for now_s in [86_399, 86_400, 86_399] {
            let ours = signer.share(&body, now_s).authorization("/p").unwrap();
            assert_eq!(ours.to_str().unwrap(), by_aws(None, ("execute-api", "h", "/p", None), &body, now_s));
        }
    }

    #[test]
    fn dates_are_written_out() {
        for (now_s, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(iso_basic(now_s), text);
        }
    }
}
