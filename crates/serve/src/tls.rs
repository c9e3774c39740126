//! TLS for listeners: rustls with ring; certificates are read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use model::error::in_one_line;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::{Error, Kind, Result};

/// The oldest version of TLS a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    #[default]
    V1_3,
}

/// Files in PEM form. With `client_ca`, clients must show a certificate signed by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    pub min_version: TlsVersion,
}

/// Hands out the server configuration of the files as they are now. Files that became unreadable or
/// do not fit together leave the last good configuration in place: rotating writes several files
/// one after the other.
#[derive(Debug)]
pub(crate) struct TlsReloader {
    files: TlsFiles,
    alpn: &'static [&'static [u8]],
    loaded: Mutex<LoadedTls>,
}

#[derive(Debug)]
struct LoadedTls {
    changed: Vec<Option<SystemTime>>,
    config: Arc<ServerConfig>,
}

impl TlsReloader {
    pub(crate) fn new(files: TlsFiles, alpn: &'static [&'static [u8]]) -> Result<TlsReloader> {
        let loaded =
            Mutex::new(LoadedTls { changed: changed_at(&files), config: load(&files, alpn)? });
        Ok(TlsReloader { files, alpn, loaded })
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed_at(&self.files);
        if changed != loaded.changed {
            match load(&self.files, self.alpn) {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "reloaded tls certificate");
                    *loaded = LoadedTls { changed, config };
                }
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "reload tls certificate, keeping \
                        the last good one");
                    loaded.changed = changed;
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}

fn changed_at(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    paths
        .into_iter()
        .flatten()
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
        .collect()
}

fn load(files: &TlsFiles, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
    let chain = read_certificates("certificate", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| failed("private key", &files.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match files.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|e| failed("tls versions", &files.cert, e))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates("client ca", path)? {
                roots.add(certificate).map_err(|e| failed("client ca", path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| failed("client ca", path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|e| failed("certificate", &files.cert, e))?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn failed(what: &str, path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Unavailable, format!("load {what} from {}", path.display()), cause)
}

fn read_certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|items| items.collect::<std::result::Result<_, _>>())
        .map_err(|e| failed(what, path, e))?;
    if certificates.is_empty() {
        let text = format!("load {what} from {}: no certificate in the file", path.display());
        return Err(Error::new(Kind::Unavailable, text));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
