//! The law of answers behind `best`: mixtures of a main answer and a Pitman-Yor law of the rest.
//!
//! A component `(q, d, t)` says: with probability `q` a ballot is for one main answer, else it
//! follows the Pitman-Yor law of discount `d` and strength `t` (Pitman and Yor, "The two-parameter
//! Poisson-Dirichlet distribution derived from a stable subordinator"); which key is the main one is
//! not known and summed over. A type is a mixture of components, a pool's law a mixture of types,
//! fitted by expectation-maximisation to full votes (`benches/stop_best.py`, which is also the slow
//! twin of this file).
//!
//! States lump the keys behind the third. The probability `M(a, b, c, o)` of a sequence of ballots
//! with named keys of counts `a, b, c` and `o` ballots for others, none of which has more than `c`, is
//! exact: the weight of all partitions of `o` ballots into keys of at most `c` is `o!` times the
//! coefficient of `x^o` in `(1 - d f)^(-t/d)`, `f = sum_{i <= c} (1-d)...(i-1-d) x^i / i!`. Ratios of
//! `M` are the chances of the next ballot.

use super::MAX_BUDGET;
use std::sync::OnceLock;

const N: usize = MAX_BUDGET as usize;
/// Shares of the main answer.
const MAINS: [f64; 13] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98, 1.0];
/// Discount and strength of the rest; the first is one single other answer.
const RESTS: [(f64, f64); 3] = [(-1.0, 1.0), (0.3, 1.0), (0.6, 8.0)];
/// Rate of abstentions and weights of the components, a line a type, in parts per 10,000.
const TYPES: &str = include_str!("types.txt");

/// Where a ballot leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) probability: f64,
    pub(super) state: usize,
    /// Whether the leader is the older of the first two afterwards, by whether it is before.
    pub(super) older: [usize; 2],
    /// What becomes of the leader and of the second, by the same: leader (0), second (1), or neither.
    pub(super) role: [[Option<usize>; 2]; 2],
}

/// The law of one mixture of types: per state the probabilities `M`.
pub(super) struct Law {
    /// Rate of abstentions.
    pub(super) none: f64,
    here: Vec<[f64; 4]>,
}

/// States, and their probabilities under all types.
pub(super) struct Laws {
    /// Counts of the leader, the second, the third, and of all others together.
    pub(super) states: Vec<[u8; 4]>,
    /// First state by the three counts.
    base: Vec<u32>,
    rates: Vec<f64>,
    /// `[state][type]`: `M` of the state; with one ballot more for the second, and for the third; and
    /// with one more for some other key that had as many as the third.
    here: Vec<[f64; 4]>,
}

/// The laws of all types, computed once.
pub(super) fn laws() -> &'static Laws {
    static LAWS: OnceLock<Laws> = OnceLock::new();
    LAWS.get_or_init(Laws::new)
}

/// By type: the rate of abstentions, then a weight a component.
fn rows() -> Vec<Vec<f64>> {
    let part = |word: &str| word.parse::<f64>().unwrap_or(0.0) / 10_000.0;
    let lines = TYPES.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().map(part).collect()).collect()
}

/// Weights of the components of a type.
#[cfg(test)]
pub(super) fn weights(kind: usize) -> Vec<f64> {
    rows()[kind][1..].to_vec()
}

fn place([a, b, c]: [usize; 3]) -> usize {
    a * (a + 1) * (a + 2) / 6 + b * (b + 1) / 2 + c
}

impl Laws {
    fn new() -> Self {
        let mut states = Vec::new();
        let mut base = vec![0; place([N, N, N]) + 1];
        for a in 0..=N {
            for b in 0..=a.min(N - a) {
                for c in 0..=b.min(N - a - b) {
                    base[place([a, b, c])] = states.len() as u32;
                    let most = if c > 0 { N - a - b - c } else { 0 };
                    states.extend((0..=most).map(|o| [a, b, c, o].map(|x| x as u8)));
                }
            }
        }
        let rows = rows();
        let rates = rows.iter().map(|row| row[0]).collect();
        let mut here = vec![[0.0; 4]; states.len() * rows.len()];
        for (k, component) in components().into_iter().enumerate() {
            let tables = Tables::new(component);
            for (state, counts) in states.iter().enumerate() {
                let value = tables.state(counts.map(usize::from));
                for (row, out) in rows.iter().zip(&mut here[state * rows.len()..]) {
                    let weight = row.get(k + 1).copied().unwrap_or(0.0);
                    out.iter_mut().zip(value).for_each(|(out, x)| *out += weight * x);
                }
            }
        }
        Self { states, base, rates, here }
    }

    pub(super) fn num_types(&self) -> usize {
        self.rates.len()
    }

    /// Rates of abstentions by type.
    pub(super) fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// Log-probability of a state by type.
    pub(super) fn logs(&self, state: usize) -> impl Iterator<Item = f64> {
        let num = self.num_types();
        self.here[state * num..][..num].iter().map(|m| m[0].max(1e-300).ln())
    }

    /// The state of counts in descending order, the last of them those of all others.
    pub(super) fn index(&self, [a, b, c, o]: [usize; 4]) -> usize {
        self.base[place([a, b, c])] as usize + o
    }

    /// Number of ballots.
    pub(super) fn size(&self, state: usize) -> usize {
        self.states[state].iter().map(|&x| usize::from(x)).sum()
    }

    /// The mixture of types with these weights, equal ones if there are none.
    pub(super) fn mix(&self, shares: &[u8]) -> Law {
        let num = self.num_types();
        let mut weights: Vec<f64> = shares.iter().map(|&x| f64::from(x)).collect();
        weights.resize(num, if shares.is_empty() { 1.0 } else { 0.0 });
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total.max(1e-300));
        let none = weights.iter().zip(&self.rates).map(|(w, rate)| w * rate).sum();
        let here = (self.here.chunks(num).map(|types| {
            let mut sum = [0.0; 4];
            for (values, w) in types.iter().zip(&weights) {
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += w * value);
            }
            sum
        }))
        .collect();
        Law { none, here }
    }

    /// States after one ballot more for the leader, the second, the third, and any other key; none
    /// where there is no such key or the budget is full.
    pub(super) fn targets(&self, state: usize) -> [Option<usize>; 4] {
        if self.size(state) >= N {
            return [None; 4];
        }
        let [a, b, c, o] = self.states[state].map(usize::from);
        let to = |mut counts: [usize; 3], others: usize| {
            counts.sort_unstable_by(|x, y| y.cmp(x));
            Some(self.index([counts[0], counts[1], counts[2], others]))
        };
        let new = match (a, b, c) {
            (0, ..) => None,
            (_, 0, _) => to([a, 1, 0], 0),
            (_, _, 0) => to([a, b, 1], 0),
            _ => to([a, b, c], o + 1),
        };
        [
            to([a + 1, b, c], o),
            (b > 0).then(|| to([a, b + 1, c], o)).flatten(),
            (c > 0).then(|| to([a, b, c + 1], o)).flatten(),
            new,
        ]
    }

    /// What a ballot does in each state.
    pub(super) fn steps(&self, law: &Law) -> Vec<Vec<Step>> {
        (0..self.states.len()).map(|state| self.steps_of(law, state)).collect()
    }

    pub(super) fn steps_of(&self, law: &Law, state: usize) -> Vec<Step> {
        let [a, b, c, _] = self.states[state];
        let [lead, second, third, new] = self.targets(state);
        let Some(lead) = lead else { return Vec::new() };
        let [here, more_second, more_third, more_level] = law.here[state];
        let ratio = |x: f64, room: f64| if here > 0.0 { (x / here).clamp(0.0, room) } else { 0.0 };
        let leads = match (a, here > 0.0) {
            (0, _) | (_, false) => 1.0,
            _ => ratio(law.here[lead][0], 1.0),
        };
        let seconds = if b == 0 {
            0.0
        } else if a == b {
            leads
        } else {
            ratio(more_second, 1.0)
        };
        let seconds = seconds.min(1.0 - leads);
        let thirds = if c == 0 {
            0.0
        } else if b == c {
            seconds
        } else {
            ratio(more_third, 1.0)
        };
        let thirds = thirds.min(1.0 - leads - seconds);
        let levels = if c == 0 { 0.0 } else { ratio(more_level, 1.0 - leads - seconds - thirds) };
        let rest = (1.0 - leads - seconds - thirds - levels).max(0.0);

        let (tied, near) = (a == b, b + 1 == a);
        let kept = [[Some(0), Some(1)]; 2];
        // Against the leader it meets, the older key wins the tie; tied keys are younger than it.
        let (older, role) = match (tied, near) {
            (true, _) => ([0, 0], [[Some(1), Some(0)]; 2]),
            (_, true) => ([1, 1], [[Some(1), Some(0)], [Some(0), Some(1)]]),
            _ => ([0, 1], kept),
        };
        let after_lead = if tied || b == 0 { [1, 1] } else { [0, 1] };
        let after_new = if b == 0 { [1, 1] } else { [0, 1] };
        let mut steps =
            vec![Step { probability: leads, state: lead, older: after_lead, role: kept }];
        if let Some(state) = second {
            steps.push(Step { probability: seconds, state, older, role });
        }
        if let Some(state) = third {
            let (older, role) = if c < b {
                ([0, 1], kept)
            } else {
                // The key that goes past the second takes its place; the second is out of the race.
                (older, role.map(|[first, _]| [first, None]))
            };
            steps.push(Step { probability: thirds + levels, state, older, role });
        }
        if let Some(state) = new {
            let role = if b == 0 { [[Some(0), None]; 2] } else { kept };
            steps.push(Step { probability: rest, state, older: after_new, role });
        }
        steps
    }
}

/// `(q, d, t)` of each component.
pub(super) fn components() -> Vec<[f64; 3]> {
    let all = RESTS.into_iter().flat_map(|(d, t)| MAINS.map(|q| [q, d, t]));
    // One other answer needs a main one, and all laws of the rest are the same beside a sole answer.
    all.filter(|&[q, d, t]| if t + d > 0.0 { q < 1.0 } else { q > 0.0 }).collect()
}

/// Factors of a component's probabilities.
struct Tables {
    d: f64,
    t: f64,
    /// Powers of `q` and `1 - q`.
    main: [Vec<f64>; 2],
    /// `t (t + d) ...`, by number of keys.
    strength: Vec<f64>,
    /// `t (t + 1) ...`, by number of ballots.
    total: Vec<f64>,
    /// `(1 - d) (2 - d) ...` of a key, by its ballots.
    key: Vec<f64>,
    /// By number of named keys, cap and ballots: weight of all partitions.
    others: Vec<Vec<Vec<f64>>>,
    factorial: Vec<f64>,
}

impl Tables {
    fn new([q, d, t]: [f64; 3]) -> Self {
        let products = |first: f64, step: f64, num: usize| {
            let factors = (0..num).map(|i| first + step * i as f64);
            let running = factors.scan(1.0, |product, factor| {
                *product *= factor;
                Some(*product)
            });
            std::iter::once(1.0).chain(running).collect::<Vec<f64>>()
        };
        let mut key = vec![1.0];
        key.extend(products(1.0 - d, 1.0, N));
        let factorial = products(1.0, 1.0, N + 1);
        let others = (0..=4)
            .map(|named| {
                let strength = t + f64::from(named) * d;
                (0..=N / 3).map(|cap| partitions(strength, d, cap, &key, &factorial)).collect()
            })
            .collect();
        Self {
            d,
            t,
            main: [q, 1.0 - q].map(|x| products(x, 0.0, N + 1)),
            strength: products(t, d, 4),
            total: products(t, 1.0, N + 1),
            key,
            others,
            factorial,
        }
    }

    /// Probability of one sequence with named keys of these counts (0: none) and `o` ballots for
    /// others of at most `cap` each.
    fn probability(&self, keys: [usize; 3], o: usize, cap: usize) -> f64 {
        let n = keys.iter().sum::<usize>() + o;
        if n == 0 {
            return 1.0;
        }
        let named = keys.iter().filter(|&&c| c > 0).count();
        let [main, rest] = &self.main;
        let blocks = |skip: usize| -> f64 {
            (0..3).filter(|&i| i != skip).map(|i| self.key[keys[i]]).product()
        };
        // The main answer has not been seen.
        let all = self.strength[named] * blocks(3);
        let mut sum = rest[n] * all * self.others[named][cap][o] / self.total[n];
        if main[1] == 0.0 {
            return sum;
        }
        // It is a named key.
        for (i, &c) in keys.iter().enumerate().filter(|&(_, &c)| c > 0) {
            let beside = self.strength[named - 1] * blocks(i) * self.others[named - 1][cap][o];
            sum += main[c] * rest[n - c] * beside / self.total[n - c];
        }
        // It is another key.
        for c in 1..=cap.min(o) {
            let choose = self.factorial[o] / (self.factorial[c] * self.factorial[o - c]);
            let beside = choose * all * self.others[named][cap][o - c];
            sum += main[c] * rest[n - c] * beside / self.total[n - c];
        }
        sum
    }

    /// The four probabilities of a state, see [`Laws`].
    fn state(&self, [a, b, c, o]: [usize; 4]) -> [f64; 4] {
        let here = self.probability([a, b, c], o, c);
        if a + b + c + o >= N || b == 0 {
            return [here, 0.0, 0.0, 0.0];
        }
        let second = self.probability([a, b + 1, c], o, c);
        if c == 0 {
            return [here, second, 0.0, 0.0];
        }
        let third = self.probability([a, b, c + 1], o, c);
        // How many others have c ballots, the main answer taken not to be among them.
        let mut level = 0.0;
        if o >= c && self.others[3][c][o] > 0.0 {
            let ways = self.factorial[o] / (self.factorial[c] * self.factorial[o - c]);
            let weight = (self.t + 3.0 * self.d) * self.key[c] * self.others[4][c][o - c];
            level = ways * weight / self.others[3][c][o];
        }
        [here, second, third, third * level]
    }
}

/// Weight of all partitions of `o` ballots into keys of at most `cap`, by `o`, in a Pitman-Yor law of
/// this strength: from `g' (1 - d f) = t f' g` for `g = (1 - d f)^(-t/d)`.
fn partitions(strength: f64, d: f64, cap: usize, key: &[f64], factorial: &[f64]) -> Vec<f64> {
    let mut g = vec![1.0];
    for o in 1..=N {
        let terms = (1..=cap.min(o)).map(|c| {
            let both = strength * c as f64 + d * (o - c) as f64;
            key[c] / factorial[c] * g[o - c] * both
        });
        g.push(terms.sum::<f64>() / o as f64);
    }
    g.iter().zip(factorial).map(|(g, factorial)| g * factorial).collect()
}
