//! Which clients a listener lets in by their certificates, as Go's `ClientAuthType` says.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore,
    SignatureScheme, client::danger::HandshakeSignatureValid,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What a client has to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing; it is not asked.
    #[default]
    None,
    /// It is asked, and whatever it shows is accepted.
    Request,
    /// Any certificate.
    RequireAny,
    /// Nothing, or a certificate signed by the CA.
    VerifyIfGiven,
    /// A certificate signed by the CA.
    RequireAndVerify,
}

impl ClientAuth {
    pub(crate) fn verifies(self) -> bool {
        matches!(self, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
    }

    fn requires(self) -> bool {
        matches!(self, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
    }
}

/// What decides on certificates of clients.
#[derive(Debug)]
pub(super) struct ClientPolicy {
    auth: ClientAuth,
    /// Verifies the chain.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Subject alternative names of which a certificate has to hold one.
    allowed_sans: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What a policy is made of.
pub(super) struct PolicyParts<'a> {
    pub(super) auth: ClientAuth,
    /// Used when the certificates are verified.
    pub(super) roots: RootCertStore,
    pub(super) allowed_sans: Option<&'a [String]>,
    pub(super) provider: &'a Arc<CryptoProvider>,
}

impl ClientPolicy {
    /// # Errors
    /// When the roots cannot verify anything.
    pub(super) fn new(
        parts: PolicyParts<'_>,
    ) -> Result<ClientPolicy, rustls::server::VerifierBuilderError> {
        let PolicyParts { auth, roots, allowed_sans, provider } = parts;
        let chain = if auth.verifies() {
            let builder =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(builder.build()?)
        } else {
            None
        };
        Ok(ClientPolicy {
            auth,
            chain,
            allowed_sans: allowed_sans.map(<[String]>::to_vec),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for ClientPolicy {
    fn client_auth_mandatory(&self) -> bool {
        // a client that shows nothing holds no allowed name either
        self.auth.requires() || self.allowed_sans.is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.allowed_sans {
            let names = subject_alternative_names(end_entity)?;
            if !names.iter().any(|name| allowed.contains(name)) {
                tracing::debug!(?names, "a client certificate holds no allowed name");
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// DNS names, mail addresses, URIs and IP addresses, as Go writes them.
fn subject_alternative_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, TlsError> {
    let unreadable = |_| TlsError::from(CertificateError::BadEncoding);
    let certificate = Certificate::from_der(certificate).map_err(unreadable)?;
    let names = certificate.tbs_certificate.get::<SubjectAltName>().map_err(unreadable)?;
    let Some((_, SubjectAltName(names))) = names else { return Ok(Vec::new()) };
    Ok(names.iter().filter_map(text).collect())
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::Rfc822Name(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let old = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            old.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                .ok()
                .map(|ip| ip.to_string())
        }
        _ => None,
    }
}
