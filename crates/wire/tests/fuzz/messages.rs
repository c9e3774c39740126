use prost::Message;
use wire::thanos::info::InfoResponse;
use wire::{
    LabelMessage, WireMatcher, histogram_from_wire, labels_from_wire, labels_to_wire,
    matcher_from_wire, matchers_to_wire, prometheus, prometheus_encoding_from_wire, thanos,
    thanos_encoding_from_wire,
};

use super::{meter, most_of_message};

/// Every message that is read comes back when it is written again, and so do labels and matchers in
/// it. Gives how many kinds of messages the bytes were read as.
pub(crate) fn messages(bytes: &[u8]) -> usize {
    let known = [
        read::<prometheus::ReadRequest>(bytes, |request| {
            request.queries.iter().for_each(|query| check_matchers(&query.matchers));
        }),
        read::<prometheus::ReadResponse>(bytes, |response| {
            for series in response.results.iter().flat_map(|result| &result.timeseries) {
                check_labels(&series.labels);
                series.histograms.iter().for_each(|h| drop(histogram_from_wire(h)));
            }
        }),
        read::<prometheus::ChunkedReadResponse>(bytes, |response| {
            for series in &response.chunked_series {
                check_labels(&series.labels);
                for chunk in &series.chunks {
                    let _ = prometheus_encoding_from_wire(chunk.r#type);
                }
            }
        }),
        read::<thanos::SeriesRequest>(bytes, |request| check_matchers(&request.matchers)),
        read::<thanos::SeriesResponse>(bytes, check_series),
        read::<thanos::LabelNamesRequest>(bytes, |request| check_matchers(&request.matchers)),
        read::<thanos::LabelNamesResponse>(bytes, |_| ()),
        read::<thanos::LabelValuesRequest>(bytes, |request| check_matchers(&request.matchers)),
        read::<thanos::LabelValuesResponse>(bytes, |_| ()),
        read::<thanos::QueryResponse>(bytes, |_| ()),
        read::<thanos::QueryRangeResponse>(bytes, |_| ()),
        read::<thanos::RulesResponse>(bytes, |_| ()),
        read::<thanos::TargetsResponse>(bytes, |_| ()),
        read::<thanos::ExemplarsResponse>(bytes, |_| ()),
        read::<thanos::MetricMetadataResponse>(bytes, |_| ()),
        read::<InfoResponse>(bytes, |_| ()),
    ];
    known.into_iter().filter(|known| *known).count()
}

/// Whether the bytes are such a message.
fn read<M: Message + Default + PartialEq>(bytes: &[u8], check: impl FnOnce(&M)) -> bool {
    let read = meter::within(most_of_message(bytes.len()), || M::decode(bytes));
    let Ok(message) = read else { return false };
    let written = message.encode_to_vec();
    let again = M::decode(&written[..]).expect("what was written is read");
    // NaN differs from itself, and a map is written in any order
    assert!(again == message || again.encode_to_vec() == written);
    check(&message);
    true
}

fn check_series(response: &thanos::SeriesResponse) {
    use thanos::series_response::Result;
    let series = match &response.result {
        Some(Result::Series(series)) => std::slice::from_ref(series),
        Some(Result::Batch(batch)) => &batch.series,
        _ => return,
    };
    for series in series {
        check_labels(&series.labels);
        for chunk in series.chunks.iter().flat_map(|chunk| &chunk.raw) {
            let _ = thanos_encoding_from_wire(chunk.r#type);
        }
    }
}

fn check_labels<P: LabelMessage>(pairs: &[P]) {
    let labels = labels_from_wire(pairs);
    assert!(labels.iter().is_sorted_by(|a, b| a.0 < b.0), "{labels}");
    assert_eq!(labels_from_wire(&labels_to_wire::<P>(&labels)), labels);
}

fn check_matchers<M: WireMatcher>(messages: &[M]) {
    for message in messages {
        if let Ok(matcher) = matcher_from_wire(message) {
            let again: Vec<M> = matchers_to_wire(std::slice::from_ref(&matcher));
            assert_eq!(matcher_from_wire(&again[0]).expect("what was written is read"), matcher);
        }
    }
}
