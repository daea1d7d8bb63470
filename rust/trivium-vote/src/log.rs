//! The replay log of one question: configuration, events in order, and what each trace said.
//!
//! ```text
//! "TVOTE" version      6 bytes
//! configuration        strings and numbers in a fixed order, then id, budget, seed, tokens
//! knowledge            weights of types that the pool had learned when the question was opened
//! bytes of the events
//! events, each a head byte: kind, and for an end its reason and which parts follow
//!   launch             how many
//!   finish             trace; tokens and sums; reward, confidence, entropy, source, weight; ballot
//!   close              cause
//!   fork               trace, how many
//! ```
//!
//! Events are written as they happen: an end without statistics whose answer was said before takes
//! three or four bytes, because its ballot names a key that is counted already. Whole numbers are
//! little-endian base-128; doubles are eight bytes; strings carry their length, which is checked
//! against the bytes left before anything is allocated. Keys are stored as they were read, so a log
//! replays the vote and not the reading of the answers. Replaying recomputes every launch and refuses
//! a log whose launches differ: it is its own test. Only under a pool that ranks questions, where
//! launches depend on the other questions, are they taken as they stand.

use crate::keys::{Fallback, KeyOptions, Percent, Said as Answer};
use crate::pool::{OpenOptions, Voter};
use crate::question::{Ballot, End, Outcome, Question, Reason, Said, Stop, StopCause, TraceStats};
use crate::spec::{Abstain, Latency, VoterConfig};
use trivium_core::{Error, Result};

const MAGIC: &[u8; 6] = b"TVOTE\x04";

/// Kinds of events, in the two low bits of a head.
const LAUNCH: u8 = 0;
const FINISH: u8 = 1;
const CLOSE: u8 = 2;
const FORK: u8 = 3;
/// Parts of an end, in its higher bits: two of the reason, then these, then two of the ballot.
const SUMS: u8 = 1 << 4;
const GIVEN: u8 = 1 << 5;
const BALLOT: u32 = 6;

/// Appends a whole number.
pub(crate) fn put_int(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put_int`] wrote, and where the next item begins.
pub(crate) fn take_int(bytes: &[u8], mut at: usize) -> (u64, usize) {
    let (mut value, mut shift) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 || shift > 63 {
            break;
        }
    }
    (value, at)
}

/// Writes events of a question as they happen.
pub(crate) struct Recorder<'a>(pub(crate) &'a mut Vec<u8>);

impl Recorder<'_> {
    pub(crate) fn launch(&mut self, num: u32) {
        self.0.push(LAUNCH);
        put_int(self.0, u64::from(num));
    }

    pub(crate) fn close(&mut self, cause: Stop) {
        let place = Stop::OF_HOST.iter().position(|stop| *stop == cause).unwrap_or(0);
        self.0.push(CLOSE | (place as u8) << 2);
    }

    pub(crate) fn fork(&mut self, trace: u32, num: u32) {
        self.0.push(FORK);
        put_int(self.0, u64::from(trace));
        put_int(self.0, u64::from(num));
    }

    /// The end of a trace; `paths` says whether the weight compares whole texts.
    pub(crate) fn finish(
        &mut self,
        trace: u32,
        reason: Reason,
        stats: &TraceStats,
        ballot: Option<&Ballot>,
        paths: bool,
    ) {
        let given = stats.given;
        let sums = (stats.num_tokens, stats.sum_logprob, stats.sum_conf) != (0, 0.0, 0.0);
        let parts = [given.reward, given.confidence, given.entropy, given.weight];
        let any = parts.iter().any(Option::is_some) || given.source.is_some();
        let kind = match ballot {
            None => 0,
            Some(Ballot { key: Said::Known(_), raw: None, .. }) => 1,
            Some(Ballot { raw: None, .. }) => 2,
            Some(_) => 3,
        };
        let reason = Reason::ALL.iter().position(|(_, r)| *r == reason).unwrap_or(0) as u8;
        let (has_sums, has_given) = (if sums { SUMS } else { 0 }, if any { GIVEN } else { 0 });
        self.0.push(FINISH | reason << 2 | has_sums | has_given | kind << BALLOT);
        put_int(self.0, u64::from(trace));
        if sums {
            put_int(self.0, stats.num_tokens);
            self.float(stats.sum_logprob);
            self.float(stats.sum_conf);
        }
        if any {
            let mask =
                parts.iter().rev().fold(0, |mask, part| mask << 1 | u8::from(part.is_some()));
            self.0.push(mask | u8::from(given.source.is_some()) << 4);
            parts.into_iter().flatten().for_each(|value| self.float(value));
            given.source.into_iter().for_each(|source| put_int(self.0, u64::from(source)));
        }
        let Some(ballot) = ballot else { return };
        if kind == 3 {
            self.0.push(u8::from(matches!(ballot.key, Said::Known(_))));
        }
        match &ballot.key {
            Said::Known(key) => put_int(self.0, u64::from(*key)),
            Said::New(key) => self.text(key),
        }
        if let Some(raw) = &ballot.raw {
            self.text(raw);
        }
        if paths {
            self.0.extend(ballot.path.to_le_bytes());
        }
    }

    fn float(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        put_int(self.0, text.len() as u64);
        self.0.extend(text.as_bytes());
    }
}

/// The log of a question.
///
/// # Errors
/// [`Error::StateMismatch`] where none is kept.
pub(crate) fn write(question: &Question) -> Result<Vec<u8>> {
    let Some(events) = question.events() else {
        let what = format!("log of question {:?}", question.id());
        return Err(Error::state(what, "a voter that keeps logs", "one made with log=False"));
    };
    let mut out = Writer(MAGIC.to_vec());
    out.config(question.policy().config());
    out.text(question.id());
    out.int(u64::from(question.budget()));
    out.int(question.seed());
    out.option(question.max_tokens(), Writer::int);
    out.int(question.shares().len() as u64);
    question.shares().iter().for_each(|&share| out.int(u64::from(share)));
    out.int(events.len() as u64);
    out.0.extend(events);
    Ok(out.0)
}

/// Runs a log and returns the result it leads to.
pub(crate) fn replay(data: &[u8]) -> Result<Outcome> {
    let mut log = Reader { rest: data, at: 0 };
    if log.take(MAGIC.len())? != MAGIC {
        return Err(log.bad("does not begin as a vote log of this version"));
    }
    let config = log.config()?;
    let ranked = config.pool != "free";
    // Alone, a question has all traces to itself: what it was granted is in its log.
    let pool = "free".to_owned();
    let alone = VoterConfig { pool, slots: None, total: None, total_tokens: None, ..config };
    let mut voter = Voter::new(alone)?;
    let id = log.text()?;
    let budget = Some(log.small()?);
    let seed = Some(log.int()?);
    let max_tokens = log.option(Reader::int)?;
    voter.recall(log.list(|log| {
        let share = log.small()?;
        u8::try_from(share).map_err(|_| log.bad(&format!("has a weight of {share}")))
    })?);
    if log.int()? != log.rest.len() as u64 {
        return Err(log.bad("does not end with its last event"));
    }
    let options = OpenOptions { budget, seed, max_tokens, ..OpenOptions::default() };
    let question = voter.open(&id, options)? as i64;
    voter.launch_by_grant();
    while !log.rest.is_empty() {
        let head = log.take(1)?[0];
        match head & 3 {
            LAUNCH if head == LAUNCH => {
                let expected = log.small()?;
                let wants = voter.wants(question)?;
                if !ranked && wants != expected {
                    let why = format!("launches {expected} traces where the policy wants {wants}");
                    return Err(log.bad(&why));
                }
                voter.grant(question, expected)?;
            }
            FINISH => finish(head, &mut log, &mut voter, question)?,
            CLOSE => {
                let cause = match Stop::OF_HOST.get(usize::from(head >> 2)) {
                    Some(Stop::Tokens) => StopCause::Tokens,
                    Some(Stop::Pool) => StopCause::Pool,
                    Some(Stop::Deadline) => StopCause::Deadline,
                    Some(_) => StopCause::Closed,
                    None => return Err(log.bad(&format!("has a close of kind {head}"))),
                };
                drop(voter.close_as(question, &cause)?);
            }
            FORK if head == FORK => {
                let (trace, num) = (log.small()?, log.small()?);
                drop(voter.fork(question, i64::from(trace), num)?);
            }
            _ => return Err(log.bad(&format!("has no event of kind {head}"))),
        }
    }
    voter.result(question)
}

fn finish(head: u8, log: &mut Reader<'_>, voter: &mut Voter, question: i64) -> Result<()> {
    let trace = i64::from(log.small()?);
    let reason = Reason::ALL[usize::from(head >> 2 & 3)].1;
    let (mut num_tokens, mut sum_logprob, mut conf) = (0, 0.0, 0.0);
    if head & SUMS != 0 {
        (num_tokens, sum_logprob, conf) = (log.int()?, log.float()?, log.float()?);
    }
    let mut parts = [None; 4];
    let mut source = None;
    if head & GIVEN != 0 {
        let mask = log.take(1)?[0];
        for (i, part) in parts.iter_mut().enumerate() {
            *part = if mask >> i & 1 == 1 { Some(log.float()?) } else { None };
        }
        source = if mask >> 4 & 1 == 1 { Some(log.small()?) } else { None };
    }
    let [reward, confidence, entropy, weight] = parts;
    let kind = head >> BALLOT;
    let known = kind == 1 || (kind == 3 && log.choice(&[false, true])?);
    let ballot = if kind == 0 {
        None
    } else {
        let key = if known {
            let key = log.small()?;
            voter.check_key(question, key).map_err(|_| log.bad(&format!("has no key {key}")))?;
            Said::Known(key)
        } else {
            Said::New(log.text()?.into())
        };
        let raw = if kind == 3 { Some(log.text()?.into()) } else { None };
        let path = if voter.policy().reads_paths() { log.long()? } else { 0 };
        Some(Ballot { key, raw, path })
    };
    let trace = voter.running(question, trace)?;
    voter.set_sums(question, trace, sum_logprob, conf);
    let end = End {
        reason,
        num_tokens: Some(num_tokens),
        reward,
        confidence,
        entropy,
        source,
        weight,
        ..End::new(Answer::Nothing)
    };
    voter.finish_with(question, trace, end, ballot).map(drop)
}

struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, value: u64) {
        put_int(&mut self.0, value);
    }

    fn float(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.int(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.int(u64::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn config(&mut self, config: &VoterConfig) {
        let options = &config.key_options;
        for text in [&config.key, &config.weight, &config.ties, &config.order, &options.letters] {
            self.text(text);
        }
        self.option(options.delimiters.as_ref(), |out, list| {
            out.int(list.len() as u64);
            for (open, close) in list {
                out.text(open);
                out.option(close.as_deref(), Self::text);
            }
        });
        self.int(options.fallback as u64);
        self.int(options.percent as u64);
        for list in [&options.options, &config.stop] {
            self.int(list.len() as u64);
            for text in list {
                self.text(text);
            }
        }
        self.int(u64::from(config.budget));
        self.int(config.seed);
        let latency = match config.latency {
            Latency::Max => None,
            Latency::Factor(exponent) => Some(exponent),
        };
        self.option(latency, Self::float);
        self.int(u64::from(config.bare));
        self.int(config.log_odds.len() as u64);
        config.log_odds.iter().for_each(|&w| self.float(w));
        self.int(u64::from(config.window));
        self.int(config.prune.len() as u64);
        config.prune.iter().for_each(|rule| self.text(rule));
        self.int(u64::from(config.finish_on_answer));
        self.option(config.probe.as_deref(), Self::text);
        self.text(&config.steps);
        self.option(config.accept, Self::float);
        self.option(config.fork.as_deref(), Self::text);
        self.int(u64::from(config.count_late));
        self.option(config.max_tokens, Self::int);
        self.text(&config.pool);
        self.option(config.slots, |out, slots| out.int(u64::from(slots)));
        self.option(config.total, Self::int);
        self.option(config.total_tokens, Self::int);
        self.int(u64::from(config.unchecked));
        let Abstain { min_share, min_margin, min_ballots, min_cast_rate } = config.abstain;
        [min_share, min_margin, min_cast_rate].into_iter().for_each(|x| self.float(x));
        self.int(u64::from(min_ballots));
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bad(&self, why: &str) -> Error {
        Error::input("log", format!("{why} (at byte {})", self.at))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.bad("ends too early"));
        };
        self.rest = rest;
        self.at += len;
        Ok(head)
    }

    fn int(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.bad("has a number of more than 64 bits"))
    }

    fn long(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn small(&mut self) -> Result<u32> {
        let value = self.int()?;
        u32::try_from(value).map_err(|_| self.bad(&format!("has {value} where 32 bits are meant")))
    }

    /// A length of a list whose items take at least a byte each.
    fn len(&mut self) -> Result<usize> {
        let len = self.int()?;
        if len > self.rest.len() as u64 {
            return Err(self.bad(&format!("announces {len} items, more than it has bytes")));
        }
        Ok(len as usize)
    }

    fn float(&mut self) -> Result<f64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<String> {
        let len = self.len()?;
        let bytes = self.take(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad("has a text that is not UTF-8"))
    }

    fn choice<T: Copy>(&mut self, of: &[T]) -> Result<T> {
        let index = self.int()?;
        let found = usize::try_from(index).ok().and_then(|index| of.get(index)).copied();
        found.ok_or_else(|| self.bad(&format!("has choice {index} of {}", of.len())))
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.choice(&[false, true])? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.len()?).map(|_| read(self)).collect()
    }

    fn config(&mut self) -> Result<VoterConfig> {
        let (key, weight, ties) = (self.text()?, self.text()?, self.text()?);
        let (order, letters) = (self.text()?, self.text()?);
        let delimiters =
            self.option(|log| log.list(|log| Ok((log.text()?, log.option(Self::text)?))))?;
        let fallback = self.choice(&[Fallback::Off, Fallback::First, Fallback::Last])?;
        let percent = self.choice(&[Percent::Strip, Percent::Scale])?;
        let options = self.list(Self::text)?;
        let stop = self.list(Self::text)?;
        let (budget, seed) = (self.small()?, self.int()?);
        let latency = self.option(Self::float)?.map_or(Latency::Max, Latency::Factor);
        let bare = self.choice(&[false, true])?;
        let key_options = KeyOptions { delimiters, fallback, percent, letters, options };
        let log_odds = self.list(Self::float)?;
        let window = self.small()?;
        let prune = self.list(Self::text)?;
        let finish_on_answer = self.choice(&[false, true])?;
        let (probe, steps) = (self.option(Self::text)?, self.text()?);
        let (accept, fork) = (self.option(Self::float)?, self.option(Self::text)?);
        let (count_late, max_tokens) = (self.choice(&[false, true])?, self.option(Self::int)?);
        let (pool, slots) = (self.text()?, self.option(Self::small)?);
        let (total, total_tokens) = (self.option(Self::int)?, self.option(Self::int)?);
        let unchecked = self.choice(&[false, true])?;
        let (min_share, min_margin) = (self.float()?, self.float()?);
        let (min_cast_rate, min_ballots) = (self.float()?, self.small()?);
        Ok(VoterConfig {
            key,
            key_options,
            weight,
            log_odds,
            window,
            prune,
            finish_on_answer,
            probe,
            steps,
            accept,
            fork,
            count_late,
            max_tokens,
            pool,
            slots,
            total,
            total_tokens,
            log: true,
            unchecked,
            abstain: Abstain { min_share, min_margin, min_ballots, min_cast_rate },
            stop,
            budget,
            ties,
            seed,
            order,
            latency,
            bare,
        })
    }
}
