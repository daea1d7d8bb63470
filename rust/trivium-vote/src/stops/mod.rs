//! Stop rules: asked after each trace in launch order, they answer whether more ballots would pay.
//!
//! Rules of one vote are joined by *or*; those of one string joined by `&` must all fire, as in
//! `beta:0.9&least:6`. In live use every vote is also wrapped by [`locked`] in its
//! tie-aware form, which changes no answer; under a reference's name (`bare`) the rules stand alone
//! and `locked` is strict, as published.
//!
//! [`Stops::need`] is the launcher's question: how many further ballots does it take at least until
//! a rule can fire? Launching fewer would only cost another round trip, so a vote starts with that
//! many: 4 under `beta:0.95`.

pub mod best;
pub mod beta;
pub mod dirichlet;
pub mod double;
pub mod esc;
pub mod first_finish;
pub mod locked;
pub mod posterior;
pub mod ppr;
pub mod predictive;
pub mod share;
pub mod urn;

use crate::tally::{KeyId, Tally};
use best::Best;
use beta::BetaTable;
use ppr::PprTable;
use predictive::PredictiveTable;
use std::fmt;
use std::sync::Arc;
use trivium_core::{Error, Result};
use urn::UrnTable;

/// The names that [`Rule::parse`] knows.
pub const NAMES: &[&str] = &[
    "majority",
    "locked",
    "beta:C",
    "dirichlet:C",
    "esc:W",
    "predictive:C",
    "ppr:A",
    "double:S",
    "first_finish:K",
    "last_finish:K",
    "share:S",
    "posterior:T:C",
    "agree:K",
    "least:N",
    "rpc",
    "best",
    "urn",
];

/// One stop rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Never stops before the budget: the plain majority vote.
    Majority,
    /// Stops when no completion of the budget can change the winner.
    Locked,
    /// Stops when the leader is the mode with this posterior probability.
    Beta(f64),
    /// The same among all answers seen.
    Dirichlet(f64),
    /// Stops after a unanimous window of this many traces.
    Esc(u32),
    /// Stops when the leader will be the majority of the budget with this probability; the second is
    /// the prior weight of either side.
    Predictive(f64, f64),
    /// Stops when the prior-posterior ratio at "no preference" falls to this level.
    Ppr(f64),
    /// Looks after 2, 4, 8, ... traces for this share.
    Double(f64),
    /// Stops when this many traces have finished.
    FirstFinish {
        /// Finishes that decide.
        finishes: u32,
        /// Traces that are started, 0 for [`first_finish::started`].
        of: u32,
        /// Whether a trace without a ballot counts as a finish.
        compat: bool,
    },
    /// The majority of the last traces to finish.
    LastFinish {
        /// Finishes that decide.
        finishes: u32,
        /// Traces that are started, 0 for [`first_finish::started`].
        of: u32,
    },
    /// Stops when the leader has this share of the weight, after a least number of ballots.
    Share(f64, u32),
    /// Stops when the posterior of the leader, tempered by the first, reaches the second.
    Posterior(f64, f64),
    /// Stops when the last so many traces agree: for chains that read each other's answers.
    Agree(u32),
    /// Stops once this many ballots are cast: with `&`, the least number for other rules.
    Least(u32),
    /// Perplexity consistency with reasoning pruning: stops at the budget.
    Rpc,
    /// The recommended rule without side information, see [`best`].
    Best,
    /// Optimal stopping of one question by itself, see [`urn`].
    Urn,
}

impl Rule {
    /// Reads rules joined by `&`.
    ///
    /// # Errors
    /// Those of [`Rule::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        text.split('&').map(|rule| Self::parse(rule.trim())).collect()
    }

    /// Reads a rule's name and parameters.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for unknown names and parameters out of range; it lists what exists.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut args = Args { text, parts: parts.collect(), at: 0 };
        let rule = match name {
            "majority" => Self::Majority,
            "locked" => Self::Locked,
            "rpc" => Self::Rpc,
            "best" => Self::Best,
            "urn" => Self::Urn,
            "beta" => Self::Beta(args.level(0.95)?),
            "dirichlet" => Self::Dirichlet(args.level(0.95)?),
            "esc" => Self::Esc(args.count(5)?),
            "predictive" => {
                let level = args.level(0.95)?;
                Self::Predictive(level, args.number(1.0, "a weight above 0", |s| s > 0.0)?)
            }
            "ppr" => Self::Ppr(args.level(0.05)?),
            "double" => Self::Double(args.share(0.75)?),
            "share" => {
                let share = args.share(0.95)?;
                Self::Share(share, args.count(16)?)
            }
            "posterior" => {
                let temper = args.number(0.5, "a temper above 0", |t| t > 0.0)?;
                Self::Posterior(temper, args.level(0.99)?)
            }
            "agree" => Self::Agree(args.count(3)?),
            "least" => Self::Least(args.count(4)?),
            "first_finish" => {
                let compat = args.take("compat");
                let finishes = args.count(1)?;
                let of = args.optional_count()?;
                let of = if of > 0 && of < finishes { finishes } else { of };
                Self::FirstFinish { finishes, of, compat }
            }
            "last_finish" => {
                Self::LastFinish { finishes: args.count(1)?, of: args.optional_count()? }
            }
            name => return Err(crate::spec::unknown("stop", name, NAMES, &[])),
        };
        args.end()?;
        Ok(rule)
    }

    /// The rule's name without parameters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Locked => "locked",
            Self::Beta(_) => "beta",
            Self::Dirichlet(_) => "dirichlet",
            Self::Esc(_) => "esc",
            Self::Predictive(..) => "predictive",
            Self::Ppr(_) => "ppr",
            Self::Double(_) => "double",
            Self::FirstFinish { .. } => "first_finish",
            Self::LastFinish { .. } => "last_finish",
            Self::Share(..) => "share",
            Self::Posterior(..) => "posterior",
            Self::Agree(_) => "agree",
            Self::Least(_) => "least",
            Self::Rpc => "rpc",
            Self::Best => "best",
            Self::Urn => "urn",
        }
    }

    /// Whether ballots count as their traces finish, in place of launch order.
    pub fn by_arrival(self) -> bool {
        matches!(self, Self::FirstFinish { .. } | Self::LastFinish { .. })
    }

    /// Whether the rule reads ballots as draws of equal weight from one law.
    pub(crate) fn needs_plain_ballots(self) -> bool {
        matches!(
            self,
            Self::Dirichlet(_)
                | Self::Esc(_)
                | Self::Predictive(..)
                | Self::Ppr(_)
                | Self::Double(_)
                | Self::Best
                | Self::Urn
        )
    }

    /// Whether the rule assumes that ballots are exchangeable draws.
    pub(crate) fn is_sequential_test(self) -> bool {
        self.needs_plain_ballots() || matches!(self, Self::Beta(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::Majority | Self::Locked | Self::Rpc | Self::Best | Self::Urn => Ok(()),
            Self::Beta(x) | Self::Dirichlet(x) | Self::Ppr(x) | Self::Double(x) => {
                write!(f, ":{x}")
            }
            Self::Esc(count) | Self::Agree(count) | Self::Least(count) => write!(f, ":{count}"),
            Self::Predictive(level, 1.0) => write!(f, ":{level}"),
            Self::Predictive(level, prior) => write!(f, ":{level}:{prior}"),
            Self::Share(share, least) => write!(f, ":{share}:{least}"),
            Self::Posterior(temper, level) => write!(f, ":{temper}:{level}"),
            Self::FirstFinish { finishes, of, compat } => {
                f.write_str(if compat { ":compat" } else { "" })?;
                write!(f, ":{finishes}")?;
                if of > 0 { write!(f, ":{of}") } else { Ok(()) }
            }
            Self::LastFinish { finishes, of } => {
                write!(f, ":{finishes}")?;
                if of > 0 { write!(f, ":{of}") } else { Ok(()) }
            }
        }
    }
}

/// The parameters of a rule while they are read.
struct Args<'a> {
    text: &'a str,
    parts: Vec<&'a str>,
    at: usize,
}

impl Args<'_> {
    fn number(&mut self, default: f64, what: &str, good: impl Fn(f64) -> bool) -> Result<f64> {
        let Some(part) = self.parts.get(self.at) else { return Ok(default) };
        self.at += 1;
        match part.parse::<f64>() {
            Ok(value) if value.is_finite() && good(value) => Ok(value),
            _ => Err(Error::input("stop", format!("{} needs {what}, found {part:?}", self.text))),
        }
    }

    fn level(&mut self, default: f64) -> Result<f64> {
        self.number(default, "a level in (0, 1)", |x| x > 0.0 && x < 1.0)
    }

    fn share(&mut self, default: f64) -> Result<f64> {
        self.number(default, "a share in (0, 1]", |x| x > 0.0 && x <= 1.0)
    }

    fn count(&mut self, default: u32) -> Result<u32> {
        let good = |x: f64| (1.0..=65_536.0).contains(&x) && x.fract() == 0.0;
        Ok(self.number(f64::from(default), "a whole number from 1 on", good)? as u32)
    }

    fn optional_count(&mut self) -> Result<u32> {
        if self.at < self.parts.len() { self.count(1) } else { Ok(0) }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.parts.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn end(&self) -> Result<()> {
        match self.parts.get(self.at) {
            None => Ok(()),
            Some(part) => {
                let why = format!("{} takes no further parameter, found {part:?}", self.text);
                Err(Error::input("stop", why))
            }
        }
    }
}

/// What made a vote stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fired {
    /// No completion could change the winner.
    Locked,
    /// This one of the policy's rules, by its place.
    Rule(usize),
}

/// What weighted ballots add up to, for rules that read it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weighted<'a> {
    /// Weight by key.
    pub sums: &'a [f64],
    /// Kish's effective number of ballots per unit of weight, `sum w / sum w^2`.
    pub kappa: f64,
    /// Largest weight a ballot can have, where one is known.
    pub bound: Option<f64>,
}

#[derive(Debug, Clone)]
enum Table {
    None,
    Beta(BetaTable),
    Ppr(PprTable),
    Predictive(PredictiveTable),
    Best(Best),
    Urn(Arc<UrnTable>),
}

/// The rules of one policy, compiled for one budget: immutable and shared.
#[derive(Debug, Clone)]
pub struct Stops {
    rules: Vec<Vec<(Rule, Table)>>,
    /// Replays under a reference's name: no wrapper, `locked` strict.
    bare: bool,
    /// Ties do not go to the oldest key: `locked` is strict.
    strict: bool,
}

impl Stops {
    /// Compiles rules for a budget of `budget` traces.
    pub fn new(rules: &[Rule], budget: u32, bare: bool) -> Self {
        let alone: Vec<Vec<Rule>> = rules.iter().map(|&rule| vec![rule]).collect();
        Self::all_of(&alone, budget, bare)
    }

    /// As [`Stops::new`], for lists of rules that must all fire.
    pub fn all_of(rules: &[Vec<Rule>], budget: u32, bare: bool) -> Self {
        let compile = |&rule: &Rule| {
            let table = match rule {
                // The Dirichlet rule never fires where the Beta rule does not.
                Rule::Beta(level) | Rule::Dirichlet(level) => {
                    Table::Beta(BetaTable::new(level, budget))
                }
                Rule::Ppr(alpha) => Table::Ppr(PprTable::new(alpha, budget)),
                Rule::Predictive(level, prior) => {
                    Table::Predictive(PredictiveTable::new(level, prior, budget))
                }
                Rule::Best => Table::Best(Best::new(budget)),
                Rule::Urn => Table::Urn(Arc::new(UrnTable::new(budget))),
                _ => Table::None,
            };
            (rule, table)
        };
        let rules = rules.iter().map(|all| all.iter().map(compile).collect()).collect();
        Self { rules, bare, strict: bare }
    }

    /// The same rules for votes whose ties do not go to the oldest key.
    #[must_use]
    pub fn with_open_ties(self) -> Self {
        Self { strict: true, ..self }
    }

    /// The same rules for a question of a pool that has learned these weights of types; `None` where
    /// nothing changes.
    #[must_use]
    pub fn knowing(&self, shares: &[u8]) -> Option<Self> {
        (self.shares()? != shares).then(|| {
            let mut stops = self.clone();
            for (_, table) in stops.rules.iter_mut().flatten() {
                if let Table::Best(best) = table {
                    *best = best.knowing(shares);
                }
            }
            stops
        })
    }

    /// Weights of types that the rule [`best`] uses, empty for equal ones; `None` without that rule.
    pub fn shares(&self) -> Option<&[u8]> {
        self.rules.iter().flatten().find_map(|(_, table)| match table {
            Table::Best(best) => Some(best.shares()),
            _ => None,
        })
    }

    /// Whether to stop with `rest` traces of the budget outstanding. Constant time for most rules;
    /// linear in the number of keys where a tie decides, and 96 times the largest count for
    /// `dirichlet` once `beta` would stop.
    pub fn check(&self, tally: &Tally, rest: u32) -> Option<Fired> {
        let fires = |&(rule, ref table): &(Rule, Table)| self.fires(rule, table, tally, rest);
        self.first_of(|all| all.iter().all(fires), || self.is_locked(tally, rest))
    }

    /// The first list of rules that fires, or the wrapper.
    fn first_of(
        &self,
        fires: impl Fn(&[(Rule, Table)]) -> bool,
        locked: impl FnOnce() -> bool,
    ) -> Option<Fired> {
        match self.rules.iter().position(|all| fires(all)) {
            Some(place) if matches!(self.rules[place][..], [(Rule::Locked, _)]) => {
                Some(Fired::Locked)
            }
            Some(place) => Some(Fired::Rule(place)),
            None => (!self.bare && locked()).then_some(Fired::Locked),
        }
    }

    fn fires(&self, rule: Rule, table: &Table, tally: &Tally, rest: u32) -> bool {
        let (a, b) = tally.top_two();
        let fresh = tally.streak().is_some();
        match (rule, table) {
            (Rule::Locked, _) => self.is_locked(tally, rest),
            (Rule::Dirichlet(level), Table::Beta(screen)) => {
                fresh && screen.stops(a, b) && dirichlet::confidence(tally.counts()) >= level
            }
            (_, Table::Beta(table)) => fresh && table.stops(a, b),
            (_, Table::Ppr(table)) => fresh && table.stops(a, b),
            (_, Table::Predictive(table)) => fresh && table.stops(a, b, rest),
            (_, Table::Best(table)) => fresh && table.stops(tally, rest),
            (_, Table::Urn(table)) => fresh && table.stops(tally, rest),
            (Rule::Esc(window), _) => esc::stops(tally, window),
            (Rule::Double(share), _) => double::stops(tally, share, self.first_look()),
            (Rule::Share(share, least), _) => {
                let least = if self.bare { least } else { least.max(4) };
                tally.num_cast() >= least && f64::from(a) >= share * f64::from(tally.num_cast())
            }
            (Rule::FirstFinish { finishes, compat, .. }, _) => {
                first_finish::stops(tally, finishes, compat)
            }
            (Rule::Agree(num), _) => tally.streak().is_some_and(|(_, run)| run >= num),
            (Rule::Least(least), _) => tally.num_cast() >= least,
            _ => false,
        }
    }

    /// As [`Stops::check`], for ballots with weights.
    pub fn check_weighted(&self, tally: &Tally, weights: Weighted<'_>, rest: u32) -> Option<Fired> {
        let mut best: Vec<f64> = weights.sums.to_vec();
        best.sort_unstable_by(|x, y| y.total_cmp(x));
        let first = best.first().copied().unwrap_or(0.0);
        let second = best.get(1).copied().unwrap_or(0.0);
        let locked = weights.bound.is_some_and(|w| first - second > f64::from(rest) * w);
        let fires = |rule: Rule| match rule {
            Rule::Locked => locked,
            Rule::Beta(level) => {
                let (a, b) = (weights.kappa * first, weights.kappa * second);
                first > 0.0 && crate::numeric::incomplete_beta(0.5, b + 1.0, a + 1.0) >= level
            }
            Rule::Share(share, least) => share::stops(weights.sums, tally.num_cast(), share, least),
            Rule::Posterior(temper, level) => {
                tally.num_cast() > 0 && posterior::confidence(weights.sums, temper) >= level
            }
            Rule::FirstFinish { finishes, compat, .. } => {
                first_finish::stops(tally, finishes, compat)
            }
            Rule::Agree(num) => tally.streak().is_some_and(|(_, run)| run >= num),
            Rule::Least(least) => tally.num_cast() >= least,
            _ => false,
        };
        self.first_of(|all| all.iter().all(|(rule, _)| fires(*rule)), || locked)
    }

    /// The key that a stop elects in place of the leader: under its reference's name, `esc` elects
    /// its window's.
    pub fn elects(&self, fired: Fired, tally: &Tally) -> Option<KeyId> {
        match fired {
            Fired::Rule(place)
                if self.bare && matches!(self.rules.get(place)?[..], [(Rule::Esc(_), _)]) =>
            {
                tally.streak().map(|(key, _)| key)
            }
            _ => tally.leader(),
        }
    }

    fn first_look(&self) -> u32 {
        if self.bare { 2 } else { 4 }
    }

    fn is_locked(&self, tally: &Tally, rest: u32) -> bool {
        if self.by_arrival() {
            return false;
        }
        if self.strict { locked::strict(tally, rest) } else { locked::tie_aware(tally, rest) }
    }

    /// A number `d` of further ballots below which no sequence of them stops, `1 <= d <= rest`
    /// (0 if `rest` is).
    pub fn need(&self, tally: &Tally, rest: u32) -> u32 {
        let needs = |(rule, table): &(Rule, Table)| self.need_of(*rule, table, tally, rest);
        let all = |all: &Vec<(Rule, Table)>| all.iter().map(needs).max().unwrap_or(rest);
        let mut need = self.rules.iter().map(all).min().unwrap_or(rest).min(rest);
        if !self.bare && !self.by_arrival() {
            need = need.min(locked::need(tally, rest));
        }
        need.max(1).min(rest)
    }

    fn by_arrival(&self) -> bool {
        self.rules.iter().flatten().any(|(rule, _)| rule.by_arrival())
    }

    fn need_of(&self, rule: Rule, table: &Table, tally: &Tally, rest: u32) -> u32 {
        let (a, b) = tally.top_two();
        match (rule, table) {
            (Rule::Locked, _) => locked::need(tally, rest),
            (_, Table::Beta(table)) => table.need(a, b),
            (_, Table::Ppr(table)) => table.need(a, b),
            (_, Table::Predictive(table)) => table.need(a, b, rest),
            (_, Table::Best(table)) => table.need(tally, rest),
            (_, Table::Urn(table)) => table.need(tally, rest),
            (Rule::Esc(window), _) => esc::need(tally, window),
            (Rule::Double(_), _) => double::need(tally, self.first_look()),
            (Rule::Share(_, least) | Rule::Least(least), _) => {
                least.saturating_sub(tally.num_cast())
            }
            (Rule::Agree(num), _) => num.saturating_sub(tally.streak().map_or(0, |(_, run)| run)),
            (Rule::Posterior(..), _) => 1,
            _ => rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_rules_list_what_exists() {
        for name in [
            "dirichlet:1.5",
            "esc:0",
            "esc:2.5",
            "first_finish:compat:0",
            "rpc:3",
            "nonsense",
            "beta:1.0",
            "beta:nan",
            "beta:x",
            "locked:3",
            "",
        ] {
            let error = Rule::parse(name).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
        assert!(Rule::parse("?").unwrap_err().to_string().contains("beta:C"));
        for name in [
            "majority",
            "locked",
            "beta:0.95",
            "dirichlet:0.9",
            "esc:8",
            "predictive:0.99",
            "predictive:0.99:0.25",
            "ppr:0.05",
            "double:0.75",
            "first_finish:3",
            "first_finish:compat:1:4",
            "last_finish:2",
            "share:0.95:16",
            "posterior:0.5:0.99",
            "least:6",
            "agree:3",
            "rpc",
            "best",
            "urn",
        ] {
            assert_eq!(Rule::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Rule::parse("beta").unwrap(), Rule::Beta(0.95));
    }

    #[test]
    fn rules_joined_by_and_must_all_fire() {
        let both = Rule::parse_all("beta:0.9 & least:5").unwrap();
        let stops = Stops::all_of(&[both, vec![Rule::Locked]], 40, true);
        let mut tally = Tally::default();
        (0..4).for_each(|_| tally.cast(0));
        assert_eq!(stops.check(&tally, 36), None);
        assert_eq!(stops.need(&tally, 36), 1);
        tally.cast(0);
        assert_eq!(stops.check(&tally, 35), Some(Fired::Rule(0)));
        assert!(Rule::parse_all("beta&").is_err() && Rule::parse_all("").is_err());
    }

    proptest! {
        /// No sequence of fewer than `need` ballots stops; so in particular the best one does not.
        #[test]
        fn need_is_sound(
            past in prop::collection::vec(0u32..4, 0..20),
            next in prop::collection::vec(prop::option::weighted(0.9, 0u32..4), 40),
            greedy in any::<bool>(),
            bare in any::<bool>(),
            which in 0usize..14,
        ) {
            let rules = [
                Rule::Majority,
                Rule::Locked,
                Rule::Beta(0.9),
                Rule::Dirichlet(0.8),
                Rule::Esc(3),
                Rule::Predictive(0.9, 1.0),
                Rule::Predictive(0.99, 0.25),
                Rule::Ppr(0.2),
                Rule::Double(0.6),
                Rule::Share(0.8, 4),
                Rule::Best,
                Rule::Least(9),
                Rule::Agree(3),
                Rule::Urn,
            ];
            let stops = Stops::new(&[rules[which]], 40, bare);
            let mut tally = Tally::default();
            for &key in &past {
                tally.cast(key);
            }
            let mut rest = 40 - past.len() as u32;
            prop_assume!(stops.check(&tally, rest).is_none());
            let need = stops.need(&tally, rest);
            prop_assert!((1..=rest).contains(&need));
            for key in next.iter().take(need as usize - 1) {
                let key = if greedy { tally.leader().or(Some(0)) } else { *key };
                match key {
                    Some(key) => tally.cast(key),
                    None => tally.abstain(),
                }
                rest -= 1;
                prop_assert_eq!(stops.check(&tally, rest), None);
            }
        }
    }
}
