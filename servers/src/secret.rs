//! The secrets of a server that asks its clients who they are.

use std::fmt;
use std::fs;
use std::io;

use rand::distr::{Alphanumeric, SampleString};

use crate::error::Error;
use crate::home::Home;

/// The user of all clients.
pub(crate) const USER: &str = "waybill";

/// The file with the password of the clients.
pub(crate) const PASSWORD: &str = "password";

/// The file with the key of a mongod.
pub(crate) const KEY_FILE: &str = "keyfile";

/// Letters and digits of a secret: 285 bits.
const LENGTH: usize = 48;

/// A password or a key. It is never printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret that the data directory keeps in the file `name`; the first start makes it. One that is not whole is
    /// made anew: only this server and those who read the file know it.
    pub(crate) fn kept(home: &Home, name: &str) -> Result<Self, Error> {
        let path = home.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(secret) if secret.len() == LENGTH => return Ok(Self(secret)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("could not read {}", path.display()))(error));
            }
            _ => {}
        }
        let secret = Alphanumeric.sample_string(&mut rand::rng(), LENGTH);
        home.write(name, secret.as_bytes())?;
        Ok(Self(secret))
    }

    /// The text itself: for the server and its clients.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
