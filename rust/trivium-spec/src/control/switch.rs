//! The off switch: where drafting does not pay, not even the looking costs anything.
//!
//! ```text
//! a step whose best size was no draft at all is a miss; after 3 misses in a row the request sleeps
//! 4 steps, after the next miss 8, ... up to 64; a step that drafted ends it
//! half as many requests in the batch, or fewer: awake
//! ```
//!
//! The cost model says after a tree was grown that none of it pays; that is per request and follows
//! the load, because the times it reads are those of the whole batch. The switch remembers it, so
//! that a request that sleeps is not grown a tree at all. Hysteresis in both directions: three
//! misses to fall asleep, a probe to wake.

/// Misses in a row before the first sleep.
const PATIENCE: u32 = 3;
/// Longest sleep in steps.
const LONGEST: u32 = 64;

/// State of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switch {
    misses: u32,
    sleep: u32,
    /// Batch size when it fell asleep.
    load: usize,
}

impl Switch {
    /// Whether to grow a tree in a batch of so many requests.
    pub fn is_on(&self, load: usize) -> bool {
        self.sleep == 0 || load * 2 <= self.load
    }

    /// Counts a step: `None` if it slept or nothing could be drafted, else whether any draft paid.
    pub fn report(&mut self, paid: Option<bool>, load: usize) {
        match paid {
            Some(true) => *self = Self::default(),
            Some(false) => {
                self.misses += 1;
                if self.misses >= PATIENCE {
                    let doublings = (self.misses - PATIENCE).min(8);
                    self.sleep = (4u32 << doublings).min(LONGEST);
                    self.load = load;
                }
            }
            None => self.sleep = self.sleep.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_put_to_sleep_and_success_wakes() {
        let mut s = Switch::default();
        let mut on = Vec::new();
        for _ in 0..400 {
            let awake = s.is_on(8);
            on.push(awake);
            s.report(awake.then_some(false), 8);
        }
        assert!(on[..3].iter().all(|x| *x) && !on[3]);
        // In the long run one step of 65 looks.
        let looks = on[200..].iter().filter(|x| **x).count();
        assert!((2..=4).contains(&looks), "{looks}");
        assert!(!s.is_on(8) && s.is_on(4), "the load fell by half");
        while !s.is_on(8) {
            s.report(None, 8);
        }
        s.report(Some(true), 8);
        assert_eq!(s, Switch::default());
        s.report(Some(false), 8);
        s.report(Some(false), 8);
        assert!(s.is_on(8), "two misses are not enough");
    }
}
