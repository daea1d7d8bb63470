//! Confidence of traces: token, group and trace confidence, and the votes that use it.
//!
//! Fu et al., "Deep Think with Confidence" (DeepConf): a token's confidence is minus the mean of the
//! `k` largest log-probabilities, a group's the mean over the last `n` tokens, and a trace's the
//! mean, the mean of the lowest tenth of its groups, the lowest group or the tail. Kang et al.,
//! "Scalable Best-of-N Selection for Large Language Models via Self-Certainty": a token's
//! self-certainty is its divergence from the uniform law, `-(1/V) sum ln(V p_v)`, and traces vote by
//! Borda count of their rank.

use trivium_core::Result;

/// Which confidence of a trace counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceConf {
    /// That of its least confident group.
    Lowest,
    /// That of its last group.
    Tail,
    /// Mean of the lowest tenth of its groups.
    Bottom,
    /// Mean of its tokens.
    Mean,
}

impl TraceConf {
    const ALL: [(&'static str, Self); 4] = [
        ("lowest", Self::Lowest),
        ("tail", Self::Tail),
        ("bottom", Self::Bottom),
        ("mean", Self::Mean),
    ];

    pub(crate) fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name).map(|(_, how)| *how);
        let names = Self::ALL.map(|(text, _)| text);
        found.ok_or_else(|| crate::spec::unknown("weight", name, &names, &[]))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, how)| *how == self).map_or("", |(text, _)| text)
    }
}

/// Token confidence: `-(1/k) sum ln P_j` over the `k` largest log-probabilities.
pub fn token_confidence(logprobs: &[f64], k: usize) -> f64 {
    let mut top = logprobs.to_vec();
    let k = k.clamp(1, top.len().max(1));
    if top.is_empty() {
        return 0.0;
    }
    top.sort_unstable_by(|x, y| y.total_cmp(x));
    -top[..k].iter().sum::<f64>() / k as f64
}

/// Self-certainty of one token from all of its log-probabilities.
pub fn self_certainty(logprobs: &[f64]) -> f64 {
    let v = logprobs.len() as f64;
    -logprobs.iter().map(|lp| lp + v.ln()).sum::<f64>() / v
}

/// Weights `(N - rank + 1)^power`, rank 1 the most confident; equal values share the mean of the
/// weights of their ranks.
pub fn borda(values: &[f64], power: f64) -> Vec<f64> {
    let n = values.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&x, &y| values[y].total_cmp(&values[x]));
    let mut weights = vec![0.0; n];
    let mut start = 0;
    while start < n {
        let same = |&i: &usize| values[order[i]] == values[order[start]];
        let end = (start..n).take_while(same).count() + start;
        let mean =
            (start..end).map(|r| ((n - r) as f64).powf(power)).sum::<f64>() / (end - start) as f64;
        order[start..end].iter().for_each(|&i| weights[i] = mean);
        start = end;
    }
    weights
}

/// The confidences of the best `eta` per cent, 0 for the others: those at or above the
/// `100 - eta` percentile.
pub fn top_percent(values: &[f64], eta: f64) -> Vec<f64> {
    let floor = percentile(values, 100.0 - eta);
    values.iter().map(|&v| if v >= floor { v } else { 0.0 }).collect()
}

/// Percentile with linear interpolation; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
}

/// Group confidences of one trace, one token at a time: a ring of the last `n` values, their sum and
/// the running lowest. The sum is taken afresh once a round, so that it does not drift.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    ring: Vec<f32>,
    window: u32,
    at: u32,
    sum: f64,
    lowest: f64,
    num: u64,
    total: f64,
    /// Confidences of all groups, if the lowest tenth of them counts.
    all: Option<Vec<f32>>,
}

impl Groups {
    /// An empty trace that keeps all of its groups: 4 bytes a token, for [`TraceConf::Bottom`].
    pub fn keeping(window: u32) -> Self {
        Self { all: Some(Vec::new()), ..Self::new(window) }
    }

    /// An empty trace with windows of `window` tokens, at least 1.
    pub fn new(window: u32) -> Self {
        Self {
            all: None,
            ring: Vec::new(),
            window: window.max(1),
            at: 0,
            sum: 0.0,
            lowest: f64::INFINITY,
            num: 0,
            total: 0.0,
        }
    }

    /// Adds a token; returns the confidence of its group once the window is full. Constant time,
    /// amortised.
    pub fn push(&mut self, conf: f64) -> Option<f64> {
        let (conf, n) = (conf as f32, self.window as usize);
        self.num += 1;
        self.total += f64::from(conf);
        if self.ring.len() < n {
            self.ring.push(conf);
            self.sum += f64::from(conf);
            if self.ring.len() < n {
                return None;
            }
        } else {
            let old = std::mem::replace(&mut self.ring[self.at as usize], conf);
            self.sum += f64::from(conf) - f64::from(old);
            self.at += 1;
            if self.at == self.window {
                self.at = 0;
                self.sum = self.ring.iter().map(|&x| f64::from(x)).sum();
            }
        }
        let group = self.sum / n as f64;
        self.lowest = self.lowest.min(group);
        if let Some(all) = &mut self.all {
            all.push(group as f32);
        }
        Some(group)
    }

    /// Mean over all tokens.
    pub fn mean(&self) -> f64 {
        if self.num == 0 { 0.0 } else { self.total / self.num as f64 }
    }

    /// Lowest group; of a trace shorter than a window its mean.
    pub fn lowest(&self) -> f64 {
        if self.lowest.is_finite() { self.lowest } else { self.mean() }
    }

    /// Mean of the last window.
    pub fn tail(&self) -> f64 {
        if self.ring.is_empty() { 0.0 } else { self.sum / self.ring.len() as f64 }
    }

    /// Mean of the lowest tenth of the groups, at least one; the lowest, unless all were kept.
    pub fn bottom(&self) -> f64 {
        match &self.all {
            Some(all) if !all.is_empty() => {
                lowest_part(all.iter().map(|&x| x.into()).collect(), 0.1)
            }
            _ => self.lowest(),
        }
    }

    /// The confidence of the trace.
    pub fn confidence(&self, how: TraceConf) -> f64 {
        match how {
            TraceConf::Lowest => self.lowest(),
            TraceConf::Tail => self.tail(),
            TraceConf::Bottom => self.bottom(),
            TraceConf::Mean => self.mean(),
        }
    }

    /// Bytes held by the ring and the groups.
    pub(crate) fn memory(&self) -> usize {
        let all = self.all.as_ref().map_or(0, Vec::capacity);
        (self.ring.capacity() + all) * size_of::<f32>()
    }
}

/// Trace confidence `bottom10` from all token confidences: mean of the lowest tenth of the groups,
/// at least one. `fraction` is the tenth.
pub fn bottom(confs: &[f64], window: u32, fraction: f64) -> f64 {
    let mut ring = Groups::new(window);
    let groups: Vec<f64> = confs.iter().filter_map(|&c| ring.push(c)).collect();
    if groups.is_empty() {
        return ring.mean();
    }
    lowest_part(groups, fraction)
}

fn lowest_part(mut groups: Vec<f64>, fraction: f64) -> f64 {
    groups.sort_unstable_by(f64::total_cmp);
    let num = ((fraction * groups.len() as f64) as usize).max(1);
    groups[..num].iter().sum::<f64>() / num as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(x: f64, y: f64) {
        assert!((x - y).abs() < 1e-4, "{x} {y}");
    }

    #[test]
    fn token_values_are_the_published_ones() {
        let logs = [0.7f64, 0.2, 0.05, 0.05].map(f64::ln);
        assert!((token_confidence(&logs, 2) - 0.983_056_43).abs() < 1e-8);
        assert!((self_certainty(&logs) - 0.603_099_99).abs() < 1e-8);
    }

    #[test]
    fn borda_weights_are_the_published_ones() {
        let values = [5.0, 4.0, 3.0, 2.0, 1.0];
        for (power, expected) in [
            (0.3, [1.620_657, 1.515_717, 1.390_389, 1.231_144, 1.0]),
            (0.5, [2.236_068, 2.0, 1.732_051, 2f64.sqrt(), 1.0]),
            (2.0, [25.0, 16.0, 9.0, 4.0, 1.0]),
        ] {
            borda(&values, power).iter().zip(expected).for_each(|(&x, y)| near(x, y));
        }
        assert_eq!(borda(&[1.0, 2.0, 2.0], 1.0), [1.0, 2.5, 2.5]);
        assert_eq!(borda(&values.map(f64::exp), 0.5), borda(&values, 0.5));
    }

    #[test]
    fn groups_are_the_published_ones() {
        let confs = [10.0, 12.0, 14.0, 8.0, 6.0, 16.0, 18.0];
        let mut ring = Groups::new(3);
        let groups: Vec<f64> = confs.iter().filter_map(|&c| ring.push(c)).collect();
        let expected = [12.0, 11.3333, 9.3333, 10.0, 13.3333];
        groups.iter().zip(expected).for_each(|(&x, y)| near(x, y));
        near(ring.lowest(), 9.3333);
        near(ring.tail(), 13.3333);
        near(ring.mean(), 12.0);
        near(bottom(&confs, 3, 0.1), 9.3333);
        near(bottom(&confs, 100, 0.1), 12.0);
        let mut kept = Groups::keeping(3);
        for &c in &confs {
            kept.push(c);
        }
        for (how, expected) in [
            (TraceConf::Lowest, 9.3333),
            (TraceConf::Tail, 13.3333),
            (TraceConf::Bottom, 9.3333),
            (TraceConf::Mean, 12.0),
        ] {
            near(kept.confidence(how), expected);
        }
    }

    #[test]
    fn ring_sums_do_not_drift() {
        let mut ring = Groups::new(97);
        for i in 0..300_000u32 {
            ring.push(f64::from(i % 1013) * 0.37);
        }
        let fresh: f64 =
            (300_000 - 97..300_000).map(|i| f64::from((i % 1013) as f32 * 0.37)).sum::<f64>()
                / 97.0;
        assert!((ring.tail() / fresh - 1.0).abs() < 1e-6);
    }

    #[test]
    fn thresholds_are_the_published_ones() {
        let lows = [15.2, 14.1, 16.8, 13.0, 17.5, 16.1, 12.2, 15.9];
        near(percentile(&lows, 90.0), 17.01);
        near(percentile(&lows, 10.0), 12.76);
        assert_eq!(top_percent(&[1.0, 3.0, 2.0], 34.0), [0.0, 3.0, 0.0]);
    }
}
