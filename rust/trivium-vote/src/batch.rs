//! Votes over what is there already: a list of answers, or recorded keys.

use crate::keys::Said;
use crate::pool::{OpenOptions, Voter};
use crate::question::{End, Outcome};
use crate::spec::{Latency, VoterConfig};
use crate::stops::Stops;
use crate::tally::{KeyId, Tally};
use rustc_hash::FxHashMap;
use trivium_core::{Error, Result};

/// The majority of a list of answers, with the key, weight and tie rule of `config`.
///
/// All answers are there and paid for, so all of them count: budget, stop rules and launch control
/// are replaced. The result is that of a [`Voter`] that is told of each answer in turn.
///
/// # Errors
/// [`Error::InvalidInput`] for an empty list, and those of [`Voter::new`].
pub fn vote(answers: &[Said<'_>], config: VoterConfig) -> Result<Outcome> {
    if answers.is_empty() {
        return Err(Error::input("answers", "an empty list elects nothing"));
    }
    let budget = u32::try_from(answers.len()).unwrap_or(u32::MAX);
    let stop = vec!["majority".to_owned()];
    let config = VoterConfig { budget, stop, latency: Latency::Max, bare: true, ..config };
    let mut voter = Voter::new(config)?;
    let question = voter.open("vote", OpenOptions::default())? as i64;
    voter.launches();
    for (trace, &said) in answers.iter().enumerate() {
        voter.finish(question, trace as i64, End::new(said))?;
    }
    voter.result(question)
}

/// Replays stop rules on recorded keys: the winner and the number of traces used.
///
/// `keys` are the traces in launch order, each a key or an abstention; at most `budget` of them are
/// used. Linear in their number.
pub fn replay_keys(keys: &[Option<u32>], stops: &Stops, budget: u32) -> (Option<u32>, u32) {
    let (winner, tally) = replay_tally(keys, stops, budget);
    (winner, tally.num_seen())
}

/// As [`replay_keys`]: the winner, and the tally at the stop.
pub fn replay_tally(keys: &[Option<u32>], stops: &Stops, budget: u32) -> (Option<u32>, Tally) {
    let keys = &keys[..keys.len().min(budget as usize)];
    let mut tally = Tally::default();
    let mut names: Vec<u32> = Vec::new();
    let mut ids: FxHashMap<u32, KeyId> = FxHashMap::default();
    let mut used = 0;
    for &key in keys {
        used += 1;
        match key {
            Some(name) => {
                let id = *ids.entry(name).or_insert_with(|| {
                    names.push(name);
                    names.len() as KeyId - 1
                });
                tally.cast(id);
            }
            None => tally.abstain(),
        }
        if let Some(fired) = stops.check(&tally, keys.len() as u32 - used) {
            return (stops.elects(fired, &tally).map(|id| names[id as usize]), tally);
        }
    }
    (tally.leader().map(|id| names[id as usize]), tally)
}
