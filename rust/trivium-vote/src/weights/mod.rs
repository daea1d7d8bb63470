//! Weights: how much each ballot of a question counts.
//!
//! A scheme maps the statistics of all ballots of one question to their weights, because several
//! schemes compare a trace with its siblings; sums are taken per key. The whole list is weighed anew
//! at each ballot: linear in their number (`n log n` for ranks), a few hundred at most.
//!
//! | name | weight of ballot `i` | method |
//! |---|---|---|
//! | `one` | 1 | majority |
//! | `normalised`, `unnormalised` | `exp(S/T)`, `exp(S)`; with `:mean` their mean by key | Self-Consistency |
//! | `inverse_entropy` | `1 / max(H, 1e-10)` | The Sequential Edge |
//! | `cisc:tau` | `exp(c / tau)`, the largest 1 | Confidence Improves Self-Consistency |
//! | `borda:p` | `(N - rank + 1)^p` by confidence | self-certainty |
//! | `deepconf:eta:how` | confidence (`lowest`, `tail`, `bottom`, `mean`), the best `eta` per cent only | `DeepConf` |
//! | `soft:how` | only the path of largest `mean`, `min` or `prod` of its tokens' probabilities | Soft-SC |
//! | `leaf` | product of `1 / branches` where its path was forked | `TreePO` |
//! | `log_odds` | weight of the trace's source, see [`reliability`] and [`logit`] | Nitzan-Paroush |
//! | `length:beta` | `exp(-beta (T - T_min) / T_min)` | soft first finish |
//! | `reward`, `reward:tau` | `max(r, 0)`, `exp(r / tau)` | weighted best-of-N |
//! | `ppl` | only the most probable path, `exp(S/T)` | best path |
//! | `pc`, `rpc` | `exp(S/T)` of distinct paths, low ones pruned under `rpc` | RPC |
//! | `user` | what the host gives | - |
//!
//! `S` is the sum of a trace's log-probabilities, `T` its number of tokens.

pub mod conf;
pub mod entropy;
pub mod logit;
pub mod reliability;
pub mod weibull;

use conf::TraceConf;
use rustc_hash::FxHashMap;
use std::fmt;
use trivium_core::{Error, Result};

/// What a scheme reads of one ballot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BallotStats {
    /// Sum of log-probabilities.
    pub sum_logprob: f64,
    /// Number of tokens.
    pub num_tokens: u64,
    /// Confidence: what the host gave, or the trace confidence gathered from tokens.
    pub confidence: Option<f64>,
    /// Mean entropy of its token distributions.
    pub entropy: Option<f64>,
    /// Reward.
    pub reward: Option<f64>,
    /// Index of its source.
    pub source: Option<u32>,
    /// Weight given by the host.
    pub weight: Option<f64>,
    /// Hash of its path: equal paths are one path.
    pub path: u64,
    /// Logarithm of the number of branches its path was forked into, level by level.
    pub ln_branches: f64,
}

impl BallotStats {
    /// Mean log-probability of a token.
    pub fn mean_logprob(&self) -> f64 {
        self.sum_logprob / self.num_tokens.max(1) as f64
    }
}

/// What a trace's tokens are summed up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soft {
    /// Mean probability.
    Mean,
    /// Least probability.
    Min,
    /// Product of all.
    Prod,
}

/// A weighting scheme.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// Every ballot counts 1.
    One,
    /// Length-normalised probability; whether keys are compared by their mean.
    Normalised(bool),
    /// Probability; whether keys are compared by their mean.
    Unnormalised(bool),
    /// One over the mean entropy.
    InverseEntropy,
    /// Softmax of the confidence at a temperature.
    Cisc(f64),
    /// A power of the rank by confidence.
    Borda(f64),
    /// Confidence of the best traces; how many of them in per cent, and which confidence.
    DeepConf(f64, TraceConf),
    /// The trace of largest token probability alone.
    Soft(Soft),
    /// One over the number of branches.
    Leaf,
    /// Log-odds of the source.
    LogOdds,
    /// Exponential in the excess length.
    Length(f64),
    /// The reward where it is positive.
    Reward,
    /// Exponential of the reward at a temperature.
    RewardExp(f64),
    /// Most probable path alone.
    Perplexity,
    /// Perplexity consistency; whether low paths are pruned.
    Paths(bool),
    /// Given by the host.
    User,
}

/// The names that [`Weight::parse`] knows.
pub const NAMES: &[&str] = &[
    "one",
    "normalised:mean",
    "unnormalised:mean",
    "inverse_entropy",
    "cisc:TAU",
    "borda:P",
    "deepconf:ETA:lowest",
    "soft:mean",
    "leaf",
    "log_odds",
    "length:BETA",
    "reward",
    "reward:TAU",
    "ppl",
    "pc",
    "rpc",
    "user",
];

impl Weight {
    /// Reads a name with its parameter.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        let number = |default: f64| match parameter.map(str::parse::<f64>) {
            None => Ok(default),
            Some(Ok(value)) if value > 0.0 && value.is_finite() => Ok(value),
            Some(_) => Err(Error::input("weight", format!("{text} needs a number above 0"))),
        };
        let plain = |weight| match parameter {
            None => Ok(weight),
            Some(_) => Err(Error::input("weight", format!("{name} takes no parameter: {text}"))),
        };
        let mean = || match parameter {
            None => Ok(false),
            Some("mean") => Ok(true),
            Some(_) => Err(Error::input("weight", format!("{text}: the parameter is \"mean\""))),
        };
        match name {
            "one" => plain(Self::One),
            "normalised" => mean().map(Self::Normalised),
            "unnormalised" => mean().map(Self::Unnormalised),
            "leaf" => plain(Self::Leaf),
            "soft" => match parameter.unwrap_or("mean") {
                "mean" => Ok(Self::Soft(Soft::Mean)),
                "min" => Ok(Self::Soft(Soft::Min)),
                "prod" => Ok(Self::Soft(Soft::Prod)),
                _ => Err(Error::input("weight", format!("{text}: choose mean, min or prod"))),
            },
            "inverse_entropy" => plain(Self::InverseEntropy),
            "cisc" => Ok(Self::Cisc(number(1.0)?)),
            "borda" => Ok(Self::Borda(number(0.5)?)),
            "deepconf" => {
                let (eta, how) = match parameter.map(|p| p.split_once(':').unwrap_or((p, "lowest")))
                {
                    None => (Some(100.0), "lowest"),
                    Some((eta, how)) => (eta.parse().ok(), how),
                };
                let how = TraceConf::parse(how)?;
                let eta = eta.filter(|eta| *eta > 0.0 && *eta <= 100.0).ok_or_else(|| {
                    Error::input("weight", format!("{text} needs a share in (0, 100] per cent"))
                })?;
                Ok(Self::DeepConf(eta, how))
            }
            "log_odds" => plain(Self::LogOdds),
            "length" => Ok(Self::Length(number(1.0)?)),
            "reward" if parameter.is_none() => Ok(Self::Reward),
            "reward" => Ok(Self::RewardExp(number(1.0)?)),
            "ppl" => plain(Self::Perplexity),
            "pc" => plain(Self::Paths(false)),
            "rpc" => plain(Self::Paths(true)),
            "user" => plain(Self::User),
            _ => Err(crate::spec::unknown("weight", text, NAMES, &[])),
        }
    }

    /// Largest weight a ballot can have, where it is known beforehand.
    pub fn bound(self) -> Option<f64> {
        let below_one =
            matches!(self, Self::One | Self::Normalised(false) | Self::Unnormalised(false));
        (below_one || self == Self::Leaf).then_some(1.0)
    }

    /// Whether the scheme reads more than the answer and the tokens before it.
    pub(crate) fn reads_whole_text(self) -> bool {
        matches!(
            self,
            Self::Reward | Self::RewardExp(_) | Self::Paths(_) | Self::Perplexity | Self::Length(_)
        )
    }

    /// What makes ballots of this scheme dependent on each other, so that tests which take them for
    /// exchangeable draws lose their meaning.
    pub(crate) fn dependence(self) -> Option<&'static str> {
        match self {
            Self::InverseEntropy => Some("each chain reads the answers before it"),
            Self::Paths(_) => Some("equal paths are counted once"),
            Self::Leaf => Some("branches of one tree share their beginning"),
            Self::Soft(_) | Self::Perplexity => Some("one path decides"),
            _ => None,
        }
    }

    /// The weights of ballots: `keys` name their answers (for distinct paths), `log_odds` holds the
    /// log-odds of sources.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first ballot that lacks what the scheme reads, or whose
    /// weight would be negative or not finite.
    pub fn weigh(
        self,
        keys: &[u32],
        ballots: &[BallotStats],
        log_odds: &[f64],
    ) -> Result<Vec<f64>> {
        let lacks = |i: usize, what: &str| {
            Error::input("weight", format!("{self}: ballot {i} of the question has no {what}"))
        };
        let each = |what: &str, read: &dyn Fn(&BallotStats) -> Option<f64>| {
            (ballots.iter().enumerate())
                .map(|(i, ballot)| read(ballot).ok_or_else(|| lacks(i, what)))
                .collect::<Result<Vec<f64>>>()
        };
        let conf = || each("confidence", &|b| b.confidence);
        let mean = || ballots.iter().map(BallotStats::mean_logprob).collect::<Vec<_>>();
        let weights = match self {
            Self::One => vec![1.0; ballots.len()],
            Self::Normalised(by_mean) => {
                averaged(mean().into_iter().map(f64::exp).collect(), keys, by_mean)
            }
            // Shifted by the largest, so that ten thousand tokens do not underflow.
            Self::Unnormalised(by_mean) => {
                let sums = ballots.iter().map(|b| b.sum_logprob).collect();
                averaged(tilted(sums, 1.0), keys, by_mean)
            }
            Self::Leaf => ballots.iter().map(|b| (-b.ln_branches).exp()).collect(),
            Self::Soft(_) => only_best(&conf()?),
            Self::InverseEntropy => {
                each("entropy", &|b| b.entropy)?.into_iter().map(entropy::inverse).collect()
            }
            Self::Cisc(tau) => tilted(conf()?, tau),
            Self::Borda(power) => conf::borda(&conf()?, power),
            Self::DeepConf(eta, _) => conf::top_percent(&conf()?, eta),
            Self::LogOdds => {
                each("known source", &|b| b.source.and_then(|s| log_odds.get(s as usize).copied()))?
            }
            Self::Length(beta) => {
                let tokens = |b: &BallotStats| b.num_tokens.max(1) as f64;
                let least = ballots.iter().map(tokens).fold(f64::INFINITY, f64::min);
                ballots.iter().map(|b| (-beta * (tokens(b) - least) / least).exp()).collect()
            }
            Self::Reward => {
                each("reward", &|b| b.reward)?.into_iter().map(|r| r.max(0.0)).collect()
            }
            Self::RewardExp(tau) => tilted(each("reward", &|b| b.reward)?, tau),
            Self::Perplexity => only_best(&mean().into_iter().map(f64::exp).collect::<Vec<_>>()),
            Self::Paths(prune) => {
                let p: Vec<f64> = mean().into_iter().map(f64::exp).collect();
                let kept = if prune && p.len() > 2 { weibull::keep(&p) } else { Vec::new() };
                distinct_paths(keys, ballots, &kept)
            }
            Self::User => each("weight", &|b| b.weight)?,
        };
        match weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
            None => Ok(weights),
            Some(i) => {
                let why = format!("{self}: ballot {i} weighs {}, not a finite size", weights[i]);
                Err(Error::input("weight", why))
            }
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Normalised(false) => f.write_str("normalised"),
            Self::Normalised(true) => f.write_str("normalised:mean"),
            Self::Unnormalised(false) => f.write_str("unnormalised"),
            Self::Unnormalised(true) => f.write_str("unnormalised:mean"),
            Self::Soft(Soft::Mean) => f.write_str("soft:mean"),
            Self::Soft(Soft::Min) => f.write_str("soft:min"),
            Self::Soft(Soft::Prod) => f.write_str("soft:prod"),
            Self::Leaf => f.write_str("leaf"),
            Self::InverseEntropy => f.write_str("inverse_entropy"),
            Self::Cisc(tau) => write!(f, "cisc:{tau}"),
            Self::Borda(power) => write!(f, "borda:{power}"),
            Self::DeepConf(eta, TraceConf::Lowest) => write!(f, "deepconf:{eta}"),
            Self::DeepConf(eta, how) => write!(f, "deepconf:{eta}:{}", how.name()),
            Self::LogOdds => f.write_str("log_odds"),
            Self::Length(beta) => write!(f, "length:{beta}"),
            Self::Reward => f.write_str("reward"),
            Self::RewardExp(tau) => write!(f, "reward:{tau}"),
            Self::Perplexity => f.write_str("ppl"),
            Self::Paths(false) => f.write_str("pc"),
            Self::Paths(true) => f.write_str("rpc"),
            Self::User => f.write_str("user"),
        }
    }
}

/// The largest value, at its first place; 0 elsewhere.
fn only_best(values: &[f64]) -> Vec<f64> {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let first = values.iter().position(|&m| m == best);
    (0..values.len()).map(|i| if Some(i) == first { best } else { 0.0 }).collect()
}

/// Weights whose sums by key are means, if asked for.
fn averaged(mut weights: Vec<f64>, keys: &[u32], by_mean: bool) -> Vec<f64> {
    if by_mean {
        let mut counts: FxHashMap<u32, u32> = FxHashMap::default();
        keys.iter().for_each(|&key| *counts.entry(key).or_default() += 1);
        for (weight, key) in weights.iter_mut().zip(keys) {
            *weight /= f64::from(counts[key]);
        }
    }
    weights
}

/// `exp((x - max x) / tau)`: softmax up to a factor, which no comparison inside a question sees.
fn tilted(values: Vec<f64>, tau: f64) -> Vec<f64> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.into_iter().map(|x| ((x - most) / tau).exp()).collect()
}

/// Perplexity consistency: each distinct path of a key that was kept weighs its normalised
/// probability, once.
pub(crate) fn distinct_paths(keys: &[u32], ballots: &[BallotStats], kept: &[bool]) -> Vec<f64> {
    let mut seen = rustc_hash::FxHashSet::default();
    (ballots.iter().enumerate())
        .map(|(i, ballot)| {
            let key = keys.get(i).copied().unwrap_or(0);
            let counts = kept.get(i) != Some(&false) && seen.insert((key, ballot.path));
            if counts { ballot.mean_logprob().exp() } else { 0.0 }
        })
        .collect()
}

/// Sums of weights by key (keys numbered from 0 without gaps), in the order of the ballots with
/// compensation.
pub fn sums(keys: &[u32], weights: &[f64]) -> Vec<f64> {
    let num = keys.iter().map(|key| *key as usize + 1).max().unwrap_or(0);
    let mut sums = vec![(0.0f64, 0.0f64); num];
    for (key, &weight) in keys.iter().zip(weights) {
        let (sum, carry) = &mut sums[*key as usize];
        let y = weight - *carry;
        let t = *sum + y;
        *carry = (t - *sum) - y;
        *sum = t;
    }
    sums.into_iter().map(|(sum, _)| sum).collect()
}

/// Kish's effective number of ballots per unit of weight, `sum w / sum w^2`; 0 without weight.
pub fn kappa(weights: &[f64]) -> f64 {
    let (sum, squares) = weights.iter().fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
    if squares > 0.0 { sum / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballots(rows: &[(f64, u64)]) -> Vec<BallotStats> {
        (rows.iter().enumerate())
            .map(|(i, &(sum_logprob, num_tokens))| BallotStats {
                sum_logprob,
                num_tokens,
                path: i as u64,
                ..BallotStats::default()
            })
            .collect()
    }

    fn close(x: &[f64], y: &[f64]) {
        assert_eq!(x.len(), y.len());
        assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-6), "{x:?} {y:?}");
    }

    #[test]
    fn probability_weights_have_their_published_values() {
        let rows = ballots(&[(-10.0, 20), (-12.0, 40), (-9.0, 30)]);
        let keys = [0, 1, 1];
        let w = Weight::Normalised(false).weigh(&keys, &rows, &[]).unwrap();
        close(&sums(&keys, &w), &[0.606_530_66, 1.481_636_44]);
        let w = Weight::Normalised(true).weigh(&keys, &rows, &[]).unwrap();
        close(&sums(&keys, &w), &[0.606_530_66, 0.740_818_221]);
        let w = Weight::Unnormalised(false).weigh(&keys, &rows, &[]).unwrap();
        let sums = sums(&keys, &w);
        assert!((sums[1] / sums[0] - 1.295_540_16e-4 / 4.539_992_98e-5).abs() < 1e-6);
        let deep = ballots(&[(-9e4, 9), (-9e4 - 1.0, 9)]);
        close(
            &Weight::Unnormalised(false).weigh(&[0, 1], &deep, &[]).unwrap(),
            &[1.0, (-1f64).exp()],
        );
    }

    #[test]
    fn cisc_has_its_published_values() {
        let rows: Vec<_> = [0.9, 0.5, 0.5, 0.2]
            .map(|c| BallotStats { confidence: Some(c), ..BallotStats::default() })
            .into();
        for (tau, expected) in [
            (1.0, [0.352_457, 0.236_259, 0.236_259, 0.175_025]),
            (0.2, [0.768_718, 0.104_035, 0.104_035, 0.023_213]),
        ] {
            let w = Weight::Cisc(tau).weigh(&[0; 4], &rows, &[]).unwrap();
            let total: f64 = w.iter().sum();
            close(&w.iter().map(|w| w / total).collect::<Vec<_>>(), &expected);
        }
    }

    #[test]
    fn paths_have_their_published_values() {
        let logs = [-0.10, -0.12, -0.45, -0.50, -0.48, -0.52, -0.11, -0.60, -0.47, -0.10];
        let keys = [0, 0, 1, 1, 1, 1, 0, 2, 1, 0];
        let rows = ballots(&logs.map(|lp| (lp, 1)));
        let pc = sums(&keys, &Weight::Paths(false).weigh(&keys, &rows, &[]).unwrap());
        assert!((pc[0] / pc.iter().sum::<f64>() - 0.497_311_1).abs() < 1e-6);
        let rpc = sums(&keys, &Weight::Paths(true).weigh(&keys, &rows, &[]).unwrap());
        assert!(rpc[0] > 0.0 && rpc[1] == 0.0 && rpc[2] == 0.0);
        let mut twice = rows;
        twice[9].path = 0;
        let once = sums(&keys, &Weight::Paths(false).weigh(&keys, &twice, &[]).unwrap());
        assert!(once[0] < pc[0]);
    }

    #[test]
    fn kish_gives_equal_weights_their_counts_back() {
        assert!((kappa(&[0.9, 0.6, 0.3]) - 1.428_571_4).abs() < 1e-7);
        let (a, b) = (1.5 * kappa(&[0.9, 0.6, 0.3]), 0.3 * kappa(&[0.9, 0.6, 0.3]));
        let p = crate::numeric::incomplete_beta(0.5, b + 1.0, a + 1.0);
        assert!((p - 0.814_571_750_1).abs() < 1e-9, "{p}");
        assert!((kappa(&[2.0; 5]) * 2.0 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn one_soft_path_decides_and_branches_share() {
        let rows: Vec<_> = [0.2, 0.7, 0.7]
            .map(|c| BallotStats { confidence: Some(c), ..BallotStats::default() })
            .into();
        let w = Weight::Soft(Soft::Min).weigh(&[0, 1, 2], &rows, &[]).unwrap();
        assert_eq!(w, [0.0, 0.7, 0.0]);
        // A tree whose first branch ended early and whose second forked again.
        let half = 2f64.ln();
        let rows: Vec<_> = [half, 2.0 * half, 2.0 * half]
            .map(|ln_branches| BallotStats { ln_branches, ..BallotStats::default() })
            .into();
        close(&Weight::Leaf.weigh(&[0; 3], &rows, &[]).unwrap(), &[0.5, 0.25, 0.25]);
    }

    #[test]
    fn missing_statistics_and_bad_weights_name_their_ballot() {
        let rows = vec![BallotStats::default(); 2];
        for name in ["cisc", "borda", "reward", "log_odds", "inverse_entropy", "user", "deepconf"] {
            let error = Weight::parse(name).unwrap().weigh(&[0, 0], &rows, &[]).unwrap_err();
            assert!(error.to_string().contains("ballot 0"), "{error}");
        }
        let bad = [BallotStats { weight: Some(-1.0), ..BallotStats::default() }];
        assert!(Weight::User.weigh(&[0], &bad, &[]).is_err());
        for text in ["cisc:0", "cisc:x", "one:2", "deepconf:200", "deepconf:9:x", "soft:x", "two"] {
            assert!(Weight::parse(text).is_err(), "{text}");
        }
        for text in [
            "cisc:0.05",
            "borda:0.5",
            "reward",
            "reward:0.1",
            "rpc",
            "log_odds",
            "soft:min",
            "leaf",
            "deepconf:10",
            "deepconf:90:tail",
            "normalised:mean",
        ] {
            assert_eq!(Weight::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn compensated_sums_are_exact_enough() {
        let weights: Vec<f64> = (0..1_000_000).map(|i| 1.0 / f64::from(i + 1)).collect();
        let sum = sums(&vec![0; weights.len()], &weights)[0];
        let naive: f64 = weights.iter().rev().sum();
        assert!((sum / naive - 1.0).abs() < 1e-12);
    }
}
