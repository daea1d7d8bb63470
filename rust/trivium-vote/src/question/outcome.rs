//! The result of a question: winner under the tie rule, abstention, tally and cost.

use crate::question::Question;
use crate::question::end::{Reason, StopCause};
use crate::question::trace::{Trace, fnv};
use crate::spec::Ties;
use crate::stops::{beta, predictive};
use crate::tally::KeyId;
use crate::weights::Weight;

/// One row of a result's tally.
#[derive(Debug, Clone, PartialEq)]
pub struct TallyRow {
    /// The key.
    pub key: String,
    /// Its ballots.
    pub count: u32,
    /// Their weight.
    pub weight: f64,
}

/// What a vote has cost. The first depends on launch order alone, the others on timing too: by the
/// time a stop is noticed, more traces may be running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Traces counted, abstentions included: the prefix of launch order that the decision rests on.
    /// This is what published savings count.
    pub samples: u32,
    /// Traces launched: all are paid for.
    pub launched: u32,
    /// Traces cancelled by the decision or by the host.
    pub cancelled: u32,
    /// Traces that ended by themselves but too late to be counted.
    pub late: u32,
    /// Tokens of all traces, as far as they were reported.
    pub tokens: u64,
}

/// The state of a vote, final once `stop` is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Id of the question.
    pub question: String,
    /// The winning key; none if no trace cast a ballot.
    pub winner: Option<String>,
    /// The representative's answer as it was written: the first ballot for the winner.
    pub answer: Option<String>,
    /// The representative's trace.
    pub trace: Option<u32>,
    /// Posterior probability that the winner is the most probable answer of the sampler: not that it
    /// is correct. None without a winner.
    pub p_mode: Option<f64>,
    /// Share of the ballots that the winner has, 0 without any.
    pub share: f64,
    /// Lead over the runner-up as a share of the ballots.
    pub margin: f64,
    /// Keys by falling weight, the older first on ties.
    pub tally: Vec<TallyRow>,
    /// Number of keys that share the winner's count or weight, itself included.
    pub num_tied: u32,
    /// The tied keys, the older first; empty without a tie.
    pub tied: Vec<String>,
    /// Which condition made a decided vote abstain.
    pub abstained: Option<&'static str>,
    /// Probability that the winner still leads when the budget is spent.
    pub p_final: Option<f64>,
    /// Entropy of the shares of the keys.
    pub entropy: f64,
    /// Ballots cast.
    pub num_cast: u32,
    /// Counted traces without a ballot.
    pub num_none: u32,
    /// Why the vote stopped; none while it runs.
    pub stop: Option<StopCause>,
    /// What it cost so far.
    pub cost: Cost,
    /// Name of the policy.
    pub policy: String,
    /// Seed of the question.
    pub seed: u64,
}

impl Question {
    /// Keys of largest count or weight, the older first.
    pub(super) fn tied(&self) -> Vec<KeyId> {
        let keys = 0..self.tally.num_keys() as KeyId;
        if self.policy.weight == Weight::One {
            let (best, _) = self.tally.top_two();
            return keys
                .filter(|&key| best > 0 && self.tally.counts()[key as usize] == best)
                .collect();
        }
        let best = self.sums().iter().copied().fold(0.0, f64::max);
        let slack = 1e-12 * self.sums().iter().sum::<f64>();
        keys.filter(|&key| self.sums()[key as usize] >= best - slack).collect()
    }

    /// The winner under the tie rule, if anyone wins, and the tied keys.
    pub(super) fn winner(&self) -> (Option<KeyId>, Vec<KeyId>) {
        if let Some(elected) = self.elected {
            return (Some(elected), Vec::new());
        }
        let tied = self.tied();
        let first = tied.first().copied();
        if tied.len() < 2 {
            return (first, Vec::new());
        }
        let names = || tied.iter().filter_map(|&key| Some((key, self.name(key)?)));
        let winner = match self.policy.ties {
            Ties::First | Ties::More | Ties::All => first,
            Ties::Abstain => None,
            Ties::Greedy => {
                let greedy = self.traces.first().and_then(|trace| trace.ballot.as_deref());
                names()
                    .find(|(_, name)| Some(name.as_str()) == greedy.map(|b| &*b.key))
                    .map_or(first, |(key, _)| Some(key))
            }
            Ties::Random => {
                let mut sorted: Vec<(KeyId, String)> = names().collect();
                sorted.sort_by(|x, y| x.1.cmp(&y.1));
                let mut hash = fnv(0xcbf2_9ce4_8422_2325 ^ self.seed, self.id.as_bytes());
                for (_, name) in &sorted {
                    hash = fnv(hash ^ 0xff, name.as_bytes());
                }
                let pick = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                sorted.get(pick as usize % sorted.len().max(1)).map(|(key, _)| *key)
            }
            Ties::Weight => {
                let mean = |key: KeyId| {
                    let of = self.traces.iter().filter(|trace| {
                        trace.ballot.as_deref().and_then(|b| self.key_of(&b.key)) == Some(key)
                    });
                    let (sum, num) = of.fold((0.0, 0u64), |(sum, num), trace| {
                        let stats = trace.stats();
                        (sum + stats.sum_logprob, num + stats.num_tokens)
                    });
                    sum / num.max(1) as f64
                };
                let best = tied.iter().map(|&key| mean(key)).fold(f64::NEG_INFINITY, f64::max);
                tied.iter().copied().find(|&key| mean(key) >= best)
            }
        };
        (winner, tied)
    }

    fn name(&self, key: KeyId) -> Option<String> {
        let trace = *self.firsts.get(key as usize)?;
        self.traces.get(trace as usize)?.ballot.as_ref().map(|ballot| ballot.key.to_string())
    }

    /// The trace that stands for a key: its ballot of largest weight, the earliest on ties.
    fn representative(&self, key: KeyId) -> Option<u32> {
        let first = self.firsts.get(key as usize).copied();
        let Some(weighing) = &self.weighing else { return first };
        let of_key = weighing.ballots.iter().zip(&weighing.weights).filter(|((k, _), _)| *k == key);
        let mut best: Option<(u32, f64)> = None;
        for (&(_, trace), &weight) in of_key {
            if best.is_none_or(|(_, most)| weight > most) {
                best = Some((trace, weight));
            }
        }
        best.map(|(trace, _)| trace).or(first)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let (a, b) = self.tally.top_two();
        let cast = self.tally.num_cast();
        let weight_of = |key: usize| match self.sums().get(key) {
            Some(&sum) => sum,
            None => f64::from(self.tally.counts()[key]),
        };
        let total: f64 = (0..self.tally.num_keys()).map(weight_of).sum();
        let share_of = |weight: f64| if total > 0.0 { weight / total } else { 0.0 };
        let (winner, tied) = self.winner();
        let mut tally: Vec<(KeyId, TallyRow)> = (0..self.tally.num_keys())
            .filter_map(|key| {
                let count = self.tally.counts()[key];
                let row = TallyRow { key: self.name(key as KeyId)?, count, weight: weight_of(key) };
                Some((key as KeyId, row))
            })
            .collect();
        // Stable, so that the older key stays first on ties.
        tally.sort_by(|x, y| y.1.weight.total_cmp(&x.1.weight));
        let best = |place: usize| tally.get(place).map_or(0.0, |(_, row)| row.weight);
        let share = match winner {
            Some(key) => share_of(weight_of(key as usize)),
            None => share_of(best(0)),
        };
        let margin = share_of(best(0) - best(1));
        let rule = self.policy.config.abstain;
        let cast_rate =
            if self.counted == 0 { 1.0 } else { f64::from(cast) / f64::from(self.counted) };
        let abstained = if self.is_done() {
            [
                ("ties", winner.is_none() && tied.len() > 1),
                ("min_ballots", cast < rule.min_ballots),
                ("min_share", share < rule.min_share),
                ("min_margin", margin < rule.min_margin),
                ("max_none_rate", cast_rate < rule.min_cast_rate),
            ]
            .into_iter()
            .find(|(_, fails)| *fails)
            .map(|(name, _)| name)
        } else {
            None
        };
        let winner = winner.filter(|_| abstained.is_none());
        let first = winner.and_then(|key| self.representative(key));
        let ballot = first.and_then(|trace| self.traces.get(trace as usize)?.ballot.as_ref());
        let entropy = -tally
            .iter()
            .map(|(_, row)| share_of(row.weight))
            .filter(|p| *p > 0.0)
            .map(|p| p * p.ln())
            .sum::<f64>();
        let rest = self.limit().saturating_sub(self.counted);
        let plain = self.policy.weight == Weight::One && winner == self.tally.leader();
        let p_final = (plain && winner.is_some() && rest <= 4096)
            .then(|| predictive::confidence(a, b, rest, 1.0));
        let (traces, counted) = (self.traces.as_slice(), self.counted as usize);
        let late = |t: &&Trace| matches!(t.ended, Some(Reason::Stop | Reason::Length));
        let done = self.is_done();
        let untouched = if done { self.launched - traces.len() as u32 } else { 0 };
        let cancelled = |t: &&Trace| match t.ended {
            Some(reason) => reason == Reason::Cancelled,
            None => done,
        };
        Outcome {
            question: self.id.to_string(),
            winner: ballot.map(|ballot| ballot.key.to_string()),
            answer: ballot.map(|ballot| ballot.raw.to_string()),
            trace: first,
            p_mode: first.map(|_| beta::posterior(a, b)),
            share,
            margin,
            num_tied: self.tied().len() as u32,
            tied: tied.iter().filter_map(|&key| self.name(key)).collect(),
            abstained,
            p_final,
            entropy: entropy.max(0.0),
            tally: tally.into_iter().map(|(_, row)| row).collect(),
            num_cast: cast,
            num_none: self.num_none,
            stop: self.stop,
            cost: Cost {
                samples: self.counted,
                launched: self.launched,
                cancelled: traces.iter().filter(cancelled).count() as u32 + untouched,
                late: match done {
                    true if self.policy.arrival => {
                        let ended = traces.iter().filter(late).count();
                        let casting = counted.min(ended);
                        (ended - casting) as u32
                    }
                    true => traces.iter().skip(counted).filter(late).count() as u32,
                    false => 0,
                },
                tokens: traces.iter().map(|trace| trace.stats().num_tokens).sum(),
            },
            policy: self.policy.name(),
            seed: self.seed,
        }
    }
}
