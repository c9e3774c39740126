use model::FloatHistogram;
use prost::Message;
use tsdb::chunk::{Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, decode_histograms};
use wire::{NativeHistogram, histogram_from_wire, prometheus};

use super::{meter, most_of_message};

/// A histogram that is sound comes back out of a chunk. Gives whether it is, `None` where the bytes
/// are no message.
pub(crate) fn histograms(bytes: &[u8]) -> Option<bool> {
    let most = most_of_message(bytes.len());
    let message = prometheus::Histogram::decode(bytes).ok()?;
    let native = meter::within(most, || histogram_from_wire(&message));
    let histogram = match &native {
        NativeHistogram::Integer(histogram) => histogram.to_float(),
        NativeHistogram::Float(histogram) => histogram.clone(),
    };
    let is_sound = histogram.validate().is_ok();
    let written = match &native {
        NativeHistogram::Integer(histogram) => {
            let mut encoder = HistogramEncoder::default();
            let pushed = encoder.push(message.timestamp, histogram);
            pushed.map(|pushed| (pushed, Encoding::Histogram, encoder.finish()))
        }
        NativeHistogram::Float(histogram) => {
            let mut encoder = FloatHistogramEncoder::default();
            let pushed = encoder.push(message.timestamp, histogram);
            pushed.map(|pushed| (pushed, Encoding::FloatHistogram, encoder.finish()))
        }
    };
    // what is not sound may be refused, or be read back as something else
    assert!(written.is_ok() || !is_sound);
    // no threshold equals one that is NaN
    let is_comparable = is_sound && !histogram.is_stale() && !histogram.zero_threshold.is_nan();
    if let Ok((pushed, encoding, data)) = written
        && is_comparable
    {
        assert_eq!(pushed, Pushed::Appended);
        let (mut ts, mut values) = (Vec::new(), Vec::<FloatHistogram>::new());
        decode_histograms(encoding, &data, &mut ts, &mut values).expect("what was written is read");
        assert_eq!(ts, [message.timestamp]);
        assert!(values.len() == 1 && values[0].same_data(&histogram), "{histogram:?} {values:?}");
    }
    Some(is_sound)
}
