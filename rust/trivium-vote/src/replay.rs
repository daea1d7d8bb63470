//! Replays of policies on recorded votes, under the names and with the tie rules of the published
//! comparisons.
//!
//! A policy is a stop rule, bare, on at most `cap` traces; or a weight, on all of them; `NAME@N`
//! replaces the cap. These names exist in replays only: `esc_majority:W` (the stop of `esc`, the
//! leader of everything drawn wins), `best_of` (the trace with the largest reward) and `hindsight`
//! (not a policy: the earliest stop after which the leader never changes). `learned` and `learned:C`
//! are `log_odds` and `posterior:1:C` with weights learned jointly.

use crate::stops::best::Known;
use crate::stops::{Rule, Stops, first_finish, posterior};
use crate::tally::{KeyId, Tally};
use crate::weights::{BallotStats, Weight};
use rustc_hash::FxHashMap;
use trivium_core::{Error, Result};

/// The traces of one question in launch order; every slice but `keys` may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded<'a> {
    /// Keys, none for an abstention.
    pub keys: &'a [Option<u32>],
    /// Lengths, in any unit.
    pub lengths: &'a [f64],
    /// Mean log-probabilities of a token.
    pub logprobs: &'a [f64],
    /// Numbers of tokens.
    pub tokens: &'a [f64],
    /// Rewards.
    pub rewards: &'a [f64],
    /// Log-odds of the traces' sources.
    pub odds: &'a [f64],
    /// Weights of the traces' sources, learned jointly.
    pub learned: &'a [f64],
    /// Names of paths.
    pub paths: &'a [f64],
}

impl<'a> Recorded<'a> {
    /// The first `num` traces.
    #[must_use]
    pub fn first(&self, num: usize) -> Self {
        let cut = |values: &'a [f64]| &values[..values.len().min(num)];
        Self {
            keys: &self.keys[..self.keys.len().min(num)],
            lengths: cut(self.lengths),
            logprobs: cut(self.logprobs),
            tokens: cut(self.tokens),
            rewards: cut(self.rewards),
            odds: cut(self.odds),
            learned: cut(self.learned),
            paths: cut(self.paths),
        }
    }
}

/// A policy compiled for replays.
#[derive(Debug, Clone)]
pub struct Replay {
    kind: Kind,
    limit: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Rule(Stops),
    EscMajority(Stops),
    FirstFinish { finishes: u32, compat: bool },
    LastFinish(u32),
    Posterior { temper: f64, level: f64, learned: bool },
    Weight(Weight),
    BestOf,
    Hindsight,
}

impl Replay {
    /// Compiles a policy for traces of which stop rules may use `cap`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for unknown names and parameters out of range.
    pub fn new(text: &str, cap: u32) -> Result<Self> {
        let (name, limit) = match text.rsplit_once('@') {
            None => (text, None),
            Some((name, num)) => match num.parse::<u32>() {
                Ok(num) if num > 0 => (name, Some(num)),
                _ => return Err(Error::input("policy", format!("{text}: {num:?} is no number"))),
            },
        };
        let all = usize::MAX;
        let capped = limit.unwrap_or(cap);
        let (kind, default) = match name {
            "hindsight" => (Kind::Hindsight, cap as usize),
            "best_of" => (Kind::BestOf, all),
            "rpc" => (Kind::Weight(Weight::Paths(true)), all),
            // No posterior reaches 2: all ballots count.
            "learned" => (Kind::Posterior { temper: 1.0, level: 2.0, learned: true }, all),
            _ if name.starts_with("learned:") => {
                let rule = Rule::parse(&name.replacen("learned", "posterior:1", 1))?;
                let Rule::Posterior(temper, level) = rule else { return Err(lacks("level")) };
                (Kind::Posterior { temper, level, learned: true }, cap as usize)
            }
            _ if name.starts_with("esc_majority") => {
                let rule = Rule::parse(&name.replacen("esc_majority", "esc", 1))?;
                (Kind::EscMajority(Stops::new(&[rule], capped, true)), cap as usize)
            }
            _ => match (Rule::parse(name), Weight::parse(name)) {
                (Ok(Rule::FirstFinish { finishes, of, compat }), _) => {
                    let of = if of == 0 { first_finish::started(finishes) } else { of };
                    (Kind::FirstFinish { finishes, compat }, of as usize)
                }
                (Ok(Rule::LastFinish { finishes, of }), _) => {
                    let of = if of == 0 { first_finish::started(finishes) } else { of };
                    (Kind::LastFinish(finishes), of as usize)
                }
                (Ok(Rule::Posterior(temper, level)), _) => {
                    (Kind::Posterior { temper, level, learned: false }, cap as usize)
                }
                (Ok(rule), _) => (Kind::Rule(Stops::new(&[rule], capped, true)), cap as usize),
                (Err(_), Ok(weight)) => (Kind::Weight(weight), all),
                (Err(error), Err(_)) => return Err(error),
            },
        };
        Ok(Self { kind, limit: limit.map_or(default, |limit| limit as usize) })
    }

    /// Whether the policy learns from one question for the next.
    pub fn learns(&self) -> bool {
        matches!(&self.kind, Kind::Rule(stops) if stops.shares().is_some())
    }

    /// The winner and the number of traces used, for a question that nothing was learned for.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the record lacks what the policy reads.
    pub fn run(&self, record: Recorded<'_>) -> Result<(Option<u32>, u32)> {
        self.run_knowing(record, &mut Known::default())
    }

    /// The same for the next question of a pool, of which `known` holds what it has learned.
    ///
    /// # Errors
    /// Those of [`Replay::run`].
    pub fn run_knowing(
        &self,
        record: Recorded<'_>,
        known: &mut Known,
    ) -> Result<(Option<u32>, u32)> {
        let record = record.first(self.limit);
        let used = record.keys.len() as u32;
        let present = |values: &[f64], what: &str| {
            if values.len() < record.keys.len() { Err(lacks(what)) } else { Ok(()) }
        };
        let lengths = || record.lengths.iter().map(|&n| n as u64).collect::<Vec<_>>();
        Ok(match &self.kind {
            Kind::Rule(stops) if self.learns() => {
                let knowing = stops.knowing(&known.shares());
                let stops = knowing.as_ref().unwrap_or(stops);
                let (winner, tally) = crate::batch::replay_tally(record.keys, stops, used);
                known.observe(&tally);
                (winner, tally.num_seen())
            }
            Kind::Rule(stops) => crate::batch::replay_keys(record.keys, stops, used),
            Kind::EscMajority(stops) => {
                let (_, used) = crate::batch::replay_keys(record.keys, stops, used);
                let keys = record.keys[..used as usize].iter().flatten().copied();
                (first_finish::majority(keys), used)
            }
            Kind::FirstFinish { finishes, compat } => {
                present(record.lengths, "lengths")?;
                (first_finish::replay(record.keys, &lengths(), *finishes, *compat), used)
            }
            Kind::LastFinish(finishes) => {
                present(record.lengths, "lengths")?;
                (first_finish::replay_last(record.keys, &lengths(), *finishes), used)
            }
            Kind::Posterior { temper, level, learned } => {
                let weights = if *learned { record.learned } else { record.odds };
                present(weights, "log-odds of sources")?;
                replay_posterior(record.keys, weights, *temper, *level)
            }
            Kind::BestOf => {
                present(record.rewards, "rewards")?;
                (argmax(record.rewards).and_then(|i| record.keys[i]), used)
            }
            Kind::Weight(Weight::Perplexity) => {
                present(record.logprobs, "log-probabilities")?;
                (argmax(record.logprobs).and_then(|i| record.keys[i]), used)
            }
            Kind::Weight(weight) => (weighted(record, *weight)?, used),
            Kind::Hindsight => hindsight(record.keys),
        })
    }
}

fn lacks(what: &str) -> Error {
    Error::input("votes", format!("this policy reads {what}"))
}

fn argmax(values: &[f64]) -> Option<usize> {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|&v| v == best)
}

fn weighted(record: Recorded<'_>, weight: Weight) -> Result<Option<u32>> {
    // Traces without a ballot take part in what a scheme compares, as a key of their own.
    let at = |values: &[f64], i: usize| values.get(i).copied();
    let ballots: Vec<BallotStats> = (0..record.keys.len())
        .map(|i| {
            let tokens = at(record.tokens, i).unwrap_or(1.0).max(1.0);
            let mean = at(record.logprobs, i);
            BallotStats {
                sum_logprob: mean.unwrap_or(0.0) * tokens,
                num_tokens: tokens as u64,
                confidence: mean,
                entropy: None,
                reward: at(record.rewards, i),
                source: at(record.odds, i).map(|_| i as u32),
                weight: None,
                path: at(record.paths, i).map_or(i as u64, f64::to_bits),
                ln_branches: 0.0,
            }
        })
        .collect();
    let reads_logprobs = matches!(
        weight,
        Weight::Normalised(_) | Weight::Unnormalised(_) | Weight::Paths(_) | Weight::Cisc(_)
    );
    if reads_logprobs && record.logprobs.len() < record.keys.len() {
        return Err(Error::input("votes", "this policy reads log-probabilities"));
    }
    let keys: Vec<u32> = record.keys.iter().map(|key| key.unwrap_or(u32::MAX)).collect();
    let weights = weight.weigh(&keys, &ballots, record.odds)?;
    let mut sums: Vec<(u32, f64)> = Vec::new();
    for (key, weight) in record.keys.iter().zip(weights) {
        let Some(key) = *key else { continue };
        match sums.iter_mut().find(|(known, _)| *known == key) {
            Some((_, sum)) => *sum += weight,
            None => sums.push((key, weight)),
        }
    }
    Ok(first_best(&sums))
}

fn first_best(sums: &[(u32, f64)]) -> Option<u32> {
    let best = sums.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
    sums.iter().find(|s| s.1 == best).map(|s| s.0)
}

fn replay_posterior(
    keys: &[Option<u32>],
    weights: &[f64],
    temper: f64,
    level: f64,
) -> (Option<u32>, u32) {
    let mut sums: Vec<(u32, f64)> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let Some(key) = *key else { continue };
        match sums.iter_mut().find(|(known, _)| *known == key) {
            Some((_, sum)) => *sum += weights[i],
            None => sums.push((key, weights[i])),
        }
        let plain: Vec<f64> = sums.iter().map(|s| s.1).collect();
        if posterior::confidence(&plain, temper) >= level {
            return (first_best(&sums), i as u32 + 1);
        }
    }
    (first_best(&sums), keys.len() as u32)
}

fn hindsight(keys: &[Option<u32>]) -> (Option<u32>, u32) {
    let mut tally = Tally::default();
    let mut ids: FxHashMap<u32, KeyId> = FxHashMap::default();
    let mut leaders = Vec::with_capacity(keys.len());
    let mut names = Vec::new();
    for key in keys {
        if let Some(key) = *key {
            let id = *ids.entry(key).or_insert_with(|| {
                names.push(key);
                names.len() as KeyId - 1
            });
            tally.cast(id);
        }
        leaders.push(tally.leader());
    }
    let last = leaders.last().copied().flatten();
    let changed = leaders.iter().rposition(|&leader| leader != last);
    let used = changed.map_or(1, |i| i + 2).min(keys.len().max(1));
    (last.map(|id| names[id as usize]), used as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: &str, keys: &[Option<u32>]) -> (Option<u32>, u32) {
        let lengths: Vec<f64> = (0..keys.len()).map(|i| (i * 7 % 5) as f64).collect();
        let record = Recorded { keys, lengths: &lengths, ..Recorded::default() };
        Replay::new(policy, 40).unwrap().run(record).unwrap()
    }

    #[test]
    fn replays_elect_what_their_references_do() {
        let keys = [0, 1, 0, 0, 2, 1, 1, 1, 1, 1, 0].map(Some);
        assert_eq!(run("majority", &keys), (Some(1), 11));
        assert_eq!(run("majority@3", &keys), (Some(0), 3));
        assert_eq!(run("hindsight", &keys), (Some(1), 8));
        assert_eq!(run("esc:5", &keys), (Some(1), 10));
        assert_eq!(run("esc_majority:5", &keys), (Some(1), 10));
        assert_eq!(run("one", &keys), (Some(1), 11));
        let (_, used) = run("first_finish:1", &keys);
        assert_eq!(used, 4);
        assert_eq!(run("majority", &[None, None]), (None, 2));
        assert!(Replay::new("nonsense", 40).is_err() && Replay::new("majority@x", 40).is_err());
        let record = Recorded { keys: &keys, ..Recorded::default() };
        assert!(Replay::new("rpc", 40).unwrap().run(record).is_err());
    }

    #[test]
    fn windows_may_disagree_with_the_leader() {
        let keys = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1].map(Some);
        assert_eq!(run("esc:4", &keys), (Some(0), 4));
        let split = [0, 1, 0, 0, 0, 1, 1, 1].map(Some);
        assert_eq!(
            run("esc:3", &[split[0], split[1], split[2], split[1], split[1], split[1]]),
            (Some(1), 6)
        );
    }
}
