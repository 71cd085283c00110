//! Secrets at rest: XChaCha20-Poly1305 under the key in the data directory's `key`, bound to what they are for.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

const KEY: usize = 32;
const NONCE: usize = 24;

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault(Arc<XChaCha20Poly1305>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Takes the key from the file, which is made if it is not there.
    ///
    /// # Errors
    /// The file can't be read or made, or holds no key.
    pub fn open(path: &Path) -> io::Result<Vault> {
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(error),
        };
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| {
            io::Error::other(format!("`{}` does not hold a key of {KEY} bytes", path.display()))
        })?;
        Ok(Vault(Arc::new(cipher)))
    }

    /// Seals a secret; it opens only with the same `purpose` (`variable:12`), so that sealed values can't be exchanged.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = random();
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).expect("a secret in memory is short enough");
        [nonce.as_slice(), &sealed].concat()
    }

    /// The secret; none when it was sealed with another key or for another purpose, or was changed.
    pub fn open_sealed(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: purpose.as_bytes() }).ok()
    }

    /// As text.
    pub fn open_text(&self, purpose: &str, sealed: &[u8]) -> Option<String> {
        String::from_utf8(self.open_sealed(purpose, sealed)?).ok()
    }
}

fn create(path: &Path) -> io::Result<Vec<u8>> {
    let key: [u8; KEY] = random();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key.to_vec())
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    bytes
}

/// A new token: the prefix and 160 random bits.
pub fn new_token(prefix: &str) -> String {
    format!("{prefix}{}", crate::digest::hex(&random::<20>()))
}

/// What is kept of a token. Tokens have enough chance in them that one round is enough.
pub fn token_hash(token: &str) -> String {
    crate::digest::hex(&Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_for_its_purpose_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("key")).unwrap();
        let sealed = vault.seal("variable:1", b"hunter2");
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        let again = Vault::open(&dir.path().join("key")).unwrap();
        assert_eq!(again.open_text("variable:1", &sealed).as_deref(), Some("hunter2"));
        assert_eq!(again.open_text("variable:2", &sealed), None);
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(again.open_text("variable:1", &changed), None);
        assert_eq!(again.open_text("variable:1", &sealed[..10]), None);
        let other = Vault::open(&dir.path().join("other")).unwrap();
        assert_eq!(other.open_text("variable:1", &sealed), None);
    }
}
