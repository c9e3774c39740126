//! Authorities and certificates, made anew for each test.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// A certificate and its key, in PEM form.
#[derive(Clone, Debug)]
pub struct CertificatePair {
    pub cert: String,
    pub key: String,
}

/// Signs certificates.
pub struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, key }
    }

    /// What others trust.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for servers and clients of these names: DNS names, IP addresses, or URIs.
    pub fn issue(&self, names: &[&str]) -> CertificatePair {
        let mut params = CertificateParams::default();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = names.iter().map(|name| subject(name)).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate =
            params.signed_by(&key, &self.certificate, &self.key).expect("a certificate");
        CertificatePair { cert: certificate.pem(), key: key.serialize_pem() }
    }
}

fn subject(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        return SanType::IpAddress(address);
    }
    let text = name.try_into().expect("ASCII");
    match (name.contains("://"), name.contains('@')) {
        (true, _) => SanType::URI(text),
        (false, true) => SanType::Rfc822Name(text),
        (false, false) => SanType::DnsName(text),
    }
}
