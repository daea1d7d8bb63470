//! The configuration of a vote: plain data, and its compiled, shared form.
//!
//! [`VoterConfig`] holds the strings that a request or a file would hold. [`Policy::new`] validates
//! all of it at once; what a later version may serve is [`Error::Unsupported`], what is misspelled
//! is [`Error::InvalidInput`], and both list what exists.

use crate::keys::{Key, KeyOptions};
use crate::schedule::Order;
use crate::stops::{Rule, Stops};
use crate::watch::{Forking, Probing, Pruning, StepReward};
use crate::weights::Weight;
use std::sync::Arc;
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
#[allow(clippy::struct_excessive_bools, reason = "options of a request, each under its name")]
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
    /// Pruning of running traces, see [`crate::watch`].
    pub prune: Vec<String>,
    /// Whether a running trace that has marked its answer is finished with it.
    pub finish_on_answer: bool,
    /// What early answers of running traces do, see [`crate::watch`]: nothing, `provisional:RHO:K` or
    /// `temporal:WEIGHT:ALPHA:STEPS`.
    pub probe: Option<String>,
    /// How rewards of steps become that of their trace: `last`, `min`, `prod` or `mean`.
    pub steps: String,
    /// Least reward of a step that stays; lower ones are to be written again.
    pub accept: Option<f64>,
    /// When a trace is forked: never, or `entropy:TAU:WINDOW:N`.
    pub fork: Option<String>,
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
    /// Whether ballots beyond the prefix that a decision rests on count too (`late="count"`).
    pub count_late: bool,
    /// Largest number of tokens of one question.
    pub max_tokens: Option<u64>,
    /// Who is launched first where traces are scarce, see [`crate::schedule`].
    pub pool: String,
    /// Largest number of traces in flight, all questions together.
    pub slots: Option<u32>,
    /// Largest number of traces of all questions together.
    pub total: Option<u64>,
    /// Largest number of tokens of all questions together.
    pub total_tokens: Option<u64>,
    /// Whether questions keep the log that they can be replayed from.
    pub log: bool,
    /// Allows parts that contradict each other.
    pub unchecked: bool,
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
            prune: Vec::new(),
            finish_on_answer: false,
            probe: None,
            steps: "last".to_owned(),
            accept: None,
            fork: None,
            abstain: Abstain::default(),
            stop: vec!["beta:0.95".to_owned()],
            budget: 40,
            ties: "first".to_owned(),
            seed: 0,
            order: "launch".to_owned(),
            count_late: false,
            max_tokens: None,
            pool: "free".to_owned(),
            slots: None,
            total: None,
            total_tokens: None,
            log: true,
            unchecked: false,
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
    /// Rules of which any stops; those of one list must all fire.
    pub(crate) rules: Vec<Vec<Rule>>,
    pub(crate) weight: Weight,
    pub(crate) ties: Ties,
    /// Ballots count as their traces finish.
    pub(crate) arrival: bool,
    pub(crate) prune: Pruning,
    pub(crate) probe: Option<Probing>,
    pub(crate) steps: StepReward,
    pub(crate) fork: Option<Forking>,
    pub(crate) pool: Order,
    /// Traces that are judged together.
    pub(crate) wave: u32,
}

/// What questions of one budget share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) policy: Arc<Policy>,
    pub(crate) stops: Stops,
    pub(crate) budget: u32,
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
        let rules: Vec<Vec<Rule>> =
            config.stop.iter().map(|rule| Rule::parse_all(rule)).collect::<Result<_>>()?;
        if rules.iter().flatten().any(|rule| *rule == Rule::Rpc) {
            if !matches!(weight, Weight::One | Weight::Paths(true)) {
                return Err(contradiction("rpc", &config.weight, "it brings its own weights"));
            }
            weight = Weight::Paths(true);
        }
        let prune = Pruning::parse(&config.prune)?;
        let probe = config.probe.as_deref().map(Probing::parse).transpose()?;
        let steps = StepReward::parse(&config.steps)?;
        let fork = config.fork.as_deref().map(Forking::parse).transpose()?;
        let pool = Order::parse(&config.pool)?;
        if !config.unchecked {
            check_parts(&rules, weight)?;
            check_running(&config, &rules, weight, &prune, fork.is_some())?;
        }
        check_numbers(&config)?;
        check_pool(&config, pool)?;
        let by_arrival = rules.iter().flatten().any(|rule| rule.by_arrival());
        let arrival = config.order == "arrival" || by_arrival;
        check_budget(config.budget)?;
        if let Latency::Factor(exponent) = config.latency
            && !(0.0..=1.0).contains(&exponent)
        {
            return Err(Error::input("latency", format!("{exponent} is not in [0, 1]")));
        }
        Ok(Self {
            config,
            key,
            rules,
            weight,
            ties,
            arrival,
            prune,
            probe,
            steps,
            fork,
            pool,
            wave,
        })
    }

    /// The rules compiled for one budget.
    pub(crate) fn stops(&self, budget: u32) -> Stops {
        let stops = Stops::all_of(&self.rules, budget, self.config.bare);
        if self.ties == Ties::First { stops } else { stops.with_open_ties() }
    }

    /// Whether a rule reads single ballots.
    pub(crate) fn reads_ballots(&self) -> bool {
        self.all_rules().any(|rule| matches!(rule, Rule::LastFinish { .. }))
    }

    /// Whether ballots are weighed.
    pub(crate) fn weighs(&self) -> bool {
        self.weight != Weight::One
    }

    /// Whether ballots are compared by their whole texts.
    pub(crate) fn reads_paths(&self) -> bool {
        matches!(self.weight, Weight::Paths(_))
    }

    pub(crate) fn all_rules(&self) -> impl Iterator<Item = Rule> + '_ {
        self.rules.iter().flatten().copied()
    }

    /// The first rule that takes ballots for independent draws of one law.
    pub(crate) fn sequential_test(&self) -> Option<Rule> {
        self.all_rules().find(|rule| rule.is_sequential_test())
    }

    /// The configuration this was made from.
    pub fn config(&self) -> &VoterConfig {
        &self.config
    }

    /// The compiled key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// One stop rule, or rules joined by `&`, in canonical spelling.
    pub(crate) fn rule_name(&self, place: usize) -> String {
        let rules = self.rules.get(place).map_or(&[][..], Vec::as_slice);
        rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("&")
    }

    /// The stop rules in their canonical spelling, joined by `|`.
    pub fn name(&self) -> String {
        (0..self.rules.len()).map(|place| self.rule_name(place)).collect::<Vec<_>>().join("|")
    }
}

fn contradiction(rule: &str, part: &str, why: &str) -> Error {
    Error::input("stop", format!("{rule:?} contradicts {part:?}: {why}"))
}

/// Refuses rules that the weights deprive of their meaning.
fn check_parts(rules: &[Vec<Rule>], weight: Weight) -> Result<()> {
    for rule in rules.iter().flatten() {
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
        if matches!(rule, Rule::Posterior(..)) && !matches!(weight, Weight::LogOdds | Weight::User)
        {
            let why = "it reads sums of log-odds; use log_odds or user";
            return Err(contradiction(&name, &weight.to_string(), why));
        }
    }
    Ok(())
}

/// Refuses what is done to running traces where it deprives rules or weights of their meaning.
fn check_running(
    config: &VoterConfig,
    rules: &[Vec<Rule>],
    weight: Weight,
    prune: &Pruning,
    forks: bool,
) -> Result<()> {
    let test = rules.iter().flatten().find(|rule| rule.is_sequential_test());
    let selects = prune.floor.map(|_| "conf_floor").or(prune.cover.map(|_| "cover"));
    if let (Some(rule), Some(part)) = (test, selects) {
        let why = "pruned traces leave ballots that are no fair draws; use share";
        return Err(contradiction(&rule.to_string(), part, why));
    }
    if let (Some(rule), true) = (test, forks) {
        let why = "branches share their beginning and are no independent draws; use share";
        return Err(contradiction(&rule.to_string(), "fork", why));
    }
    if config.finish_on_answer {
        let part = weight.to_string();
        let why = |what: &str| format!("contradicts {what:?}: it reads the whole text");
        if weight.reads_whole_text() {
            return Err(Error::input("finish_on_answer", why(&part)));
        }
        if config.probe.as_deref().is_some_and(|probe| probe.starts_with("temporal")) {
            return Err(Error::input("finish_on_answer", why("temporal")));
        }
    }
    Ok(())
}

/// Checks what is scarce.
fn check_pool(config: &VoterConfig, pool: Order) -> Result<()> {
    for (what, zero) in [
        ("slots", config.slots == Some(0)),
        ("total", config.total == Some(0)),
        ("total_tokens", config.total_tokens == Some(0)),
        ("max_tokens", config.max_tokens == Some(0)),
    ] {
        if zero {
            return Err(Error::input(what, "0 allow nothing; at least 1 is needed"));
        }
    }
    let limits = config.slots.is_some() || config.total.is_some() || config.total_tokens.is_some();
    if pool == Order::Free && limits {
        let why = "contradicts slots, total and total_tokens: choose fifo, deadline, difficulty or \
                   marginal";
        return Err(Error::input("pool", format!("\"free\" {why}")));
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
                c.prune = prune.map(str::to_owned).into_iter().collect();
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
