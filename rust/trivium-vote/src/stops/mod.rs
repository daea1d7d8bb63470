//! Stop rules: asked after each trace in launch order, they answer whether more ballots would pay.
//!
//! Rules of one vote are joined by *or*. In live use every vote is also wrapped by [`locked`] in its
//! tie-aware form, which changes no answer; under a reference's name (`bare`) the rules stand alone
//! and `locked` is strict, as published.
//!
//! [`Stops::need`] is the launcher's question: how many further ballots does it take at least until
//! a rule can fire? Launching fewer would only cost another round trip, so a vote starts with that
//! many: 4 under `beta:0.95`.

pub mod beta;
pub mod locked;

use crate::tally::Tally;
use beta::BetaTable;
use trivium_core::{Error, Result};

/// The names that [`Rule::parse`] knows.
pub const NAMES: &[&str] = &["majority", "locked", "beta:C"];

/// One stop rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Never stops before the budget: the plain majority vote.
    Majority,
    /// Stops when no completion of the budget can change the winner.
    Locked,
    /// Stops when the leader is the mode with this posterior probability.
    Beta(f64),
}

impl Rule {
    /// Reads a rule's name and parameter.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a rule that is specified but not built, [`Error::InvalidInput`]
    /// for other names and parameters out of range; both list what exists.
    pub fn parse(text: &str) -> Result<Self> {
        const PLANNED: &[&str] = &[
            "dirichlet",
            "esc",
            "predictive",
            "ppr",
            "double",
            "first_finish",
            "rpc",
            "best",
            "posterior",
            "share",
        ];
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        match (name, parameter) {
            ("majority", None) => Ok(Self::Majority),
            ("locked", None) => Ok(Self::Locked),
            ("beta", parameter) => {
                let text = parameter.unwrap_or("0.95");
                match text.parse::<f64>() {
                    Ok(level) if level > 0.0 && level < 1.0 => Ok(Self::Beta(level)),
                    _ => Err(Error::input("stop", format!("beta:{text} needs a level in (0, 1)"))),
                }
            }
            ("majority" | "locked", Some(parameter)) => {
                Err(Error::input("stop", format!("{name} takes no parameter, found {parameter:?}")))
            }
            (name, _) => Err(crate::spec::unknown("stop", name, NAMES, PLANNED)),
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::Locked => f.write_str("locked"),
            Self::Beta(level) => write!(f, "beta:{level}"),
        }
    }
}

/// What made a vote stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fired {
    /// No completion could change the winner.
    Locked,
    /// This rule of the policy.
    Rule(Rule),
}

/// The rules of one policy, compiled for one budget: immutable and shared.
#[derive(Debug, Clone)]
pub struct Stops {
    rules: Vec<(Rule, Option<BetaTable>)>,
    /// Replays under a reference's name: no wrapper, `locked` strict.
    bare: bool,
}

impl Stops {
    /// Compiles rules for a budget of `budget` traces.
    pub fn new(rules: &[Rule], budget: u32, bare: bool) -> Self {
        let compile = |&rule: &Rule| match rule {
            Rule::Beta(level) => (rule, Some(BetaTable::new(level, budget))),
            _ => (rule, None),
        };
        Self { rules: rules.iter().map(compile).collect(), bare }
    }

    /// Whether to stop with `rest` traces of the budget outstanding. Constant time, but linear in
    /// the number of keys where a tie decides.
    pub fn check(&self, tally: &Tally, rest: u32) -> Option<Fired> {
        let (a, b) = tally.top_two();
        for (rule, table) in &self.rules {
            let fires = match (rule, table) {
                (Rule::Locked, _) => self.is_locked(tally, rest),
                (_, Some(table)) => tally.num_cast() > 0 && table.stops(a, b),
                _ => false,
            };
            if fires {
                let locked = *rule == Rule::Locked;
                return Some(if locked { Fired::Locked } else { Fired::Rule(*rule) });
            }
        }
        (!self.bare && self.is_locked(tally, rest)).then_some(Fired::Locked)
    }

    fn is_locked(&self, tally: &Tally, rest: u32) -> bool {
        if self.bare { locked::strict(tally, rest) } else { locked::tie_aware(tally, rest) }
    }

    /// A number `d` of further ballots below which no sequence of them stops, `1 <= d <= rest`
    /// (0 if `rest` is).
    pub fn need(&self, tally: &Tally, rest: u32) -> u32 {
        let (a, b) = tally.top_two();
        let mut need = rest;
        for (rule, table) in &self.rules {
            match (rule, table) {
                (Rule::Locked, _) => need = need.min(locked::need(tally, rest)),
                (_, Some(table)) => need = need.min(table.need(a, b)),
                _ => {}
            }
        }
        if !self.bare {
            need = need.min(locked::need(tally, rest));
        }
        need.max(1).min(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_rules_list_what_exists() {
        for name in [
            "dirichlet:0.95",
            "esc:5",
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
        let planned = Rule::parse("esc:5").unwrap_err();
        assert!(
            matches!(planned, Error::Unsupported { .. }) && planned.to_string().contains("beta:C")
        );
        for name in ["majority", "locked", "beta:0.95"] {
            assert_eq!(Rule::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Rule::parse("beta").unwrap(), Rule::Beta(0.95));
    }

    proptest! {
        /// No sequence of fewer than `need` ballots stops; so in particular the best one does not.
        #[test]
        fn need_is_sound(
            past in prop::collection::vec(0u32..4, 0..20),
            next in prop::collection::vec(prop::option::weighted(0.9, 0u32..4), 40),
            greedy in any::<bool>(),
            bare in any::<bool>(),
            which in 0usize..3,
        ) {
            let rules = [Rule::Majority, Rule::Locked, Rule::Beta(0.9)];
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
                if let Some(key) = key {
                    tally.cast(key);
                }
                rest -= 1;
                prop_assert_eq!(stops.check(&tally, rest), None);
            }
        }
    }
}
