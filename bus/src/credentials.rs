//! Who a service is to NATS. Files are read again at every connect: passwords and credentials are renewed while a
//! service runs.

use std::path::Path;

use async_nats::Auth;
use nkeys::KeyPair;
use settings::{NatsSettings, SettingsError};

use crate::NatsError;

/// What a service tells the server about itself, and the server's `nonce`, signed.
pub(crate) async fn read(settings: NatsSettings, nonce: Vec<u8>) -> Result<Auth, NatsError> {
    let reading = tokio::task::spawn_blocking(move || read_blocking(&settings, &nonce));
    reading.await.map_err(|e| NatsError::Credentials(e.to_string()))?
}

fn read_blocking(settings: &NatsSettings, nonce: &[u8]) -> Result<Auth, NatsError> {
    let mut auth = Auth::new();
    auth.username.clone_from(&settings.username);
    auth.password = settings.password()?.map(|password| password.expose().to_owned());
    if let Some(file) = &settings.credentials_file {
        sign(&mut auth, file, nonce).map_err(|why| NatsError::Credentials(format!("{}: {why}", file.display())))?;
    }
    Ok(auth)
}

/// Fills in the JWT of a credentials file, and signs with its seed.
fn sign(auth: &mut Auth, file: &Path, nonce: &[u8]) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let missing = |name| format!("expected a part that begins with -----BEGIN {name}-----, found none");
    let part = |name| part(&text, name).ok_or_else(|| missing(name));
    let key = KeyPair::from_seed(part("USER NKEY SEED")?).map_err(|e| format!("the seed: {e}"))?;
    auth.jwt = Some(part("NATS USER JWT")?.to_owned());
    auth.signature = Some(key.sign(nonce).map_err(|e| e.to_string())?);
    Ok(())
}

/// The line after `-----BEGIN name-----`.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}-");
    text.lines().skip_while(|line| !line.contains(&begin)).nth(1).map(str::trim)
}

/// Checks that a file holds certificates: the client would read it only when a server asks for TLS.
pub(crate) fn check_certificates(file: &Path) -> Result<(), SettingsError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let wrong = |why: String| SettingsError::Value {
        key: "nats.ca_file".into(),
        why: format!("expected certificates (PEM) in {}, found {why}", file.display()),
    };
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(certificates) if certificates.is_empty() => Err(wrong("none".into())),
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\r\n{jwt}\r\n------END NATS USER JWT------\r\n\r\n*** IMPORTANT ***\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n"
        )
    }

    #[test]
    fn credentials_are_those_that_the_file_has_now() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = NatsSettings { credentials_file: Some(file.path().to_owned()), ..NatsSettings::default() };
        for jwt in ["a.b.c", "d.e.f"] {
            let key = KeyPair::new_user();
            std::fs::write(file.path(), credentials(jwt, &key.seed().unwrap())).unwrap();
            let auth = read_blocking(&settings, b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some(jwt));
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
        for (broken, says) in [("hush", "NATS USER JWT"), ("hush-----BEGIN USER NKEY SEED-----\nhush", "the seed")] {
            std::fs::write(file.path(), broken).unwrap();
            let told = read_blocking(&settings, b"nonce").map(drop).unwrap_err().to_string();
            assert!(told.contains("nats.credentials_file") && !told.contains("hush"), "{told}");
            assert!(told.contains(says) || told.contains("USER NKEY SEED"), "{told}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (path, says) in [(file.path(), "found none"), (Path::new("/nowhere/ca.pem"), "/nowhere/ca.pem")] {
            let told = check_certificates(path).unwrap_err().to_string();
            assert!(told.contains("nats.ca_file") && told.contains(says), "{told}");
        }
    }
}
