//! Versions, cipher suites and curves by the names that Go gives them.

use rustls::crypto::ring::{cipher_suite as suites, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::{Error, Kind, Result};

/// A version of TLS that is spoken here; older ones are insecure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    #[default]
    V1_3,
}

impl std::str::FromStr for TlsVersion {
    type Err = Error;

    /// By Thanos' name. Older versions give the oldest one that is secure.
    fn from_str(name: &str) -> Result<TlsVersion> {
        match name {
            "1.3" => Ok(TlsVersion::V1_3),
            "1.2" => Ok(TlsVersion::V1_2),
            "1.0" | "1.1" => {
                tracing::warn!(
                    version = name,
                    "tls before 1.2 is insecure and not spoken; using 1.2"
                );
                Ok(TlsVersion::V1_2)
            }
            _ => Err(Error::new(Kind::Invalid, format!("TLS version {name:?}: use 1.2 or 1.3"))),
        }
    }
}

/// The names of suites; TLS 1.3 always has all of its own, as in Go.
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", suites::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suites::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suites::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// The names of curves.
const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", kx_group::X25519),
    ("CurveP256", kx_group::SECP256R1),
    ("CurveP384", kx_group::SECP384R1),
];

/// What connections may use. The default is everything that is secure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsChoice {
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// Go's names of the suites that TLS 1.2 may use, in order of preference; empty for all.
    pub cipher_suites: Vec<String>,
    /// Go's names of curves, in order of preference; empty for all.
    pub curves: Vec<String>,
}

impl Default for TlsChoice {
    fn default() -> TlsChoice {
        TlsChoice {
            min_version: TlsVersion::V1_3,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
        }
    }
}

impl TlsChoice {
    /// # Errors
    /// `Invalid` for what cannot be served; it lists what can.
    pub fn check(&self) -> Result<()> {
        self.provider().map(drop)
    }

    /// Oldest first.
    pub fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [(TlsVersion::V1_2, &version::TLS12), (TlsVersion::V1_3, &version::TLS13)];
        let wanted = self.min_version..=self.max_version;
        all.into_iter().filter(|(v, _)| wanted.contains(v)).map(|(_, version)| version).collect()
    }

    /// # Errors
    /// `Invalid` for what cannot be served; it lists what can.
    pub fn provider(&self) -> Result<CryptoProvider> {
        let invalid = |text: &str| Err(Error::new(Kind::Invalid, text.to_owned()));
        if self.min_version > self.max_version {
            return invalid("the oldest TLS version allowed is newer than the newest one");
        }
        let mut provider = ring::default_provider();
        if !self.cipher_suites.is_empty() {
            let named = named("cipher suite", &self.cipher_suites, &SUITES)?;
            let is_newer = |suite: &SupportedCipherSuite| suite.version() == &version::TLS13;
            provider.cipher_suites.retain(is_newer);
            provider.cipher_suites.extend(named.into_iter().filter(|suite| !is_newer(suite)));
            let has_older = provider.cipher_suites.iter().any(|suite| !is_newer(suite));
            if self.max_version == TlsVersion::V1_2 && !has_older {
                return invalid("none of the cipher suites is one of TLS 1.2");
            }
        }
        if !self.curves.is_empty() {
            provider.kx_groups = named("curve", &self.curves, &CURVES)?;
        }
        Ok(provider)
    }
}

fn named<T: Copy>(what: &str, names: &[String], all: &[(&'static str, T)]) -> Result<Vec<T>> {
    let find = |name: &String| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let text = format!("{what} {name:?} is not available; use {}", known.join(", "));
            Error::new(Kind::Invalid, text)
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> TlsChoice {
        let cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
        TlsChoice { min_version: TlsVersion::V1_2, cipher_suites, ..TlsChoice::default() }
    }

    #[test]
    fn suites_of_tls_12_are_those_named_and_in_their_order() {
        let names = [
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ];
        let provider = suites(&names).provider().unwrap();
        let got: Vec<String> =
            provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
        assert_eq!(got.len(), 5, "{got:?}");
        assert_eq!(got[3..], names);
        assert_eq!(suites(&[]).provider().unwrap().cipher_suites.len(), SUITES.len());
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_what_can() {
        let cbc = suites(&["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]).check().unwrap_err().to_string();
        assert!(cbc.contains("AES_128_CBC_SHA") && cbc.contains("RSA_WITH_AES_128_GCM"), "{cbc}");
        let curves = TlsChoice { curves: vec!["CurveP521".to_owned()], ..TlsChoice::default() };
        let text = curves.check().unwrap_err().to_string();
        assert_eq!(text, "curve \"CurveP521\" is not available; use X25519, CurveP256, CurveP384");
        let older =
            TlsChoice { max_version: TlsVersion::V1_2, ..suites(&["TLS_AES_128_GCM_SHA256"]) };
        assert!(older.check().is_err());
        let none = TlsChoice { max_version: TlsVersion::V1_2, ..TlsChoice::default() };
        assert!(none.check().is_err());
    }
}
