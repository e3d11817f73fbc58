//! HTTP requests. Redirections are followed by this crate, to https only.

use crate::HubCause;
use crate::answer::linked_sha256;
use crate::error::shown;
use crate::url::Url;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::{HeaderName, Response, header};
use ureq::{Agent, Body};

/// Maximum number of redirections.
const MAX_REDIRECTIONS: usize = 10;

/// Maximum size of a response's headers, in bytes.
const MAX_HEAD: usize = 64 << 10;

pub(super) struct Client {
    patience: Duration,
}

/// A request.
pub(super) struct Request<'a> {
    pub(super) url: &'a Url,
    /// Sent to the origin of `url` only, not to other targets of redirections.
    pub(super) token: Option<&'a str>,
    /// The first byte of a range request and, if known, the ETag for `If-Range`.
    pub(super) rest: Option<(u64, Option<&'a str>)>,
}

/// The response after all redirections.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    pub(super) content_range: Option<String>,
    pub(super) etag: Option<String>,
    /// The SHA-256 that one of the hosts sent.
    pub(super) linked_sha256: Option<String>,
    response: Response<Body>,
}

impl Client {
    /// A client with the timeout `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience }
    }

    pub(super) fn get(&self, request: &Request<'_>) -> Result<Answer, HubCause> {
        let mut url = request.url.clone();
        let mut linked = None;
        for _ in 0..=MAX_REDIRECTIONS {
            let token = request.token.filter(|_| url.has_same_origin(request.url));
            let response = self.ask(&url, token, request.rest)?;
            let text = |name: &HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
            let said = response.headers().get("x-linked-etag").and_then(|value| value.to_str().ok());
            linked = linked.or_else(|| said.and_then(linked_sha256));
            let is_redirection = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirection {
                let owned = |name: &HeaderName| text(name).map(str::to_owned);
                return Ok(Answer {
                    status: response.status().as_u16(),
                    length: text(&header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()),
                    content_range: owned(&header::CONTENT_RANGE),
                    etag: owned(&header::ETAG),
                    linked_sha256: linked,
                    response,
                });
            }
            let location = text(&header::LOCATION).unwrap_or_default();
            url = url.join(location).map_err(|expected| HubCause::Answer {
                url: url.to_string(),
                expected: "a redirection to an https address",
                got: format!("\"{}\" ({expected} was expected)", shown(location)),
            })?;
        }
        let got = format!("more than {MAX_REDIRECTIONS}");
        Err(HubCause::Answer { url: request.url.to_string(), expected: "a few redirections", got })
    }

    fn ask(
        &self,
        url: &Url,
        token: Option<&str>,
        rest: Option<(u64, Option<&str>)>,
    ) -> Result<Response<Body>, HubCause> {
        let fail = |error: ureq::Error| HubCause::Network { url: url.to_string(), what: what(&error) };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD)
            .user_agent(concat!("residual/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(self.patience))
            .timeout_recv_response(Some(self.patience))
            .timeout_per_read(Some(self.patience));
        if url.is_loopback() {
            config = config.proxy(None);
        }
        let mut request = config.build().new_agent().get(url.to_string()).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((first, etag)) = rest {
            request = request.header(header::RANGE, format!("bytes={first}-"));
            if let Some(etag) = etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        request.call().map_err(fail)
    }
}

impl Answer {
    /// The body.
    pub(super) fn body(&mut self) -> impl Read + '_ {
        self.response.body_mut().with_config().limit(u64::MAX).reader()
    }
}

/// A short message for an error.
fn what(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => io_what(error),
        ureq::Error::HostNotFound => "no such host, or no connection".into(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        other => shown(&other.to_string()),
    }
}

pub(super) fn io_what(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(inner) => what(inner),
        None => shown(&error.to_string()),
    }
}
