use super::*;

fn parse_words(words: &str) -> Result<Parsed, clap::Error> {
    parse(std::iter::once("drumlin").chain(words.split_whitespace()).map(OsString::from))
}

fn flag(words: &str, name: &str) -> String {
    parse_words(words).unwrap().flags[name].clone()
}

#[test]
fn switches_take_all_spellings() {
    let name = "query.partial-response";
    assert_eq!(flag("query", name), "true");
    assert_eq!(flag("query --no-query.partial-response", name), "false");
    assert_eq!(flag("query --query.partial-response=false", name), "false");
    assert_eq!(flag("query --query.partial-response", name), "true");
    assert_eq!(flag("query --web.disable-cors", "web.disable-cors"), "true");
    assert_eq!(flag("query --no-web.disable-cors", "web.disable-cors"), "false");
    // a switch takes no separate word
    assert!(parse_words("query --web.disable-cors true").is_err());
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    let error = parse_words("query --query.replica-labels=a").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(
        text.contains("--query.replica-labels") && text.contains("'--query.replica-label'"),
        "{text}"
    );
    assert_eq!(parse_words("qery").unwrap_err().exit_code(), 2);
    assert_eq!(parse_words("--version").unwrap_err().exit_code(), 0);
}

#[test]
fn wrong_values_name_the_flag() {
    let text = parse_words("query --query.timeout=soon").unwrap_err().to_string();
    assert!(text.contains("--query.timeout") && text.contains("expected a duration"), "{text}");
}

#[test]
fn flags_without_effect_are_accepted_and_reported_together() {
    let parsed = parse_words(
        "query --query.mode=local --tracing.config= --enable-auto-gomemlimit \
         --no-rule.partial-response --query.conn-metric.label=external_labels \
         --query.conn-metric.label store_type",
    )
    .unwrap();
    assert_eq!(
        parsed.without_effect,
        ["enable-auto-gomemlimit", "query.mode", "query.conn-metric.label"]
    );
}

#[test]
fn what_would_change_answers_is_refused() {
    let text = parse_words("query --query.enforce-tenancy").unwrap_err().to_string();
    assert!(text.contains("--query.enforce-tenancy is not supported yet"), "{text}");
    assert!(parse_words("query --no-query.enforce-tenancy").is_ok());
    assert!(parse_words("query --selector.relabel-config=").is_ok());
}

#[test]
fn what_was_replaced_names_its_successor() {
    let text = parse_words("query --store=dns+a:1").unwrap_err().to_string();
    assert!(text.contains("--store is gone") && text.contains("use --endpoint"), "{text}");
    assert_eq!(parse_words("query --debug.name=x").unwrap().without_effect, ["debug.name"]);
}

#[test]
fn subcommands_that_are_not_there_say_so() {
    for words in ["receive --label=a=b", "rule", "query-frontend --help", "tools bucket ls"] {
        let error = parse_words(words).unwrap_err();
        let name = words.split(' ').next().unwrap();
        assert!(
            error.to_string().contains(&format!("thanos {name} has no counterpart")),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn configurations_are_not_shown() {
    let parsed = parse_words("query --endpoint.sd-config=secret --http-address=:1").unwrap();
    assert_eq!(parsed.flags["endpoint.sd-config"], "<hidden>");
    assert_eq!(parsed.flags["http-address"], ":1");
}

#[test]
fn help_has_headings_and_hides_what_has_no_effect() {
    let help = parse_words("query --help").unwrap_err().to_string();
    for part in
        ["Endpoints:", "--endpoint <ENDPOINT>", "Connections to endpoints:", "[default: 2m]"]
    {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    assert!(!help.contains("--tracing.config"));
}

#[test]
fn help_of_a_querier_says_what_is_about_its_bucket() {
    let help = parse_words("query --help").unwrap_err().to_string();
    for part in [
        "A bucket to query without a store gateway",
        "--objstore.min-time <TIME>",
        "--objstore.selector.relabel-config <CONTENT>",
        "--index-cache-size <SIZE>",
        "--bucket.max-inflight <N>",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    assert!(!help.contains(" --min-time"), "it would be taken for all of its data");
    let store = parse_words("store --help").unwrap_err().to_string();
    assert!(store.contains(" --min-time <TIME>") && store.contains("--disable-admin-operations"));
}

/// What the Prometheus Operator puts on a sidecar's command line, and what its users add.
#[test]
fn the_operators_sidecar_arguments_parse() {
    let parsed = parse_words(
        "sidecar --prometheus.url=http://localhost:9090/ \
         --prometheus.http-client-file=/etc/secret/http.yaml --grpc-address=:10901 \
         --http-address=:10902 --grpc-server-tls-cert=/c --grpc-server-tls-key=/k \
         --grpc-server-tls-client-ca=/ca --objstore.config-file=/etc/objstore.yml \
         --tsdb.path=/prometheus --tracing.config-file=/t.yml --log.level=info --log.format=logfmt \
         --min-time=-2h --prometheus.ready_timeout=10m --prometheus.get_config_timeout=30s \
         --prometheus.get_config_interval=30s --shipper.upload-compacted --hash-func=SHA256 \
         --store.limits.request-series=0 --store.limits.request-samples=0 \
         --grpc-server-max-connection-age=60m --grpc-server-tls-min-version=1.3 \
         --enable-auto-gomemlimit --auto-gomemlimit.ratio=0.9 --request.logging-config= \
         --reloader.watch-interval=3m --reloader.config-file= --http-grace-period=2m \
         --grpc-grace-period=2m",
    )
    .unwrap();
    assert!(matches!(parsed.subcommand, Subcommands::Sidecar(_)));
    assert_eq!(parsed.flags["grpc-address"], ":10901");
    let operator = "sidecar --objstore.config=type:x --tracing.config=y \
        --prometheus.http-client={\"a\":1} --grpc-address=127.0.0.1:10901";
    assert_eq!(parse_words(operator).unwrap().flags["objstore.config"], "<hidden>");
}

#[test]
fn secrets_in_the_wrong_flag_are_not_shown() {
    let pasted = [
        ("sidecar", "--prometheus.url=http://alice:hush@p:9090/x"),
        ("sidecar", "--reloader.config-file=http://alice:hush@p/"),
        ("query", "--endpoint=alice:hush@a:10901"),
        ("query", "--endpoint-strict=https://alice:hush@a:10901"),
        ("query", "--endpoint=dns+alice:hush@b:1"),
        ("query", "--grpc-server-tls-key=-----BEGIN PRIVATE KEY----- hush"),
        ("query", "--grpc-client-tls-key=hush\nhush"),
    ];
    for (subcommand, flag) in pasted {
        let parsed = parse(["drumlin", subcommand, flag].map(OsString::from)).unwrap();
        let shown = format!("{:?}", parsed.flags);
        assert!(!shown.contains("hush"), "{flag}: {shown}");
    }
    let parsed = parse_words("sidecar --prometheus.url=http://a:hush@p:9090/x").unwrap();
    assert_eq!(parsed.flags["prometheus.url"], "http://<hidden>@p:9090/x");
}

/// Every flag of the four components that Thanos documents is accepted, each with a value that fits
/// it.
#[test]
fn every_documented_flag_of_thanos_is_accepted() {
    for line in include_str!("../../tests/data/thanos_flags.txt").lines() {
        let (subcommand, flag) = line.split_once(' ').unwrap();
        let words = format!("{subcommand} {flag}");
        match parse_words(&words) {
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains("is not supported yet"), "{words}: {error}")
            }
        }
    }
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}
