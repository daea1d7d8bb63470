//! Running traces: pruning, early answers, steps, forks, late ballots, budgets of tokens.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;
use trivium_vote::loops::LoopRule;
use trivium_vote::{
    Action, End, Latency, OpenOptions, Reason, Said, StopCause, TokenBatch, Voter, VoterConfig,
};

/// A question with `budget` traces, all of them launched.
fn open(config: VoterConfig) -> (Voter, i64) {
    let mut voter = Voter::new(VoterConfig { latency: Latency::Max, ..config }).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    voter.launches();
    (voter, q)
}

fn plain(stop: &str, budget: u32) -> VoterConfig {
    VoterConfig { stop: vec![stop.into()], bare: true, budget, ..VoterConfig::default() }
}

fn cancelled(actions: &[Action]) -> Vec<u32> {
    let of = |action: &Action| match action {
        Action::Cancel { traces, .. } => traces.clone(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(of).collect()
}

/// The log replays to the same result.
fn replays(voter: &Voter, q: i64) {
    let mut said = voter.result(q).unwrap();
    let mut again = Voter::replay(&voter.log(q).unwrap()).unwrap();
    // Tokens of traces that never ended are not in the log.
    (said.cost.tokens, again.cost.tokens) = (0, 0);
    assert_eq!(again, said);
}

proptest! {
    /// A trace is cancelled at the first look at which it loops by the definition, others never.
    #[test]
    fn loops_are_cancelled_where_they_begin(
        rows in prop::collection::vec(
            (prop::collection::vec(0i64..4, 0..40), prop::collection::vec(0i64..4, 1..9)), 1..4),
    ) {
        let rule = LoopRule { repeats: 4, least: 16 };
        let config = VoterConfig { prune: vec!["loop:4:16".into()], ..plain("majority", 4) };
        let (mut voter, q) = open(config);
        for (trace, (head, block)) in rows.iter().enumerate() {
            let text: Vec<i64> = head.iter().chain(block.iter().cycle()).copied().take(120).collect();
            let plain: Vec<u32> = text.iter().map(|&id| id as u32).collect();
            let first = (1..=text.len()).find(|&n| n % 16 == 0 && rule.loops(&plain[..n]));
            let mut found = None;
            for (i, &id) in text.iter().enumerate() {
                let traces = [trace as i64];
                let (ids, questions) = ([id], [q]);
                let batch = TokenBatch { ids: &ids, ..TokenBatch::new(&questions, &traces) };
                let actions = voter.tokens(batch).unwrap();
                if !actions.is_empty() {
                    prop_assert_eq!(cancelled(&actions), [trace as u32]);
                    found = Some(i + 1);
                    break;
                }
            }
            prop_assert_eq!(found, first);
            prop_assert!(found.is_some());
        }
        let outcome = voter.result(q).unwrap();
        prop_assert_eq!(outcome.cost.cancelled as usize, rows.len());
        prop_assert_eq!(outcome.num_none as usize, rows.len());
        replays(&voter, q);
    }

    /// Late ballots count; a lock over all known ballots never elects another answer than the full
    /// vote does, and never waits for a trace that cannot matter.
    #[test]
    fn late_ballots_lock_the_winner_of_the_full_vote(
        answers in prop::collection::vec(prop::sample::select(vec!["1", "2", "3", ""]), 1..14),
        order in prop::collection::vec(any::<prop::sample::Index>(), 14),
    ) {
        let budget = answers.len() as u32;
        let config = VoterConfig { count_late: true, ..plain("locked", budget) };
        let (mut voter, q) = open(config);
        let mut left: Vec<usize> = (0..answers.len()).collect();
        let mut known = std::collections::BTreeMap::<&str, i64>::new();
        for pick in order.iter().take(answers.len()) {
            let trace = left.remove(pick.index(left.len()));
            let end = End::new(Said::Answer(answers[trace]));
            voter.finish(q, trace as i64, end).unwrap();
            if !answers[trace].is_empty() {
                *known.entry(answers[trace]).or_default() += 1;
            }
            let mut counts: Vec<i64> = known.values().copied().chain([0, 0]).collect();
            counts.sort_unstable_by(|x, y| y.cmp(x));
            let locked = counts[0] - counts[1] > left.len() as i64;
            let done = voter.result(q).unwrap().stop.is_some();
            prop_assert_eq!(done, locked || left.is_empty(), "{:?} {:?}", known, left);
            if done {
                break;
            }
        }
        let full: Vec<Said<'_>> = answers.iter().map(|a| Said::Answer(a)).collect();
        let full = trivium_vote::vote(&full, VoterConfig::default()).unwrap();
        let outcome = voter.result(q).unwrap();
        if outcome.stop == Some(StopCause::Locked) {
            prop_assert_eq!(&outcome.winner, &full.winner);
        }
        let counted = outcome.cost.samples as usize;
        prop_assert_eq!(counted, answers.len() - left.len());
        replays(&voter, q);
    }

    /// Leaves of any tree of forks weigh one in all, each the product of 1 / branches.
    #[test]
    fn leaves_weigh_what_their_branches_do(
        forks in prop::collection::vec((any::<prop::sample::Index>(), 1u32..3), 0..8),
    ) {
        let config = VoterConfig { weight: "leaf".into(), ..plain("majority", 40) };
        let mut voter = Voter::new(VoterConfig { budget: 40, ..config }).unwrap();
        let options = OpenOptions { budget: Some(40), ..OpenOptions::default() };
        let q = voter.open("q", options).unwrap() as i64;
        voter.launches();
        // The tree grows below trace 0; the other traces stay silent.
        let mut weights = vec![(0u32, 1.0f64)];
        let launched = voter.result(q).unwrap().cost.launched;
        let mut next = launched;
        for (pick, num) in forks {
            let at = pick.index(weights.len());
            let (trace, weight) = weights[at];
            if next + num > 40 {
                prop_assert!(voter.fork(q, i64::from(trace), num).is_err());
                continue;
            }
            let actions = voter.fork(q, i64::from(trace), num).unwrap();
            let expected =
                Action::Fork { question: q as u64, trace, first: next, num };
            prop_assert_eq!(actions, [expected]);
            let each = weight / f64::from(num + 1);
            weights[at].1 = each;
            weights.extend((next..next + num).map(|t| (t, each)));
            next += num;
        }
        for trace in 0..next {
            let leaf = weights.iter().any(|(t, _)| *t == trace);
            let name = trace.to_string();
            let said = if leaf { Said::Answer(&name) } else { Said::Nothing };
            voter.finish(q, i64::from(trace), End::new(said)).unwrap();
        }
        let outcome = voter.result(q).unwrap();
        for (trace, weight) in weights {
            let row = outcome.tally.iter().find(|row| row.key == trace.to_string()).unwrap();
            prop_assert!((row.weight - weight).abs() < 1e-12);
        }
        let total: f64 = outcome.tally.iter().map(|row| row.weight).sum();
        prop_assert!((total - 1.0).abs() < 1e-9);
        replays(&voter, q);
    }
}

#[test]
fn the_published_trees_of_leaves() {
    for (forks, keys, expected) in [
        (vec![(0, 1), (0, 1), (1, 1)], "AABC", vec![("A", 0.5), ("B", 0.25), ("C", 0.25)]),
        (vec![(0, 1), (1, 1)], "ABC", vec![("A", 0.5), ("B", 0.25), ("C", 0.25)]),
    ] {
        let config = VoterConfig {
            weight: "leaf".into(),
            key: "text".into(),
            budget: keys.len() as u32,
            pool: "fifo".into(),
            slots: Some(1),
            ..plain("majority", 4)
        };
        let mut voter = Voter::new(config).unwrap();
        let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
        // One root; all others are branches.
        assert_eq!(voter.launches(), [Action::Launch { question: q as u64, first: 0, num: 1 }]);
        for (trace, num) in forks {
            voter.fork(q, trace, num).unwrap();
        }
        let order: Vec<usize> = match keys {
            "AABC" => vec![0, 2, 1, 3],
            _ => vec![0, 1, 2],
        };
        for (trace, key) in order.iter().zip(keys.chars()) {
            let name = key.to_string();
            voter.finish(q, *trace as i64, End::new(Said::Answer(&name))).unwrap();
        }
        let outcome = voter.result(q).unwrap();
        let found: Vec<(String, f64)> =
            outcome.tally.iter().map(|row| (row.key.clone(), row.weight)).collect();
        assert_eq!(found.len(), expected.len());
        for ((key, weight), (name, published)) in found.iter().zip(&expected) {
            assert!(key == name && (weight - published).abs() < 1e-12, "{found:?}");
        }
        replays(&voter, q);
    }
}

#[test]
fn a_trace_with_its_answer_is_finished() {
    let config = VoterConfig { finish_on_answer: true, ..plain("majority", 3) };
    let (mut voter, q) = open(config);
    assert_eq!(voter.text(q, 0, "3 + 11 = 14. The ans"), Ok(vec![]));
    assert_eq!(voter.text(q, 0, "wer is 14."), Ok(vec![]));
    let actions = voter.text(q, 0, " Let me check that.").unwrap();
    assert_eq!(cancelled(&actions), [0]);
    assert!(voter.text(q, 0, "Yes").is_err());
    let actions = voter.text(q, 1, r"so \boxed{14.0}").unwrap();
    assert_eq!(cancelled(&actions), [1]);
    voter.finish(q, 2, End::new(Said::Answer("15"))).unwrap();
    let outcome = voter.result(q).unwrap();
    assert_eq!((outcome.winner.as_deref(), outcome.num_cast), (Some("14"), 3));
    // They ended by themselves as far as the vote is concerned.
    assert_eq!(outcome.cost.cancelled, 0);
    replays(&voter, q);
    for (weight, probe) in [("reward", None), ("rpc", None), ("one", Some("temporal"))] {
        let config = VoterConfig {
            finish_on_answer: true,
            weight: weight.into(),
            probe: probe.map(str::to_owned),
            ..plain("majority", 3)
        };
        let error = Voter::new(config).unwrap_err().to_string();
        assert!(error.contains("finish_on_answer"), "{error}");
        assert!(error.contains(probe.unwrap_or(weight)), "{error}");
    }
}

#[test]
fn early_answers_are_provisional_and_stable_ones_finish() {
    let config = VoterConfig { probe: Some("provisional:0.25:3".into()), ..plain("majority", 3) };
    let (mut voter, q) = open(config);
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    for said in ["2", "1", "2", "2"] {
        assert_eq!(voter.probe(q, 1, Said::Answer(said)), Ok(vec![]));
    }
    voter.probe(q, 2, Said::Nothing).unwrap();
    let outcome = voter.result(q).unwrap();
    assert_eq!(outcome.provisional, [("1".to_owned(), 1.0), ("2".to_owned(), 0.25)]);
    assert_eq!((outcome.winner.as_deref(), outcome.num_cast), (Some("1"), 1));
    let actions = voter.probe(q, 1, Said::Answer("2.0")).unwrap();
    assert_eq!(cancelled(&actions), [1]);
    (0..4).for_each(|_| assert_eq!(voter.probe(q, 2, Said::Nothing), Ok(vec![])));
    voter.finish(q, 2, End::new(Said::Answer("2"))).unwrap();
    assert_eq!(voter.result(q).unwrap().winner.as_deref(), Some("2"));
    replays(&voter, q);
}

#[test]
fn a_run_of_denoising_steps_votes_with_their_winner() {
    for (weight, winner) in [("fixed", "1"), ("linear", "2"), ("exponential", "2")] {
        let config = VoterConfig {
            probe: Some(format!("temporal:{weight}")),
            weight: "cisc".into(),
            ..plain("majority", 1)
        };
        let (mut voter, q) = open(config);
        // A A A A A B B B, and what the canvas says last is not asked for.
        for said in ["1", "1", "1", "1", "1", "2", "2", "2"] {
            assert_eq!(voter.probe(q, 0, Said::Answer(said)), Ok(vec![]));
        }
        let end = End { num_tokens: Some(1), ..End::new(Said::Nothing) };
        voter.finish(q, 0, end).unwrap();
        assert_eq!(voter.result(q).unwrap().winner.as_deref(), Some(winner), "{weight}");
        replays(&voter, q);
    }
    // With the number of steps known, a run ends when no step can change its winner.
    let config = VoterConfig { probe: Some("temporal:fixed:8".into()), ..plain("majority", 1) };
    let (mut voter, q) = open(config);
    for step in 0..5 {
        let actions = voter.probe(q, 0, Said::Answer("7")).unwrap();
        assert_eq!(!actions.is_empty(), step == 4);
    }
    assert_eq!(voter.result(q).unwrap().winner.as_deref(), Some("7"));
}

#[test]
fn several_diffusion_samples_vote_by_their_temporal_confidence() {
    let config = VoterConfig {
        probe: Some("temporal:fixed".into()),
        weight: "cisc:0.1".into(),
        ..plain("majority", 3)
    };
    let (mut voter, q) = open(config);
    // A A B B B B B B has confidence .7296; constant steps have 1.
    for (trace, steps) in ["11222222", "12123434", "33333333"].iter().enumerate() {
        for step in steps.chars() {
            voter.probe(q, trace as i64, Said::Answer(&step.to_string())).unwrap();
        }
        let end = End { num_tokens: Some(1), ..End::new(Said::Nothing) };
        voter.finish(q, trace as i64, end).unwrap();
    }
    let outcome = voter.result(q).unwrap();
    assert_eq!(outcome.winner.as_deref(), Some("3"));
    let row = |key: &str| outcome.tally.iter().find(|row| row.key == key).unwrap().weight;
    let ratio = ((0.729_573_958_5f64 - 1.0) / 0.1).exp();
    assert!((row("2") / row("3") - ratio).abs() < 1e-6);
}

#[test]
fn steps_are_rewarded_or_written_again() {
    let config = VoterConfig {
        weight: "reward".into(),
        steps: "min".into(),
        accept: Some(0.7),
        ..plain("majority", 2)
    };
    let (mut voter, q) = open(config);
    assert_eq!(voter.segment(q, 0, 0.9), Ok(vec![]));
    let again = Action::Regenerate { question: q as u64, trace: 0 };
    assert_eq!(voter.segment(q, 0, 0.3), Ok(vec![again]));
    assert_eq!(voter.segment(q, 0, 0.8), Ok(vec![]));
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    // Without a step or a reward there is nothing to weigh.
    assert!(voter.finish(q, 1, End::new(Said::Answer("2"))).is_err());
    let end = End { reward: Some(0.75), ..End::new(Said::Answer("2")) };
    voter.finish(q, 1, end).unwrap();
    let outcome = voter.result(q).unwrap();
    assert_eq!((outcome.winner.as_deref(), outcome.tally[0].weight), (Some("1"), 0.8));
    replays(&voter, q);
}

#[test]
fn uncertain_traces_are_forked_within_the_budget() {
    let config = VoterConfig {
        weight: "leaf".into(),
        fork: Some("entropy:1.5:4:2".into()),
        pool: "fifo".into(),
        slots: Some(1),
        ..plain("majority", 4)
    };
    let mut voter = Voter::new(config).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    voter.launches();
    let mut step = |entropy: f64| {
        let entropies = [entropy];
        voter.tokens(TokenBatch { entropies: &entropies, ..TokenBatch::new(&[q], &[0]) }).unwrap()
    };
    // Constant entropy below the threshold never forks; a full window above it does.
    (0..20).for_each(|_| assert_eq!(step(1.4), []));
    let found: Vec<_> = (0..4).flat_map(|_| step(1.7)).collect();
    let fork = Action::Fork { question: q as u64, trace: 0, first: 1, num: 2 };
    assert_eq!(found, [fork]);
    let found: Vec<_> = (0..4).flat_map(|_| step(1.7)).collect();
    let fork = Action::Fork { question: q as u64, trace: 0, first: 3, num: 1 };
    assert_eq!(found, [fork]);
    (0..40).for_each(|_| assert_eq!(step(9.0), []));
    for trace in 0..4 {
        voter.finish(q, trace, End::new(Said::Answer("1"))).unwrap();
    }
    assert_eq!(voter.result(q).unwrap().cost.tokens, 68);
    replays(&voter, q);
    let fork = || Some("entropy".to_owned());
    for stop in ["beta", "predictive", "best"] {
        let config = VoterConfig { fork: fork(), ..plain(stop, 4) };
        let error = Voter::new(config).unwrap_err().to_string();
        assert!(error.contains("fork") && error.contains(stop), "{error}");
        let config = VoterConfig { fork: fork(), unchecked: true, ..plain(stop, 4) };
        assert!(Voter::new(config).is_ok());
    }
}

#[test]
fn covered_traces_are_cancelled() {
    // The published instance: sets {1,2,3,4}, {3,4,5}, {1,2}, {5,6}, of which 0 and 3 are kept.
    let config = VoterConfig { prune: vec!["cover:0.95:4".into()], ..plain("majority", 4) };
    let (mut voter, q) = open(config);
    let conf = [0.9f64, 0.8, 0.95, 0.5];
    let rows: [&[i64]; 4] = [&[1, 2, 3, 4], &[3, 4, 5, 5], &[1, 2, 1, 2], &[5, 6, 5, 6]];
    let mut actions = Vec::new();
    for at in 0..4 {
        let ids: Vec<i64> = rows.iter().map(|row| row[at]).collect();
        let questions = [q; 4];
        let logprobs: Vec<f64> = conf.iter().map(|c| c.ln()).collect();
        let batch = TokenBatch {
            ids: &ids,
            logprobs: &logprobs,
            ..TokenBatch::new(&questions, &[0, 1, 2, 3])
        };
        actions.extend(voter.tokens(batch).unwrap());
    }
    assert_eq!(cancelled(&actions), [1, 2]);
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    voter.finish(q, 3, End::new(Said::Answer("1"))).unwrap();
    assert_eq!(voter.result(q).unwrap().num_none, 2);
    replays(&voter, q);
    let config = VoterConfig { prune: vec!["cover".into()], ..plain("beta", 4) };
    let error = Voter::new(config).unwrap_err().to_string();
    assert!(error.contains("cover") && error.contains("beta"), "{error}");
}

#[test]
fn spent_tokens_decide_a_question() {
    let (mut voter, q) = open(VoterConfig { max_tokens: Some(10), ..plain("majority", 4) });
    let three = |voter: &mut Voter, trace: i64| {
        voter.tokens(TokenBatch::new(&[q; 3], &[trace; 3])).unwrap()
    };
    assert_eq!(three(&mut voter, 0), []);
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    assert_eq!(three(&mut voter, 1), []);
    assert_eq!(three(&mut voter, 2), []);
    let actions = three(&mut voter, 3);
    assert_eq!(cancelled(&actions), [1, 2, 3]);
    let outcome = voter.result(q).unwrap();
    assert_eq!((outcome.winner.as_deref(), &outcome.stop), (Some("1"), &Some(StopCause::Tokens)));
    assert_eq!((outcome.cost.tokens, outcome.cost.cancelled), (12, 3));
    replays(&voter, q);
}

#[test]
fn rules_joined_by_and_are_named() {
    let mut voter = Voter::new(plain("beta:0.9&least:6", 40)).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    assert_eq!(voter.launches(), [Action::Launch { question: q as u64, first: 0, num: 6 }]);
    (0..6).for_each(|t| drop(voter.finish(q, t, End::new(Said::Answer("1"))).unwrap()));
    let stop = voter.result(q).unwrap().stop.unwrap();
    assert_eq!(stop.to_string(), "rule:beta:0.9&least:6");
    let late = End { reason: Reason::Error, ..End::new(Said::Nothing) };
    assert!(voter.finish(q, 0, late).is_err());
}
