use clap::Parser;
use query::GrpcCompression;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn settings(words: &str) -> Result<Settings> {
    let line = Line::try_parse_from(std::iter::once("query").chain(words.split_whitespace()))?;
    line.args.settings(Default::default(), Budget::unlimited())
}

#[test]
fn defaults_are_those_of_thanos() {
    let settings = settings("").unwrap();
    assert_eq!(settings.timeout, Duration::from_secs(120));
    assert_eq!((settings.max_concurrent, settings.partial_response), (20, true));
    assert_eq!(settings.lookback, Duration::from_secs(300));
    assert!(settings.dynamic_lookback && !settings.auto_downsampling);
    assert_eq!(settings.language, ParserOptions::default());
    assert_eq!(settings.endpoints.dns_refresh, Duration::from_secs(30));
    assert_eq!(settings.endpoints.info_timeout, Duration::from_secs(5));
    assert_eq!(settings.endpoints.response_timeout, None);
}

#[test]
fn endpoints_come_in_four_kinds() {
    let endpoints = settings(
        "--endpoint=a:1 --endpoint dnssrv+_grpc._tcp.b --endpoint-strict=c:1 --endpoint-group=d:1 \
         --endpoint-group-strict=e:1",
    )
    .unwrap()
    .endpoints
    .specs;
    let kinds: Vec<_> = endpoints.iter().map(|e| (e.address.as_str(), e.strict, e.group)).collect();
    assert_eq!(
        kinds,
        [
            ("a:1", false, false),
            ("dnssrv+_grpc._tcp.b", false, false),
            ("c:1", true, false),
            ("d:1", false, true),
            ("e:1", true, true)
        ]
    );
    assert!(settings("--endpoint-strict=dns+a:1").unwrap().endpoints.specs[0].strict);
}

#[test]
fn values_reach_the_settings() {
    let given = settings(
        "--query.replica-label=a,b --query.replica-label=c --deduplication.func=chain \
         --selector-label=x=\"y\" --enable-feature=promql-experimental-functions \
         --query.enable-x-functions --web.external-prefix=/thanos --store.response-timeout=10s",
    )
    .unwrap();
    assert_eq!(given.replica_labels, ["a", "b", "c"]);
    assert_eq!(given.dedup, Dedup::Chain);
    assert_eq!(given.selector_labels.get("x"), Some(&b"y"[..]));
    assert!(given.language.experimental_functions && given.language.extended_rate_functions);
    assert_eq!(given.web.route_prefix, "/thanos");
    assert_eq!(given.endpoints.response_timeout, Some(Duration::from_secs(10)));
    assert!(settings("--deduplication.func=best").is_err());
    assert!(settings("--endpoint.sd-config=x --endpoint.sd-config-file=y").is_err());
}

#[test]
fn tls_towards_endpoints_is_off_unless_asked_for() {
    assert!(settings("--grpc-client-tls-ca=/ca.pem").unwrap().endpoints.tls.is_none());
    let tls = settings("--grpc-client-tls-secure --grpc-client-tls-ca=/ca.pem")
        .unwrap()
        .endpoints
        .tls
        .unwrap();
    assert_eq!((tls.ca, tls.min_version), (Some("/ca.pem".into()), serve::TlsVersion::V1_3));
    let of = |version: &str| {
        settings(&format!("--grpc-client-tls-secure --grpc-client-tls-min-version={version}"))
    };
    for (version, expected) in [("1.2", serve::TlsVersion::V1_2), ("1.0", serve::TlsVersion::V1_2)]
    {
        assert_eq!(of(version).unwrap().endpoints.tls.unwrap().min_version, expected);
    }
    assert!(of("2").unwrap_err().to_string().contains("--grpc-client-tls-min-version=2"));
}

#[test]
fn messages_are_compressed_when_asked_for() {
    let of = |words: &str| settings(words).map(|s| s.endpoints.compression);
    assert_eq!(of("").unwrap(), GrpcCompression::None);
    assert_eq!(of("--grpc-compression=snappy").unwrap(), GrpcCompression::Snappy);
    assert!(of("--grpc-compression=gzip").is_err());
}

#[test]
fn features_are_known_by_the_names_of_prometheus() {
    let of = |words: &str| {
        let s = settings(words).unwrap();
        let language = s.language;
        let [functions, selectors] =
            [language.experimental_functions, language.extended_range_selectors];
        [functions, selectors, language.fill_modifiers, s.delayed_name_removal]
    };
    assert_eq!(of("--enable-feature=promql-at-modifier"), [false; 4]);
    assert_eq!(of("--enable-feature=promql-extended-range-selectors"), [false, true, false, false]);
    let two = "--enable-feature=promql-binop-fill-modifiers,promql-experimental-functions";
    assert_eq!(
        of(&format!("{two} --enable-feature=promql-delayed-name-removal")),
        [true, false, true, true]
    );
}

#[test]
fn flags_about_the_bucket_inside_reach_the_gateway() {
    let words = "query --data-dir=/var/d --index-cache-size=64MB --objstore.min-time=-6w \
        --objstore.max-time=2026-01-01T00:00:00Z --sync-block-duration=3m \
        --store.grpc.downloaded-bytes-limit=1GB";
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.push("--objstore.selector.relabel-config=[{action: drop, source_labels: [a], regex: b}]");
    let line = Line::try_parse_from(words).unwrap();
    let budget = Budget::new(1 << 30);
    let settings = line.args.bucket.settings(budget.clone(), &Environment::new()).unwrap();
    assert_eq!(settings.data_dir, Some("/var/d".into()));
    assert_eq!(settings.index_cache_bytes, 64 << 20);
    assert_eq!(settings.min_time, store::TimeBound::FromNow(-6 * 7 * 86_400_000));
    assert!(matches!(settings.max_time, store::TimeBound::At(_)));
    assert_eq!(settings.sync_interval, Duration::from_secs(180));
    assert_eq!(settings.downloaded_bytes_limit, 1 << 30);
    assert_eq!(settings.relabel.len(), 1);
    let mut held = settings.budget.reserve("a test");
    held.grow(77).unwrap();
    assert_eq!(budget.used(), 77, "one budget for the querier and the gateway");
}
