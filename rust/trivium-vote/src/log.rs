//! The replay log of one question: configuration, events in order, and what each trace said.
//!
//! ```text
//! "TVOTE" version      6 bytes
//! configuration        strings and numbers in a fixed order, then id, budget and seed
//! number of events     then each: kind, and
//!   launch             how many
//!   finish             trace, reason, tokens, log-probability, confidence, reward, key and answer
//!   close              nothing
//! ```
//!
//! Whole numbers are little-endian base-128; doubles are eight bytes; strings carry their length,
//! which is checked against the bytes left before anything is allocated. Keys are stored as they
//! were read, so a log replays the vote and not the reading of the answers. Replaying recomputes
//! every launch and refuses a log whose launches differ: it is its own test.

use crate::keys::{Fallback, KeyOptions, Percent, Said};
use crate::pool::{Action, OpenOptions, Voter};
use crate::question::{Ballot, End, Event, Outcome, Question, Reason};
use crate::spec::{Abstain, Latency, VoterConfig};
use trivium_core::{Error, Result};

const MAGIC: &[u8; 6] = b"TVOTE\x02";

/// The log of a question.
pub(crate) fn write(question: &Question) -> Vec<u8> {
    let mut out = Writer(MAGIC.to_vec());
    let config = question.policy().config();
    out.config(config);
    out.text(&question.id);
    out.int(u64::from(question.budget));
    out.int(question.seed);
    out.int(question.events.len() as u64);
    for event in &question.events {
        match *event {
            Event::Launch(num) => {
                out.int(0);
                out.int(u64::from(num));
            }
            Event::Finish(index) => {
                let trace = &question.traces[index as usize];
                let stats = trace.stats();
                let reason = Reason::ALL.iter().position(|(_, r)| Some(*r) == trace.ended);
                out.int(1);
                out.int(u64::from(index));
                out.int(reason.unwrap_or(0) as u64);
                out.int(stats.num_tokens);
                out.float(stats.sum_logprob);
                out.float(stats.sum_conf);
                for value in [
                    stats.given.reward,
                    stats.given.confidence,
                    stats.given.entropy,
                    stats.given.weight,
                ] {
                    out.option(value, Writer::float);
                }
                out.option(stats.given.source, |out, source| out.int(u64::from(source)));
                out.option(trace.ballot.as_ref(), |out, ballot| {
                    out.text(&ballot.key);
                    out.text(&ballot.raw);
                    out.int(ballot.path);
                });
            }
            Event::Close => out.int(2),
        }
    }
    out.0
}

/// Runs a log and returns the result it leads to.
pub(crate) fn replay(data: &[u8]) -> Result<Outcome> {
    let mut log = Reader { rest: data, at: 0 };
    if log.take(MAGIC.len())? != MAGIC {
        return Err(log.bad("does not begin as a vote log of this version"));
    }
    let mut voter = Voter::new(log.config()?)?;
    let id = log.text()?;
    let budget = Some(log.small()?);
    let seed = Some(log.int()?);
    let question = voter.open(&id, OpenOptions { budget, seed })? as i64;
    let mut launched = Vec::new();
    for _ in 0..log.int()? {
        match log.int()? {
            0 => {
                let expected = log.small()?;
                launched.extend(voter.launches());
                let found = launched.iter().find_map(|action| match action {
                    Action::Launch { num, .. } => Some(*num),
                    _ => None,
                });
                if found != Some(expected) {
                    let why =
                        format!("launches {expected} traces where the policy launches {found:?}");
                    return Err(log.bad(&why));
                }
                launched.clear();
            }
            1 => launched.extend(finish(&mut log, &mut voter, question)?),
            2 => drop(voter.close(question)?),
            kind => return Err(log.bad(&format!("has no event of kind {kind}"))),
        }
    }
    if !log.rest.is_empty() {
        return Err(log.bad("goes on after its last event"));
    }
    voter.result(question)
}

fn finish(log: &mut Reader<'_>, voter: &mut Voter, question: i64) -> Result<Vec<Action>> {
    let trace = i64::from(log.small()?);
    let reason = log.choice(&Reason::ALL.map(|(_, reason)| reason))?;
    let num_tokens = Some(log.int()?);
    let sum_logprob = log.float()?;
    let conf = log.float()?;
    let reward = log.option(Reader::float)?;
    let confidence = log.option(Reader::float)?;
    let entropy = log.option(Reader::float)?;
    let weight = log.option(Reader::float)?;
    let source = log.option(Reader::small)?;
    let ballot = log.option(|log| {
        Ok(Ballot { key: log.text()?.into(), raw: log.text()?.into(), path: log.int()? })
    })?;
    let trace = voter.running(question, trace)?;
    voter.set_sums(question, trace, sum_logprob, conf);
    let end = End {
        said: Said::Nothing,
        reason,
        sum_logprob: None,
        num_tokens,
        reward,
        confidence,
        entropy,
        source,
        weight,
    };
    voter.finish_with(question, trace, end, ballot)
}

struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
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
        self.option(config.prune.as_deref(), Self::text);
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
        let prune = self.option(Self::text)?;
        let (min_share, min_margin) = (self.float()?, self.float()?);
        let (min_cast_rate, min_ballots) = (self.float()?, self.small()?);
        Ok(VoterConfig {
            key,
            key_options,
            weight,
            log_odds,
            window,
            prune,
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
