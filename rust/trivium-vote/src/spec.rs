//! The configuration of a vote: plain data, and its compiled, shared form.
//!
//! [`VoterConfig`] holds the strings that a request or a file would hold. [`Policy::new`] validates
//! all of it at once; what a later version may serve is [`Error::Unsupported`], what is misspelled
//! is [`Error::InvalidInput`], and both list what exists.

use crate::keys::{Key, KeyOptions};
use crate::stops::{Rule, Stops};
use trivium_core::{Error, Result};

/// Largest budget of one question, in traces.
pub const MAX_BUDGET: u32 = 65_536;
/// Longest question id in bytes.
pub const MAX_ID: usize = 4096;

/// How many traces to have in flight: the trade of latency against overshoot.
///
/// If at least `d` further ballots are needed and the leader has `a` of `n`, a next ballot is for the
/// leader with probability about `p = (a + 1) / (n + 2)`; `Factor(g)` keeps `ceil(d / p^g)` traces
/// in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// An exponent in `[0, 1]`: 0 launches the bare minimum, 1 expects some misses.
    Factor(f64),
    /// Everything at once, cancelled when the vote is decided.
    Max,
}

/// Everything that determines a vote, apart from its events.
#[derive(Debug, Clone, PartialEq)]
pub struct VoterConfig {
    /// Name of the key: `text`, `number`, `choice`.
    pub key: String,
    /// Settings of the key.
    pub key_options: KeyOptions,
    /// Name of the weight of a ballot: `one`.
    pub weight: String,
    /// Stop rules, joined by *or*: `majority`, `locked`, `beta:C`.
    pub stop: Vec<String>,
    /// Largest number of traces a question may launch.
    pub budget: u32,
    /// Name of the tie rule: `first`.
    pub ties: String,
    /// Seed of random decisions; none of the rules so far makes any.
    pub seed: u64,
    /// In which order ballots count: `launch`.
    pub order: String,
    /// Launch control.
    pub latency: Latency,
    /// Replays under a reference's name: rules without the lossless wrapper, `locked` strict.
    pub bare: bool,
}

impl Default for VoterConfig {
    fn default() -> Self {
        Self {
            key: "number".to_owned(),
            key_options: KeyOptions::default(),
            weight: "one".to_owned(),
            stop: vec!["beta:0.95".to_owned()],
            budget: 40,
            ties: "first".to_owned(),
            seed: 0,
            order: "launch".to_owned(),
            latency: Latency::Factor(0.0),
            bare: false,
        }
    }
}

/// A validated configuration: immutable, shared by all questions of a pool.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) config: VoterConfig,
    pub(crate) key: Key,
    pub(crate) rules: Vec<Rule>,
}

impl Policy {
    /// Validates a configuration.
    ///
    /// # Errors
    /// See the module comment; [`Error::LimitExceeded`] for a budget above [`MAX_BUDGET`].
    pub fn new(config: VoterConfig) -> Result<Self> {
        let key = Key::new(&config.key, config.key_options.clone())?;
        named(
            "weight",
            &config.weight,
            &["one"],
            &[
                "normalised",
                "unnormalised",
                "inverse_entropy",
                "cisc",
                "borda",
                "deepconf",
                "log_odds",
                "length",
                "reward",
            ],
        )?;
        named(
            "ties",
            &config.ties,
            &["first"],
            &["weight", "random", "greedy", "more", "abstain", "all"],
        )?;
        named("order", &config.order, &["launch"], &["arrival", "wave"])?;
        if config.stop.is_empty() {
            return Err(Error::input(
                "stop",
                "needs at least one rule; \"majority\" never stops early",
            ));
        }
        let rules = config.stop.iter().map(|rule| Rule::parse(rule)).collect::<Result<_>>()?;
        check_budget(config.budget)?;
        if let Latency::Factor(exponent) = config.latency
            && !(0.0..=1.0).contains(&exponent)
        {
            return Err(Error::input("latency", format!("{exponent} is not in [0, 1]")));
        }
        Ok(Self { config, key, rules })
    }

    /// The rules compiled for one budget.
    pub(crate) fn stops(&self, budget: u32) -> Stops {
        Stops::new(&self.rules, budget, self.config.bare)
    }

    /// The configuration this was made from.
    pub fn config(&self) -> &VoterConfig {
        &self.config
    }

    /// The compiled key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The stop rules in their canonical spelling, joined by `|`.
    pub fn name(&self) -> String {
        self.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
    }
}

/// Checks the budget of a question.
pub(crate) fn check_budget(budget: u32) -> Result<()> {
    match budget {
        0 => Err(Error::input("budget", "0 traces cannot answer; at least 1 is needed")),
        1..=MAX_BUDGET => Ok(()),
        _ => Err(Error::LimitExceeded {
            limit: "budget",
            value: u64::from(budget),
            budget: u64::from(MAX_BUDGET),
        }),
    }
}

fn named(what: &str, name: &str, exist: &[&str], planned: &[&str]) -> Result<()> {
    if exist.contains(&name) { Ok(()) } else { Err(unknown(what, name, exist, planned)) }
}

/// The error for a name that does not exist (yet).
pub(crate) fn unknown(what: &str, name: &str, exist: &[&str], planned: &[&str]) -> Error {
    let list = exist.join(", ");
    let stem = name.split(':').next().unwrap_or(name);
    if planned.contains(&stem) {
        Error::unsupported(
            format!("{what}={name:?}"),
            "in this version",
            format!("choose one of: {list}"),
        )
    } else {
        Error::input(what, format!("{name:?} is unknown; choose one of: {list}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut VoterConfig)) -> Error {
        let mut config = VoterConfig::default();
        change(&mut config);
        Policy::new(config).unwrap_err()
    }

    #[test]
    fn configurations_are_refused_with_what_exists() {
        let unsupported = error(|c| c.weight = "borda".into());
        assert!(
            matches!(&unsupported, Error::Unsupported { .. })
                && unsupported.to_string().contains("one")
        );
        assert!(matches!(error(|c| c.weight = "two".into()), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.ties = "random".into()), Error::Unsupported { .. }));
        assert!(matches!(error(|c| c.order = "arrival".into()), Error::Unsupported { .. }));
        assert!(matches!(error(|c| c.key = "latex".into()), Error::Unsupported { .. }));
        assert!(matches!(error(|c| c.stop = vec!["esc:5".into()]), Error::Unsupported { .. }));
        assert!(matches!(error(|c| c.stop = vec![]), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.budget = 0), Error::InvalidInput { .. }));
        assert!(matches!(
            error(|c| c.budget = 65_537),
            Error::LimitExceeded { limit: "budget", .. }
        ));
        assert!(matches!(
            error(|c| c.latency = Latency::Factor(f64::NAN)),
            Error::InvalidInput { .. }
        ));
    }

    #[test]
    fn policies_are_named_by_their_rules() {
        let stop = vec!["beta".into(), "locked".into()];
        let policy = Policy::new(VoterConfig { stop, ..VoterConfig::default() }).unwrap();
        assert_eq!(policy.name(), "beta:0.95|locked");
    }
}
