//! Pools: who is launched first, against a slow twin; budgets; ten thousand questions at a time.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use trivium_vote::calibrate::allocate;
use trivium_vote::worth::next_ballot;
use trivium_vote::{Action, End, OpenOptions, Outcome, Said, StopCause, Voter, VoterConfig};

/// What the twin knows of a question.
#[derive(Debug, Clone)]
struct Seen {
    handle: u64,
    turn: usize,
    rank: f64,
    chance: Option<f64>,
    launched: u32,
    running: Vec<u32>,
    done: bool,
}

/// Asks a voter without limits what each question would want by now, from its own answers.
fn wants(
    config: &VoterConfig,
    said: &BTreeMap<(u64, u32), String>,
    seen: &Seen,
    ended: &[u32],
) -> u32 {
    let free = VoterConfig {
        pool: "free".into(),
        slots: None,
        total: None,
        total_tokens: None,
        ..config.clone()
    };
    let mut voter = Voter::new(free).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    let mut launched = 0;
    let mut count = |actions: Vec<Action>| {
        for action in actions {
            if let Action::Launch { num, .. } = action {
                launched += num;
            }
        }
    };
    count(voter.launches());
    // In launch order, as far as the twin's free voter has launched.
    let mut ended = ended.to_vec();
    ended.sort_unstable();
    for trace in ended {
        let answer = End::new(Said::Answer(&said[&(seen.handle, trace)]));
        if let Ok(actions) = voter.finish(q, i64::from(trace), answer) {
            count(actions);
        }
    }
    launched
}

fn next(config: &VoterConfig, questions: &[Seen], voter: &Voter, wanted: &[u32]) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (i, seen) in questions.iter().enumerate() {
        if seen.done || seen.launched >= wanted[i] {
            continue;
        }
        let outcome = voter.result(seen.handle as i64).unwrap();
        let mut counts: Vec<u32> = outcome.tally.iter().map(|row| row.count).collect();
        counts.extend([0, 0]);
        counts.sort_unstable_by(|x, y| y.cmp(x));
        let counted = outcome.cost.samples;
        let key = match config.pool.as_str() {
            "fifo" => 0.0,
            "deadline" => -seen.rank,
            "difficulty" => seen.rank,
            _ => match seen.chance {
                Some(chance) => chance * (1.0 - chance).powi(seen.launched as i32),
                None => next_ballot(
                    counts[0],
                    counts[1],
                    config.budget - counted,
                    seen.launched - counted,
                ),
            },
        };
        if best.is_none_or(|(most, _)| key > most) {
            best = Some((key, i));
        }
    }
    best.map(|(_, i)| i)
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["1", "2", "3", "none"]).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Every launch is the one that the slow twin makes, for any order of finishing.
    #[test]
    fn launches_are_those_of_the_slow_twin(
        pool in prop::sample::select(vec!["fifo", "deadline", "difficulty", "marginal"]),
        stop in prop::sample::select(vec!["majority", "beta:0.9", "locked"]),
        slots in 1u32..6,
        total in prop::option::of(1u64..30),
        ranks in prop::collection::vec((0u32..4, prop::option::weighted(0.3, 0.05f64..0.95)), 1..6),
        answers in prop::collection::vec(names(), 60),
        picks in prop::collection::vec(0usize..60, 60),
    ) {
        let config = VoterConfig {
            pool: pool.into(),
            stop: vec![stop.into()],
            budget: 9,
            slots: Some(slots),
            total,
            ..VoterConfig::default()
        };
        let mut voter = Voter::new(config.clone()).unwrap();
        let mut questions: Vec<Seen> = Vec::new();
        for (turn, (rank, chance)) in ranks.iter().enumerate() {
            let rank = f64::from(*rank);
            let options = OpenOptions {
                deadline: Some(rank),
                difficulty: Some(rank),
                chance: *chance,
                ..OpenOptions::default()
            };
            let handle = voter.open(&format!("q{turn}"), options).unwrap();
            questions.push(Seen {
                handle, turn, rank, chance: *chance, launched: 0, running: Vec::new(), done: false,
            });
        }
        let mut said: BTreeMap<(u64, u32), String> = BTreeMap::new();
        let mut ended: Vec<Vec<u32>> = vec![Vec::new(); questions.len()];
        let mut spent = 0u64;
        let mut actions = voter.launches();
        for step in 0..200 {
            let mut launches: BTreeMap<u64, u32> = BTreeMap::new();
            for action in &actions {
                match action {
                    Action::Launch { question, first, num } => {
                        *launches.entry(*question).or_default() += num;
                        let seen = questions.iter().find(|s| s.handle == *question).unwrap();
                        prop_assert_eq!(*first, seen.launched);
                    }
                    Action::Cancel { question, traces } => {
                        let seen = questions.iter_mut().find(|s| s.handle == *question).unwrap();
                        seen.running.retain(|trace| !traces.contains(trace));
                    }
                    Action::Done { question, .. } => {
                        let seen = questions.iter_mut().find(|s| s.handle == *question).unwrap();
                        seen.done = true;
                        prop_assert!(seen.running.is_empty());
                    }
                    other => panic!("{other:?}"),
                }
            }
            // The twin launches one at a time and scans all questions before each.
            let wanted: Vec<u32> = (questions.iter().zip(&ended))
                .map(|(seen, ended)| wants(&config, &said, seen, ended))
                .collect();
            let mut twin: BTreeMap<u64, u32> = BTreeMap::new();
            loop {
                let flying: usize = questions.iter().map(|seen| seen.running.len()).sum();
                if flying >= slots as usize || total.is_some_and(|total| spent >= total) {
                    break;
                }
                let Some(i) = next(&config, &questions, &voter, &wanted) else { break };
                let seen = &mut questions[i];
                let pick = picks[(step + seen.launched as usize) % picks.len()];
                let answer = answers[(pick + seen.turn) % answers.len()].clone();
                said.insert((seen.handle, seen.launched), answer);
                seen.running.push(seen.launched);
                seen.launched += 1;
                spent += 1;
                *twin.entry(seen.handle).or_default() += 1;
            }
            prop_assert_eq!(&launches, &twin, "{:?}", actions);
            let flying: Vec<(usize, u32)> = (questions.iter().enumerate())
                .flat_map(|(i, seen)| seen.running.iter().map(move |&t| (i, t)))
                .collect();
            if flying.is_empty() {
                break;
            }
            let (i, trace) = flying[picks[step % picks.len()] % flying.len()];
            let seen = &mut questions[i];
            seen.running.retain(|&t| t != trace);
            ended[i].push(trace);
            let answer = End::new(Said::Answer(&said[&(seen.handle, trace)]));
            actions = voter.finish(seen.handle as i64, i64::from(trace), answer).unwrap();
        }
        // Nothing waits in vain, and every log replays without the others.
        for seen in &questions {
            let outcome = voter.result(seen.handle as i64).unwrap();
            prop_assert!(outcome.stop.is_some(), "{outcome:?}");
            prop_assert!(outcome.stop != Some(StopCause::Pool) || total.is_some());
            let log = voter.log(seen.handle as i64).unwrap();
            prop_assert_eq!(Voter::replay(&log).unwrap(), outcome);
        }
    }
}

fn of(config: VoterConfig) -> Voter {
    Voter::new(config).unwrap()
}

#[test]
fn a_shared_budget_goes_where_it_is_published_to_go() {
    let chances = [0.9, 0.5, 0.1, 0.02];
    for budget in [1, 10, 25] {
        let mut voter = of(VoterConfig {
            pool: "marginal".into(),
            total: Some(u64::from(budget)),
            stop: vec!["majority".into()],
            bare: true,
            ..VoterConfig::default()
        });
        let handles: Vec<u64> = chances
            .iter()
            .map(|&chance| {
                let options = OpenOptions { chance: Some(chance), ..OpenOptions::default() };
                voter.open(&chance.to_string(), options).unwrap()
            })
            .collect();
        let mut found = vec![0; 4];
        for action in voter.launches() {
            // What is left without a trace is closed at once.
            let Action::Launch { question, num, .. } = action else { continue };
            found[handles.iter().position(|h| *h == question).unwrap()] += num;
        }
        assert_eq!(found, allocate(&chances, budget));
        assert!(budget != 10 || found == [2, 3, 5, 0]);
    }
}

#[test]
fn spent_pools_and_passed_deadlines_close_questions() {
    let mut voter = of(VoterConfig {
        pool: "fifo".into(),
        total: Some(5),
        stop: vec!["majority".into()],
        bare: true,
        budget: 4,
        ..VoterConfig::default()
    });
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    let r = voter.open("r", OpenOptions::default()).unwrap() as i64;
    let late = OpenOptions { deadline: Some(7.0), ..OpenOptions::default() };
    let s = voter.open("s", late).unwrap() as i64;
    let launched: u32 = (voter.launches().iter())
        .filter_map(|action| match action {
            Action::Launch { num, .. } => Some(*num),
            _ => None,
        })
        .sum();
    assert_eq!(launched, 5);
    // The budget is spent and `s` has nothing in flight.
    assert_eq!(voter.result(s).unwrap().stop, Some(StopCause::Pool));
    let done = voter.finish(r, 0, End::new(Said::Answer("8"))).unwrap();
    let [Action::Done { outcome, .. }] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((outcome.winner.as_deref(), &outcome.stop), (Some("8"), &Some(StopCause::Pool)));
    (0..4).for_each(|t| drop(voter.finish(q, t, End::new(Said::Answer("9"))).unwrap()));
    assert_eq!(voter.result(q).unwrap().stop, Some(StopCause::Budget));

    let mut voter = of(VoterConfig::default());
    let q = voter.open("q", late).unwrap() as i64;
    voter.launches();
    voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
    assert_eq!(voter.expire(6.9), Ok(vec![]));
    assert!(voter.expire(f64::NAN).is_err());
    let done = voter.expire(7.0).unwrap();
    assert_eq!(done.len(), 2);
    let outcome = voter.result(q).unwrap();
    assert_eq!((outcome.winner.as_deref(), &outcome.stop), (Some("1"), &Some(StopCause::Deadline)));
    assert_eq!(Voter::replay(&voter.log(q).unwrap()), Ok(outcome));
}

#[test]
fn what_a_pool_cannot_be_is_refused() {
    for (change, what) in [
        (VoterConfig { pool: "lifo".into(), ..VoterConfig::default() }, "fifo"),
        (VoterConfig { slots: Some(8), ..VoterConfig::default() }, "free"),
        (VoterConfig { slots: Some(0), pool: "fifo".into(), ..VoterConfig::default() }, "slots"),
        (VoterConfig { total: Some(0), pool: "fifo".into(), ..VoterConfig::default() }, "total"),
        (VoterConfig { max_tokens: Some(0), ..VoterConfig::default() }, "max_tokens"),
    ] {
        let error = Voter::new(change).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let mut voter = of(VoterConfig::default());
    for options in [
        OpenOptions { deadline: Some(f64::NAN), ..OpenOptions::default() },
        OpenOptions { difficulty: Some(f64::INFINITY), ..OpenOptions::default() },
        OpenOptions { chance: Some(1.5), ..OpenOptions::default() },
        OpenOptions { max_tokens: Some(0), ..OpenOptions::default() },
    ] {
        assert!(voter.open("q", options).is_err());
    }
    assert!(voter.is_empty());
}

#[test]
fn hard_questions_begin_with_what_their_like_needed() {
    let mut voter = of(VoterConfig {
        pool: "difficulty".into(),
        slots: Some(64),
        stop: vec!["beta:0.95".into()],
        ..VoterConfig::default()
    });
    let run = |voter: &mut Voter, name: String, hard: bool| -> u32 {
        let difficulty = Some(if hard { 0.9 } else { 0.1 });
        let q = voter.open(&name, OpenOptions { difficulty, ..OpenOptions::default() }).unwrap();
        let mut actions = voter.launches();
        let mut wave = 0;
        let mut queue = Vec::new();
        while voter.result(q as i64).unwrap().stop.is_none() {
            for action in actions.drain(..) {
                if let Action::Launch { first, num, .. } = action {
                    wave = if wave == 0 { num } else { wave };
                    queue.extend(first..first + num);
                }
            }
            let trace = queue.remove(0);
            // Hard questions split two to one.
            let answer = if hard && trace % 3 == 0 { "2" } else { "1" };
            let end = End::new(Said::Answer(answer));
            actions = voter.finish(q as i64, i64::from(trace), end).unwrap();
        }
        wave
    };
    assert_eq!(run(&mut voter, "first".into(), true), 4);
    for i in 0..40 {
        run(&mut voter, format!("q{i}"), i % 2 == 0);
    }
    assert_eq!(run(&mut voter, "easy".into(), false), 4);
    assert!(run(&mut voter, "hard".into(), true) > 12);
}

#[test]
fn forgotten_questions_leave_nothing_behind() {
    for pool in ["free", "deadline", "marginal"] {
        let slots = (pool != "free").then_some(8);
        let mut voter = of(VoterConfig { pool: pool.into(), slots, ..VoterConfig::default() });
        let mut most = 0;
        for i in 0..5000 {
            let options = OpenOptions { deadline: Some(f64::from(i)), ..OpenOptions::default() };
            let q = voter.open(&format!("q{i}"), options).unwrap() as i64;
            // Slots of forgotten questions are free again.
            assert!(!voter.launches().is_empty());
            voter.finish(q, 0, End::new(Said::Answer("1"))).unwrap();
            voter.forget(q).unwrap();
            most = most.max(voter.memory());
        }
        assert!(most < 64 * 1024, "{pool}: {most} bytes");
    }
}

/// Opens questions, casts ballots over them at random, and returns the bytes held by a question.
fn crowd(questions: usize, ballots: usize, log: bool) -> (Voter, f64) {
    let mut voter = of(VoterConfig {
        key: "text".into(),
        stop: vec!["majority".into()],
        budget: 400,
        bare: true,
        log,
        ..VoterConfig::default()
    });
    let handles: Vec<i64> = (0..questions)
        .map(|i| voter.open(&format!("q{i}"), OpenOptions::default()).unwrap() as i64)
        .collect();
    voter.launches();
    let mut state = 88_172_645_463_325_252u64;
    let mut next = vec![0i64; questions];
    for _ in 0..ballots {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let i = state as usize % questions;
        if next[i] < 400 {
            let answer = ["14", "15", "7/2"][(state >> 40) as usize % 3];
            voter.finish(handles[i], next[i], End::new(Said::Answer(answer))).unwrap();
            next[i] += 1;
        }
    }
    let each = voter.memory() as f64 / questions as f64;
    for i in (0..questions).step_by(questions / 7) {
        let outcome: Outcome = voter.result(handles[i]).unwrap();
        assert_eq!(i64::from(outcome.num_cast), next[i]);
    }
    (voter, each)
}

#[test]
fn a_plain_question_stays_small() {
    let (_, each) = crowd(1000, 20_000, false);
    assert!(each < 280.0, "{each} bytes a question");
    let (voter, logged) = crowd(500, 10_000, true);
    assert!(logged < 280.0 + 32.0 + 20.0 * 8.0, "{logged} bytes a question");
    let handle = voter.handles().next().unwrap() as i64;
    assert_eq!(Voter::replay(&voter.log(handle).unwrap()), voter.result(handle));
    let (voter, _) = crowd(7, 10, false);
    assert!(voter.log(0).is_err());
}

/// `cargo test --release -p trivium-vote --test pools -- --ignored --nocapture`
#[test]
#[ignore = "a million ballots; seconds with optimisation"]
fn ten_thousand_questions_and_a_million_ballots() {
    for log in [false, true] {
        let start = std::time::Instant::now();
        let (_, each) = crowd(10_000, 1_000_000, log);
        let seconds = start.elapsed().as_secs_f64();
        #[allow(clippy::print_stdout, reason = "a figure to read")]
        {
            println!("log {log}: {each:.0} bytes a question, {:.0} ns a ballot", seconds * 1e3);
        }
        assert!(log || each < 280.0, "{each}");
    }
}
