//! Names that stand for several addresses: `dns+`, `dnsdualstack+`, `dnssrv+`, `dnssrvnoa+`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use model::error::in_one_line;
use prometheus::{Counter, GaugeVec};

/// The questions asked of DNS. A name that does not exist has no answers; an error means that it is
/// not known.
#[async_trait]
pub trait Lookup: Send + Sync + fmt::Debug {
    async fn ipv4(&self, host: &str) -> Result<Vec<IpAddr>, String>;
    async fn ipv6(&self, host: &str) -> Result<Vec<IpAddr>, String>;
    /// Targets and ports of SRV records.
    async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, String>;
}

/// How an address is to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// IPv4 addresses, or IPv6 where there are none.
    Host,
    /// Addresses of both families.
    DualStack,
    /// SRV records, and the addresses of their targets.
    Service,
    /// SRV records, targets left as names.
    ServiceNames,
}

/// Splits `dns+host:port` and the like; `None` for an address that is not a name to look up.
fn scheme(address: &str) -> Option<(Scheme, &str)> {
    let (scheme, name) = address.split_once('+')?;
    let scheme = match scheme {
        "dns" => Scheme::Host,
        "dnsdualstack" => Scheme::DualStack,
        "dnssrv" => Scheme::Service,
        "dnssrvnoa" => Scheme::ServiceNames,
        _ => return None,
    };
    Some((scheme, name))
}

/// Checks an address without looking anything up.
///
/// # Errors
/// What is wrong with it.
pub fn validate(address: &str) -> Result<(), &'static str> {
    if address.contains('@') {
        return Err("it must not hold a user or a password");
    }
    match scheme(address) {
        Some((_, "")) => Err("a name must follow the +"),
        Some((Scheme::Host | Scheme::DualStack, name)) if split_port(name).is_none() => {
            Err("expected host:port")
        }
        Some(_) => Ok(()),
        None if address.contains('+') => Err("expected dns+, dnsdualstack+, dnssrv+ or dnssrvnoa+"),
        None if split_port(address).is_none() => Err("expected host:port"),
        None => Ok(()),
    }
}

fn split_port(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    Some((host, port.parse().ok().filter(|_| !host.is_empty())?))
}

/// The metrics of look-ups. Each component makes them under its own names; what has had several is
/// counted under each.
#[derive(Clone, Debug)]
pub struct DnsMetrics {
    pub lookups: Vec<Counter>,
    pub failures: Vec<Counter>,
    /// How many addresses each name has.
    pub results: Option<GaugeVec>,
}

/// Resolves addresses, and remembers the last answer for when DNS gives none.
#[derive(Debug)]
pub struct Resolver {
    lookup: Box<dyn Lookup>,
    metrics: DnsMetrics,
    known: HashMap<String, Vec<String>>,
}

impl Resolver {
    pub fn new(lookup: Box<dyn Lookup>, metrics: DnsMetrics) -> Resolver {
        Resolver { lookup, metrics, known: HashMap::new() }
    }

    /// The addresses `host:port` that `address` stands for.
    pub async fn resolve(&mut self, address: &str) -> Vec<String> {
        let Some((scheme, name)) = scheme(address) else { return vec![address.to_owned()] };
        self.metrics.lookups.iter().for_each(Counter::inc);
        match self.ask(scheme, name).await {
            Ok(mut addresses) => {
                addresses.sort();
                addresses.dedup();
                if addresses.is_empty() {
                    tracing::warn!(endpoint = address, "dns knows no address of this name");
                }
                if let Some(results) = &self.metrics.results {
                    results.with_label_values(&[address]).set(addresses.len() as f64);
                }
                self.known.insert(address.to_owned(), addresses.clone());
                addresses
            }
            Err(error) => {
                self.metrics.failures.iter().for_each(Counter::inc);
                tracing::warn!(
                    endpoint = address,
                    error,
                    "look up endpoint, keeping what was known"
                );
                self.known.get(address).cloned().unwrap_or_default()
            }
        }
    }

    async fn ask(&self, scheme: Scheme, name: &str) -> Result<Vec<String>, String> {
        match scheme {
            Scheme::Host | Scheme::DualStack => {
                let (host, port) = split_port(name).ok_or("expected host:port")?;
                self.hosts(host, port, scheme == Scheme::DualStack).await
            }
            Scheme::Service | Scheme::ServiceNames => {
                // a port after the name overrides those of the records
                let (name, port) =
                    split_port(name).map_or((name, None), |(name, port)| (name, Some(port)));
                let mut addresses = Vec::new();
                for (target, record_port) in self.lookup.services(name).await? {
                    let port = port.unwrap_or(record_port);
                    if scheme == Scheme::ServiceNames {
                        addresses.push(format!("{target}:{port}"));
                    } else {
                        addresses.extend(self.hosts(&target, port, false).await?);
                    }
                }
                Ok(addresses)
            }
        }
    }

    async fn hosts(&self, host: &str, port: u16, both: bool) -> Result<Vec<String>, String> {
        let mut ips = self.lookup.ipv4(host).await?;
        if both || ips.is_empty() {
            ips.extend(self.lookup.ipv6(host).await?);
        }
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect())
    }
}

/// DNS as configured in the system. If that configuration cannot be read, each look-up reports it:
/// it is not needed where no names are used.
pub struct SystemLookup {
    resolver: Result<TokioResolver, String>,
}

impl fmt::Debug for SystemLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemLookup")
    }
}

impl Default for SystemLookup {
    fn default() -> SystemLookup {
        SystemLookup::new()
    }
}

impl SystemLookup {
    pub fn new() -> SystemLookup {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        SystemLookup {
            resolver: resolver
                .map_err(|e| format!("read the system's dns configuration: {}", in_one_line(&e))),
        }
    }

    fn resolver(&self) -> Result<&TokioResolver, String> {
        self.resolver.as_ref().map_err(Clone::clone)
    }
}

/// No such name, and a name without such records, are answers.
fn none_if_absent<T>(error: &hickory_resolver::net::NetError) -> Result<Vec<T>, String> {
    if error.is_no_records_found() || error.is_nx_domain() {
        Ok(Vec::new())
    } else {
        Err(in_one_line(error).to_string())
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    async fn ipv4(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        match self.resolver()?.ipv4_lookup(host).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|r| r.data.ip_addr()).collect()),
            Err(error) => none_if_absent(&error),
        }
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match self.resolver()?.ipv6_lookup(host).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|r| r.data.ip_addr()).collect()),
            Err(error) => none_if_absent(&error),
        }
    }

    async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, String> {
        let found = match self.resolver()?.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) => return none_if_absent(&error),
        };
        let service = |data: &RData| match data {
            RData::SRV(srv) => {
                Some((srv.target.to_utf8().trim_end_matches('.').to_owned(), srv.port))
            }
            _ => None,
        };
        Ok(found.answers().iter().filter_map(|record| service(&record.data)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Zone {
        broken: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    impl Zone {
        fn answer<T>(&self, answer: Vec<T>) -> Result<Vec<T>, String> {
            let broken = self.broken.load(std::sync::atomic::Ordering::Relaxed);
            if broken { Err("server failure".to_owned()) } else { Ok(answer) }
        }
    }

    #[async_trait]
    impl Lookup for Zone {
        async fn ipv4(&self, host: &str) -> Result<Vec<IpAddr>, String> {
            self.answer(match host {
                "both" => vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()],
                "pod-0" => vec!["10.1.0.1".parse().unwrap()],
                _ => vec![],
            })
        }

        async fn ipv6(&self, host: &str) -> Result<Vec<IpAddr>, String> {
            self.answer(match host {
                "both" | "six" => vec!["fd00::1".parse().unwrap()],
                _ => vec![],
            })
        }

        async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, String> {
            self.answer(match name {
                "_grpc._tcp.x" => vec![("pod-0".to_owned(), 10901)],
                _ => vec![],
            })
        }
    }

    #[tokio::test]
    async fn each_scheme_resolves_and_failures_keep_the_last_answer() {
        let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let counter = |name: &str| Counter::new(name, "Counted.").unwrap();
        let results = GaugeVec::new(prometheus::Opts::new("results", "Found."), &["addr"]).unwrap();
        let metrics = DnsMetrics {
            lookups: vec![counter("lookups"), counter("older_lookups")],
            failures: vec![counter("failures")],
            results: Some(results.clone()),
        };
        let mut resolver =
            Resolver::new(Box::new(Zone { broken: broken.clone() }), metrics.clone());
        for (address, expected) in [
            ("localhost:1", vec!["localhost:1"]),
            ("dns+both:1", vec!["10.0.0.1:1", "10.0.0.2:1"]),
            ("dns+six:1", vec!["[fd00::1]:1"]),
            ("dnsdualstack+both:1", vec!["10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1"]),
            ("dnssrv+_grpc._tcp.x", vec!["10.1.0.1:10901"]),
            ("dnssrv+_grpc._tcp.x:7", vec!["10.1.0.1:7"]),
            ("dnssrvnoa+_grpc._tcp.x", vec!["pod-0:10901"]),
            ("dns+gone:1", vec![]),
        ] {
            assert_eq!(resolver.resolve(address).await, expected, "{address}");
        }
        broken.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(resolver.resolve("dns+six:1").await, ["[fd00::1]:1"]);
        assert_eq!(metrics.failures[0].get(), 1.0);
        assert_eq!(metrics.lookups[0].get(), 8.0);
        assert_eq!(metrics.lookups[1].get(), 8.0);
        let found = |address| results.with_label_values(&[address]).get();
        assert_eq!((found("dns+both:1"), found("dns+gone:1")), (2.0, 0.0));
    }

    #[test]
    fn addresses_are_checked_before_anything_is_looked_up() {
        for good in ["a:1", "[::1]:1", "dns+a:1", "dnssrv+_grpc._tcp.a", "dnssrvnoa+a:1"] {
            assert!(validate(good).is_ok(), "{good}");
        }
        for bad in ["a", "dns+a", "dns+", "srv+a:1", ":1"] {
            assert!(validate(bad).is_err(), "{bad}");
        }
    }
}
