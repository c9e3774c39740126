use super::*;
use crate::Spans;

#[test]
fn info_survives_the_round_trip_with_an_unbounded_end() {
    let labels = Labels::from_pairs([("region", "eu")]);
    let range = TimeRange::new(5, i64::MAX);
    let gap = Spans::from_iter([TimeRange::new(5, 20), TimeRange::new(30, 40)]);
    let coverage = Coverage::raw(TimeRange::new(100, i64::MAX)).with(Resolution::OneHour, gap);
    let covered = TsdbInfo::new(labels.clone(), range).with_coverage(coverage);
    let unsaid = TsdbInfo::new(labels.clone(), range);
    let store = StoreInfo {
        component: ComponentType::Sidecar,
        label_sets: vec![labels],
        range,
        supports_sharding: true,
        supports_without_replica_labels: true,
        tsdb_infos: vec![TsdbInfo { announced: vec!["tier".to_owned()], ..covered }, unsaid],
    };
    let capabilities =
        Capabilities { exemplars: Some(TimeRange::new(1, 10)), query: true, ..Capabilities::STORE };
    let message = info_to_wire(&store, &capabilities);
    assert_eq!(message.store.as_ref().map(|s| s.max_time), Some(i64::MAX));
    let back = endpoint_info_from_wire(message).unwrap();
    assert_eq!((back.store, back.capabilities), (store, capabilities));
}

/// What a component of Thanos answers when it is ready: StoreAPI over all time, without labels.
fn answer(component: &str) -> pb::InfoResponse {
    let store = pb::StoreInfo {
        min_time: i64::MIN,
        max_time: i64::MAX,
        supports_sharding: true,
        supports_without_replica_labels: true,
        ..pb::StoreInfo::default()
    };
    pb::InfoResponse {
        component_type: component.to_owned(),
        store: Some(store),
        ..pb::InfoResponse::default()
    }
}

/// The answers that `cmd/thanos/*.go` of Thanos 0.42 put together.
#[test]
fn what_each_component_of_thanos_offers_is_understood() {
    let (exemplars, rules) = (Some(pb::ExemplarsInfo::default()), Some(pb::RulesInfo {}));
    let (metric_metadata, targets) = (Some(pb::MetricMetadataInfo {}), Some(pb::TargetsInfo {}));
    let (query, status) = (Some(pb::QueryApiInfo {}), Some(pb::StatusInfo {}));
    let of_prometheus = |component| pb::InfoResponse {
        exemplars,
        rules,
        metric_metadata,
        targets,
        status,
        ..answer(component)
    };
    let like_prometheus = Capabilities {
        rules: true,
        metric_metadata: true,
        targets: true,
        exemplars: Some(TimeRange::ALL),
        status: true,
        ..Capabilities::STORE
    };
    let cases = [
        (of_prometheus("sidecar"), ComponentType::Sidecar, like_prometheus.clone()),
        (answer("store"), ComponentType::Store, Capabilities::STORE),
        (
            pb::InfoResponse { rules, status, ..answer("rule") },
            ComponentType::Rule,
            Capabilities { rules: true, status: true, ..Capabilities::STORE },
        ),
        (
            pb::InfoResponse { exemplars, status, ..answer("receive") },
            ComponentType::Receive,
            Capabilities { exemplars: Some(TimeRange::ALL), status: true, ..Capabilities::STORE },
        ),
        (
            pb::InfoResponse { query, ..of_prometheus("query") },
            ComponentType::Query,
            Capabilities { query: true, ..like_prometheus },
        ),
    ];
    for (message, component, capabilities) in cases {
        let info = endpoint_info_from_wire(message).unwrap();
        assert_eq!((info.store.component, info.capabilities), (component, capabilities));
        assert_eq!(info.store.range, TimeRange::ALL, "{component}");
    }
}

/// A ruler that writes its series by remote write.
#[test]
fn without_store_api_there_is_no_data() {
    let rules = Some(pb::RulesInfo {});
    let message = pb::InfoResponse { store: None, rules, ..answer("rule") };
    let EndpointInfo { store, capabilities } = endpoint_info_from_wire(message).unwrap();
    assert_eq!(capabilities, Capabilities { rules: true, ..Capabilities::default() });
    assert_eq!(store.component, ComponentType::Rule);
    assert!(store.range.is_empty() && store.tsdb_infos.is_empty());
    assert!(info_to_wire(&store, &capabilities).store.is_none());
}

#[test]
fn a_component_from_before_a_service_does_not_offer_it() {
    let message = pb::InfoResponse { rules: Some(pb::RulesInfo {}), ..answer("rule") };
    let capabilities = endpoint_info_from_wire(message).unwrap().capabilities;
    assert_eq!(capabilities, Capabilities { rules: true, ..Capabilities::STORE });
    let nothing = endpoint_info_from_wire(pb::InfoResponse::default()).unwrap();
    assert_eq!(nothing.capabilities, Capabilities::default());
    assert_eq!(nothing.store.component, ComponentType::Unknown);
}

#[test]
fn exemplars_cover_the_time_that_is_said() {
    let exemplars = Some(pb::ExemplarsInfo { min_time: 5, max_time: 9 });
    let info =
        endpoint_info_from_wire(pb::InfoResponse { exemplars, ..answer("sidecar") }).unwrap();
    assert_eq!(info.capabilities.exemplars, Some(TimeRange::new(5, 10)));
}
