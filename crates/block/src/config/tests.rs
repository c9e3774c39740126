use model::error::in_one_line;

use super::*;
use crate::testing::TestClock;

fn parse(yaml: &str) -> Result<ObjectStoreConfig> {
    let environment =
        [("KEY", "from-env"), ("SECRET", "hush")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ObjectStoreConfig::parse(yaml, &environment.into())
}

fn refused(yaml: &str) -> String {
    parse(yaml).map(|_| ()).unwrap_err().to_string()
}

const S3: &str = "
type: s3
config:
  bucket: metrics
  endpoint: minio:9000
  region: ''
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: $(KEY)
  insecure: true
  signature_version2: false
  secret_key: $(SECRET)
  session_token: t
  put_user_metadata: {}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: true
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config: {ca_file: '', cert_file: '', key_file: '', server_name: '', insecure_skip_verify: false}
    disable_compression: false
  trace: {enable: true}
  list_objects_version: ''
  bucket_lookup_type: path
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {}, encryption_key: ''}
  sts_endpoint: ''
  max_retries: 3
prefix: a/b/
hedging_config: {enabled: false, up_to: 3, quantile: 0.9}
";

#[test]
fn every_field_of_s3_is_known() {
    let config = parse(S3).unwrap();
    assert_eq!((config.provider(), config.bucket_name()), (Provider::S3, "metrics"));
    let named = |word: &str| config.warnings().iter().filter(|w| w.contains(word)).count();
    assert_eq!(
        (named("trace.enable"), named("response_header_timeout"), named("hedging")),
        (1, 1, 0)
    );
    assert_eq!(config.warnings().len(), 4, "{:?}", config.warnings());
    assert_eq!(config.values.map("config.put_user_metadata").count(), 0);
    let metrics = BucketMetrics::new(&prometheus::Registry::new()).unwrap();
    let bucket = config.build(metrics, TestClock::new()).unwrap();
    assert_eq!(bucket.settings().part_size, 64 << 20);
    let shown = format!("{:?} {:?} {}", config, bucket, bucket.store());
    assert!(!shown.contains("hush") && !shown.contains("from-env"), "{shown}");
}

#[test]
fn every_field_of_gcs_azure_and_filesystem_is_known() {
    let account = r#"{"private_key":"k","private_key_id":"i","client_email":"e","gcs_base_url":"http://localhost:1","disable_oauth":true}"#;
    let gcs = format!(
        "type: GCS\nconfig:\n  bucket: b\n  service_account: '{account}'\n  use_grpc: true\n  \
         grpc_conn_pool_size: 2\n  \
         http_config: {{}}\n  chunk_size_bytes: 8388608\n  max_retries: 1\n"
    );
    let config = parse(&gcs).unwrap();
    assert_eq!(config.warnings().len(), 2);
    config.build_store().unwrap();

    let azure = "
type: AZURE
config:
  az_tenant_id: t
  client_id: c
  client_secret: s
  storage_account: acc
  storage_account_key: a2V5
  storage_connection_string: ''
  storage_create_container: true
  container: box
  endpoint: blob.core.windows.net
  user_assigned_id: ''
  max_retries: 2
  reader_config: {max_retry_requests: 3}
  pipeline_config: {max_tries: 4, try_timeout: 0, retry_delay: 1s, max_retry_delay: 5s}
  http_config: {idle_conn_timeout: 0s}
  msi_resource: ''
";
    let config = parse(azure).unwrap();
    assert_eq!((config.bucket_name(), config.warnings().len()), ("box", 2));
    config.build_store().unwrap();
    let by_string = "type: AZURE\nconfig: {container: b, storage_connection_string: \
        'DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/dev'}";
    parse(by_string).unwrap().build_store().unwrap();

    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("bucket");
    let config = parse(&format!(
        "type: filesystem\nconfig:\n  directory: {}\nprefix: p\n",
        folder.display()
    ))
    .unwrap();
    assert_eq!(config.directory(), Some(folder.join("p")));
    config.build_store().unwrap();
    assert!(folder.is_dir());
}

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    let text = refused("type: S3\nconfig: {bucket: b, endpoint: e, acces_key: a}");
    assert!(
        text.contains("config.acces_key") && text.contains("did you mean \"access_key\""),
        "{text}"
    );
    let text =
        refused("type: S3\nconfig: {bucket: b, endpoint: e, http_config: {tls_config: {ca: x}}}");
    assert!(
        text.contains("config.http_config.tls_config.ca") && text.contains("ca_file"),
        "{text}"
    );
    assert!(refused("type: S3\nconfg: {}").contains("did you mean \"config\""));
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let s3 = |more: &str| refused(&format!("type: S3\nconfig: {{bucket: b, endpoint: e, {more}}}"));
    assert!(s3("put_user_metadata: {a b: c}").contains("put_user_metadata"));
    assert!(s3("put_user_metadata: [a]").contains("must be a mapping"));
    assert!(s3("http_config: {tls_config: {cert_file: x}}").contains("cert_file"));
    assert!(s3("http_config: {tls_config: {key_file: x}}").contains("key_file"));
    assert!(s3("signature_version2: true").contains("signature_version2"));
    assert!(s3("access_key: x").contains("together"));
    assert!(s3("sse_config: {type: SSE-X}").contains("SSE-X"));
    assert!(s3("sse_config: {type: SSE-KMS}").contains("kms_key_id"));
    assert!(s3("insecure: maybe").contains("config.insecure must be true or false"));
    assert!(s3("max_retries: many").contains("config.max_retries must be a number"));
}

#[test]
fn secrets_in_place_of_a_path_or_a_host_are_not_shown() {
    let s3 = |more: &str| format!("type: S3\nconfig: {{bucket: b, endpoint: e, {more}}}");
    let table = [
        (s3("sse_config: {type: SSE-C, encryption_key: aHVzaA==}"), "sse_config.encryption_key"),
        (s3("sse_config: {type: SSE-C, encryption_key: /aHVz/aA==}"), "sse_config.encryption_key"),
        (s3("http_config: {tls_config: {ca_file: aHVz}}"), "certificates"),
        (s3("sts_endpoint: 'https://u:aHVz@sts'"), "config.sts_endpoint"),
        (s3("x: 1").replace("endpoint: e, x: 1", "endpoint: 'u:aHVz@e'"), "config.endpoint"),
        (
            "type: AZURE\nconfig: {container: b, storage_account: a, storage_account_key: a2V5, \
             endpoint: 'u:aHVz@e'}"
                .to_owned(),
            "config.endpoint",
        ),
    ];
    for (text, part) in table {
        let error = parse(&text).and_then(|config| config.build_store().map(drop)).unwrap_err();
        let shown = in_one_line(&error).to_string();
        assert!(shown.contains(part) && !shown.contains("aHVz"), "{part}: {shown}");
    }
}

#[test]
fn types_and_missing_fields() {
    assert!(refused("type: SWIFT\nconfig: {auth_url: x}").contains("SWIFT is not supported yet"));
    assert!(refused("type: FTP").contains("unknown"));
    assert!(refused("config: {}").contains("\"type\" is missing"));
    assert!(refused("- a").contains("mapping"));
    assert!(refused("type: S3\nconfig: {bucket: b}").contains("config.endpoint is missing"));
    assert!(refused("type: AZURE\nconfig: {container: b}").contains("storage_account"));
    assert!(refused("type: FILESYSTEM\nconfig: {directory: $(NOPE)}").contains("NOPE"));
    assert!(refused("type: [").contains("YAML"));
}

#[test]
fn text_that_only_looks_like_a_reference_stays() {
    let environment = Environment::from([("A".to_owned(), "1".to_owned())]);
    assert_eq!(
        env::substitute("$(A) $A $(A $( ) $(b-c)", &environment).unwrap(),
        "1 $A $(A $( ) $(b-c)"
    );
}

#[test]
fn credentials_of_the_environment_reach_the_client() {
    use object_store::aws::AmazonS3ConfigKey;
    for name in providers::AWS_VARIABLES {
        assert!(name.to_lowercase().parse::<AmazonS3ConfigKey>().is_ok(), "{name}");
    }
    let environment =
        [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let yaml =
        "type: S3\nconfig: {bucket: b, endpoint: s3.eu-west-1.amazonaws.com, aws_sdk_auth: true}";
    ObjectStoreConfig::parse(yaml, &environment).unwrap().build_store().unwrap();
}

#[test]
fn words_and_numbers_are_read_as_thanos_reads_them() {
    let s3 = |more: &str| {
        parse(&format!("\u{feff}type: S3\nconfig: {{bucket: b, endpoint: e, {more}}}")).unwrap()
    };
    for word in ["yes", "on", "True", "y"] {
        assert!(s3(&format!("insecure: {word}")).values.is_on("config.insecure"), "{word}");
    }
    for word in ["no", "off", "FALSE", "n"] {
        assert!(!s3(&format!("insecure: {word}")).values.is_on("config.insecure"), "{word}");
    }
    assert_eq!(s3("max_retries: -1").values.number("config.max_retries").unwrap(), None);
    s3("max_retries: -1").build_store().unwrap();
}

#[test]
fn a_scheme_in_the_endpoint_is_explained() {
    let with = |endpoint: &str| {
        refused(&format!("type: S3\nconfig: {{bucket: b, endpoint: '{endpoint}'}}"))
    };
    assert!(with("http://minio:9000/").contains("write \"minio:9000\" with config.insecure: true"));
    assert!(with("https://s3.amazonaws.com").ends_with("write \"s3.amazonaws.com\""));
}

#[test]
fn those_who_only_read_do_not_create_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("typo");
    let config =
        parse(&format!("type: FILESYSTEM\nconfig: {{directory: {}}}", folder.display())).unwrap();
    let text = config.must_exist().unwrap_err().to_string();
    assert!(text.contains("typo is no folder") && !folder.exists(), "{text}");
    config.build_store().unwrap();
    assert!(config.must_exist().is_ok());
}

#[test]
fn credentials_of_a_person_are_read_for_gcs() {
    let person =
        r#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}"#;
    let yaml = format!("type: GCS\nconfig: {{bucket: b, service_account: '{person}'}}");
    parse(&yaml).unwrap().build_store().unwrap();
}

#[test]
fn reads_are_hedged_as_the_file_says() {
    let hedging = |text: &str| {
        let yaml = format!("type: S3\nconfig: {{bucket: b, endpoint: e, region: r}}\n{text}");
        parse(&yaml).map(|config| {
            assert_eq!(config.warnings(), Vec::<String>::new());
            let metrics = BucketMetrics::new(&prometheus::Registry::new()).unwrap();
            config.build(metrics, TestClock::new()).unwrap().settings().hedging
        })
    };
    assert_eq!(hedging("").unwrap(), None);
    assert_eq!(hedging("hedging_config: {up_to: 3, quantile: 0.9}").unwrap(), None);
    let on = |text: &str| hedging(&format!("hedging_config: {{enabled: true{text}}}"));
    assert_eq!(on("").unwrap(), Some(HedgingSettings::default()));
    let given = HedgingSettings { up_to: 2, quantile: 0.99 };
    assert_eq!(on(", up_to: 2, quantile: 0.99").unwrap(), Some(given));
    assert_eq!(on(", up_to: 1").unwrap(), None, "the first request is one");
    for wrong in [", up_to: 1000", ", quantile: 1", ", quantile: -0.5", ", quantile: 7"] {
        let error = on(wrong).unwrap_err().to_string();
        assert!(error.contains("hedging_config."), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "{{type: FILESYSTEM, config: {{directory: '{}'}}, hedging_config: {{enabled: true}}}}",
        folder.path().display()
    );
    assert_eq!(parse(&yaml).unwrap().hedging().unwrap(), None);
}

#[test]
fn the_number_of_requests_at_once_is_set() {
    let yaml = "type: S3\nconfig: {bucket: b, endpoint: e, region: r}";
    let metrics = || BucketMetrics::new(&prometheus::Registry::new()).unwrap();
    let config = parse(yaml).unwrap();
    let bucket = config.clone().build(metrics(), TestClock::new()).unwrap();
    assert_eq!(bucket.settings().max_in_flight, 256);
    let bucket = config.with_max_in_flight(7).build(metrics(), TestClock::new()).unwrap();
    assert_eq!(bucket.settings().max_in_flight, 7);
}
