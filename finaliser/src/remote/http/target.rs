use std::fmt;

use hyper::http::response;
use hyper::{StatusCode, header};
use url::{Origin, Url};

use crate::remote::RemoteError;
use crate::remote::said::said;
use crate::remote::wire::answer;

/// The address of a request, or one that a server has redirected it to. Its printed form has no query, which may hold a
/// signature.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::remote) struct Target(Url);

impl Target {
    /// The address of a request of our own.
    pub(super) fn own(address: &str) -> Result<Self, RemoteError> {
        let wrong = |error| RemoteError::Refused(format!("{address:?}: expected an address: {error}"));
        Url::parse(address).map(Self).map_err(wrong)
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> Origin {
        self.0.origin()
    }

    /// Host and port, without the default port of the scheme.
    pub(super) fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The part of the address that the request line has.
    pub(super) fn path_and_query(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }

    /// The target of a redirect that keeps method and body; `None` for any other answer.
    pub(super) fn follow(&self, what: &str, head: &response::Parts) -> Result<Option<Self>, RemoteError> {
        if !matches!(head.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
            return Ok(None);
        }
        let said = answer::describe(what, head, "");
        let wrong = |why: &str| RemoteError::Refused(format!("{said}: {why}"));
        let to = head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
        let to = to.ok_or_else(|| wrong("expected the header Location"))?;
        let mut to = self.0.join(to).map_err(|error| wrong(&format!("expected an address in Location: {error}")))?;
        to.set_fragment(None);
        if !matches!(to.scheme(), "http" | "https") || !to.username().is_empty() || to.password().is_some() {
            return Err(wrong("expected an address of http or https, without a user, in Location"));
        }
        if self.0.scheme() == "https" && to.scheme() == "http" {
            return Err(wrong("expected no redirect from https to http"));
        }
        Ok(Some(Self(to)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&said(&format!("{}{}", self.0.origin().ascii_serialization(), self.0.path())))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signature_is_printed() {
        let target = Target::own("https://host/in/x?signature=hush").unwrap();
        assert_eq!([target.to_string(), format!("{target:?}")], ["https://host/in/x"; 2]);
    }
}
