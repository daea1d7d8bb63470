//! How a trace ended, and why a vote stopped.

use crate::keys::Said;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A stop rule fired, or rules joined by `&`.
    Rule(String),
    /// No completion of the budget could change the winner.
    Locked,
    /// Every trace of the budget has ended.
    Budget,
    /// The question's tokens are spent.
    Tokens,
    /// The pool's traces or tokens are spent.
    Pool,
    /// Its deadline has passed.
    Deadline,
    /// The host closed the question.
    Closed,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule:{rule}"),
            Self::Locked => f.write_str("locked"),
            Self::Budget => f.write_str("budget"),
            Self::Tokens => f.write_str("tokens"),
            Self::Pool => f.write_str("pool"),
            Self::Deadline => f.write_str("deadline"),
            Self::Closed => f.write_str("cancelled"),
        }
    }
}

/// [`StopCause`] in two bytes: a rule by its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Running,
    Rule(u8),
    Locked,
    Budget,
    Tokens,
    Pool,
    Deadline,
    Closed,
}

impl Stop {
    /// Causes that are events of their own, not consequences of an end.
    pub(crate) const OF_HOST: [Self; 4] = [Self::Closed, Self::Tokens, Self::Pool, Self::Deadline];

    /// The cause that a host, or the pool, gives.
    pub(crate) fn of_host(cause: &StopCause) -> Self {
        match cause {
            StopCause::Tokens => Self::Tokens,
            StopCause::Pool => Self::Pool,
            StopCause::Deadline => Self::Deadline,
            _ => Self::Closed,
        }
    }

    /// The cause, none while the vote runs.
    pub(crate) fn cause(self, policy: &crate::spec::Policy) -> Option<StopCause> {
        Some(match self {
            Self::Running => return None,
            Self::Rule(place) => StopCause::Rule(policy.rule_name(place.into())),
            Self::Locked => StopCause::Locked,
            Self::Budget => StopCause::Budget,
            Self::Tokens => StopCause::Tokens,
            Self::Pool => StopCause::Pool,
            Self::Deadline => StopCause::Deadline,
            Self::Closed => StopCause::Closed,
        })
    }
}
