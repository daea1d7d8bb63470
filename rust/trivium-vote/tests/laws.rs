//! The laws of a vote: launch order alone decides, a log replays, lists equal loops, errors change
//! nothing, and nothing that a trace says makes a key fail.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;
use trivium_core::Error;
use trivium_vote::{
    Action, Cost, End, Fallback, Handle, Key, KeyOptions, Latency, OpenOptions, Outcome, Reason,
    Said, StopCause, TokenBatch, Voter, VoterConfig, replay_keys, vote,
};

const WORDS: [&str; 6] = ["1", "2", "1.0", "3/1", "no number", ""];

fn config(stop: &str, latency: Latency, bare: bool, budget: u32) -> VoterConfig {
    VoterConfig { stop: vec![stop.into()], latency, bare, budget, ..VoterConfig::default() }
}

/// Runs a vote in which the host finishes running traces in an order chosen by `picks`.
fn run(config: &VoterConfig, said: &[&str], picks: &[usize]) -> (Voter, Handle) {
    let mut voter = Voter::new(config.clone()).unwrap();
    let question = voter.open("q", OpenOptions::default()).unwrap();
    let mut running = Vec::new();
    let mut actions = voter.launches();
    for step in 0.. {
        for action in actions.drain(..) {
            match action {
                Action::Launch { first, num, .. } => running.extend(first..first + num),
                Action::Cancel { traces, .. } => running.retain(|t| !traces.contains(t)),
                Action::Done { .. } => assert!(running.is_empty(), "all others were cancelled"),
                other => panic!("{other:?}"),
            }
        }
        if running.is_empty() {
            break;
        }
        let trace = running.remove(picks[step % picks.len()] % running.len());
        let end = End::new(Said::Answer(said[trace as usize]));
        actions = voter.finish(question as i64, i64::from(trace), end).unwrap();
    }
    assert!(voter.result(question as i64).unwrap().stop.is_some());
    (voter, question)
}

/// An outcome without what depends on timing.
fn timeless(mut outcome: Outcome) -> Outcome {
    outcome.cost = Cost { samples: outcome.cost.samples, ..Cost::default() };
    outcome
}

prop_compose! {
    fn any_config()(
        stop in prop::sample::select(vec![
            "majority",
            "locked",
            "beta:0.9",
            "beta:0.7",
            "dirichlet:0.8",
            "esc:3",
            "predictive:0.9",
            "ppr:0.2",
            "double:0.7",
            "share:0.9:5",
            "best",
        ]),
        latency in prop::option::of(0.0f64..=1.0),
        bare in any::<bool>(),
        budget in 1u32..24,
    ) -> VoterConfig {
        config(stop, latency.map_or(Latency::Max, Latency::Factor), bare, budget)
    }
}

proptest! {
    #[test]
    fn finishing_order_is_irrelevant(
        config in any_config(),
        said in prop::collection::vec(prop::sample::select(&WORDS[..]), 24),
        picks in prop::collection::vec(0usize..24, 24),
    ) {
        let (ordered, q) = run(&config, &said, &[0]);
        let (shuffled, r) = run(&config, &said, &picks);
        prop_assert_eq!(
            timeless(ordered.result(q as i64).unwrap()),
            timeless(shuffled.result(r as i64).unwrap())
        );
    }

    #[test]
    fn a_log_replays_to_the_same_result(
        config in any_config(),
        said in prop::collection::vec(prop::sample::select(&WORDS[..]), 24),
        picks in prop::collection::vec(0usize..24, 24),
        cut in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let (voter, q) = run(&config, &said, &picks);
        let log = voter.log(q as i64).unwrap();
        prop_assert_eq!(Voter::replay(&log).unwrap(), voter.result(q as i64).unwrap());
        // A truncated log is refused; a damaged one gives an error or some result, never a panic.
        let cut = cut.index(log.len());
        let refused = matches!(Voter::replay(&log[..cut]), Err(Error::InvalidInput { .. }));
        prop_assert!(refused);
        let mut damaged = log;
        damaged[cut] ^= flip;
        drop(Voter::replay(&damaged));
    }

    #[test]
    fn a_list_is_a_loop(said in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..24)) {
        let answers: Vec<_> = said.iter().map(|word| Said::Answer(word)).collect();
        let listed = vote(&answers, VoterConfig::default()).unwrap();
        let config = config("majority", Latency::Max, true, said.len() as u32);
        let (voter, q) = run(&config, &said, &[0]);
        let looped = Outcome { question: "vote".into(), ..voter.result(q as i64).unwrap() };
        prop_assert_eq!(&listed, &looped);
        prop_assert_eq!(listed.num_cast + listed.num_none, said.len() as u32);
    }

    #[test]
    fn the_wrapper_changes_no_winner(
        said in prop::collection::vec(prop::sample::select(&WORDS[..]), 24),
        stop in prop::sample::select(vec!["majority", "locked"]),
        budget in 1u32..24,
    ) {
        let (full, q) = run(&config("majority", Latency::Max, true, budget), &said, &[0]);
        let (live, r) = run(&config(stop, Latency::Factor(0.0), false, budget), &said, &[0]);
        let (full, live) = (full.result(q as i64).unwrap(), live.result(r as i64).unwrap());
        prop_assert_eq!(full.winner, live.winner);
        prop_assert_eq!(full.answer, live.answer);
    }

    #[test]
    fn replays_of_keys_are_bare_votes(
        keys in prop::collection::vec(prop::option::weighted(0.8, 0u32..4), 1..40),
        stop in prop::sample::select(vec!["majority", "locked", "beta:0.9"]),
    ) {
        let names: Vec<_> = keys.iter().map(|k| k.map_or(String::new(), |k| k.to_string())).collect();
        let said: Vec<_> = names.iter().map(String::as_str).collect();
        let config = config(stop, Latency::Max, true, keys.len() as u32);
        let (voter, q) = run(&config, &said, &[0]);
        let outcome = voter.result(q as i64).unwrap();
        let rules = [trivium_vote::stops::Rule::parse(stop).unwrap()];
        let stops = trivium_vote::stops::Stops::new(&rules, keys.len() as u32, true);
        let (winner, used) = replay_keys(&keys, &stops, 40);
        prop_assert_eq!(winner.map(|k| k.to_string()), outcome.winner);
        prop_assert_eq!(used, outcome.cost.samples);
    }

    #[test]
    fn keys_are_total_and_idempotent(text in any::<String>(), pieces in prop::collection::vec(
        prop::sample::select(vec!["1", "23", ",", ".", "/", " ", "-", "e", "%", "$", "=", "x10^", "{", "}",
            "\\frac", "\\boxed{", "\\", "A", "(", ")", "S:", "½", "answer is", "\n", "é", "**", "_"]), 0..16)) {
        for name in Key::NAMES {
            for fallback in [Fallback::Off, Fallback::Last, Fallback::First] {
                let key = Key::new(&name.replace("KEY", "number"), KeyOptions { fallback, ..KeyOptions::default() }).unwrap();
                for text in [text.clone(), pieces.concat()] {
                    for cut in [false, true] {
                        drop(key.read(Said::Text(&text), cut));
                    }
                    let Some(found) = key.of(&text) else { continue };
                    // Tags and brackets of structured keys are not read back.
                    let plain = ["text", "number", "choice", "bool", "date"].contains(name);
                    if plain {
                        prop_assert_eq!(key.of(&found), Some(found.clone()), "{} of {:?}", name, text);
                    }
                    prop_assert_eq!(key.of(&format!(" \t{text}\n ")), Some(found));
                }
            }
        }
    }
}

#[test]
fn an_easy_question_costs_one_wave() {
    let mut voter = Voter::new(VoterConfig::default()).unwrap();
    let q = voter.open("q17", OpenOptions::default()).unwrap();
    assert_eq!(voter.launches(), [Action::Launch { question: q, first: 0, num: 4 }]);
    assert_eq!(voter.launches(), []);
    for trace in [2, 0, 3] {
        assert_eq!(
            voter.finish(q as i64, trace, End::new(Said::Text("The answer is 14."))),
            Ok(vec![])
        );
    }
    let actions = voter.finish(q as i64, 1, End::new(Said::Answer("14.0"))).unwrap();
    let [Action::Done { outcome, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(outcome.winner.as_deref(), Some("14"));
    assert_eq!(outcome.stop.as_ref().unwrap().to_string(), "rule:beta:0.95");
    assert_eq!(outcome.p_mode, Some(0.96875));
    assert_eq!((outcome.trace, outcome.answer.as_deref()), (Some(0), Some("14")));
    assert_eq!(**outcome, voter.result(q as i64).unwrap());
}

#[test]
fn a_question_without_answers_has_a_result() {
    let (voter, q) = run(&VoterConfig { budget: 5, ..VoterConfig::default() }, &["?"; 5], &[1]);
    let outcome = voter.result(q as i64).unwrap();
    assert_eq!((outcome.winner, outcome.stop), (None, Some(StopCause::Budget)));
    assert_eq!((outcome.num_none, outcome.num_cast, outcome.share), (5, 0, 0.0));
    assert_eq!((outcome.p_mode, outcome.cost.samples), (None, 5));
}

#[test]
fn refused_calls_change_nothing() {
    let mut voter = Voter::new(VoterConfig::default()).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    voter.launches();
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    let before = (voter.log(q).unwrap(), voter.result(q).unwrap());
    let answer = End::new(Said::Answer("2"));
    let nan = f64::NAN;
    let errors = [
        voter.finish(q, 0, answer),
        voter.finish(q, 4, answer),
        voter.finish(q, -1, answer),
        voter.finish(q + 1, 1, answer),
        voter.finish(-1, 1, answer),
        voter.finish(q, 1, End { reward: Some(nan), ..answer }),
        voter.finish(q, 1, End { sum_logprob: Some(f64::INFINITY), ..answer }),
        voter.tokens(TokenBatch::new(&[q, q], &[1, 9])),
        voter.tokens(TokenBatch::new(&[q, q], &[1, 0])),
        voter.tokens(TokenBatch { logprobs: &[nan], ..TokenBatch::new(&[q], &[1]) }),
        voter.tokens(TokenBatch { confs: &[nan], ..TokenBatch::new(&[q], &[1]) }),
        voter.tokens(TokenBatch { entropies: &[-1.0], ..TokenBatch::new(&[q], &[1]) }),
        voter.tokens(TokenBatch { ids: &[1, 2], ..TokenBatch::new(&[q], &[1]) }),
        voter.tokens(TokenBatch::new(&[q], &[])),
        voter.tokens(TokenBatch { logprobs: &[0.0, 0.0], ..TokenBatch::new(&[q], &[1]) }),
        voter.fork(q, 1, 1),
        voter.segment(q, 1, nan),
        voter.probe(q, 1, Said::Answer("1")),
        voter.text(q, 9, "so"),
        voter.close(q + 1),
    ];
    for (i, error) in errors.iter().enumerate() {
        let expected_state = matches!(i, 0 | 8);
        match error {
            Err(Error::StateMismatch { .. }) => assert!(expected_state, "{i}"),
            Err(Error::InvalidInput { .. }) => assert!(!expected_state, "{i}"),
            other => panic!("{i}: {other:?}"),
        }
    }
    let options = OpenOptions { budget: Some(0), ..OpenOptions::default() };
    assert!(voter.open("q", OpenOptions::default()).is_err());
    assert!(voter.open("r", options).is_err());
    assert!(voter.open(&"x".repeat(5000), OpenOptions::default()).is_err());
    assert!(voter.find("r").is_err());
    assert_eq!((voter.log(q).unwrap(), voter.result(q).unwrap()), before);
}

#[test]
fn tokens_add_up_and_can_be_overridden() {
    let config = VoterConfig { latency: Latency::Max, ..VoterConfig::default() };
    let mut voter = Voter::new(config).unwrap();
    let q = voter
        .open("q", OpenOptions { budget: Some(2), seed: Some(7), ..OpenOptions::default() })
        .unwrap() as i64;
    voter.launches();
    let questions = [q, q, q];
    let batch = TokenBatch {
        logprobs: &[-1.0, -2.0, f64::NEG_INFINITY],
        confs: &[1.0, 2.0, 3.0],
        ..TokenBatch::new(&questions, &[0, 1, 0])
    };
    assert_eq!(voter.tokens(batch), Ok(vec![]));
    assert_eq!(voter.result(q).unwrap().cost.tokens, 3);
    voter.finish(q, 0, End { num_tokens: Some(10), ..End::new(Said::Answer("1")) }).unwrap();
    assert_eq!(voter.result(q).unwrap().cost.tokens, 11);
    // The decision cancels trace 1, which then ends late with its tokens.
    assert!(voter.result(q).unwrap().stop.is_some());
    assert_eq!(voter.result(q).unwrap().cost.cancelled, 1);
    let late = End { num_tokens: Some(5), reason: Reason::Cancelled, ..End::new(Said::Nothing) };
    assert_eq!(voter.finish(q, 1, late), Ok(vec![]));
    let outcome = voter.result(q).unwrap();
    assert_eq!((outcome.cost.tokens, outcome.cost.cancelled, outcome.seed), (15, 1, 7));
    assert_eq!(Voter::replay(&voter.log(q).unwrap()), Ok(outcome));
}

#[test]
fn closing_and_forgetting() {
    let mut voter = Voter::new(VoterConfig::default()).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    let unfetched = voter.open("never launched", OpenOptions::default()).unwrap() as i64;
    voter.close(unfetched).unwrap();
    assert_eq!(Voter::replay(&voter.log(unfetched).unwrap()), voter.result(unfetched));
    assert_eq!(voter.launches().len(), 1);
    voter.finish(q, 2, End::new(Said::Answer("9"))).unwrap();
    voter.finish(q, 0, End::new(Said::Answer("7"))).unwrap();
    let actions = voter.close(q).unwrap();
    let [Action::Cancel { traces, .. }, Action::Done { outcome, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((traces.as_slice(), outcome.winner.as_deref()), (&[1, 3][..], Some("7")));
    assert_eq!((outcome.stop.clone(), outcome.cost.late), (Some(StopCause::Closed), 1));
    assert_eq!(voter.close(q), Ok(vec![]));
    assert_eq!(Voter::replay(&voter.log(q).unwrap()), voter.result(q));
    let held = voter.memory();
    voter.forget(q).unwrap();
    assert!(voter.memory() < held && voter.result(q).is_err() && voter.find("q").is_err());
    let again = voter.open("q", OpenOptions::default()).unwrap();
    assert!(again as i64 > q, "handles are not reused");
}
