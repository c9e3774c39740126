//! Random numbers that depend on a seed alone.
//!
//! Source of the algorithm: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014).

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: spreads every input bit over all output bits.
fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number that depends on `seed` and `n` alone: random access into a stream of random numbers.
#[inline]
pub(crate) fn hash(seed: u64, n: u64) -> u64 {
    scramble(seed.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
}

/// `bits` as a number in `[0, 1)`.
#[inline]
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A number in `[0, 1)` that depends on `seed` and `n` alone.
#[inline]
pub(crate) fn hash_unit(seed: u64, n: i64) -> f64 {
    unit(hash(seed, n as u64))
}

/// A seed for the thing called `name` under `seed`.
pub(crate) fn derive(seed: u64, name: &str) -> u64 {
    name.bytes()
        .fold(scramble(seed ^ GOLDEN_GAMMA), |state, byte| scramble(state ^ u64::from(byte)))
}

/// A stream of random numbers from one seed.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        scramble(self.state)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// A number in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A number in `[low, high)`; `low` where that is empty.
    pub fn between_ms(&mut self, low: i64, high: i64) -> i64 {
        if high <= low { low } else { low + (self.next_u64() % (high - low) as u64) as i64 }
    }

    /// `len` characters as Kubernetes appends them to names.
    pub(crate) fn suffix(&mut self, len: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..len)
            .map(|_| char::from(ALPHABET[(self.next_u64() % ALPHABET.len() as u64) as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of SplitMix64 for seed 1234567, as its authors' reference program prints
    /// them.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn random_access_agrees_with_the_stream() {
        let mut rng = Rng::new(99);
        for n in 0..10 {
            assert_eq!(hash(99, n), rng.next_u64());
        }
    }

    #[test]
    fn units_fill_the_interval() {
        let mut rng = Rng::new(7);
        let units: Vec<f64> = (0..10_000).map(|_| rng.unit()).collect();
        assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((units.iter().sum::<f64>() / 10_000.0 - 0.5).abs() < 0.02);
    }
}
