//! Loops: a running trace that repeats itself will not answer any more.
//!
//! Own; the rule of every stack that stops degenerate texts, here exact. After each [`EVERY`] tokens
//! a trace loops if, for some period `p` of at most [`MAX_PERIOD`], its last `max(repeats * p,
//! least)` tokens equal those `p` before them. It ends as a trace without a ballot: what a loop would
//! have said is unknown, and it is paid for.

/// Longest period that is looked for.
pub const MAX_PERIOD: usize = 64;
/// Tokens between two looks.
pub const EVERY: u64 = 16;

/// When a trace loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopRule {
    /// Least number of repetitions, at least 2.
    pub repeats: usize,
    /// Least number of tokens that repeat.
    pub least: usize,
}

impl LoopRule {
    fn span(self, period: usize) -> usize {
        (self.repeats * period).max(self.least)
    }

    /// Whether a text ends in a loop.
    pub fn loops(self, tokens: &[u32]) -> bool {
        let n = tokens.len();
        (1..=MAX_PERIOD).any(|period| {
            let span = self.span(period);
            // The first `period` tokens of the span are what the others repeat.
            span <= n && (n - span + period..n).rev().all(|i| tokens[i] == tokens[i - period])
        })
    }
}

/// The last tokens of one trace, for one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loops {
    rule: LoopRule,
    recent: Vec<u32>,
    num: u64,
}

impl Loops {
    /// An empty trace.
    pub fn new(rule: LoopRule) -> Self {
        Self { rule, recent: Vec::new(), num: 0 }
    }

    /// Adds a token; whether the trace loops. A few nanoseconds a token.
    pub fn push(&mut self, token: u32) -> bool {
        let most = self.rule.span(MAX_PERIOD);
        if self.recent.len() >= 2 * most {
            self.recent.drain(..self.recent.len() - most);
        }
        self.recent.push(token);
        self.num += 1;
        self.num.is_multiple_of(EVERY) && self.rule.loops(&self.recent)
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        self.recent.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: some block, repeated to the end.
    fn twin(rule: LoopRule, tokens: &[u32]) -> bool {
        (1..=MAX_PERIOD).any(|p| {
            let span = (rule.repeats * p).max(rule.least);
            let Some(start) = tokens.len().checked_sub(span) else { return false };
            let tail = &tokens[start..];
            (0..span).all(|i| tail[i] == tail[i % p])
        })
    }

    proptest! {
        #[test]
        fn loops_are_those_of_the_definition(
            head in prop::collection::vec(0u32..3, 0..50),
            block in prop::collection::vec(0u32..3, 1..20),
            times in 0usize..12,
            tail in prop::collection::vec(0u32..3, 0..3),
            repeats in 2usize..5,
            least in 1usize..40,
        ) {
            let rule = LoopRule { repeats, least };
            let mut tokens = head;
            for _ in 0..times {
                tokens.extend(&block);
            }
            tokens.extend(tail);
            let mut live = Loops::new(rule);
            for n in 1..=tokens.len() {
                let expected = twin(rule, &tokens[..n]);
                prop_assert_eq!(rule.loops(&tokens[..n]), expected);
                let looks = (n as u64).is_multiple_of(EVERY);
                prop_assert_eq!(live.push(tokens[n - 1]), looks && expected, "{}", n);
            }
        }
    }

    #[test]
    fn long_traces_keep_what_a_loop_needs() {
        let mut live = Loops::new(LoopRule { repeats: 4, least: 64 });
        let noise = (0..100_000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 7);
        assert!(noise.into_iter().all(|token| !live.push(token)));
        assert!(live.memory() < 8192);
        assert!((0..256u32).map(|i| i % 64).filter(|&token| live.push(token)).count() == 1);
    }
}
