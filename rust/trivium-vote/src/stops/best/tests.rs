use super::law::laws;
use super::*;
use proptest::prelude::*;

fn tally(keys: &[u32]) -> Tally {
    let mut tally = Tally::default();
    keys.iter().for_each(|&key| tally.cast(key));
    tally
}

#[test]
fn it_contains_the_tie_aware_lock() {
    for shares in [&[][..], &[0, 16], &[3, 0, 5, 8]] {
        let table = BestTable::shared(shares);
        for (state, counts) in laws().states.iter().enumerate().skip(1) {
            let [a, b, ..] = counts.map(u32::from);
            let size = laws().size(state) as u32;
            for rest in 0..=MAX_BUDGET - size {
                for older in [false, true] {
                    let locked = a - b > rest || (a - b == rest && older);
                    assert!(!locked || table.at(state, rest, older), "{counts:?} {rest}");
                }
            }
        }
    }
}

#[test]
fn steps_are_a_law() {
    let law = laws().mix(&[]);
    for (state, steps) in laws().steps(&law).iter().enumerate() {
        let sum: f64 = steps.iter().map(|step| step.probability).sum();
        let full = laws().size(state) == MAX_BUDGET as usize;
        assert!(if full { steps.is_empty() } else { (sum - 1.0).abs() < 1e-9 }, "{state}: {sum}");
    }
}

#[test]
fn a_pool_learns_what_kind_of_questions_it_has() {
    // Two answers a question, often nearly even: three equal ballots say little.
    let (mut split, mut sure) = (Known::default(), Known::default());
    assert!(split.shares().is_empty());
    for i in 0..40u32 {
        split.observe(&tally(&[0, 1, 0, 1, 1, 0, 0, i % 2]));
        sure.observe(&tally(&[0, 0, 0, 0]));
    }
    let looks = |known: &Known| {
        let rule = Best::new(40).knowing(&known.shares());
        (1..40).find(|&num| rule.stops(&tally(&vec![0; num]), 40 - num as u32))
    };
    assert!(looks(&sure) < looks(&Known::default()), "{:?}", looks(&sure));
    assert!(looks(&Known::default()) < looks(&split), "{:?}", looks(&split));
    // Scores are whole numbers: between two looks the order of ends does not matter.
    let mut other = Known::default();
    for i in [1, 0].into_iter().chain(2..40) {
        other.observe(&tally(&[0, 1, 0, 1, 1, 0, 0, i % 2]));
    }
    assert_eq!(other, split);
    assert_eq!(Known::from_list(&split.to_list()), split);
    assert_eq!(Known::from_list(&[1, 2]), Known::default());
    let total: u32 = split.shares().iter().map(|&share| u32::from(share)).sum();
    assert_eq!(total, 8);
}

#[test]
fn logs_hold_what_the_pool_knew() {
    use crate::keys::Said;
    use crate::pool::{OpenOptions, Voter};
    use crate::question::End;
    use crate::spec::VoterConfig;
    let stop = vec!["best".to_owned()];
    let config = VoterConfig { key: "text".to_owned(), stop, budget: 40, ..VoterConfig::default() };
    let mut pool = Voter::new(config).unwrap();
    let mut used = Vec::new();
    for i in 0..12 {
        let question = pool.open(&format!("q{i}"), OpenOptions::default()).unwrap() as i64;
        pool.launches();
        for trace in 0..40 {
            if pool.running(question, trace).is_err()
                || pool.result(question).unwrap().stop.is_some()
            {
                break;
            }
            pool.finish(question, trace, End::new(Said::Answer("7"))).unwrap();
        }
        let result = pool.result(question).unwrap();
        assert!(result.stop.is_some());
        assert_eq!(Voter::replay(&pool.log(question).unwrap()).unwrap(), result, "question {i}");
        used.push(result.cost.samples);
    }
    assert!(used[11] < used[0], "{used:?}");
}

/// Probability of a sequence with these counts under one component, from the definition.
fn slow(counts: &[usize], q: f64, d: f64, t: f64) -> f64 {
    let rising =
        |x: f64, step: f64, num: usize| -> f64 { (0..num).map(|i| x + step * i as f64).product() };
    let rest = |counts: &[usize]| -> f64 {
        let keys: f64 = counts.iter().map(|&c| rising(1.0 - d, 1.0, c - 1)).product();
        keys * rising(t, d, counts.len()) / rising(t, 1.0, counts.iter().sum())
    };
    let n: usize = counts.iter().sum();
    let mut sum = (1.0 - q).powi(n as i32) * rest(counts);
    for (i, &c) in counts.iter().enumerate() {
        let beside: Vec<usize> = [&counts[..i], &counts[i + 1..]].concat();
        sum += q.powi(c as i32) * (1.0 - q).powi((n - c) as i32) * rest(&beside);
    }
    sum
}

/// All partitions of `o` ballots into keys of at most `cap`, with how many ways there are.
fn partitions(o: usize, cap: usize) -> Vec<(Vec<usize>, f64)> {
    if o == 0 {
        return vec![(Vec::new(), 1.0)];
    }
    let mut all = Vec::new();
    for c in 1..=cap.min(o) {
        let ways: f64 = (1..c).map(|i| (o - i) as f64 / i as f64).product();
        for (keys, more) in partitions(o - c, cap) {
            all.push(([&[c], &keys[..]].concat(), ways * more));
        }
    }
    all
}

#[test]
fn lumped_states_sum_over_partitions() {
    for (state, counts) in laws().states.iter().enumerate() {
        let [a, b, c, o] = counts.map(usize::from);
        if a == 0 || a + b + c + o > 9 {
            continue;
        }
        let named: Vec<usize> = [a, b, c].into_iter().filter(|&x| x > 0).collect();
        for (kind, logs) in laws().logs(state).enumerate() {
            let weights = law::weights(kind);
            let mut sum = 0.0;
            for (others, ways) in partitions(o, c) {
                let keys = [&named[..], &others].concat();
                for (&[q, d, t], w) in law::components().iter().zip(&weights) {
                    sum += ways * w * slow(&keys, q, d, t);
                }
            }
            assert!((sum.ln() - logs).abs() < 1e-9, "{counts:?} type {kind}: {sum}");
        }
    }
}

/// Least price of a plan from here: every plan that ends after `rest` traces at most is tried.
fn least(law: &law::Law, state: usize, older: usize, rest: u32) -> f64 {
    fn win(law: &law::Law, state: usize, older: usize, rest: u32, role: Option<usize>) -> f64 {
        let Some(role) = role else { return 0.0 };
        if rest == 0 {
            return if role == 0 { 1.0 } else { 0.0 };
        }
        let stays = law.none * win(law, state, older, rest - 1, Some(role));
        let goes = laws().steps_of(law, state).into_iter().map(|go| {
            let then = go.role[older][role];
            go.probability * win(law, go.state, go.older[older], rest - 1, then)
        });
        stays + (1.0 - law.none) * goes.sum::<f64>()
    }
    if rest == 0 {
        return 0.0;
    }
    let stop = PRICE * (1.0 - win(law, state, older, rest, Some(0)));
    let stays = law.none * least(law, state, older, rest - 1);
    let goes = laws().steps_of(law, state).into_iter();
    let goes = goes.map(|go| go.probability * least(law, go.state, go.older[older], rest - 1));
    stop.min(1.0 + stays + (1.0 - law.none) * goes.sum::<f64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The table stops exactly where the recursion without a table does.
    #[test]
    fn tables_are_optimal_plans(
        keys in prop::collection::vec(0u32..3, 1..12),
        rest in 1u32..5,
        older in 0usize..2,
        shares in prop::collection::vec(0u8..9, 3),
    ) {
        prop_assume!(shares.iter().any(|&share| share > 0));
        let law = laws().mix(&shares);
        let at = state(&tally(&keys)).unwrap();
        let table = BestTable::shared(&shares);
        let value = least(&law, at, older, rest);
        // At the last stop both prices may be equal.
        let goes_on = {
            let stays = law.none * least(&law, at, older, rest - 1);
            let goes = laws().steps_of(&law, at).into_iter();
            let goes = goes.map(|go| {
                go.probability * least(&law, go.state, go.older[older], rest - 1)
            });
            1.0 + stays + (1.0 - law.none) * goes.sum::<f64>()
        };
        if table.at(at, rest, older == 1) {
            prop_assert!(value <= goes_on + 1e-9);
        } else {
            prop_assert!((value - goes_on).abs() < 1e-9);
        }
    }
}
