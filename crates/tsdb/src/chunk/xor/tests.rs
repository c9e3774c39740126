use proptest::prelude::*;

use super::*;

fn roundtrip(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
    let mut encoder = XorEncoder::new();
    for &(t, v) in samples {
        encoder.push(t, v);
    }
    assert_eq!(encoder.len(), samples.len());
    let expected_len = encoder.bytes_len();
    let data = encoder.finish();
    assert_eq!(data.len(), expected_len);
    let (mut ts, mut values) = (vec![7], vec![7.0]);
    decode(&data, &mut ts, &mut values).unwrap();
    ts.into_iter().zip(values.into_iter().map(f64::to_bits)).skip(1).collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(model::STALE_NAN),
        (0..1000i32).prop_map(f64::from),
        any::<u64>().prop_map(f64::from_bits),
        -1e9..1e9f64
    ]
}

/// Steps around the borders of the bit widths, and any others.
fn step() -> impl Strategy<Value = i64> {
    let borders = [8191, 8192, 8193, 65535, 65536, 65537, 524_287, 524_288, 524_289];
    prop_oneof![
        4 => Just(15_000),
        2 => 14_990..15_010i64,
        2 => (0..borders.len(), any::<bool>()).prop_map(move |(i, neg)| if neg { -borders[i] } else { borders[i] }),
        1 => any::<i64>(),
    ]
}

proptest! {
    #[test]
    fn any_samples_come_back(start in any::<i64>(), steps in prop::collection::vec((step(), value()), 0..150)) {
        let mut t = start;
        let samples: Vec<(i64, f64)> = steps.iter().map(|&(d, v)| { t = t.wrapping_add(d); (t, v) }).collect();
        let expected: Vec<(i64, u64)> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
        prop_assert_eq!(roundtrip(&samples), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_overallocate(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        if decode(&data, &mut ts, &mut values).is_err() {
            prop_assert!(ts.is_empty() && values.is_empty());
        }
        prop_assert!(ts.capacity() <= 8 * data.len() + 8);
    }

    #[test]
    fn truncated_chunks_are_errors(count in 3usize..120, cut in 1usize..20) {
        let mut encoder = XorEncoder::new();
        for i in 0..count {
            encoder.push(i as i64 * 15_000, (i * i) as f64 * 1.1);
        }
        let data = encoder.finish();
        let cut = cut.min(data.len());
        prop_assert!(decode(&data[..data.len() - cut], &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
