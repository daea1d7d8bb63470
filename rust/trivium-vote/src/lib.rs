//! Voting over sampled answers: several traces answer one question, equal answers are counted, and
//! sampling stops as soon as more of it would not pay.
//!
//! A [`Voter`] holds a pool of questions. The host feeds it events ([`Voter::open`],
//! [`Voter::tokens`], [`Voter::finish`]) and carries out the [`Action`]s it returns; the voter never
//! runs a model, reads no clock and draws no number of its own. Every decision is a function of
//! *launch order*: the stop rule sees trace 0, then trace 1, and so on, however they finish, because
//! under concurrency short traces finish first and a rule that counts arrivals would be biased
//! towards short answers. A question's [log](Voter::log) therefore replays bit for bit.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`] | when two spellings are one answer: `text`, `number`, `choice` |
//! | [`tally`] | counts by key, leader and runner-up in constant time a ballot |
//! | [`stops`] | when to stop, one file a rule |
//! | [`mbr`] | free-form candidates: the one that agrees best |
//! | [`calibrate`] | exact maj@k, risk control, isotonic calibration, budgets |
//! | [`cover`], [`loops`] | token set cover, traces that repeat themselves |
//! | [`game`], [`temporal`] | consensus game, votes along denoising |
//! | [`weights`] | how much a ballot counts |
//! | [`replay`] | policies on recorded votes, under their published names |
//! | [`spec`] | [`VoterConfig`]: plain data, validated into a shared [`Policy`](spec::Policy) |
//! | [`question`] | one question: traces, launch control, result |
//! | [`watch`] | what is watched of running traces: pruning, early answers, steps, forks |
//! | [`pool`] | [`Voter`]: many questions behind one event interface |
//! | [`schedule`], [`worth`] | who is launched first where traces are scarce |
//! | [`log`](mod@log) | the bytes a question can be replayed from |
//! | [`batch`] | [`vote`] over a list, [`replay_keys`] over recorded keys |

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod batch;
pub mod calibrate;
pub mod cover;
pub mod game;
pub mod keys;
pub mod log;
pub mod loops;
pub mod mbr;
mod nat;
mod numeric;
pub mod pool;
pub mod question;
pub mod replay;
pub mod schedule;
mod slab;
pub mod spec;
pub mod stops;
pub mod tally;
pub mod temporal;
pub mod watch;
pub mod weights;
pub mod worth;

pub use batch::{replay_keys, vote};
pub use keys::{Fallback, Key, KeyOptions, Percent, Said};
pub use pool::{Action, Handle, OpenOptions, TokenBatch, Voter};
pub use question::{Cost, End, Outcome, Reason, StopCause, TallyRow};
pub use replay::{Recorded, Replay};
pub use spec::{Abstain, Latency, Ties, VoterConfig};
pub use tally::Tally;
