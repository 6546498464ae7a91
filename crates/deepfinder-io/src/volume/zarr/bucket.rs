//! Addresses in S3, `s3://BUCKET/KEY`, and their signatures (AWS Signature Version 4, in the query). The usual variables of the
//! environment say who asks: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` (or
//! `AWS_DEFAULT_REGION`), and `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for stores that are not Amazon's (`MinIO` and others).
//! Without a key nothing is signed, as public buckets take it.

use std::path::Path;
use std::time::Duration;

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use crate::{IoError, Result};

/// How long a signed address can be used: a slow transfer of one file, not more.
const VALID: Duration = Duration::from_hours(1);

const SCHEME: &str = "s3://";

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// Where buckets are, and who asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<Credentials>,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Account {
    pub(super) fn from_environment() -> Result<Self, String> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let credentials = match (variable(KEY), variable(SECRET)) {
            (Some(key), Some(secret)) => Some(match variable(TOKEN) {
                Some(token) => Credentials::new_with_token(key, secret, token),
                None => Credentials::new(key, secret),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(format!("{KEY} is set and {SECRET} is not: set both or none")),
            (None, Some(_)) => return Err(format!("{SECRET} is set and {KEY} is not: set both or none")),
        };
        Ok(Self {
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            credentials,
        })
    }

    /// Whether requests are signed.
    pub(super) const fn signs(&self) -> bool {
        self.credentials.is_some()
    }

    /// The address of a file by HTTP, signed where there is a key.
    pub(super) fn url(&self, path: &Path, access: Access) -> Result<String> {
        let wrong = |what: &str| IoError::unsupported(path, what);
        let text = path
            .to_str()
            .ok_or_else(|| wrong("this address is no text in UTF-8"))?;
        let Some(place) = text.strip_prefix(SCHEME) else {
            return Ok(text.to_owned());
        };
        let (name, key) = place.split_once('/').unwrap_or((place, ""));
        let is_plain = key.split('/').all(|part| part != "." && part != "..");
        if name.is_empty() || key.is_empty() || !is_plain {
            return Err(wrong("an address in S3 is s3://BUCKET/PATH"));
        }
        let (endpoint, style) = self.endpoint(name);
        let region = self.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let bucket = endpoint
            .parse()
            .ok()
            .and_then(|endpoint| Bucket::new(endpoint, style, name.to_owned(), region).ok());
        let bucket = bucket.ok_or_else(|| {
            wrong(&format!(
                "no bucket can be called `{name}` at {endpoint}: check the address, and AWS_ENDPOINT_URL and AWS_REGION where they are set"
            ))
        })?;
        let credentials = self.credentials.as_ref();
        let signed = match access {
            Access::Read => bucket.get_object(credentials, key).sign(VALID),
            Access::Write => bucket.put_object(credentials, key).sign(VALID),
        };
        Ok(signed.into())
    }

    fn endpoint(&self, bucket: &str) -> (String, UrlStyle) {
        if let Some(endpoint) = &self.endpoint {
            return (endpoint.clone(), UrlStyle::Path);
        }
        let endpoint = match self.region.as_deref() {
            None => "https://s3.amazonaws.com".to_owned(),
            Some(region) if region.starts_with("cn-") => format!("https://s3.{region}.amazonaws.com.cn"),
            Some(region) => format!("https://s3.{region}.amazonaws.com"),
        };
        // A dot in the name would not fit the certificate for *.s3.amazonaws.com.
        let style = if bucket.contains('.') {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        (endpoint, style)
    }
}

/// Whether an address is that of a file in a bucket.
pub(super) fn is_in_bucket(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

/// Why a store refuses (401, 403), by the code in its answer, and what to do.
pub(super) fn refusal(status: u16, answer: &str, is_signed: bool) -> String {
    let code = code(answer);
    let why = match code.unwrap_or_default() {
        "InvalidAccessKeyId" => format!("it does not know the key: check {KEY}"),
        "SignatureDoesNotMatch" => format!("the secret does not belong to the key: check {SECRET}"),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            format!("the session has ended: get new values of {KEY}, {SECRET} and {TOKEN}")
        }
        "RequestTimeTooSkewed" | "RequestExpired" => "this machine's clock is wrong: set it".to_owned(),
        _ if is_signed => format!("the key in {KEY} has no right to that. Is the address right?"),
        _ => format!(
            "without a key only public stores are read: set {KEY} and {SECRET}. Is the address right?"
        ),
    };
    let code = code.map_or(String::new(), |code| format!(" {code}"));
    format!("the store refuses ({status}{code}): {why}")
}

/// Whether a refusal is about the key itself, and not about one file.
pub(super) fn is_about_the_key(answer: &str) -> bool {
    code(answer).is_some_and(|code| code != "AccessDenied" && code != "AllAccessDisabled")
}

/// The code in the answer of a store, which is XML: `<Error><Code>AccessDenied</Code>…`.
pub(super) fn code(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

/// What to set before anything is written.
pub(super) fn no_key() -> String {
    format!(
        "writing to a store takes a key: set {KEY} and {SECRET}, and AWS_ENDPOINT_URL where the store is not Amazon's"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(variables: &[(&str, &str)]) -> Result<Account, String> {
        Account::from_variables(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn addresses_in_buckets_are_addresses_by_http() {
        let of = |path: &str, variables: &[(&str, &str)]| {
            let account = account(variables).unwrap();
            account.url(Path::new(path), Access::Read).ok()
        };
        let check = |path: &str, variables: &[(&str, &str)], expected: &str| {
            assert_eq!(of(path, variables).as_deref(), Some(expected));
        };
        check("s3://b/a/v.zarr/0", &[], "https://b.s3.amazonaws.com/a/v.zarr/0");
        check("s3://b.org/v.zarr", &[], "https://s3.amazonaws.com/b.org/v.zarr");
        check(
            "s3://b/a b.zarr",
            &[("AWS_REGION", "eu-west-1")],
            "https://b.s3.eu-west-1.amazonaws.com/a%20b.zarr",
        );
        check(
            "s3://b/v.zarr",
            &[("AWS_ENDPOINT_URL", "http://localhost:9000/")],
            "http://localhost:9000/b/v.zarr",
        );
        check(
            "http://host/v.zarr/0.0.0",
            &[("AWS_ENDPOINT_URL", "x")],
            "http://host/v.zarr/0.0.0",
        );
        for path in [
            "s3://bucket",
            "s3://bucket/",
            "s3:///v.zarr",
            "s3://b/a/../../c/v.zarr",
        ] {
            assert_eq!(of(path, &[]), None, "{path}");
        }
        assert_eq!(of("s3://b/v.zarr", &[("AWS_ENDPOINT_URL", "nonsense")]), None);
    }

    #[test]
    fn a_key_is_whole_or_none() {
        assert!(!account(&[(KEY, ""), (SECRET, " ")]).unwrap().signs());
        assert!(account(&[(KEY, "a")]).unwrap_err().contains(SECRET));
        assert!(account(&[(SECRET, "a")]).unwrap_err().contains(KEY));
        let own = account(&[(KEY, "AKID"), (SECRET, "s"), (TOKEN, "t/1")]).unwrap();
        let url = own.url(Path::new("s3://b/v"), Access::Write).unwrap();
        assert!(url.contains("X-Amz-Credential=AKID%2F") && url.contains("X-Amz-Security-Token=t%2F1"));
        assert!(!format!("{own:?}").contains("\"s\""));
    }

    #[test]
    fn what_a_store_answers_is_explained() {
        let answer = |code: &str| format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code></Error>");
        for (code, is_signed, word) in [
            ("InvalidAccessKeyId", true, KEY),
            ("SignatureDoesNotMatch", true, SECRET),
            ("ExpiredToken", true, TOKEN),
            ("RequestTimeTooSkewed", true, "clock"),
            ("AccessDenied", true, "no right"),
            ("AccessDenied", false, "public"),
        ] {
            let said = refusal(403, &answer(code), is_signed);
            assert!(
                said.contains(word) && said.contains(&format!("(403 {code})")),
                "{said}"
            );
        }
        assert!(refusal(401, "<html>", false).contains("(401)"));
        assert!(is_about_the_key(&answer("SignatureDoesNotMatch")));
        assert!(!is_about_the_key(&answer("AccessDenied")) && !is_about_the_key(""));
    }
}
