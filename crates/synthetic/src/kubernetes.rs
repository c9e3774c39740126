//! The shape of a kube-prometheus-stack.
//!
//! Per cluster: four nodes (node-exporter, cAdvisor in the kubelet), kube-state-metrics, a blackbox
//! exporter with six probes of which one never succeeds, and 21 pods in three namespaces. Four pods
//! serve HTTP. The pods of deployments are replaced every day or two under new names; containers
//! restart, nodes reboot, targets fail to answer for minutes. The first node is always more than 90
//! % busy.

use std::sync::Arc;

use model::{Labels, TimeRange};

use crate::fleet::{ClusterBuilder, TargetRef};
use crate::rng::Rng;
use crate::schedule;
use crate::signal::{Flow, FlowShare, Native, Signal, Starts, Wave};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const NODES: usize = 4;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// cAdvisor and the kernel account memory in pages.
const PAGE: f64 = 4096.0;

/// A deployment, or with `churns` off a stateful set or daemon set whose pods keep their names.
struct Workload {
    namespace: &'static str,
    name: &'static str,
    pods: usize,
    churns: bool,
    cpu_cores: f64,
    memory_mib: f64,
}

const fn deployment(
    namespace: &'static str,
    name: &'static str,
    pods: usize,
    cpu_cores: f64,
    memory_mib: f64,
) -> Workload {
    Workload { namespace, name, pods, churns: true, cpu_cores, memory_mib }
}

const fn stable(
    namespace: &'static str,
    name: &'static str,
    pods: usize,
    cpu_cores: f64,
    memory_mib: f64,
) -> Workload {
    Workload { namespace, name, pods, churns: false, cpu_cores, memory_mib }
}

/// The workload whose pods serve HTTP and are scraped themselves.
const API: &str = "api";

const WORKLOADS: [Workload; 9] = [
    deployment("shop", API, 4, 0.7, 420.0),
    deployment("shop", "web", 3, 0.25, 160.0),
    deployment("shop", "cart", 3, 0.3, 240.0),
    deployment("shop", "worker", 2, 1.1, 700.0),
    stable("monitoring", "prometheus-k8s", 1, 0.9, 2600.0),
    stable("monitoring", "alertmanager-main", 1, 0.02, 60.0),
    stable("monitoring", "grafana", 1, 0.05, 190.0),
    stable("kube-system", "coredns", 2, 0.04, 45.0),
    stable("kube-system", "kube-proxy", NODES, 0.01, 30.0),
];

struct Node {
    name: String,
    address: String,
    kubelet: TargetRef,
}

/// One pod from its creation to its end.
struct Pod<'a> {
    workload: &'a Workload,
    name: String,
    address: String,
    life: TimeRange,
    /// Starts of its container; the first is the pod's own.
    starts: Starts,
    requested_cpu: f64,
    requested_memory: f64,
}

pub(crate) fn build(builder: &mut ClusterBuilder, cluster: &str) {
    let nodes: Vec<Node> = (0..NODES).map(|i| node(builder, cluster, i)).collect();
    let state = target(
        builder,
        "kube-state-metrics",
        "10.0.2.9:8080",
        &[("namespace", "monitoring")],
        240.0,
    );
    for node in &nodes {
        let labels = [("node", node.name.as_str()), ("internal_ip", node.address.as_str())];
        builder.series(&state, "kube_node_info", &labels, Signal::Constant(1.0));
    }
    let mut slot = 0;
    for workload in &WORKLOADS {
        for ordinal in 0..workload.pods {
            let node = &nodes[slot % NODES];
            slot += 1;
            for pod in generations(builder, workload, ordinal, slot) {
                pod_resources(builder, node, &pod);
                pod_state(builder, &state, node, &pod);
                if workload.name == API {
                    http_service(builder, &pod);
                }
            }
        }
    }
    probes(builder, cluster);
}

/// Adds a target that is always up except for outages of minutes every few days.
fn target(
    builder: &mut ClusterBuilder,
    job: &str,
    instance: &str,
    labels: &[(&str, &str)],
    samples_per_scrape: f64,
) -> TargetRef {
    let life = TimeRange::ALL;
    target_of(builder, Scraped { job, instance, labels, life, samples_per_scrape })
}

/// What a target is to be.
struct Scraped<'a> {
    job: &'a str,
    instance: &'a str,
    /// Beside `job` and `instance`.
    labels: &'a [(&'a str, &'a str)],
    life: TimeRange,
    samples_per_scrape: f64,
}

fn target_of(builder: &mut ClusterBuilder, scraped: Scraped<'_>) -> TargetRef {
    let Scraped { job, instance, labels, life, samples_per_scrape } = scraped;
    let all =
        Labels::from_pairs(labels.iter().copied().chain([("job", job), ("instance", instance)]));
    // ends before the last hour, so that the newest instant shows a healthy fleet
    let quiet = TimeRange::new(builder.range.start, builder.range.end - HOUR_MS);
    let outages = schedule::random_spans(&mut builder.rng, quiet, 6 * DAY_MS, 90_000..900_000);
    let target = builder.target(all, life, outages);
    let mean = builder.rng.between(0.004, 0.06);
    let duration = Signal::Gauge(gauge(&mut builder.rng, mean, 1e-6));
    builder.scrape_series(&target, samples_per_scrape, duration);
    target
}

/// A gauge that moves by some tens of percent around `mean`.
fn gauge(rng: &mut Rng, mean: f64, quantum: f64) -> Wave {
    Wave {
        seed: rng.next_u64(),
        mean,
        swing: 0.15 * mean,
        drift: 0.08 * mean,
        noise: 0.03 * mean,
        min: 0.0,
        max: 4.0 * mean,
        quantum,
    }
}

fn flow(builder: &mut ClusterBuilder, rate: f64) -> Flow {
    Flow { seed: builder.rng.next_u64(), rate, origin_ms: builder.range.start }
}

fn counter(flow: Flow, quantum: f64, starts: &Starts) -> Signal {
    Signal::Counter { part: FlowShare { flow, scale: 1.0, quantum }, starts: Arc::clone(starts) }
}

/// The first start at `first_ms`, then one about every `every_ms`.
fn starts(rng: &mut Rng, first_ms: i64, until_ms: i64, every_ms: i64) -> Starts {
    let mut starts = vec![first_ms];
    let mut t = first_ms;
    loop {
        t = t.saturating_add(rng.between_ms(every_ms / 3, every_ms * 5 / 3));
        if t >= until_ms {
            return starts.into();
        }
        starts.push(t);
    }
}

fn node(builder: &mut ClusterBuilder, cluster: &str, i: usize) -> Node {
    let (name, address) = (format!("{cluster}-node-{i}"), format!("10.0.1.{}", 10 + i));
    let pod = format!("node-exporter-{}", builder.rng.suffix(5));
    let labels = [
        ("namespace", "monitoring"),
        ("pod", pod.as_str()),
        ("container", "node-exporter"),
        ("endpoint", "metrics"),
    ];
    let exporter = target(builder, "node-exporter", &format!("{address}:9100"), &labels, 19.0);
    let first = builder.range.start - builder.rng.between_ms(DAY_MS, 10 * DAY_MS);
    let until = builder.range.end;
    let boots = starts(&mut builder.rng, first, until, 12 * DAY_MS);
    node_cpu(builder, &exporter, i, &boots);
    node_storage(builder, &exporter);
    let mean = builder.rng.between(5.0, 11.0) * GIB;
    let available = gauge(&mut builder.rng, mean, PAGE);
    builder.series(&exporter, "node_memory_MemAvailable_bytes", &[], Signal::Gauge(available));
    builder.series(&exporter, "node_memory_MemTotal_bytes", &[], Signal::Constant(16.0 * GIB));
    let load = gauge(&mut builder.rng, if i == 0 { 1.9 } else { 0.8 }, 0.01);
    builder.series(&exporter, "node_load1", &[], Signal::Gauge(load));
    for name in ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"] {
        let rate = builder.rng.between(2e5, 4e6);
        let flow = flow(builder, rate);
        builder.series(&exporter, name, &[("device", "eth0")], counter(flow, 1.0, &boots));
    }
    builder.series(&exporter, "node_boot_time_seconds", &[], Signal::StartTime(boots));
    let labels = [("metrics_path", "/metrics/cadvisor"), ("node", name.as_str())];
    let kubelet = target(builder, "kubelet", &format!("{address}:10250"), &labels, 30.0);
    Node { name, address, kubelet }
}

/// Two CPUs. The first node is busy more than 90 % of the time, the others about a third.
fn node_cpu(builder: &mut ClusterBuilder, exporter: &TargetRef, i: usize, boots: &Starts) {
    let busy = if i == 0 { 0.97 } else { builder.rng.between(0.2, 0.45) };
    for cpu in ["0", "1"] {
        for (mode, share) in [
            ("idle", 1.0 - busy),
            ("user", busy * 0.7),
            ("system", busy * 0.25),
            ("iowait", busy * 0.05),
        ] {
            let flow = flow(builder, share);
            let labels = [("cpu", cpu), ("mode", mode)];
            builder.series(exporter, "node_cpu_seconds_total", &labels, counter(flow, 0.01, boots));
        }
    }
}

fn node_storage(builder: &mut ClusterBuilder, exporter: &TargetRef) {
    for (device, fstype, mountpoint, size) in
        [("/dev/nvme0n1p1", "ext4", "/", 100.0 * GIB), ("tmpfs", "tmpfs", "/run", 1.6 * GIB)]
    {
        let labels = [("device", device), ("fstype", fstype), ("mountpoint", mountpoint)];
        let mean = size * builder.rng.between(0.3, 0.7);
        let free = Wave { max: size, ..gauge(&mut builder.rng, mean, PAGE) };
        builder.series(exporter, "node_filesystem_avail_bytes", &labels, Signal::Gauge(free));
        builder.series(exporter, "node_filesystem_size_bytes", &labels, Signal::Constant(size));
    }
}

/// The successive pods of one replica of a workload.
fn generations<'a>(
    builder: &mut ClusterBuilder,
    workload: &'a Workload,
    ordinal: usize,
    slot: usize,
) -> Vec<Pod<'a>> {
    let (requested_cpu, requested_memory) =
        (workload.cpu_cores * 1.5, (workload.memory_mib * 1.4).round() * MIB);
    let pod = |name, address, life: TimeRange, starts| Pod {
        workload,
        name,
        address,
        life,
        starts,
        requested_cpu,
        requested_memory,
    };
    let mut pods = Vec::new();
    let range = builder.range;
    let mut born = range.start - builder.rng.between_ms(HOUR_MS, DAY_MS);
    if !workload.churns {
        let starts = starts(&mut builder.rng, born - 5 * DAY_MS, range.end, 9 * DAY_MS);
        let life = TimeRange::new(born - 5 * DAY_MS, i64::MAX);
        return vec![pod(
            format!("{}-{ordinal}", workload.name),
            format!("10.1.0.{slot}"),
            life,
            starts,
        )];
    }
    while born < range.end {
        let mut dies = born + builder.rng.between_ms(16 * HOUR_MS, 52 * HOUR_MS);
        if dies > range.end - HOUR_MS {
            dies = i64::MAX;
        }
        let name = format!("{}-{}-{}", workload.name, builder.rng.suffix(9), builder.rng.suffix(5));
        let address = format!("10.1.{}.{slot}", 1 + pods.len() % 250);
        let starts = starts(&mut builder.rng, born, range.end.min(dies), 14 * HOUR_MS);
        pods.push(pod(name, address, TimeRange::new(born, dies), starts));
        born = dies;
    }
    pods
}

/// What cAdvisor reports about a pod: the container, and the pod's own cgroup without a container
/// name.
fn pod_resources(builder: &mut ClusterBuilder, node: &Node, pod: &Pod<'_>) {
    let image = format!("registry.example.com/{}:1.{}", pod.workload.name, pod.name.len());
    let seconds = flow(builder, pod.workload.cpu_cores);
    let memory = gauge(&mut builder.rng, pod.workload.memory_mib * MIB, PAGE);
    let on_disk_cache = Wave { mean: memory.mean * 1.2, ..memory };
    for (container, image, share) in [(pod.workload.name, image.as_str(), 1.0), ("", "", 1.02)] {
        let labels = [
            ("namespace", pod.workload.namespace),
            ("pod", &pod.name),
            ("container", container),
            ("image", image),
        ];
        let part = FlowShare { flow: seconds, scale: share, quantum: 1e-6 };
        let cpu = Signal::Counter { part, starts: Arc::clone(&pod.starts) };
        builder.push(&node.kubelet, "container_cpu_usage_seconds_total", &labels, pod.life, cpu);
        let scaled = |wave: Wave| Signal::Gauge(Wave { mean: wave.mean * share, ..wave });
        builder.push(
            &node.kubelet,
            "container_memory_working_set_bytes",
            &labels,
            pod.life,
            scaled(memory),
        );
        if !container.is_empty() {
            builder.push(
                &node.kubelet,
                "container_memory_usage_bytes",
                &labels,
                pod.life,
                scaled(on_disk_cache),
            );
        }
    }
}

/// What kube-state-metrics reports about a pod.
fn pod_state(builder: &mut ClusterBuilder, state: &TargetRef, node: &Node, pod: &Pod<'_>) {
    let of_pod = [("namespace", pod.workload.namespace), ("pod", pod.name.as_str())];
    let of_container = [of_pod[0], of_pod[1], ("container", pod.workload.name)];
    let info = [
        of_pod[0],
        of_pod[1],
        ("node", &node.name),
        ("pod_ip", &pod.address),
        ("host_ip", &node.address),
    ];
    builder.push(state, "kube_pod_info", &info, pod.life, Signal::Constant(1.0));
    let running = [of_pod[0], of_pod[1], ("phase", "Running")];
    builder.push(state, "kube_pod_status_phase", &running, pod.life, Signal::Constant(1.0));
    let restarts = Signal::Restarts(Arc::clone(&pod.starts));
    builder.push(
        state,
        "kube_pod_container_status_restarts_total",
        &of_container,
        pod.life,
        restarts,
    );
    for (resource, unit, requested) in
        [("cpu", "core", pod.requested_cpu), ("memory", "byte", pod.requested_memory)]
    {
        let labels = [
            of_container[0],
            of_container[1],
            of_container[2],
            ("node", &node.name),
            ("resource", resource),
            ("unit", unit),
        ];
        let requests = Signal::Constant(requested);
        let name = "kube_pod_container_resource_requests";
        builder.push(state, name, &labels, pod.life, requests);
    }
}

const HANDLERS: [(&str, &str, f64); 2] =
    [("GET", "/api/products", 24.0), ("POST", "/api/orders", 5.0)];
const STATUSES: [(&str, f64); 4] = [("200", 0.955), ("404", 0.032), ("500", 0.009), ("503", 0.004)];
const BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Medians in seconds and share of the requests that need a cache and of those that need the
/// database.
const FAST: (f64, f64) = (0.018, 0.93);
const SLOW: (f64, f64) = (0.22, 0.07);

/// The share of durations up to `seconds` when half of them are up to `median`: log-logistic with
/// shape 2.5.
fn share_up_to(seconds: f64, median: f64) -> f64 {
    1.0 / (1.0 + (median / seconds).powf(2.5))
}

/// The mean of the same distribution: `median × (π/2.5) / sin(π/2.5)`.
fn mean_of(median: f64) -> f64 {
    let angle = std::f64::consts::PI / 2.5;
    median * angle / angle.sin()
}

/// What a pod of the HTTP service exposes.
fn http_service(builder: &mut ClusterBuilder, pod: &Pod<'_>) {
    let labels = [
        ("namespace", pod.workload.namespace),
        ("pod", pod.name.as_str()),
        ("service", API),
        ("endpoint", "http"),
    ];
    let instance = format!("{}:8080", pod.address);
    let scraped = Scraped {
        job: API,
        instance: &instance,
        labels: &labels,
        life: pod.life,
        samples_per_scrape: 36.0,
    };
    let target = target_of(builder, scraped);
    for (method, handler, rate) in HANDLERS {
        let labels = [("method", method), ("handler", handler)];
        for (status, share) in STATUSES {
            let flow = flow(builder, rate * share);
            let labels = [labels[0], labels[1], ("status", status)];
            builder.series(
                &target,
                "http_requests_total",
                &labels,
                counter(flow, 1.0, &pod.starts),
            );
        }
        let requests = requests(builder, rate);
        classic_histogram(builder, &target, &labels, requests, &pod.starts);
    }
    for (method, rate) in [("GetProduct", 40.0), ("PlaceOrder", 6.0)] {
        let native = native_histogram(requests(builder, rate));
        let signal = Signal::Native { native: Box::new(native), starts: Arc::clone(&pod.starts) };
        builder.series(&target, "rpc_duration_seconds", &[("method", method)], signal);
    }
    let goroutines = gauge(&mut builder.rng, 64.0, 1.0);
    builder.series(&target, "go_goroutines", &[], Signal::Gauge(goroutines));
    builder.series(
        &target,
        "process_start_time_seconds",
        &[],
        Signal::StartTime(Arc::clone(&pod.starts)),
    );
}

/// Requests by what they need.
#[derive(Clone, Copy)]
struct Requests {
    fast: Flow,
    slow: Flow,
}

/// So many requests a second.
fn requests(builder: &mut ClusterBuilder, rate: f64) -> Requests {
    Requests { fast: flow(builder, rate * FAST.1), slow: flow(builder, rate * SLOW.1) }
}

fn classic_histogram(
    builder: &mut ClusterBuilder,
    target: &TargetRef,
    labels: &[(&str, &str)],
    requests: Requests,
    starts: &Starts,
) {
    let Requests { fast, slow } = requests;
    let mixture = |of_fast: f64, of_slow: f64, quantum| Signal::Mixture {
        parts: [
            FlowShare { flow: fast, scale: of_fast, quantum },
            FlowShare { flow: slow, scale: of_slow, quantum },
        ],
        starts: Arc::clone(starts),
    };
    for bound in BOUNDS {
        let le = bound.to_string();
        let labels: Vec<(&str, &str)> =
            labels.iter().copied().chain([("le", le.as_str())]).collect();
        let bucket = mixture(share_up_to(bound, FAST.0), share_up_to(bound, SLOW.0), 1.0);
        builder.series(target, "http_request_duration_seconds_bucket", &labels, bucket);
    }
    let infinite: Vec<(&str, &str)> = labels.iter().copied().chain([("le", "+Inf")]).collect();
    builder.series(
        target,
        "http_request_duration_seconds_bucket",
        &infinite,
        mixture(1.0, 1.0, 1.0),
    );
    builder.series(target, "http_request_duration_seconds_count", labels, mixture(1.0, 1.0, 1.0));
    let sum = mixture(mean_of(FAST.0), mean_of(SLOW.0), 1e-6);
    builder.series(target, "http_request_duration_seconds_sum", labels, sum);
}

/// Buckets of schema 1 (each √2 wide) from 2 ms to 4 s; what lies outside falls into the outermost.
fn native_histogram(requests: Requests) -> Native {
    const SCHEMA: i32 = 1;
    const FIRST: i32 = -17;
    const BUCKETS: i32 = 22;
    let Requests { fast, slow } = requests;
    let end_of = |i: i32| (f64::from(i) / 2.0).exp2();
    let share = |i: i32, median: f64| {
        let up_to = if i == FIRST + BUCKETS - 1 { 1.0 } else { share_up_to(end_of(i), median) };
        let below = if i == FIRST { 0.0 } else { share_up_to(end_of(i - 1), median) };
        up_to - below
    };
    let shares = (FIRST..FIRST + BUCKETS).map(|i| (share(i, FAST.0), share(i, SLOW.0))).collect();
    Native { schema: SCHEMA, first_bucket: FIRST, shares, fast, slow }
}

/// Six probes of the blackbox exporter; the last one never succeeds.
fn probes(builder: &mut ClusterBuilder, cluster: &str) {
    for (i, host) in ["www", "shop", "api", "docs", "status", "legacy"].into_iter().enumerate() {
        let succeeds = i < 5;
        let url = format!("https://{host}.{cluster}.example.com");
        let target = target(builder, "blackbox", &url, &[("namespace", "monitoring")], 3.0);
        builder.series(
            &target,
            "probe_success",
            &[],
            Signal::Constant(f64::from(u8::from(succeeds))),
        );
        let status = if succeeds { 200.0 } else { 0.0 };
        builder.series(&target, "probe_http_status_code", &[], Signal::Constant(status));
        let duration = gauge(&mut builder.rng, if succeeds { 0.12 } else { 9.5 }, 1e-6);
        builder.series(&target, "probe_duration_seconds", &[], Signal::Gauge(duration));
    }
}
