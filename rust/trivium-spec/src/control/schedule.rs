//! Fixed lengths, and the schedule of assisted generation in transformers.
//!
//! ```text
//! heuristic: all drafts accepted: γ += 2, else γ = max(1, γ - 1); starts anew with each request
//! constant:  γ stays
//! ```

use super::{Controller, Feedback, StepCtx};

/// Always the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub usize);

impl Controller for Fixed {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.0
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

/// Two more after success, one fewer after failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    start: usize,
    now: usize,
    max: usize,
}

impl Schedule {
    /// Starts at `start` and never passes `max`.
    pub fn new(start: usize, max: usize) -> Self {
        Self { start, now: start.clamp(1, max.max(1)), max: max.max(1) }
    }
}

impl Controller for Schedule {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.now
    }

    fn report(&mut self, feedback: &Feedback<'_>) {
        // A store that had nothing to say was not wrong.
        if feedback.depth == 0 {
            return;
        }
        self.now = if feedback.accepted >= feedback.depth.min(feedback.allowed) {
            (self.now + 2).min(self.max)
        } else {
            (self.now - 1).max(1)
        };
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn fresh(&self) -> Box<dyn Controller> {
        Box::new(Self::new(self.start, self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::told;
    use super::*;
    use trivium_core::Address;

    #[test]
    fn two_up_one_down() {
        let step = StepCtx::alone(Address::new(0, 0, 0));
        let mut s = Schedule::new(5, 8);
        let mut seen = vec![s.length(step)];
        for accepted in [5, 7, 8, 0, 3] {
            let n = s.length(step);
            s.report(&told(n, n, accepted.min(n)));
            seen.push(s.length(step));
        }
        assert_eq!(seen, [5, 7, 8, 8, 7, 6]);
        s.report(&told(6, 0, 0));
        assert_eq!(s.length(step), 6, "no draft, no verdict");
        assert_eq!(s.fork().length(step), 6);
        assert_eq!(s.fresh().length(step), 5);
        for _ in 0..20 {
            s.report(&told(3, 3, 0));
        }
        assert_eq!(s.length(step), 1);
        assert_eq!(Fixed(3).length(step), 3);
    }
}
