//! Ends of traces and of questions.

use super::{Action, Due, Handle, Voter};
use crate::keys::Said;
use crate::question::{Ballot, End, Given, Reason, StopCause, fnv};
use std::cmp::Reverse;
use trivium_core::{Error, Result};

impl Voter {
    /// Ends a trace; an answer that the key cannot read is an abstention, not an error.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question or trace and for statistics that are not
    /// finite; [`Error::StateMismatch`] for a trace that has ended already.
    pub fn finish(&mut self, question: i64, trace: i64, end: End<'_>) -> Result<Vec<Action>> {
        let trace = self.get(question)?.running(trace)?;
        let voteless = matches!(end.reason, Reason::Cancelled | Reason::Error);
        let keyed = if voteless {
            None
        } else {
            self.policy.key.read(end.said, end.reason == Reason::Length)
        };
        let whole = match end.said {
            Said::Text(text) | Said::Answer(text) => text,
            Said::Nothing => "",
        };
        let reads = self.policy.reads_paths();
        let path = if reads { fnv(0xcbf2_9ce4_8422_2325, whole.as_bytes()) } else { 0 };
        let found = self.get(question)?;
        let ballot = keyed.map(|keyed| {
            let key = found.said(&keyed.key);
            let raw = (!found.is_first_answer(&key, &keyed.raw)).then(|| keyed.raw.into());
            Ballot { key, raw, path }
        });
        self.finish_with(question, trace, end, ballot)
    }

    /// Ends many traces that finished by themselves, one after the other, under a weight that reads
    /// nothing but answers.
    ///
    /// # Errors
    /// Those of [`Voter::finish`], and [`Error::InvalidInput`] for a trace that stands twice and for a
    /// weight that reads statistics. Nothing counts then.
    pub fn finish_batch(&mut self, ends: &[(i64, i64, Said<'_>)]) -> Result<Vec<Action>> {
        let mut seen = rustc_hash::FxHashSet::default();
        for &(question, trace, _) in ends {
            let known = self.get(question)?;
            known.running(trace)?;
            known.check_stats(trace as u32, &known.stats(trace as u32))?;
            if !seen.insert((question, trace)) {
                let why = format!("{trace} of question {:?} ends twice", known.id());
                return Err(Error::input("trace", why));
            }
        }
        let mut actions = Vec::new();
        for &(question, trace, said) in ends {
            // A decision of this very call cancels the traces of its question: their ends are late.
            actions.extend(self.finish(question, trace, End::new(said))?);
        }
        Ok(actions)
    }

    /// Ends a trace whose ballot is known.
    pub(crate) fn finish_with(
        &mut self,
        question: i64,
        trace: u32,
        end: End<'_>,
        ballot: Option<Ballot>,
    ) -> Result<Vec<Action>> {
        let mut stats = self.get(question)?.stats(trace);
        for (what, value) in [
            ("sum_logprob", end.sum_logprob),
            ("reward", end.reward),
            ("confidence", end.confidence),
            ("entropy", end.entropy),
            ("weight", end.weight),
        ] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                let id = self.get(question)?.id();
                let why = format!("{value} is not finite, trace {trace} of question {id:?}");
                return Err(Error::input(what, why));
            }
        }
        let reported = stats.num_tokens;
        stats.sum_logprob = end.sum_logprob.unwrap_or(stats.sum_logprob);
        stats.num_tokens = end.num_tokens.unwrap_or(stats.num_tokens);
        stats.given = Given {
            reward: end.reward,
            confidence: end.confidence,
            entropy: end.entropy,
            source: end.source,
            weight: end.weight,
        };
        let mut ballot = ballot;
        if ballot.is_none() && end.said == Said::Nothing && end.reason == Reason::Stop {
            // A run of denoising steps votes with the winner of its steps.
            if let Some((found, confidence)) = self.get(question)?.temporal(trace) {
                stats.given.confidence = stats.given.confidence.or(Some(confidence));
                ballot = Some(found);
            }
        }
        if ballot.is_some() {
            self.get(question)?.check_stats(trace, &stats)?;
        }
        let handle = question as Handle;
        let mut actions = Vec::new();
        let Some(question) = self.questions.get_mut(handle) else { return Ok(actions) };
        let landed = u32::from(!question.is_done());
        let change = question.end(trace, end.reason, ballot, stats);
        if let Some(schedule) = &mut self.schedule {
            schedule.tokens += stats.num_tokens.saturating_sub(reported);
        }
        self.follow(handle, change, landed, &mut actions);
        self.grant_slots(&mut actions);
        Ok(actions)
    }

    /// Decides a question with what has been counted; nothing happens if it is decided already.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown question.
    pub fn close(&mut self, question: i64) -> Result<Vec<Action>> {
        self.close_as(question, &StopCause::Closed)
    }

    pub(crate) fn close_as(&mut self, question: i64, why: &StopCause) -> Result<Vec<Action>> {
        self.get(question)?;
        let handle = question as Handle;
        let mut actions = Vec::new();
        let Some(question) = self.questions.get_mut(handle) else { return Ok(actions) };
        let change = question.close(why);
        if change.decided {
            self.follow(handle, change, 0, &mut actions);
            self.grant_slots(&mut actions);
        }
        Ok(actions)
    }

    /// Decides the questions whose deadline has come, with what has been counted. The host reads the
    /// clock.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a time that is not a number.
    pub fn expire(&mut self, now: f64) -> Result<Vec<Action>> {
        if now.is_nan() {
            return Err(Error::input("now", "is not a number"));
        }
        let mut actions = Vec::new();
        while let Some(&Reverse(Due(deadline, handle))) = self.due.peek()
            && deadline <= now
        {
            self.due.pop();
            if self.questions.get(handle as i64).is_some() {
                actions.extend(self.close_as(handle as i64, &StopCause::Deadline)?);
            }
        }
        Ok(actions)
    }
}
