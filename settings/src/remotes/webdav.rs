use contract::ObjectName;
use serde::Deserialize;

use super::{HttpRemote, staging_folder};

/// `kind = "webdav"`: a server as for `kind = "http"`, whose folder is a collection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct WebdavRemote {
    /// The server, and how to speak to it.
    pub server: HttpRemote,
}

impl WebdavRemote {
    /// A server, with all else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { server: HttpRemote::new(url) }
    }

    /// The name of the folder that holds what is being written.
    pub fn staging_folder(&self) -> ObjectName {
        self.server.staging_folder.clone().unwrap_or_else(staging_folder)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.server.check_server()?;
        // Servers redirect to show that a name is a collection, and a MOVE names two addresses.
        if self.server.redirects != 0 {
            return Err(format!("redirects: expected 0 for webdav, found {}", self.server.redirects));
        }
        Ok(())
    }
}
