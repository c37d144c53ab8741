use std::fmt;

use russh::keys::ssh_key::Fingerprint;
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// The pinned keys of a server. No setting accepts every key, because whoever answers gets the files.
#[derive(Debug, Clone)]
pub(super) struct HostKeys(Vec<Pin>);

#[derive(Debug, Clone)]
struct Pin {
    fingerprint: Fingerprint,
    /// `None` if only the fingerprint is configured.
    algorithm: Option<Algorithm>,
}

impl HostKeys {
    /// Reads keys, each in the form of a `.pub` file or as `SHA256:` and a fingerprint. The error says what is wrong.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let pins = lines.map(|line| {
            let wrong = |why: &dyn fmt::Display| {
                format!("expected a public key (ssh-ed25519 AAAA...) or its SHA256: fingerprint, found {line:?}: {why}")
            };
            if line.starts_with("SHA256:") {
                let fingerprint = line.parse().map_err(|error| wrong(&error))?;
                return Ok(Pin { fingerprint, algorithm: None });
            }
            let key = PublicKey::from_openssh(line).map_err(|error| wrong(&error))?;
            Ok(Pin { fingerprint: key.fingerprint(HashAlg::Sha256), algorithm: Some(key.algorithm()) })
        });
        pins.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the key is one of these.
    pub(super) fn contains(&self, key: &PublicKey) -> bool {
        let found = key.fingerprint(HashAlg::Sha256);
        self.0.iter().any(|pin| pin.fingerprint == found)
    }

    /// The algorithms to offer, in order: a server with several keys shows the first kind that it has, so the pinned
    /// kinds come first. None with SHA-1.
    pub(super) fn prefer(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let sha1 = Algorithm::Rsa { hash: None };
        let is_pinned = |algorithm: &Algorithm| {
            let same = |pin: &Pin| match (&pin.algorithm, algorithm) {
                (Some(Algorithm::Rsa { .. }), Algorithm::Rsa { .. }) => true,
                (Some(pinned), algorithm) => pinned == algorithm,
                (None, _) => false,
            };
            self.0.iter().any(same)
        };
        let (first, then): (Vec<_>, Vec<_>) = all.iter().filter(|found| **found != sha1).cloned().partition(is_pinned);
        [first, then].concat()
    }
}

impl fmt::Display for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pin) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { " or " } else { "" }, pin.fingerprint)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";
    const FINGERPRINT: &str = "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ";

    #[test]
    fn a_key_and_its_fingerprint_mean_the_same() {
        let key = PublicKey::from_openssh(KEY).unwrap();
        for line in [KEY, FINGERPRINT] {
            let keys = HostKeys::read([line].into_iter()).unwrap();
            assert!(keys.contains(&key), "{line}");
            assert_eq!(keys.to_string(), FINGERPRINT);
        }
        for wrong in
            ["", "*", "ssh-ed25519", "SHA256:", "SHA256:abc", "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48"]
        {
            assert!(HostKeys::read([wrong].into_iter()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pinned_kinds_of_keys_are_offered_first() {
        let rsa = |hash| Algorithm::Rsa { hash };
        let all = [Algorithm::Ed25519, rsa(Some(HashAlg::Sha512)), rsa(Some(HashAlg::Sha256)), rsa(None)];
        let prefer = |line| HostKeys::read([line].into_iter()).unwrap().prefer(&all);
        assert_eq!(prefer(KEY), all[..3]);
        assert_eq!(prefer(FINGERPRINT), all[..3]);
        let other = [all[1].clone(), all[0].clone(), rsa(None)];
        assert_eq!(HostKeys::read([KEY].into_iter()).unwrap().prefer(&other), [all[0].clone(), all[1].clone()]);
    }
}
