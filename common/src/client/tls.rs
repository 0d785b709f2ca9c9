//! TLS settings of one registry: the system's CAs, and what `certs.d` adds.
//!
//! ```text
//! /etc/docker/certs.d/registry.example:5000/     or without the port
//!     *.crt           CAs that are trusted for this registry, besides the system's
//!     NAME.cert       our certificate, if the registry asks for one …
//!     NAME.key        … and its key
//! ```
//! A folder that a plain user may not list is passed over with a warning: what it could add is trust, so a connection can
//! fail for the lack of it but none is let through. For root that is an error, as for dockerd; a rootless dockerd never
//! looks into the system's folder.
//!
//! Reference: <https://docs.docker.com/engine/security/certificates/>. The provider of cryptography is ring, named
//! here and nowhere else; nothing depends on a default of the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::settings::{SettingsError, is_absent, is_closed};

/// What `certs.d` has for one registry.
#[derive(Default)]
pub(super) struct HostCerts {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
}

struct Identity {
    /// For messages.
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl HostCerts {
    /// Reads the first folder that exists for `host` (with its port, as references have it).
    pub(super) fn read(certs_dirs: &[PathBuf], host: &str) -> Result<Self, SettingsError> {
        for folder in certs_dirs.iter().flat_map(|dir| folder_names(host).map(|name| dir.join(name))) {
            match list(&folder)? {
                Some(files) => return HostCerts::of_files(&files),
                None => continue,
            }
        }
        Ok(HostCerts::default())
    }

    /// The trust of both, and no certificate of ours.
    pub(super) fn joined_by_authorities_of(mut self, other: HostCerts) -> Self {
        self.authorities.extend(other.authorities);
        HostCerts { authorities: self.authorities, identity: None }
    }

    fn of_files(files: &[PathBuf]) -> Result<Self, SettingsError> {
        let mut certs = HostCerts::default();
        for path in files {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => certs.authorities.extend(certificates(path)?),
                Some("cert") if certs.identity.is_none() => certs.identity = Some(Identity::read(path)?),
                Some("cert") => {
                    tracing::warn!(path = %path.display(), "only the first client certificate is used")
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    let certificate = path.with_extension("cert");
                    return Err(wrong(path, format!("missing client certificate {}", certificate.display())));
                }
                _ => {}
            }
        }
        Ok(certs)
    }
}

impl Identity {
    fn read(path: &Path) -> Result<Self, SettingsError> {
        let key_path = path.with_extension("key");
        if !key_path.exists() {
            let reason =
                format!("missing key {}; CA certificates must use the extension .crt", key_path.display());
            return Err(wrong(path, reason));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
            .map_err(|error| wrong(&key_path, format!("no private key: {error}")))?;
        Ok(Identity { path: path.to_owned(), chain: certificates(path)?, key })
    }
}

/// `host:port` and `host`; a host without a port is also looked for with that of HTTPS.
fn folder_names(host: &str) -> [String; 2] {
    let end_of_name = host.rfind(']').map_or(0, |bracket| bracket + 1);
    match host[end_of_name..].rfind(':') {
        Some(colon) => [host.to_owned(), host[..end_of_name + colon].to_owned()],
        None => [host.to_owned(), format!("{host}:443")],
    }
}

/// The folder's entries in order of their names; `None` when there is no folder.
fn list(folder: &Path) -> Result<Option<Vec<PathBuf>>, SettingsError> {
    let failed = |source| SettingsError::Io { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if is_closed(&error) => {
            tracing::warn!(path = %folder.display(), "certificates are passed over: permission denied");
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(Some(paths))
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    fs::read(path).map_err(|source| SettingsError::Io { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(path, "no certificate in it".to_owned())),
        Err(error) => Err(wrong(path, error.to_string())),
    }
}

fn wrong(path: &Path, reason: String) -> SettingsError {
    SettingsError::Certificate { path: path.to_owned(), reason }
}

/// The settings for a registry whose certificate is verified.
pub(super) fn verified(certs: HostCerts) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::empty();
    // A machine or an image without CAs still reaches registries of its own CA.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(certs.authorities);
    finish(builder().with_root_certificates(roots), certs.identity)
}

/// The settings for a registry that the user called insecure: any certificate will do, as with docker.
pub(super) fn unverified(certs: HostCerts) -> Result<ClientConfig, SettingsError> {
    let verifier = Arc::new(AnyCertificate(provider()));
    finish(builder().dangerous().with_custom_certificate_verifier(verifier), certs.identity)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
}

fn finish(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    identity: Option<Identity>,
) -> Result<ClientConfig, SettingsError> {
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { path, chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&path, error.to_string()))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts every certificate whose owner has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_looked_for_with_and_without_the_port() {
        assert_eq!(folder_names("a.example:5000"), ["a.example:5000", "a.example"]);
        assert_eq!(folder_names("a.example"), ["a.example", "a.example:443"]);
        assert_eq!(folder_names("[::1]:5000"), ["[::1]:5000", "[::1]"]);
        assert_eq!(folder_names("[::1]"), ["[::1]", "[::1]:443"]);
    }

    fn check_refused(files: &[&str], text: &str) {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("a.example");
        fs::create_dir(&host).unwrap();
        for file in files {
            fs::write(host.join(file), "nothing of use").unwrap();
        }
        let Err(error) = HostCerts::read(&[folder.path().to_owned()], "a.example") else {
            panic!("{files:?} were taken");
        };
        assert!(error.to_string().contains(text), "{error}");
    }

    #[test]
    fn what_is_closed_to_a_plain_user_is_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("a.example");
        fs::create_dir(&host).unwrap();
        fs::write(host.join("ca.crt"), "nothing of use").unwrap();
        let close = |mode| fs::set_permissions(&host, fs::Permissions::from_mode(mode)).unwrap();
        close(0o000);
        let (dirs, daemon) = ([folder.path().to_owned()], host.join("daemon.json"));
        // A thread has rights of its own.
        let plain_user = std::thread::spawn(move || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(None, nobody, None).unwrap();
            }
            let certs = HostCerts::read(&dirs, "a.example").map(|certs| certs.authorities.len());
            (certs.unwrap(), super::super::daemon::Daemon::read(&daemon).unwrap())
        });
        let (authorities, daemon) = plain_user.join().unwrap();
        close(0o700);
        assert_eq!((authorities, daemon), (0, Default::default()));
    }

    #[test]
    fn halves_of_pairs_and_files_without_certificates_are_refused_by_name() {
        check_refused(&["client.cert"], "CA certificates must use the extension .crt");
        check_refused(&["client.key"], "missing client certificate");
        check_refused(&["ca.crt"], "ca.crt: no certificate in it");
    }
}
