//! Who may ask: the page that this server gave out, opened with the token that this server printed, and nobody else.
//!
//! A page of another site cannot reach the server: its requests carry a foreign `Origin` or `Sec-Fetch-Site`; a name of
//! another site that was made to mean this machine (DNS rebinding) stands in `Host`. Another user of this machine does
//! not know the token.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use crate::error::{ApiError, Result, StudioError};

/// What requests must show.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The token.
    pub(crate) token: String,
    /// Names of the host by which it may be asked beside those of loopback.
    pub(crate) host: String,
    /// The cookie's name: one for each port, for cookies do not tell ports apart.
    pub(crate) cookie: String,
}

/// The header by which a program other than a browser shows the token.
const TOKEN_HEADER: &str = "x-studio-token";

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Guard {
    pub(crate) fn new(host: &str, port: u16) -> Result<Self> {
        let mut bytes = [0_u8; 24];
        getrandom::fill(&mut bytes).map_err(|error| StudioError::Random(error.to_string()))?;
        let token = bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self {
            token,
            host: host.to_ascii_lowercase(),
            cookie: format!("deepfinder_studio_{port}"),
        })
    }

    fn is_token(&self, given: &str) -> bool {
        // As long for a token that is right in the first letters as for any other.
        let differ = given
            .bytes()
            .zip(self.token.bytes())
            .fold(0, |all, (a, b)| all | (a ^ b));
        given.len() == self.token.len() && differ == 0
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let header = headers.get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut cookies = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='));
        header.is_some_and(|given| self.is_token(given))
            || cookies.any(|(name, given)| name == self.cookie && self.is_token(given))
    }

    /// Through a tunnel the port is another than ours; the name is what tells.
    fn is_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        LOOPBACK.contains(&name.as_str()) || name == self.host || name == format!("[{}]", self.host)
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text(header::HOST).unwrap_or_default();
        if !self.is_host(host) {
            return Some("this server does not go by that name");
        }
        if text(header::ORIGIN).is_some_and(|origin| origin != format!("http://{host}")) {
            return Some("requests of other pages are not answered");
        }
        let site = headers
            .get("sec-fetch-site")
            .map(|value| value.to_str().unwrap_or("?"));
        if site.is_some_and(|site| !["same-origin", "none"].contains(&site)) {
            return Some("requests of other pages are not answered");
        }
        None
    }
}

/// Lets a request through, or says why not.
pub(crate) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = answer(&guard, request, next).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

async fn answer(guard: &Guard, request: Request, next: Next) -> Response {
    if let Some(why) = guard.refusal(request.headers()) {
        return ApiError::new(StatusCode::FORBIDDEN, why).into_response();
    }
    let is_page = request.uri().path() == "/";
    let in_url = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("token="));
    if is_page && in_url.is_some_and(|given| guard.is_token(given)) {
        // The token goes out of the address, so that no picture of the screen and no history shows it.
        let cookie = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Strict",
            guard.cookie, guard.token
        );
        return (
            StatusCode::SEE_OTHER,
            [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())],
        )
            .into_response();
    }
    if guard.has_token(request.headers()) {
        return next.run(request).await;
    }
    if is_page {
        let text = "<!doctype html><title>DeepFinder studio</title><p>Open the address that <code>deepfinder studio</code> \
            printed: it carries the token that this page needs.";
        return (StatusCode::UNAUTHORIZED, Html(text)).into_response();
    }
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "the token is missing or wrong: open the address that `deepfinder studio` printed",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_by_name() {
        let guard = Guard::new("box.example", 1).unwrap();
        for host in ["localhost", "LOCALHOST:80", "[::1]:9", "box.example:1"] {
            assert!(guard.is_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost:x",
            "[::2]:9",
        ] {
            assert!(!guard.is_host(host), "{host}");
        }
        assert!(
            guard.is_token(&guard.token.clone()) && !guard.is_token("") && !guard.is_token(&guard.token[1..])
        );
        assert_ne!(guard.token, Guard::new("", 1).unwrap().token);
    }
}
