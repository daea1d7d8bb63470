//! The result of a question: winner under the tie rule, abstention, tally and cost.

use crate::question::Question;
use crate::question::end::StopCause;
use crate::question::trace::fnv;
use crate::spec::Ties;
use crate::stops::{beta, predictive};
use crate::tally::KeyId;
use crate::watch::Probing;

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
    /// Weights by key with the last early answers of running traces, under `probe`; by falling weight.
    pub provisional: Vec<(String, f64)>,
    /// Name of the policy.
    pub policy: String,
    /// Seed of the question.
    pub seed: u64,
}

impl Question {
    /// Keys of largest count or weight, the older first.
    pub(super) fn tied(&self) -> Vec<KeyId> {
        let keys = 0..self.tally.num_keys() as KeyId;
        if !self.policy().weighs() {
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
        if let Some(elected) = self.extra.as_ref().and_then(|extra| extra.elected) {
            return (Some(elected), Vec::new());
        }
        let tied = self.tied();
        let first = tied.first().copied();
        if tied.len() < 2 {
            return (first, Vec::new());
        }
        let names = || tied.iter().filter_map(|&key| Some((key, self.name(key)?)));
        let winner = match self.policy().ties {
            Ties::First | Ties::More | Ties::All => first,
            Ties::Abstain => None,
            Ties::Greedy => {
                let greedy = self.extra.as_ref().and_then(|extra| extra.greedy);
                greedy.filter(|key| tied.contains(key)).or(first)
            }
            Ties::Random => {
                let mut sorted: Vec<(KeyId, String)> = names().collect();
                sorted.sort_by(|x, y| x.1.cmp(&y.1));
                let mut hash = fnv(0xcbf2_9ce4_8422_2325 ^ self.seed(), self.id().as_bytes());
                for (_, name) in &sorted {
                    hash = fnv(hash ^ 0xff, name.as_bytes());
                }
                let pick = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                sorted.get(pick as usize % sorted.len().max(1)).map(|(key, _)| *key)
            }
            Ties::Weight => {
                let means = self.extra.as_ref().map_or(&[][..], |extra| &extra.means);
                let mean = |key: KeyId| {
                    let (sum, num) = means.get(key as usize).copied().unwrap_or((0.0, 0));
                    sum / num.max(1) as f64
                };
                let best = tied.iter().map(|&key| mean(key)).fold(f64::NEG_INFINITY, f64::max);
                tied.iter().copied().find(|&key| mean(key) >= best)
            }
        };
        (winner, tied)
    }

    fn name(&self, key: KeyId) -> Option<String> {
        self.names.get(key).map(|named| named.key.to_owned())
    }

    /// The trace that stands for a key and its answer: that of the ballot of largest weight, the
    /// earliest on ties.
    fn representative(&self, key: KeyId) -> Option<(u32, String)> {
        let first = self.names.get(key)?;
        let mut best = (first.trace, None, f64::NEG_INFINITY);
        if let Some(extra) = &self.extra {
            let w = &extra.weighing;
            for ((&(k, trace), &weight), raw) in w.ballots.iter().zip(&w.weights).zip(&w.raws) {
                if k == key && weight > best.2 {
                    best = (trace, raw.as_deref(), weight);
                }
            }
        }
        Some((best.0, best.1.unwrap_or(first.raw).to_owned()))
    }

    /// Counted weights and the last early answers of running traces.
    fn provisional(&self, tally: &[TallyRow]) -> Vec<(String, f64)> {
        let Some(Probing::Provisional(rho, _)) = self.policy().probe else { return Vec::new() };
        let mut rows: Vec<(String, f64)> =
            tally.iter().map(|row| (row.key.clone(), row.weight)).collect();
        for key in self.last_probes() {
            match rows.iter_mut().find(|(known, _)| known == key) {
                Some((_, weight)) => *weight += rho,
                None => rows.push((key.to_owned(), rho)),
            }
        }
        rows.sort_by(|x, y| y.1.total_cmp(&x.1));
        rows
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
        let policy = self.policy();
        let rule = policy.config.abstain;
        let counted = self.counted();
        let cast_rate = if counted == 0 { 1.0 } else { f64::from(cast) / f64::from(counted) };
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
        let (trace, answer) = first.map_or((None, None), |(trace, raw)| (Some(trace), Some(raw)));
        let entropy = -tally
            .iter()
            .map(|(_, row)| share_of(row.weight))
            .filter(|p| *p > 0.0)
            .map(|p| p * p.ln())
            .sum::<f64>();
        let rest = self.limit().saturating_sub(counted);
        let plain = !policy.weighs() && winner == self.tally.leader();
        let p_final = (plain && winner.is_some() && rest <= 4096)
            .then(|| predictive::confidence(a, b, rest, 1.0));
        let ended = |t: &u32| self.get(*t).is_some_and(|trace| trace.ended.is_some());
        let running = (self.base..self.launched).filter(|t| !ended(t)).count() as u32;
        let tally: Vec<TallyRow> = tally.into_iter().map(|(_, row)| row).collect();
        Outcome {
            question: self.id().to_owned(),
            winner: winner.and_then(|key| self.name(key)),
            answer,
            p_mode: trace.map(|_| beta::posterior(a, b)),
            trace,
            share,
            margin,
            num_tied: self.tied().len() as u32,
            tied: tied.iter().filter_map(|&key| self.name(key)).collect(),
            abstained,
            p_final,
            entropy: entropy.max(0.0),
            provisional: self.provisional(&tally),
            tally,
            num_cast: cast,
            num_none: counted - cast,
            stop: self.stop.cause(policy),
            cost: Cost {
                samples: counted,
                launched: self.launched,
                cancelled: self.cancelled + if self.is_done() { running } else { 0 },
                late: self.late,
                tokens: self.num_tokens(),
            },
            policy: policy.name(),
            seed: self.seed(),
        }
    }
}
