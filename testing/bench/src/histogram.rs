//! Latencies in logarithmic buckets: three per cent of error, no allocation per sample.

use std::time::Duration;

/// Buckets for each power of two.
const STEPS: u64 = 32;

#[derive(Clone, Default)]
pub struct Histogram {
    /// How many samples fell into each bucket of [`bucket`].
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanos);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    pub fn add(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The latency that `per_mille` of a thousand samples stay within, in milliseconds.
    pub fn quantile_ms(&self, per_mille: u64) -> f64 {
        let wanted = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return floor_nanos(bucket) / 1e6;
            }
        }
        0.0
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = u64::from(nanos.ilog2() - STEPS.ilog2());
    (STEPS * power + (nanos >> power)) as usize
}

fn floor_nanos(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let power = (bucket / STEPS).saturating_sub(1);
    ((bucket - STEPS * power) << power) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_close_below_its_samples() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 1000, 123_456, 987_654_321] {
            let floor = floor_nanos(bucket(nanos));
            assert!(floor <= nanos as f64 && floor >= nanos as f64 * 0.96, "{nanos}: {floor}");
        }
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        assert!((histogram.quantile_ms(500) - 50.0).abs() < 2.0);
        assert!((histogram.quantile_ms(990) - 99.0).abs() < 4.0);
    }
}
