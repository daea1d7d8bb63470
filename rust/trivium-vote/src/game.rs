//! Consensus game: generator and discriminator agree on a ranking.
//!
//! Jacob et al., "The Consensus Game: Language Model Generation via Equilibrium Search". Two players
//! over candidates `y` and verdicts `v`; each is drawn to its own initial policy and gains when they
//! agree. With running means of the other player's policy `Q`,
//!
//! ```text
//! G(y | v)  ~  exp((Q_G + lambda ln G1) / (1 / (eta t) + lambda)),    Q_G = (1 / 2t) sum D(v | y)
//! ```
//!
//! and likewise for the discriminator; `eta = lambda = 0.1`, 5,000 rounds, or until nothing moves.

/// The equilibrium of a game.
#[derive(Debug, Clone, PartialEq)]
pub struct Equilibrium {
    /// `G(y | correct)`: sums to one over candidates.
    pub generator: Vec<f64>,
    /// `D(correct | y)`.
    pub discriminator: Vec<f64>,
}

/// Plays a game from `P(y | correct)`, `P(y | incorrect)` and `P(correct | y)`; all slices have the
/// length of the first, and probabilities are kept above 1e-12.
pub fn play(
    correct: &[f64],
    incorrect: &[f64],
    verdict: &[f64],
    eta: f64,
    lambda: f64,
    rounds: u32,
) -> Equilibrium {
    let n = correct.len().min(incorrect.len()).min(verdict.len());
    let floor = |p: f64| p.max(1e-12);
    // Index 0: correct, 1: incorrect.
    let mut g1 = [vec![0.0; n], vec![0.0; n]];
    let mut d1 = g1.clone();
    for y in 0..n {
        let both = floor(correct[y]) + floor(incorrect[y]);
        (g1[0][y], g1[1][y]) = (floor(correct[y]) / both, floor(incorrect[y]) / both);
        (d1[0][y], d1[1][y]) = (floor(verdict[y]), floor(1.0 - verdict[y]));
    }
    for v in 0..2 {
        let (g, d) = (g1[v].iter().sum::<f64>(), d1[v].iter().sum::<f64>());
        g1[v].iter_mut().for_each(|p| *p /= g);
        d1[v].iter_mut().for_each(|p| *p /= d);
    }
    let [yes, no] = &mut d1;
    for (yes, no) in yes.iter_mut().zip(no) {
        let both = *yes + *no;
        (*yes, *no) = (*yes / both, *no / both);
    }
    let (mut g, mut d) = (g1.clone(), d1.clone());
    let (mut sum_g, mut sum_d) = ([vec![0.0; n], vec![0.0; n]], [vec![0.0; n], vec![0.0; n]]);
    for t in 1..=rounds {
        let t = f64::from(t);
        for v in 0..2 {
            for y in 0..n {
                sum_g[v][y] += g[v][y];
                sum_d[v][y] += d[v][y];
            }
        }
        let scale = 1.0 / (1.0 / (eta * t) + lambda);
        let mut moved = 0.0f64;
        for v in 0..2 {
            let log = |y: usize| (sum_d[v][y] / (2.0 * t) + lambda * g1[v][y].ln()) * scale;
            let logs: Vec<f64> = (0..n).map(log).collect();
            let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logs.iter().map(|l| (l - top).exp()).sum();
            for y in 0..n {
                let next = (logs[y] - top).exp() / total;
                moved = moved.max((next - g[v][y]).abs());
                g[v][y] = next;
            }
        }
        for y in 0..n {
            let log = |v: usize| (sum_g[v][y] / (2.0 * t) + lambda * d1[v][y].ln()) * scale;
            let next = 1.0 / (1.0 + (log(1) - log(0)).exp());
            moved = moved.max((next - d[0][y]).abs());
            (d[0][y], d[1][y]) = (next, 1.0 - next);
        }
        if moved < 1e-12 {
            break;
        }
    }
    let [generator, _] = g;
    let [discriminator, _] = d;
    Equilibrium { generator, discriminator }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_equilibrium_has_its_published_values() {
        let (c, i, v) = ([0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.5, 0.8, 0.4]);
        let start = play(&c, &i, &v, 0.1, 0.1, 0);
        for (x, y) in start.generator.iter().zip([0.529_412, 0.352_941, 0.117_647]) {
            assert!((x - y).abs() < 1e-6);
        }
        for (x, y) in start.discriminator.iter().zip([0.433_333, 0.753_623, 0.337_662]) {
            assert!((x - y).abs() < 1e-6, "{start:?}");
        }
        let end = play(&c, &i, &v, 0.1, 0.1, 5000);
        for (x, y) in end.generator.iter().zip([0.384_968, 0.612_832, 0.0022]) {
            assert!((x - y).abs() < 2e-6, "{end:?}");
        }
        for (x, y) in end.discriminator.iter().zip([0.816_689, 0.980_798, 0.005_195]) {
            assert!((x - y).abs() < 2e-6, "{end:?}");
        }
        assert!((end.generator.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn relabelling_permutes_and_symmetry_stays() {
        let one = play(&[0.6, 0.3, 0.1], &[0.2, 0.3, 0.5], &[0.5, 0.8, 0.4], 0.1, 0.1, 500);
        let two = play(&[0.1, 0.3, 0.6], &[0.5, 0.3, 0.2], &[0.4, 0.8, 0.5], 0.1, 0.1, 500);
        for y in 0..3 {
            assert!((one.generator[y] - two.generator[2 - y]).abs() < 1e-12);
        }
        let even = play(&[0.5, 0.5], &[0.5, 0.5], &[0.5, 0.5], 0.1, 0.1, 100);
        assert!((even.generator[0] - 0.5).abs() < 1e-12);
    }
}
