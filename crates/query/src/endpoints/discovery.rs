//! Turns what is configured into addresses, again and again.

use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use model::error::in_one_line;
use upstream::dns::{self, Lookup, Resolver};
use upstream::files;

use super::{ResolvedEndpoint, config};
use crate::metrics::Metrics;
use crate::settings::{ConfigSource, EndpointSettings, EndpointSpec, EndpointTls};
use crate::{Error, Kind, Result};

/// Knows all sources of endpoints and the last result of each: a file that became unreadable
/// changes nothing.
#[derive(Debug)]
pub(crate) struct Discovery {
    settings: EndpointSettings,
    resolver: Resolver,
    clock: Arc<dyn Clock>,
    from_config: Vec<EndpointSpec>,
    from_files: Vec<EndpointSpec>,
    config_read: Option<Duration>,
    files_read: Option<Duration>,
}

impl Discovery {
    /// Fails on a configuration that is wrong now; later a wrong one is only logged.
    pub(crate) fn new(
        settings: EndpointSettings,
        lookup: Box<dyn Lookup>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Discovery> {
        for spec in &settings.specs {
            validate(&spec.address)?;
        }
        let from_config = match &settings.config {
            Some(source) => read_config(source)?,
            None => Vec::new(),
        };
        let resolver = Resolver::new(lookup, metrics.dns);
        let config_read = Some(clock.monotonic());
        Ok(Discovery {
            settings,
            resolver,
            clock,
            from_config,
            from_files: Vec::new(),
            config_read,
            files_read: None,
        })
    }

    pub(crate) fn interval(&self) -> Duration {
        self.settings.dns_refresh
    }

    /// All endpoints as of now, also those whose name stands for no address. The first source that
    /// names an address decides how it is treated.
    pub(crate) async fn targets(&mut self) -> Vec<ResolvedEndpoint> {
        self.reread();
        let specs = self.settings.specs.iter().chain(&self.from_config).chain(&self.from_files);
        let specs: Vec<EndpointSpec> = specs.cloned().collect();
        let mut targets: Vec<ResolvedEndpoint> = Vec::new();
        for spec in specs {
            let servers = self.resolver.resolve(&spec.address).await;
            let tls = match &spec.tls {
                EndpointTls::AsForAll => self.settings.tls.clone(),
                EndpointTls::Off => None,
                EndpointTls::On(tls) => Some(tls.clone()),
            };
            let compression = spec.compression.unwrap_or(self.settings.compression);
            let target = |address: String, servers: Vec<String>| ResolvedEndpoint {
                address,
                servers,
                strict: spec.strict,
                tls: tls.clone(),
                compression,
            };
            let found = match spec.group || servers.is_empty() {
                true => vec![target(spec.address.clone(), servers)],
                false => servers.into_iter().map(|a| target(a.clone(), vec![a])).collect(),
            };
            for endpoint in found {
                if targets.iter().any(|target| target.address == endpoint.address) {
                    let endpoint = endpoint.address;
                    tracing::debug!(endpoint, "endpoint is configured more than once");
                    continue;
                }
                targets.push(endpoint);
            }
        }
        targets
    }

    fn reread(&mut self) {
        let now = self.clock.monotonic();
        let due = |read: Option<Duration>, every: Duration| {
            read.is_none_or(|read| now.saturating_sub(read) >= every)
        };
        if let Some(source @ ConfigSource::File(_)) = &self.settings.config
            && due(self.config_read, self.settings.config_reload)
        {
            self.config_read = Some(now);
            match read_config(source) {
                Ok(specs) => self.from_config = specs,
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "reload endpoint configuration, \
                        keeping the last good one")
                }
            }
        }
        if !self.settings.sd_files.is_empty() && due(self.files_read, self.settings.sd_files_reload)
        {
            self.files_read = Some(now);
            match read_files(&self.settings) {
                Ok(specs) => self.from_files = specs,
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "reload endpoint files, keeping \
                        what they said last")
                }
            }
        }
    }
}

/// Checks the address of an endpoint without looking anything up.
pub(super) fn validate(address: &str) -> Result<()> {
    let shown = model::secret::shown_url(address);
    let invalid = |reason: &str| Error::new(Kind::Invalid, format!("endpoint {shown:?}: {reason}"));
    dns::validate(address).map_err(invalid)
}

fn read_files(settings: &EndpointSettings) -> Result<Vec<EndpointSpec>> {
    let found = settings.sd_files.iter().flat_map(|pattern| files::matching_files(pattern));
    let mut specs = Vec::new();
    for file in found {
        let failed = |e: upstream::Error| {
            Error::caused(Kind::Unavailable, format!("read {}", file.display()), e)
        };
        let targets = files::targets(&file).map_err(failed)?;
        for address in targets {
            match validate(&address) {
                Ok(()) => specs.push(EndpointSpec { address, ..EndpointSpec::default() }),
                Err(error) => {
                    let file = file.display();
                    tracing::warn!(error = %in_one_line(&error), %file, "left out an endpoint");
                }
            }
        }
    }
    Ok(specs)
}

fn read_config(source: &ConfigSource) -> Result<Vec<EndpointSpec>> {
    match source {
        ConfigSource::Inline(text) => config::parse(text, "given on the command line"),
        ConfigSource::File(path) => {
            let origin = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::caused(Kind::Unavailable, format!("read {origin}"), e))?;
            config::parse(&text, &origin)
        }
    }
}
