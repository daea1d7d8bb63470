//! How a trace ended, and why a vote stopped.

use crate::keys::Said;
use crate::stops::Rule;
use trivium_core::{Error, Result};

/// Why a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It finished by itself.
    Stop,
    /// It met a length limit: an answer that runs into the end of its text does not count.
    Length,
    /// It was cancelled: no ballot.
    Cancelled,
    /// It failed: no ballot.
    Error,
}

impl Reason {
    /// All reasons with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("stop", Self::Stop),
        ("length", Self::Length),
        ("cancelled", Self::Cancelled),
        ("error", Self::Error),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name);
        let names = || Self::ALL.map(|(text, _)| text).join(", ");
        found.map(|(_, reason)| *reason).ok_or_else(|| {
            Error::input("reason", format!("{name:?} is unknown; choose one of: {}", names()))
        })
    }
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End<'a> {
    /// What it said.
    pub said: Said<'a>,
    /// Why it ended.
    pub reason: Reason,
    /// Sum of its tokens' log-probabilities, overriding what was gathered.
    pub sum_logprob: Option<f64>,
    /// Number of its tokens, overriding what was counted.
    pub num_tokens: Option<u64>,
    /// A reward.
    pub reward: Option<f64>,
    /// Its confidence, overriding what tokens gathered.
    pub confidence: Option<f64>,
    /// Mean entropy of its token distributions.
    pub entropy: Option<f64>,
    /// Index of its source.
    pub source: Option<u32>,
    /// Its weight, for the weight `user`.
    pub weight: Option<f64>,
}

impl<'a> End<'a> {
    /// A trace that finished by itself.
    pub fn new(said: Said<'a>) -> Self {
        Self {
            said,
            reason: Reason::Stop,
            sum_logprob: None,
            num_tokens: None,
            reward: None,
            confidence: None,
            entropy: None,
            source: None,
            weight: None,
        }
    }
}

/// Why a vote stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StopCause {
    /// A stop rule fired.
    Rule(Rule),
    /// No completion of the budget could change the winner.
    Locked,
    /// Every trace of the budget has ended.
    Budget,
    /// The host closed the question.
    Closed,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule:{rule}"),
            Self::Locked => f.write_str("locked"),
            Self::Budget => f.write_str("budget"),
            Self::Closed => f.write_str("cancelled"),
        }
    }
}
