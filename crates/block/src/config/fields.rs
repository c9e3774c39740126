//! Every documented key of `objstore.yml` and how it is treated here.

use super::Provider;

/// What a key holds.
pub(super) enum FieldShape {
    Text,
    Switch,
    Number,
    Duration,
    /// Names and values that the user chooses; each has a path of its own.
    Map,
    Section(Vec<ConfigField>),
}

/// What setting a key does. Only values other than "", 0 and false count as set.
pub(super) enum FieldEffect {
    Used,
    /// Says why nothing is lost.
    None(&'static str),
    /// Says why it cannot be ignored.
    Refused(&'static str),
}

pub(super) struct ConfigField {
    pub(super) name: &'static str,
    pub(super) shape: FieldShape,
    pub(super) effect: FieldEffect,
}

use FieldEffect::{Refused, Used};
use FieldShape::{Duration, Map, Number, Section, Switch, Text};

fn field(name: &'static str, shape: FieldShape, effect: FieldEffect) -> ConfigField {
    ConfigField { name, shape, effect }
}

fn ignored(name: &'static str, shape: FieldShape, why: &'static str) -> ConfigField {
    ConfigField { name, shape, effect: FieldEffect::None(why) }
}

fn section(name: &'static str, fields: Vec<ConfigField>) -> ConfigField {
    ConfigField { name, shape: Section(fields), effect: Used }
}

pub(super) fn top(provider: Provider) -> Vec<ConfigField> {
    let config = match provider {
        Provider::S3 => s3(),
        Provider::Gcs => gcs(),
        Provider::Azure => azure(),
        Provider::Filesystem => vec![field("directory", Text, Used)],
    };
    vec![
        field("type", Text, Used),
        section("config", config),
        field("prefix", Text, Used),
        section(
            "hedging_config",
            vec![
                field("enabled", Switch, Used),
                field("up_to", Number, Used),
                field("quantile", Number, Used),
            ],
        ),
    ]
}

fn s3() -> Vec<ConfigField> {
    vec![
        field("bucket", Text, Used),
        field("endpoint", Text, Used),
        field("region", Text, Used),
        ignored("disable_dualstack", Switch, "the endpoint is used as it is given"),
        field("aws_sdk_auth", Switch, Used),
        field("access_key", Text, Used),
        field("insecure", Switch, Used),
        field("signature_version2", Switch, Refused("only version 4 signatures are supported")),
        field("secret_key", Text, Used),
        field("session_token", Text, Used),
        field("put_user_metadata", Map, Used),
        http_config(),
        section(
            "trace",
            vec![ignored("enable", Switch, "requests are logged at --log.level=debug instead")],
        ),
        ignored("list_objects_version", Text, "objects are always listed by version 2"),
        field("bucket_lookup_type", Text, Used),
        field("send_content_md5", Switch, Used),
        ignored("disable_multipart", Switch, "objects longer than one part are uploaded in parts"),
        field("part_size", Number, Used),
        section(
            "sse_config",
            vec![
                field("type", Text, Used),
                field("kms_key_id", Text, Used),
                field("kms_encryption_context", Map, Used),
                field("encryption_key", Text, Used),
            ],
        ),
        field("sts_endpoint", Text, Used),
        field("max_retries", Number, Used),
    ]
}

fn gcs() -> Vec<ConfigField> {
    vec![
        field("bucket", Text, Used),
        field("service_account", Text, Used),
        ignored("use_grpc", Switch, "the XML and JSON API over HTTP is used"),
        ignored("grpc_conn_pool_size", Number, "the XML and JSON API over HTTP is used"),
        http_config(),
        field("chunk_size_bytes", Number, Used),
        field("max_retries", Number, Used),
    ]
}

fn azure() -> Vec<ConfigField> {
    vec![
        field("az_tenant_id", Text, Used),
        field("client_id", Text, Used),
        field("client_secret", Text, Used),
        field("storage_account", Text, Used),
        field("storage_account_key", Text, Used),
        field("storage_connection_string", Text, Used),
        ignored("storage_create_container", Switch, "the container must exist"),
        field("container", Text, Used),
        field("endpoint", Text, Used),
        field("user_assigned_id", Text, Used),
        field("max_retries", Number, Used),
        section(
            "reader_config",
            vec![ignored("max_retry_requests", Number, "max_retries covers reads too")],
        ),
        section(
            "pipeline_config",
            vec![
                field("max_tries", Number, Used),
                ignored("try_timeout", Duration, "requests time out after two minutes"),
                field("retry_delay", Duration, Used),
                field("max_retry_delay", Duration, Used),
            ],
        ),
        http_config(),
        ignored("msi_resource", Text, "tokens are asked for the storage service"),
    ]
}

fn http_config() -> ConfigField {
    let certificate = "client certificates for object stores are not supported";
    section(
        "http_config",
        vec![
            field("idle_conn_timeout", Duration, Used),
            ignored("response_header_timeout", Duration, "requests time out after two minutes"),
            field("insecure_skip_verify", Switch, Used),
            field("tls_handshake_timeout", Duration, Used),
            ignored("expect_continue_timeout", Duration, "requests do not wait for 100 Continue"),
            ignored("max_idle_conns", Number, "only max_idle_conns_per_host counts"),
            field("max_idle_conns_per_host", Number, Used),
            ignored("max_conns_per_host", Number, "connections are not limited"),
            section(
                "tls_config",
                vec![
                    field("ca_file", Text, Used),
                    field("cert_file", Text, Refused(certificate)),
                    field("key_file", Text, Refused(certificate)),
                    field(
                        "server_name",
                        Text,
                        Refused("the name in the certificate must be that of the endpoint"),
                    ),
                    field("insecure_skip_verify", Switch, Used),
                ],
            ),
            ignored("disable_compression", Switch, "bodies are not compressed"),
        ],
    )
}
