//! TLS of connections, with what the certificate files hold when each connection is made.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serve::{ReadFile, Reloader, TlsChoice, TlsVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::verifier::AnyCertificate;
use crate::{Error, Kind, Result};

/// How to secure connections. Without `ca`, the machine's root certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub ca: Option<PathBuf>,
    /// Certificate and key to show to the server, both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name the server's certificate must carry; empty = the host of the address.
    pub server_name: String,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// The oldest version of TLS to speak.
    pub min_version: TlsVersion,
}

/// Connects by TCP and then TLS.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<Reloader<ClientConfig>>,
    name: ServerName<'static>,
    timeout: Duration,
}

impl Connector {
    /// `host` is the name of the server where the settings have none.
    ///
    /// # Errors
    /// `Invalid` for names and files that cannot be used.
    pub(super) fn new(settings: &TlsSettings, host: &str, timeout: Duration) -> Result<Connector> {
        let TlsSettings { ca, cert, key, server_name, .. } = settings;
        if cert.is_some() != key.is_some() {
            let text = "a client certificate needs both its certificate and its key";
            return Err(Error::new(Kind::Invalid, text));
        }
        let name = if server_name.is_empty() { host } else { server_name };
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
            .map_err(|e| Error::caused(Kind::Invalid, format!("server name {name:?}"), e))?;
        let ca = ca.as_ref().filter(|_| !settings.skip_verify);
        let paths = [ca, cert.as_ref(), key.as_ref()].into_iter().flatten().cloned().collect();
        let settings = settings.clone();
        let make = move |files: &[ReadFile]| load(&settings, files);
        let config = Reloader::new("tls of a client", paths, make)
            .map_err(|e| Error::passed(Kind::Invalid, e))?;
        Ok(Connector { config: Arc::new(config), name, timeout })
    }

    async fn connect(self, uri: Uri) -> io::Result<TlsStream<TcpStream>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let connect = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(self.config.current()).connect(self.name.clone(), stream).await
        };
        let late = |_| {
            let text = format!("no connection within {:?}", self.timeout);
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        tokio::time::timeout(self.timeout, connect).await.map_err(late)?
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let connecting = self.clone().connect(uri);
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}

fn load(settings: &TlsSettings, files: &[ReadFile]) -> serve::Result<ClientConfig> {
    let invalid = serve::Kind::Invalid;
    let content = |what: &str, path: &PathBuf| {
        let file = files.iter().find(|file| file.path() == path).ok_or_else(|| {
            let text = format!("{what} {} was not read", path.display());
            serve::Error::new(serve::Kind::Internal, text)
        })?;
        file.content(what)
    };
    let choice = TlsChoice { min_version: settings.min_version, ..TlsChoice::default() };
    let builder = ClientConfig::builder_with_provider(Arc::new(choice.provider()?))
        .with_protocol_versions(&choice.versions())
        .map_err(|e| serve::Error::caused(invalid, "tls versions", e))?;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new()))
    } else {
        let roots = match &settings.ca {
            None => native_roots()?,
            Some(path) => roots_of(path, content("ca certificate", path)?)?,
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let load = |what: &str, path: &PathBuf| format!("load {what} {}", path.display());
            let chain = serve::certificates(content("certificate", cert)?)
                .map_err(|e| serve::Error::caused(invalid, load("certificate", cert), e))?;
            let der = PrivateKeyDer::from_pem_slice(content("key", key)?)
                .map_err(|e| serve::Error::caused(invalid, load("key", key), e))?;
            builder
                .with_client_auth_cert(chain, der)
                .map_err(|e| serve::Error::caused(invalid, load("certificate", cert), e))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots_of(path: &Path, pem: &[u8]) -> serve::Result<RootCertStore> {
    let load = || format!("load ca certificate {}", path.display());
    let invalid = serve::Kind::Invalid;
    let mut roots = RootCertStore::empty();
    let certificates =
        serve::certificates(pem).map_err(|e| serve::Error::caused(invalid, load(), e))?;
    for certificate in certificates {
        roots.add(certificate).map_err(|e| serve::Error::caused(invalid, load(), e))?;
    }
    Ok(roots)
}

fn native_roots() -> serve::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.into_iter().next() {
        Some(error) if added == 0 => {
            let attempt = "read the machine's root certificates";
            Err(serve::Error::caused(serve::Kind::Invalid, attempt, error))
        }
        _ => Ok(roots),
    }
}

#[cfg(test)]
mod tests;
