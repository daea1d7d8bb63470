//! Which of several drafts serves a request: by language or domain, learned from what was accepted.
//!
//! Requests carry a class (a language, a domain, a cluster of prompts); for every class a bandit
//! over the drafts keeps the mean reward (tokens a second, or accepted tokens a step) and picks
//! the highest upper bound `mean + range √(2 ln n / n_k)` (UCB1), so a draft that suits a class is
//! found in logarithmically many wrong tries. A draft that was never tried is tried first, in order.
//!
//! "Towards Fast Multilingual LLM Inference: Speculative Decoding and Specialized Drafters" routes
//! by language, "Online Speculative Decoding" by cluster, "S2D: Sorted Speculative Decoding" by
//! target: all are classes here.

use std::collections::BTreeMap;
use trivium_core::error::{Error, Result};

/// Classes kept; the least used goes first.
const CLASSES: usize = 4096;

/// Records by class.
#[derive(Debug, Clone)]
pub struct DraftRouter {
    drafts: usize,
    range: f64,
    classes: BTreeMap<String, Vec<(u64, f64)>>,
}

impl DraftRouter {
    /// A router over `drafts` drafts whose rewards lie in `0..=range`.
    ///
    /// # Errors
    /// `InvalidInput` without drafts or range.
    pub fn new(drafts: usize, range: f64) -> Result<Self> {
        if drafts == 0 || !(range > 0.0 && range.is_finite()) {
            return Err(Error::input("drafts, range", "must be positive"));
        }
        Ok(Self { drafts, range, classes: BTreeMap::new() })
    }

    /// The draft for a request of a class.
    pub fn choose(&self, class: &str) -> usize {
        let Some(arms) = self.classes.get(class) else { return 0 };
        if let Some(untried) = arms.iter().position(|a| a.0 == 0) {
            return untried;
        }
        let n: u64 = arms.iter().map(|a| a.0).sum();
        let bound = |a: &(u64, f64)| {
            a.1 / a.0 as f64 + self.range * (2.0 * (n as f64).ln() / a.0 as f64).sqrt()
        };
        let mut best = 0;
        for (k, arm) in arms.iter().enumerate() {
            if bound(arm) > bound(&arms[best]) {
                best = k;
            }
        }
        best
    }

    /// What a draft earned for a request of a class.
    ///
    /// # Errors
    /// `InvalidInput` for a draft that does not exist or a reward outside the range.
    pub fn report(&mut self, class: &str, draft: usize, reward: f64) -> Result<()> {
        if draft >= self.drafts || !(0.0..=self.range).contains(&reward) {
            return Err(Error::input(
                "draft, reward",
                format!("need a draft below {} and a reward in 0..={}", self.drafts, self.range),
            ));
        }
        if !self.classes.contains_key(class) && self.classes.len() == CLASSES {
            let used = |arms: &[(u64, f64)]| arms.iter().map(|a| a.0).sum::<u64>();
            let least = self.classes.iter().min_by_key(|c| used(c.1)).map(|c| c.0.clone());
            least.and_then(|c| self.classes.remove(&c));
        }
        let arms =
            self.classes.entry(class.to_owned()).or_insert_with(|| vec![(0, 0.0); self.drafts]);
        arms[draft].0 += 1;
        arms[draft].1 += reward;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_finds_its_draft() {
        let mut r = DraftRouter::new(3, 1.0).unwrap();
        let suits = |class: &str| usize::from(class == "de") + 2 * usize::from(class == "code");
        let mut wrong = 0;
        for i in 0..3000u32 {
            let class = ["en", "de", "code"][i as usize % 3];
            let k = r.choose(class);
            let noise = f64::from(trivium_core::rng::philox([i, 0, 0, 0], [1, 1])[0] % 100) / 500.0;
            let reward = if k == suits(class) { 0.7 } else { 0.3 } + noise;
            r.report(class, k, reward).unwrap();
            wrong += u32::from(k != suits(class));
        }
        assert!(wrong < 600, "{wrong} of 3000");
        assert_eq!(r.choose("fr"), 0);
        assert!(r.report("en", 3, 0.5).is_err() && r.report("en", 0, 2.0).is_err());
        for i in 0..2 * CLASSES {
            r.report(&format!("c{i}"), 0, 0.5).unwrap();
        }
        assert!(r.classes.len() <= CLASSES && r.classes.contains_key("de"));
    }
}
