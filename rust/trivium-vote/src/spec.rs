//! The configuration of a vote: plain data, and its compiled, shared form.
//!
//! [`VoterConfig`] holds the strings that a request or a file would hold. [`Policy::new`] validates
//! all of it at once; what a later version may serve is [`Error::Unsupported`], what is misspelled
//! is [`Error::InvalidInput`], and both list what exists.

use crate::keys::{Key, KeyOptions};
use crate::stops::{Rule, Stops};
use crate::weights::Weight;
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
    /// Name of the weight of a ballot, see [`crate::weights`].
    pub weight: String,
    /// Log-odds by source, for the weight `log_odds`.
    pub log_odds: Vec<f64>,
    /// Tokens of a confidence group.
    pub window: u32,
    /// Pruning of running traces: none, or `conf_floor:ETA` (`DeepConf` online).
    pub prune: Option<String>,
    /// Conditions under which a decided vote abstains.
    pub abstain: Abstain,
    /// Stop rules, joined by *or*, see [`crate::stops`].
    pub stop: Vec<String>,
    /// Largest number of traces a question may launch.
    pub budget: u32,
    /// Name of the tie rule, see [`Ties`].
    pub ties: String,
    /// Seed of random decisions: ties under `random`.
    pub seed: u64,
    /// In which order ballots count: `launch`, `arrival`, or `wave:W`, launch order judged after each
    /// `W` traces alone.
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
            log_odds: Vec::new(),
            window: 2048,
            prune: None,
            abstain: Abstain::default(),
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

/// Conditions under which a decided vote has no winner; the default abstains never.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Abstain {
    /// Least share of the weight.
    pub min_share: f64,
    /// Least lead as a share of the weight.
    pub min_margin: f64,
    /// Least number of ballots.
    pub min_ballots: u32,
    /// Largest share of counted traces without a ballot, as one minus it: 0 allows all.
    pub min_cast_rate: f64,
}

/// Who wins among keys of equal weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The key whose first ballot has the lowest launch index.
    First,
    /// The key whose ballots have the larger mean log-probability, then the first.
    Weight,
    /// A key drawn by seed, question and tied keys, whatever the order of their ballots.
    Random,
    /// The key of trace 0, the designated greedy trace, where it is tied; else the first.
    Greedy,
    /// Asks on while the budget lasts; then the first.
    More,
    /// Nobody.
    Abstain,
    /// All of them: the result lists them, the first stands for them.
    All,
}

impl Ties {
    /// All rules with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("first", Self::First),
        ("weight", Self::Weight),
        ("random", Self::Random),
        ("greedy", Self::Greedy),
        ("more", Self::More),
        ("abstain", Self::Abstain),
        ("all", Self::All),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name);
        found
            .map(|(_, ties)| *ties)
            .ok_or_else(|| unknown("ties", name, &Self::ALL.map(|(text, _)| text), &[]))
    }
}

/// A validated configuration: immutable, shared by all questions of a pool.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) config: VoterConfig,
    pub(crate) key: Key,
    pub(crate) rules: Vec<Rule>,
    pub(crate) weight: Weight,
    pub(crate) ties: Ties,
    /// Ballots count as their traces finish.
    pub(crate) arrival: bool,
    /// Per cent of warm-up confidences that lie above the floor of pruning.
    pub(crate) floor: Option<f64>,
    /// Traces that are judged together.
    pub(crate) wave: u32,
}

impl Policy {
    /// Validates a configuration.
    ///
    /// # Errors
    /// See the module comment; [`Error::LimitExceeded`] for a budget above [`MAX_BUDGET`].
    pub fn new(config: VoterConfig) -> Result<Self> {
        let key = Key::new(&config.key, config.key_options.clone())?;
        let mut weight = Weight::parse(&config.weight)?;
        let ties = Ties::parse(&config.ties)?;
        let wave = parse_order(&config.order)?;
        if config.stop.is_empty() {
            return Err(Error::input(
                "stop",
                "needs at least one rule; \"majority\" never stops early",
            ));
        }
        let rules: Vec<Rule> =
            config.stop.iter().map(|rule| Rule::parse(rule)).collect::<Result<_>>()?;
        if rules.contains(&Rule::Rpc) {
            if !matches!(weight, Weight::One | Weight::Paths(true)) {
                return Err(contradiction("rpc", &config.weight, "it brings its own weights"));
            }
            weight = Weight::Paths(true);
        }
        let floor = config.prune.as_deref().map(parse_floor).transpose()?;
        check_parts(&rules, weight, floor)?;
        check_numbers(&config)?;
        let arrival = config.order == "arrival" || rules.iter().any(|rule| rule.by_arrival());
        check_budget(config.budget)?;
        if let Latency::Factor(exponent) = config.latency
            && !(0.0..=1.0).contains(&exponent)
        {
            return Err(Error::input("latency", format!("{exponent} is not in [0, 1]")));
        }
        Ok(Self { config, key, rules, weight, ties, arrival, floor, wave })
    }

    /// The rules compiled for one budget.
    pub(crate) fn stops(&self, budget: u32) -> Stops {
        let stops = Stops::new(&self.rules, budget, self.config.bare);
        if self.ties == Ties::First { stops } else { stops.with_open_ties() }
    }

    /// Whether a rule reads single ballots.
    pub(crate) fn reads_ballots(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule, Rule::LastFinish { .. }))
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

fn contradiction(rule: &str, part: &str, why: &str) -> Error {
    Error::input("stop", format!("{rule:?} contradicts {part:?}: {why}"))
}

/// Refuses parts that deprive each other of their meaning.
fn check_parts(rules: &[Rule], weight: Weight, floor: Option<f64>) -> Result<()> {
    for rule in rules {
        let name = rule.to_string();
        if weight != Weight::One && rule.needs_plain_ballots() {
            let why = "it counts ballots, not weights; use beta, share or posterior";
            return Err(contradiction(&name, &weight.to_string(), why));
        }
        if let Some(why) = weight.dependence()
            && rule.is_sequential_test()
        {
            return Err(contradiction(&name, &weight.to_string(), why));
        }
        if floor.is_some() && rule.is_sequential_test() {
            let why = "pruned traces leave ballots that are no fair draws; use share";
            return Err(contradiction(&name, "conf_floor", why));
        }
        if matches!(rule, Rule::Posterior(..)) && !matches!(weight, Weight::LogOdds | Weight::User)
        {
            let why = "it reads sums of log-odds; use log_odds or user";
            return Err(contradiction(&name, &weight.to_string(), why));
        }
    }
    Ok(())
}

fn check_numbers(config: &VoterConfig) -> Result<()> {
    if let Some(bad) = config.log_odds.iter().find(|w| !w.is_finite() || **w < 0.0) {
        return Err(Error::input("log_odds", format!("{bad} is not a finite weight from 0 on")));
    }
    if config.window == 0 || config.window > 65_536 {
        return Err(Error::input("window", format!("{} is not in 1 .. 65536", config.window)));
    }
    let Abstain { min_share, min_margin, min_cast_rate, .. } = config.abstain;
    for (what, value) in
        [("min_share", min_share), ("min_margin", min_margin), ("max_none_rate", min_cast_rate)]
    {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::input(what, "is not in [0, 1]".to_owned()));
        }
    }
    Ok(())
}

fn parse_floor(text: &str) -> Result<f64> {
    let eta = match text.split_once(':') {
        Some(("conf_floor", eta)) => eta.parse::<f64>().ok(),
        None if text == "conf_floor" => Some(10.0),
        _ => None,
    };
    eta.filter(|eta| (0.0..=100.0).contains(eta)).ok_or_else(|| {
        Error::input(
            "prune",
            format!("{text:?} is unknown; choose conf_floor:ETA, ETA in per cent"),
        )
    })
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

/// The traces that are judged together: 1 but for `wave:W`.
fn parse_order(text: &str) -> Result<u32> {
    match text.split_once(':') {
        None if matches!(text, "launch" | "arrival") => Ok(1),
        None if text == "wave" => Ok(4),
        Some(("wave", size)) => match size.parse::<u32>() {
            Ok(size) if (1..=MAX_BUDGET).contains(&size) => Ok(size),
            _ => Err(Error::input("order", format!("{text:?} needs a number of traces from 1 on"))),
        },
        _ => Err(unknown("order", text, &["launch", "arrival", "wave:W"], &[])),
    }
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
        assert!(matches!(error(|c| c.weight = "two".into()), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.ties = "never".into()), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.order = "wave:0".into()), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.order = "waves".into()), Error::InvalidInput { .. }));
        assert!(matches!(error(|c| c.key = "latecks".into()), Error::InvalidInput { .. }));
        for (weight, stop, prune) in [
            ("cisc", "dirichlet:0.9", None),
            ("inverse_entropy", "beta:0.9", None),
            ("one", "posterior", None),
            ("reward", "rpc", None),
            ("one", "beta:0.9", Some("conf_floor:10")),
            ("one", "majority", Some("floor")),
        ] {
            let refused = error(|c| {
                c.weight = weight.into();
                c.stop = vec![stop.into()];
                c.prune = prune.map(str::to_owned);
            });
            assert!(matches!(refused, Error::InvalidInput { .. }), "{refused}");
        }
        assert!(matches!(error(|c| c.stop = vec!["esc:0".into()]), Error::InvalidInput { .. }));
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
