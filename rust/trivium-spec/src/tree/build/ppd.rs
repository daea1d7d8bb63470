//! PPD: trees of candidates and prompt tokens, one shape a state.
//!
//! ```text
//! state k        k guess rows are at hand: candidates reach k levels deep
//! candidates     the best tree by the table accuracy[distance][rank]
//! prompt tokens  m_v behind node v, at most M; if v is the last accepted node the next state is m_v
//! removal        take away the prompt token whose loss last(v) (f(m) - f(m - 1)) is least, until the
//!                size fits; f(m) = expected tokens of a step with m rows
//! chain          P[k][m] = Σ of last(v) over nodes of state k with m prompt tokens
//! value          R = Σ π_k v_k with π P = π;  size n maximises R(n) / t(n)
//! ```
//!
//! "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM Inference".
//! `last(v) = value(v) (1 - Σ accuracy of its children)` is the probability that v is the last
//! accepted node; weighing by the cumulative accuracy instead would count prompt tokens of nodes that
//! were passed. Candidates are point masses and the shape is fixed by the state.

use super::template::probability;
use super::{Template, budget};
use trivium_core::error::{Error, Result};

/// The tree of one state.
#[derive(Debug, Clone, PartialEq)]
pub struct PpdState {
    /// Candidates.
    pub template: Template,
    /// Prompt tokens behind each node.
    pub prompts: Vec<usize>,
    /// Expected tokens of a step in this state.
    pub expected: f64,
    /// Probability of each next state, by number of guess rows.
    pub next: Vec<f64>,
}

impl PpdState {
    /// Tokens of the forward pass: nodes and prompt tokens.
    pub fn size(&self) -> usize {
        self.template.len() + self.prompts.iter().sum::<usize>()
    }
}

/// The trees of all states, for one size.
#[derive(Debug, Clone, PartialEq)]
pub struct PpdTables {
    /// By number of guess rows at hand.
    pub states: Vec<PpdState>,
    /// Share of steps in each state in the long run.
    pub stationary: Vec<f64>,
    /// Expected tokens of a step in the long run.
    pub expected: f64,
}

/// Probability that each node is the last accepted one.
fn last_accepted(template: &Template, values: &[f64]) -> Vec<f64> {
    let mut out = values.to_vec();
    for (n, &p) in template.parents().iter().enumerate().skip(1) {
        out[p as usize] -= values[n];
    }
    // Tables are measured: rows may add up to a little more than 1.
    out.iter().map(|x| x.max(0.0)).collect()
}

/// Takes prompt tokens away from `full` a node until `room` are left; `gain[m]` is what `m` prompt
/// tokens are worth.
fn attach(last: &[f64], gain: &[f64], full: usize, room: usize) -> Vec<usize> {
    let mut prompts = vec![full; last.len()];
    let mut total = full * last.len();
    while total > room {
        let loss = |v: usize| last[v] * (gain[prompts[v]] - gain[prompts[v] - 1]);
        // The latest node on ties, so that the ones near the root keep theirs.
        let worst = (0..last.len()).filter(|&v| prompts[v] > 0).fold(None, |best, v| match best {
            Some(b) if loss(b) < loss(v) => Some(b),
            _ => Some(v),
        });
        let Some(v) = worst else { break };
        prompts[v] -= 1;
        total -= 1;
    }
    prompts
}

/// The stationary law of a chain, by solving `π (P - I) = 0, Σ π = 1`; the least-norm choice where
/// there are several is never needed, because state 0 is reached from everywhere or not at all.
pub fn stationary(chain: &[Vec<f64>]) -> Vec<f64> {
    let n = chain.len();
    // Rows of the system: columns of P - I, the last one replaced by the sum.
    let mut a: Vec<Vec<f64>> = (0..n)
        .map(|j| {
            let mut row: Vec<f64> = (0..n)
                .map(|i| if j + 1 == n { 1.0 } else { chain[i][j] - f64::from(u8::from(i == j)) })
                .collect();
            row.push(f64::from(u8::from(j + 1 == n)));
            row
        })
        .collect();
    for c in 0..n {
        let pivot = (c..n).fold(c, |b, r| if a[r][c].abs() > a[b][c].abs() { r } else { b });
        a.swap(c, pivot);
        if a[c][c].abs() < 1e-300 {
            continue;
        }
        let top = a[c].clone();
        for (r, row) in a.iter_mut().enumerate() {
            if r != c {
                let f = row[c] / top[c];
                row.iter_mut().zip(&top).for_each(|(x, t)| *x -= f * t);
            }
        }
    }
    let raw: Vec<f64> = (0..n)
        .map(|i| if a[i][i].abs() < 1e-300 { 0.0 } else { (a[i][n] / a[i][i]).max(0.0) })
        .collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|x| x / total).collect()
}

impl PpdTables {
    /// The best trees whose passes hold at most `size` tokens, from a table of accuracy (row `d`:
    /// candidates at distance `d + 1` by rank); its length is the largest number of prompt tokens.
    ///
    /// # Errors
    /// `InvalidInput` for entries that are no probabilities, rows that are empty, or sizes out of
    /// range.
    pub fn solve(accuracy: &[Vec<f64>], size: usize) -> Result<Self> {
        budget("size", size, 1)?;
        if accuracy.is_empty() || accuracy.iter().any(Vec::is_empty) {
            return Err(Error::input("accuracy", "needs a row a distance, each with a rank"));
        }
        for row in accuracy {
            row.iter().try_for_each(|&x| probability("accuracy", x).map(drop))?;
        }
        // How many of the tokens are candidates is scanned; each split is solved outright.
        let mut best: Option<Self> = None;
        for candidates in 1..=size {
            let tables = Self::split(accuracy, candidates, size)?;
            if best.as_ref().is_none_or(|b| tables.expected > b.expected + 1e-12) {
                best = Some(tables);
            }
        }
        best.ok_or_else(|| Error::input("size", "is 0"))
    }

    /// The trees with at most `candidates` nodes (node 0 counted) among `size` tokens.
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn split(accuracy: &[Vec<f64>], candidates: usize, size: usize) -> Result<Self> {
        let rows = accuracy.len();
        let trees = (0..=rows)
            .map(|k| Template::from_acceptance(&accuracy[..k], candidates))
            .collect::<Result<Vec<_>>>()?;
        let values: Vec<Vec<f64>> = trees.iter().map(|t| t.values(accuracy)).collect();
        let gain: Vec<f64> = values.iter().map(|v| v.iter().sum()).collect();
        let mut states = Vec::with_capacity(rows + 1);
        for (template, values) in trees.into_iter().zip(&values) {
            let last = last_accepted(&template, values);
            let room = size.saturating_sub(template.len());
            let prompts = attach(&last, &gain, rows, room);
            let mut next = vec![0.0; rows + 1];
            last.iter().zip(&prompts).for_each(|(p, &m)| next[m] += p);
            let mass: f64 = next.iter().sum();
            next.iter_mut().for_each(|p| *p /= mass);
            states.push(PpdState { template, prompts, expected: values.iter().sum(), next });
        }
        let chain: Vec<Vec<f64>> = states.iter().map(|s| s.next.clone()).collect();
        let stationary = stationary(&chain);
        let expected = stationary.iter().zip(&states).map(|(p, s)| p * s.expected).sum();
        Ok(Self { states, stationary, expected })
    }

    /// The size among timed ones that yields most tokens a time: `costs` are (tokens of the pass,
    /// time).
    ///
    /// # Errors
    /// As [`solve`](Self::solve), or for no positive time.
    pub fn best_size(accuracy: &[Vec<f64>], costs: &[(usize, f64)]) -> Result<(usize, Self)> {
        let mut best: Option<(f64, usize, Self)> = None;
        for &(size, time) in costs.iter().filter(|c| c.1 > 0.0 && c.1.is_finite()) {
            let tables = Self::solve(accuracy, size)?;
            let rate = tables.expected / time;
            if best.as_ref().is_none_or(|b| rate > b.0) {
                best = Some((rate, size, tables));
            }
        }
        best.map(|(_, size, tables)| (size, tables))
            .ok_or_else(|| Error::input("costs", "holds no positive time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Vec<Vec<f64>> {
        vec![vec![0.6, 0.15, 0.05], vec![0.4, 0.1], vec![0.3, 0.05]]
    }

    #[test]
    fn the_chain_is_stationary_and_simulated() {
        let t = PpdTables::solve(&table(), 20).unwrap();
        // Power iteration.
        let mut pi = vec![1.0 / 4.0; 4];
        for _ in 0..5000 {
            let mut next = vec![0.0; 4];
            for (k, s) in t.states.iter().enumerate() {
                for (m, p) in s.next.iter().enumerate() {
                    next[m] += pi[k] * p;
                }
            }
            // Averaged, so that a periodic chain converges too.
            pi = pi.iter().zip(&next).map(|(a, b)| f64::midpoint(*a, *b)).collect();
        }
        for (a, b) in pi.iter().zip(&t.stationary) {
            assert!((a - b).abs() < 1e-9, "{pi:?} {:?}", t.stationary);
        }
        assert!(t.expected > 1.5 && t.states.iter().all(|s| s.size() <= 20));
        // Simulated: 200,000 steps, and tokens a step within six standard errors (tokens lie in
        // 1..=4, so the error of the mean is below 1.5 / sqrt(n), correlations included by a
        // factor of three).
        let (mut state, mut tokens, steps) = (0usize, 0usize, 200_000u32);
        let mut chance = trivium_core::Keyed::new(5, 0);
        for i in 0..steps {
            let s = &t.states[state];
            let values = s.template.values(&table());
            let last = last_accepted(&s.template, &values);
            let node = trivium_core::Chance::categorical(
                &mut chance,
                i,
                trivium_core::Purpose::Control,
                &last,
            );
            tokens += usize::from(s.template.depths()[node]) + 1;
            state = s.prompts[node];
        }
        let mean = tokens as f64 / f64::from(steps);
        assert!((mean - t.expected).abs() < 6.0 * 3.0 * 1.5 / f64::from(steps).sqrt(), "{mean}");
    }

    #[test]
    fn sizes_follow_costs() {
        let flat = [(4, 1.0), (8, 1.0), (16, 1.0)];
        assert_eq!(PpdTables::best_size(&table(), &flat).unwrap().0, 16);
        let steep = [(1, 1.0), (8, 8.0), (16, 16.0)];
        assert_eq!(PpdTables::best_size(&table(), &steep).unwrap().0, 1);
        assert!(PpdTables::best_size(&table(), &[]).is_err());
        assert!(PpdTables::solve(&[vec![1.5]], 4).is_err());
        let one = PpdTables::solve(&table(), 1).unwrap();
        assert!((one.expected - 1.0).abs() < 1e-12, "node 0 alone yields one token a step");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Removal keeps the best assignment, by brute force over all of them.
        #[test]
        fn prompt_tokens_are_attached_best(
            last in prop::collection::vec(0.01f64..1.0, 1..6), room in 0usize..13,
            f in (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0),
        ) {
            // Concave gains, as expected tokens by rows are.
            let mut steps = [f.0, f.1, f.2];
            steps.sort_by(|a, b| b.total_cmp(a));
            let gain = [1.0, 1.0 + steps[0], 1.0 + steps[0] + steps[1], 1.0 + steps.iter().sum::<f64>()];
            let value = |m: &[usize]| last.iter().zip(m).map(|(p, &m)| p * gain[m]).sum::<f64>();
            let got = attach(&last, &gain, 3, room);
            prop_assert!(got.iter().sum::<usize>() <= room);
            let mut best = 0f64;
            let mut m = vec![0; last.len()];
            loop {
                if m.iter().sum::<usize>() <= room {
                    best = best.max(value(&m));
                }
                let Some(at) = m.iter().position(|&x| x < 3) else { break };
                m[at] += 1;
                m[..at].iter_mut().for_each(|x| *x = 0);
            }
            prop_assert!((value(&got) - best).abs() < 1e-12);
        }
    }
}
