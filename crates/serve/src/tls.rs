//! TLS for listeners: rustls with ring; certificates are read again when what their files hold
//! changes.

mod client_auth;
mod names;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use crate::reload::{ReadFile, Reloader};
use crate::{Error, Kind, Result};

pub use client_auth::ClientAuth;
use client_auth::{ClientPolicy, PolicyParts};
pub use names::{TlsChoice, TlsVersion};

/// Certificates or a key in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    /// The text itself, which may be a secret.
    Inline(String),
}

impl Default for Pem {
    fn default() -> Pem {
        Pem::File(PathBuf::new())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => f.debug_tuple("File").field(path).finish(),
            Pem::Inline(_) => f.write_str("Inline(<hidden>)"),
        }
    }
}

/// How a listener speaks TLS, and whom it lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    pub cert: Pem,
    pub key: Pem,
    pub client_auth: ClientAuth,
    /// Who signs the certificates of clients.
    pub client_ca: Option<Pem>,
    /// Names of which a client's certificate has to hold one.
    pub client_allowed_sans: Option<Vec<String>>,
    pub choice: TlsChoice,
    /// Let the server choose among the suites that both have.
    pub prefer_server_suites: bool,
}

/// Hands out the server configuration of the files as they are now.
pub(crate) type TlsReloader = Reloader<ServerConfig>;

/// # Errors
/// `Invalid` for files or choices that cannot be used.
pub(crate) fn reloader(tls: ServerTls, alpn: &'static [&'static [u8]]) -> Result<TlsReloader> {
    let sources = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
    let file = |pem: &Pem| match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Inline(_) => None,
    };
    let paths = sources.into_iter().flatten().filter_map(file).collect();
    let make = move |files: &[ReadFile]| load(&tls, files, alpn);
    Reloader::new("tls of a listener", paths, make)
}

/// The bytes of certificates or a key, and how errors name them.
struct Read<'a> {
    what: &'static str,
    from: Option<&'a Path>,
    bytes: &'a [u8],
}

impl<'a> Read<'a> {
    fn of(what: &'static str, pem: &'a Pem, files: &'a [ReadFile]) -> Result<Read<'a>> {
        let path = match pem {
            Pem::Inline(text) => return Ok(Read { what, from: None, bytes: text.as_bytes() }),
            Pem::File(path) => path,
        };
        let file = files.iter().find(|file| file.path() == path).ok_or_else(|| {
            Error::new(Kind::Internal, format!("{what} {} was not read", path.display()))
        })?;
        Ok(Read { what, from: Some(path), bytes: file.content(what)? })
    }

    fn attempt(&self) -> String {
        match self.from {
            Some(path) => format!("load {} from {}", self.what, path.display()),
            None => format!("load the {} in the configuration", self.what),
        }
    }

    fn failed(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::caused(Kind::Invalid, self.attempt(), cause)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(self.bytes).map_err(|e| Error::caused(Kind::Invalid, self.attempt(), e))
    }
}

/// Every certificate of a PEM text.
///
/// # Errors
/// `Invalid` when it has none or is broken.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| Error::caused(Kind::Invalid, "read certificates in PEM form", e))?;
    if certificates.is_empty() {
        return Err(Error::new(Kind::Invalid, "no certificate in the file".to_owned()));
    }
    Ok(certificates)
}

fn load(tls: &ServerTls, files: &[ReadFile], alpn: &[&[u8]]) -> Result<ServerConfig> {
    let cert = Read::of("certificate", &tls.cert, files)?;
    let key = Read::of("private key", &tls.key, files)?;
    let (chain, pem) = (cert.certificates()?, key.bytes);
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| key.failed(e))?;
    let provider = Arc::new(tls.choice.provider()?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&tls.choice.versions())
        .map_err(|e| cert.failed(e))?;
    let builder = if tls.client_auth == ClientAuth::None {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_verifier(Arc::new(policy(tls, files, &provider)?))
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| cert.failed(e))?;
    config.ignore_client_order = tls.prefer_server_suites;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn policy(
    tls: &ServerTls,
    files: &[ReadFile],
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<ClientPolicy> {
    let mut roots = RootCertStore::empty();
    let parts = |roots| PolicyParts {
        auth: tls.client_auth,
        roots,
        allowed_sans: tls.client_allowed_sans.as_deref(),
        provider,
    };
    let no_ca = |e| Error::caused(Kind::Invalid, "verify clients without a CA", e);
    let Some(ca) = tls.client_ca.as_ref().filter(|_| tls.client_auth.verifies()) else {
        return ClientPolicy::new(parts(roots)).map_err(no_ca);
    };
    let ca = Read::of("client ca", ca, files)?;
    for certificate in ca.certificates()? {
        roots.add(certificate).map_err(|e| ca.failed(e))?;
    }
    ClientPolicy::new(parts(roots)).map_err(|e| ca.failed(e))
}

#[cfg(test)]
mod tests;
