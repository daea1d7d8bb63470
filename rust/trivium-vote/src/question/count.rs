//! Counting: ballots enter the tally in launch order, and after each one the rules are asked.

use super::end::Stop;
use super::trace::{Ballot, Ended, Said, TraceStats};
use super::{Question, Reason};
use crate::spec::Ties;
use crate::stops::{Fired, Rule, Weighted, first_finish, locked};
use crate::tally::KeyId;
use crate::weights::{self, BallotStats, Weight, weibull};
use trivium_core::Result;

impl Question {
    /// Counts the next trace and asks whether to stop.
    pub(super) fn count(&mut self, trace: u32, ended: Ended, stats: &TraceStats) {
        let cast = self.cast(trace, ended, stats);
        let rest = self.limit().saturating_sub(self.counted());
        if self.policy().weighs() && cast {
            self.weigh(rest == 0);
        }
        self.ask(rest);
        if self.stop == Stop::Running {
            self.aim();
        }
    }

    /// Enters a trace into the tally; whether it cast a ballot.
    fn cast(&mut self, trace: u32, ended: Ended, stats: &TraceStats) -> bool {
        let Some(ballot) = ended.ballot else {
            self.tally.abstain();
            return false;
        };
        let path = ballot.path;
        let (key, raw) = self.key_of(trace, ballot);
        self.tally.cast(key);
        let policy = &self.shared.policy;
        let ties = policy.ties;
        if policy.weighs() || policy.reads_ballots() {
            let stats = self.ballot_stats(trace, stats, path);
            let weighing = &mut self.extra().weighing;
            weighing.ballots.push((key, trace));
            weighing.stats.push(stats);
            weighing.raws.push(raw);
        }
        match ties {
            Ties::Greedy if trace == 0 => self.extra().greedy = Some(key),
            Ties::Weight => {
                let means = &mut self.extra().means;
                means.resize(means.len().max(key as usize + 1), (0.0, 0));
                let (sum, num) = &mut means[key as usize];
                (*sum, *num) = (*sum + stats.sum_logprob, *num + stats.num_tokens);
            }
            _ => {}
        }
        true
    }

    /// The number of a ballot's key, and its answer where it is not that of the key's first ballot.
    fn key_of(&mut self, trace: u32, ballot: Ballot) -> (KeyId, Option<Box<str>>) {
        match ballot.key {
            Said::Known(key) => (key, ballot.raw),
            Said::New(name) => {
                let raw = ballot.raw.as_deref().unwrap_or(&name);
                match self.names.find(&name) {
                    Some(key) => (key, Some(raw.into())),
                    None => (self.names.push(trace, &name, raw), None),
                }
            }
        }
    }

    /// Asks the rules, with `rest` traces outstanding.
    fn ask(&mut self, rest: u32) {
        let policy = &self.shared.policy;
        let stops = &self.shared.stops;
        let fired = if policy.weighs() {
            let bound = policy.weight.bound();
            let weights = self.extra.as_ref().map_or(&[][..], |extra| &extra.weighing.weights);
            let weighted = Weighted { sums: self.sums(), kappa: weights::kappa(weights), bound };
            stops.check_weighted(&self.tally, weighted, rest)
        } else {
            stops.check(&self.tally, rest)
        };
        let judged = rest == 0 || self.counted().is_multiple_of(policy.wave);
        let fired = fired.filter(|_| judged);
        let waits = policy.ties == Ties::More && rest > 0 && self.tied().len() > 1;
        let names_locked = || policy.all_rules().any(|rule| rule == Rule::Locked);
        let stop = match fired {
            _ if waits => Stop::Running,
            Some(Fired::Locked) if rest > 0 || names_locked() => Stop::Locked,
            Some(Fired::Rule(place)) => Stop::Rule(place.min(255) as u8),
            _ if rest == 0 => Stop::Budget,
            _ => Stop::Running,
        };
        let mut elected = None;
        if let (Some(fired), true, false) = (fired, stop != Stop::Running, policy.weighs()) {
            elected =
                stops.elects(fired, &self.tally).filter(|&key| Some(key) != self.tally.leader());
        }
        let last = policy.all_rules().find_map(|rule| match rule {
            Rule::LastFinish { finishes, .. } => Some(finishes as usize),
            _ => None,
        });
        if let (Some(finishes), true) = (last, stop != Stop::Running) {
            let ballots = self.extra.as_ref().map_or(&[][..], |extra| &extra.weighing.ballots);
            let skip = ballots.len().saturating_sub(finishes);
            elected = first_finish::majority(ballots[skip..].iter().map(|(key, _)| *key));
        }
        if elected.is_some() {
            self.extra().elected = elected;
        }
        self.stop = stop;
    }

    /// Whether counting what has ended beyond the prefix shows that nothing can change the winner.
    pub(super) fn check_late(&mut self) {
        let policy = self.policy();
        if !policy.config.count_late || policy.weighs() || self.is_done() || policy.arrival {
            return;
        }
        let Some(window) = self.window.as_deref() else { return };
        let (mut known, mut fresh) = (self.tally.clone(), Vec::<&str>::new());
        for ended in window.iter().filter_map(|trace| trace.ended.as_deref()) {
            match ended.ballot.as_ref().map(|ballot| &ballot.key) {
                None => known.abstain(),
                Some(Said::Known(key)) => known.cast(*key),
                Some(Said::New(name)) => {
                    let key = self.names.find(name).unwrap_or_else(|| {
                        let at = fresh.iter().position(|n| *n == &**name).unwrap_or_else(|| {
                            fresh.push(name);
                            fresh.len() - 1
                        });
                        (self.tally.num_keys() + at) as KeyId
                    });
                    known.cast(key);
                }
            }
        }
        let rest = self.limit().saturating_sub(known.num_seen());
        if locked::strict(&known, rest) && rest > 0 {
            self.stop = Stop::Locked;
        }
    }

    /// Counts ballots beyond the prefix that a decision rests on, if the policy does.
    pub(super) fn count_late(&mut self) {
        if !self.policy().config.count_late || self.policy().arrival {
            return;
        }
        let Some(mut window) = self.window.take() else { return };
        let mut cast = false;
        for at in 0..window.len() {
            let trace = self.base + at as u32;
            let stats = window[at].stats();
            if let Some(ended) = &mut window[at].ended {
                let counted = Ended { reason: Reason::Error, ballot: None, ..**ended };
                let ended = std::mem::replace(&mut **ended, counted);
                cast |= self.cast(trace, ended, &stats);
            }
        }
        if cast && self.policy().weighs() {
            self.weigh(true);
        }
        self.window = Some(window);
    }

    /// Stops when the question's tokens are spent.
    pub(crate) fn check_tokens(&mut self) {
        if let Some(most) = self.max_tokens()
            && !self.is_done()
            && self.num_tokens() >= most
        {
            self.stop = Stop::Tokens;
            if let Some(mut record) = self.recorder() {
                record.close(Stop::Tokens);
            }
        }
    }

    /// Weighs all ballots anew. What a scheme lacks was checked when the trace ended.
    fn weigh(&mut self, last: bool) {
        let policy = std::sync::Arc::clone(&self.shared);
        let policy = &policy.policy;
        let Some(extra) = &mut self.extra else { return };
        let (weighing, floor) = (&mut extra.weighing, extra.floor);
        let keys: Vec<u32> = weighing.ballots.iter().map(|(key, _)| *key).collect();
        let mut weights = if policy.weight == Weight::Paths(true) {
            weighing.refit(last);
            weights::distinct_paths(&keys, &weighing.stats, &weighing.kept)
        } else {
            (policy.weight.weigh(&keys, &weighing.stats, &policy.config.log_odds))
                .unwrap_or_else(|_| vec![1.0; keys.len()])
        };
        if let Some(floor) = floor {
            // Warm-up traces below the floor are left out of the vote, too.
            for (weight, stats) in weights.iter_mut().zip(&weighing.stats) {
                if stats.confidence.is_some_and(|conf| conf < floor) {
                    *weight = 0.0;
                }
            }
        }
        weighing.sums = weights::sums(&keys, &weights);
        weighing.weights = weights;
    }

    fn ballot_stats(&self, trace: u32, stats: &TraceStats, path: u64) -> BallotStats {
        let branches = self.extra.as_ref().and_then(|extra| extra.branches.get(&trace));
        BallotStats {
            sum_logprob: stats.sum_logprob,
            num_tokens: stats.num_tokens,
            confidence: stats.given.confidence,
            entropy: stats.given.entropy,
            reward: stats.given.reward,
            source: stats.given.source,
            weight: stats.given.weight,
            path,
            ln_branches: branches.copied().unwrap_or(0.0),
        }
    }

    /// Whether the policy can weigh a ballot with these statistics.
    pub(crate) fn check_stats(&self, trace: u32, stats: &TraceStats) -> Result<()> {
        let policy = self.policy();
        if !policy.weighs() {
            return Ok(());
        }
        let mut stats = *stats;
        self.complete(trace, &mut stats);
        let ballot = self.ballot_stats(trace, &stats, 0);
        policy.weight.weigh(&[0], &[ballot], &policy.config.log_odds).map(drop)
    }

    /// Weight by key; empty under the weight `one`.
    pub(super) fn sums(&self) -> &[f64] {
        self.extra.as_ref().map_or(&[], |extra| &extra.weighing.sums)
    }
}

impl super::Weighing {
    /// Fits the mixture of reasoning pruning at 8, 16, 32, ... ballots and at the last one; in
    /// between, new paths stay. A fit takes about as long as a hundred ballots.
    fn refit(&mut self, last: bool) {
        let num = self.stats.len();
        self.kept.resize(num, true);
        if last || (num >= 8 && num.is_power_of_two()) {
            let p: Vec<f64> = self.stats.iter().map(|b| b.mean_logprob().exp()).collect();
            self.kept = if num > 2 { weibull::keep(&p) } else { vec![true; num] };
        }
    }
}
