use super::*;

const COMPACTED: &str = include_str!("../../tests/data/meta/compacted.json");

#[test]
fn what_thanos_wrote_comes_back_byte_for_byte() {
    let meta = BlockMeta::from_json(COMPACTED.as_bytes()).unwrap();
    assert_eq!(meta.compaction.parents.len(), 4);
    assert_eq!(meta.range(), TimeRange::new(1_768_435_200_000, 1_768_464_000_000));
    assert_eq!(meta.external_labels().to_string(), r#"{cluster="eu", replica="0"}"#);
    assert_eq!(String::from_utf8(meta.to_json()).unwrap(), COMPACTED);
}

#[test]
fn unknown_fields_are_kept() {
    let text = COMPACTED
        .replacen("\"version\": 1,", "\"version\": 1,\n\"later\": {\"a\": [1, null]},", 1)
        .replacen(
            "\"source\": \"compactor\",",
            "\"source\": \"compactor\",\"extensions\": {\"k\": 1.5}, \"new\": true,",
            1,
        );
    let meta = BlockMeta::from_json(text.as_bytes()).unwrap();
    let again = BlockMeta::from_json(&meta.to_json()).unwrap();
    assert_eq!(meta, again);
    assert_eq!(again.unknown["later"]["a"][0], 1);
    let thanos = again.thanos.unwrap();
    assert_eq!(
        (thanos.extensions.unwrap()["k"].clone(), thanos.unknown["new"].clone()),
        (1.5.into(), true.into())
    );
}

#[test]
fn a_block_that_names_no_sources_is_its_own() {
    let own: BlockId = "01M81HXTN290NJBH17178YSRJX".parse().unwrap();
    for compaction in [
        r#""compaction":{"level":1,"sources":null},"#,
        r#""compaction":{"level":1,"sources":[]},"#,
        r#""compaction":{"level":1},"#,
        "",
    ] {
        let text = format!(r#"{{"ulid":"{own}","minTime":1,"maxTime":2,{compaction}"version":1}}"#);
        let meta = BlockMeta::from_json(text.as_bytes()).unwrap();
        assert_eq!(meta.sources(), [own], "{compaction}");
        assert!(meta.compaction.sources.is_empty(), "the file is written again as it was");
    }
    let named = BlockMeta::from_json(COMPACTED.as_bytes()).unwrap();
    assert_eq!(named.sources(), named.compaction.sources);
    assert!(!named.sources().contains(&named.ulid));
}

#[test]
fn nulls_of_go_are_empty_and_strings_are_escaped_as_go_does() {
    let text = r#"{"ulid":"01M81HXTN290NJBH17178YSRJX","minTime":1,"maxTime":2,"compaction":{"level":1,"sources":null},
        "version":1,"thanos":{"labels":{"a":"<&>\u2028"},"files":null,"downsample":{"resolution":300000},"source":""}}"#;
    let meta = BlockMeta::from_json(text.as_bytes()).unwrap();
    assert_eq!(meta.resolution(), Resolution::FiveMinutes);
    let written = String::from_utf8(meta.to_json()).unwrap();
    assert!(written.contains(r#""a": "\u003c\u0026\u003e\u2028""#), "{written}");
    assert!(written.contains("\"stats\": {},\n"), "{written}");
}

#[test]
fn other_versions_and_broken_files_are_refused() {
    let refused = |from: &str, to: &str| {
        BlockMeta::from_json(COMPACTED.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    assert!(refused("\"version\": 1", "\"version\": 2").contains("version 2"));
    assert!(refused("\"resolution\": 0", "\"resolution\": 7").contains("resolution of 7 ms"));
    assert!(refused("1768435200000", "1868435200000").contains("is after"));
    assert!(BlockMeta::from_json(&COMPACTED.as_bytes()[..100]).is_err());
}

#[test]
fn upload_time_round_trips() {
    let mut thanos = Thanos::default();
    assert_eq!(thanos.upload_time_ms(), None);
    thanos.set_upload_time(TimestampMs(1_767_225_600_120));
    assert_eq!(thanos.upload_time.as_deref(), Some("2026-01-01T00:00:00.12Z"));
    assert_eq!(thanos.upload_time_ms(), Some(TimestampMs(1_767_225_600_120)));
    thanos.upload_time = Some("0001-01-01T00:00:00Z".into());
    assert_eq!(thanos.upload_time_ms(), None);
}
