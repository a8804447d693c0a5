//! The certificate of the TLS at this node's TCP port: a person's own, or one that is made at the first start.
//!
//! Nobody trusts it: who is at the other end is proved by Noise inside (`docs/decisions/0021-tls-on-the-same-port.md`).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::tls;

/// A certificate with its private key.
pub struct Certificate {
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the one of a state directory, or makes one and keeps it there (mode 0600).
    ///
    /// # Errors
    /// When the file holds none, or the disk refuses.
    pub fn of(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let text = match fs::read(&path).map(Zeroizing::new) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = fresh()?;
                keep(dir, &text).with_context(|| format!("Failed to write {}", path.display()))?;
                text
            }
            Err(error) => {
                return Err(error).with_context(|| format!("Failed to read {}", path.display()));
            }
        };
        parse(&text, &text).with_context(|| format!("{} is no certificate", path.display()))
    }

    /// Reads a chain and its key (PEM).
    ///
    /// # Errors
    /// When a file cannot be read, holds none, or the two do not belong together.
    pub fn read(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            let read = fs::read(path).map(Zeroizing::new);
            read.with_context(|| format!("Failed to read {}", path.display()))
        };
        parse(&read(chain)?, &read(key)?).with_context(|| {
            let (chain, key) = (chain.display(), key.display());
            format!("{chain} and {key} are no certificate with its key (PEM)")
        })
    }

    /// One of the moment, kept nowhere.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn passing() -> anyhow::Result<Self> {
        let text = fresh()?;
        parse(&text, &text)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Key and certificate as text; nothing in it says what program made it.
fn fresh() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let key = rcgen::KeyPair::generate().context("Failed to make a TLS key")?;
    let mut wanted = rcgen::CertificateParams::new(vec![NAME.to_owned()])?;
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    let name = rcgen::DnType::CommonName;
    wanted.distinguished_name.push(name, NAME);
    let made = wanted.self_signed(&key)?;
    let mut text = Zeroizing::new(key.serialize_pem().into_bytes());
    text.extend_from_slice(made.pem().as_bytes());
    Ok(text)
}

/// It is whole at its place or not there at all.
fn keep(dir: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = dir.join(format!("{FILE}.new"));
    let mut open = OpenOptions::new();
    let open = open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = open.open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

fn parse(chain: &[u8], key: &[u8]) -> anyhow::Result<Certificate> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in it");
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let signer = tls::provider().key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match()?;
    let config = Arc::new(tls::server(certified)?);
    Ok(Certificate { config })
}

/// In the state directory.
const FILE: &str = "tls";
/// What a server's certificate says that nobody named.
const NAME: &str = "localhost";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        Certificate::of(dir.path()).unwrap();
        let text = fs::read(dir.path().join(FILE)).unwrap();
        Certificate::of(dir.path()).unwrap();
        assert_eq!(text, fs::read(dir.path().join(FILE)).unwrap());
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        fs::write(&one, fresh().unwrap().as_slice()).unwrap();
        fs::write(&other, fresh().unwrap().as_slice()).unwrap();
        Certificate::read(&one, &one).unwrap();
        let error = Certificate::read(&one, &other).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("are no certificate with its key")
        );
        let shown = format!("{:?}", Certificate::read(&one, &one).unwrap());
        assert_eq!(shown, "Certificate { .. }");
    }
}
