//! `thanos_status`: what the probes say, as a metric.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use tokio::sync::watch;

use crate::{Registrar, Result};

#[derive(Clone, Debug)]
pub(crate) struct Status {
    checks: GaugeVec,
    component: &'static str,
    ready: watch::Receiver<bool>,
}

impl Status {
    pub(crate) fn register(
        registry: &Registry,
        component: &'static str,
        ready: watch::Receiver<bool>,
    ) -> Result<()> {
        const NAME: &str = "thanos_status";
        let help = "1 while a probe succeeds. A process that answers at all is healthy.";
        let checks = GaugeVec::new(Opts::new(NAME, help), &["check", "component"]);
        let status = checks.map(|checks| Status { checks, component, ready });
        Registrar::new(registry).add(NAME, status).map(|_| ())
    }
}

impl Collector for Status {
    fn desc(&self) -> Vec<&Desc> {
        self.checks.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let check = |name: &str, passes: bool| {
            let value = f64::from(u8::from(passes));
            self.checks.with_label_values(&[name, self.component]).set(value);
        };
        check("healthy", true);
        check("ready", *self.ready.borrow());
        self.checks.collect()
    }
}
