//! TLS from two files: a certificate with its chain, and its key, both PEM. They are read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::watched::Watched;

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Why certificate and key are not usable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read the {what} from `{}`: {reason}", path.display())]
    Read {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no certificate in the file.
    #[error("no certificate in `{}`: a PEM file with `BEGIN CERTIFICATE` is needed{hint}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        hint: &'static str,
    },
    /// There is no usable key in the file.
    #[error("no private key in `{}`: a PEM file with `BEGIN PRIVATE KEY` is needed{hint}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        hint: &'static str,
    },
    /// They are well formed but not for each other, or of a kind that is not supported.
    #[error("certificate `{}` cannot be used with key `{}`: {source}", certificate.display(), key.display())]
    Pair {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// What connections are accepted with: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`] when the files cannot be used as they are now.
pub(crate) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let paths = vec![files.certificate.clone(), files.key.clone()];
    let files = files.clone();
    let pair = Watched::new(paths, move || certified_key(&files))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

struct Resolver(Watched<CertifiedKey, TlsError>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

fn certified_key(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    CertifiedKey::from_der(certificates, key, &ring::default_provider()).map_err(|source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read("certificate", path)?;
    let parsed: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = parsed.map_err(|error| malformed("certificate", path, &error))?;
    if certificates.is_empty() {
        let hint = if contains(&bytes, "PRIVATE KEY") { ", this is a key" } else { "" };
        return Err(TlsError::NoCertificate { path: path.to_owned(), hint });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read("key", path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let hint = if contains(&bytes, "ENCRYPTED PRIVATE KEY") {
                ", this one is encrypted: decrypt it with `openssl pkey -in FILE -out KEY`"
            } else if contains(&bytes, "BEGIN CERTIFICATE") {
                ", this is a certificate"
            } else {
                ""
            };
            Err(TlsError::NoKey { path: path.to_owned(), hint })
        }
        Err(error) => Err(malformed("key", path, &error)),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        reason: source.to_string(),
    })
}

fn malformed(what: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Read { what, path: path.to_owned(), reason: error.to_string() }
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_pair(certificate: &str, key: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let files =
            TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let told = server_config(&files).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told}");
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let (certificate, key) = pair("localhost");
        let (_, other_key) = pair("localhost");
        check_pair(&certificate, &key, "");
        check_pair(&certificate, &other_key, "cannot be used with key");
        check_pair(&key, &certificate, "no certificate in");
        check_pair(&certificate, &certificate, "this is a certificate");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check_pair(&certificate, encrypted, "this one is encrypted");
        check_pair("", &key, "no certificate in");
        check_pair(
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            &key,
            "cannot read the certificate",
        );
    }

    #[test]
    fn an_absent_file_is_named() {
        let files =
            TlsFiles { certificate: "/nonexistent/cert.pem".into(), key: "/nonexistent/key.pem".into() };
        let told = server_config(&files).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/cert.pem"), "{told}");
    }
}
