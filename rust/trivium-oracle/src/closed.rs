//! Closed forms and optimal transport: what acceptance a rule must have, computed another way.

use std::collections::BTreeMap;

/// `Σ min(p, q)`: the most that one draw from `q` allows.
pub fn sum_min(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(a, b)| a.min(*b)).sum()
}

/// Law of the set of children, as bit sets of tokens.
pub type SetLaw = BTreeMap<u32, f64>;

/// Sets of `n` independent draws.
pub fn iid_sets(q: &[f64], n: usize) -> SetLaw {
    let mut law = SetLaw::from([(0, 1.0)]);
    for _ in 0..n {
        let mut next = SetLaw::new();
        for (set, m) in law {
            for (t, w) in q.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                *next.entry(set | 1 << t).or_insert(0.0) += m * w;
            }
        }
        law = next;
    }
    law
}

/// Sets of `n` draws without replacement (fewer when the support ends).
pub fn without_replacement_sets(q: &[f64], n: usize) -> SetLaw {
    let mut law = SetLaw::from([(0, 1.0)]);
    for _ in 0..n {
        let mut next = SetLaw::new();
        for (set, m) in law {
            let left: f64 = (0..q.len()).filter(|t| set & (1 << t) == 0).map(|t| q[t]).sum();
            if left <= 0.0 {
                *next.entry(set).or_insert(0.0) += m;
                continue;
            }
            for t in (0..q.len()).filter(|t| set & (1 << t) == 0 && q[*t] > 0.0) {
                *next.entry(set | 1 << t).or_insert(0.0) += m * q[t] / left;
            }
        }
        law = next;
    }
    law
}

/// The best acceptance over all couplings of a set law with `p`, by minimum cut:
/// `min over H of p(H) + 1 - D(C ⊆ H)`.
pub fn transport_by_cut(p: &[f64], sets: &SetLaw) -> f64 {
    (0..1u32 << p.len())
        .map(|h| {
            let inside: f64 = (0..p.len()).filter(|t| h & (1 << t) != 0).map(|t| p[t]).sum();
            let covered: f64 = sets.iter().filter(|(c, _)| *c & !h == 0).map(|(_, m)| m).sum();
            inside + 1.0 - covered
        })
        .fold(f64::INFINITY, f64::min)
}

/// The same by maximum flow from sets to tokens (shortest augmenting paths), with the plan:
/// `plan[(set, token)]` is the mass that the set gives the token.
pub fn transport_by_flow(p: &[f64], sets: &SetLaw) -> (f64, BTreeMap<(u32, usize), f64>) {
    let names: Vec<u32> = sets.keys().copied().collect();
    let (n, v) = (names.len(), p.len());
    // Nodes: source 0, sets 1..=n, tokens n+1..=n+v, sink.
    let sink = n + v + 1;
    let mut room = vec![vec![0.0f64; sink + 1]; sink + 1];
    for (i, (set, &m)) in sets.iter().enumerate() {
        room[0][1 + i] = m;
        for t in (0..v).filter(|t| set & (1 << t) != 0) {
            room[1 + i][1 + n + t] = f64::INFINITY;
        }
    }
    for (t, &m) in p.iter().enumerate() {
        room[1 + n + t][sink] = m;
    }
    let mut flow = 0.0;
    loop {
        let mut from = vec![usize::MAX; sink + 1];
        from[0] = 0;
        let mut queue = std::collections::VecDeque::from([0]);
        while let Some(x) = queue.pop_front() {
            for y in 0..=sink {
                if from[y] == usize::MAX && room[x][y] > 1e-15 {
                    from[y] = x;
                    queue.push_back(y);
                }
            }
        }
        if from[sink] == usize::MAX {
            break;
        }
        let mut push = f64::INFINITY;
        let mut y = sink;
        while y != 0 {
            push = push.min(room[from[y]][y]);
            y = from[y];
        }
        y = sink;
        while y != 0 {
            room[from[y]][y] -= push;
            room[y][from[y]] += push;
            y = from[y];
        }
        flow += push;
    }
    let mut plan = BTreeMap::new();
    for (i, &set) in names.iter().enumerate() {
        for t in 0..v {
            let moved = room[1 + n + t][1 + i];
            if moved > 0.0 {
                plan.insert((set, t), moved);
            }
        }
    }
    (flow, plan)
}

/// Acceptance of a shared race with one draft.
pub fn race_acceptance(p: &[f64], q: &[f64]) -> f64 {
    (0..p.len())
        .filter(|&i| p[i] > 0.0 && q[i] > 0.0)
        .map(|i| 1.0 / (0..p.len()).map(|j| (p[j] / p[i]).max(q[j] / q[i])).sum::<f64>())
        .sum()
}

/// `E[τ] = Σ_i E_q[P_i]` of block verification under constant laws.
pub fn block_expectation(p: &[f64], q: &[f64], len: usize) -> f64 {
    fn go(p: &[f64], q: &[f64], len: usize, mass: f64, weight: f64) -> f64 {
        if len == 0 {
            return 0.0;
        }
        (0..p.len())
            .filter(|&t| q[t] > 0.0)
            .map(|t| {
                let w = (weight * p[t] / q[t]).min(1.0);
                mass * q[t] * w + go(p, q, len - 1, mass * q[t], w)
            })
            .sum()
    }
    go(p, q, len, 1.0, 1.0)
}

/// `Σ_i Σ_x min(p(x^i), q(x^i))`: no verifier of a chain accepts more.
pub fn chain_bound(p: &[f64], q: &[f64], len: usize) -> f64 {
    let (mut a, mut b) = (vec![1.0], vec![1.0]);
    let mut bound = 0.0;
    for _ in 0..len {
        a = a.iter().flat_map(|x| p.iter().map(move |y| x * y)).collect();
        b = b.iter().flat_map(|x| q.iter().map(move |y| x * y)).collect();
        bound += sum_min(&a, &b);
    }
    bound
}

/// The lowest arg-max.
pub fn argmax(q: &[f64]) -> usize {
    (0..q.len()).fold(0, |best, t| if q[t] > q[best] { t } else { best })
}

/// Sets of greedy-plus-one drafts of `n` tokens.
pub fn greedy_plus_one_sets(q: &[f64], n: usize) -> SetLaw {
    let mut order: Vec<usize> = (0..q.len()).filter(|&t| q[t] > 0.0).collect();
    order.sort_by(|&a, &b| q[b].total_cmp(&q[a]).then(a.cmp(&b)));
    order.truncate(n - 1);
    let top: u32 = order.iter().map(|t| 1 << t).sum();
    let left: f64 = (0..q.len()).filter(|t| !order.contains(t)).map(|t| q[t]).sum();
    if left <= 0.0 {
        return SetLaw::from([(top, 1.0)]);
    }
    (0..q.len())
        .filter(|t| !order.contains(t) && q[*t] > 0.0)
        .map(|t| (top | 1 << t, q[t] / left))
        .collect()
}

/// Sets of SpecHub's pairs.
pub fn spechub_sets(q: &[f64]) -> SetLaw {
    let a = argmax(q);
    let left: f64 = (0..q.len()).filter(|&t| t != a).map(|t| q[t]).sum();
    if left <= 0.0 {
        return SetLaw::from([(1 << a, 1.0)]);
    }
    (0..q.len())
        .filter(|&t| t != a && q[t] > 0.0)
        .map(|t| ((1 << a) | (1 << t), q[t] + q[a] * q[t] / left))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::{FAMILIES, Pair};

    #[test]
    fn flow_and_cut_agree() {
        for seed in 0..40 {
            for family in FAMILIES {
                let pair = Pair::hashed(2 + seed as usize % 4, seed, family);
                let (p, q) = (pair.p(&[]), pair.q(&[]));
                for n in 1..4 {
                    for sets in [iid_sets(&q, n), without_replacement_sets(&q, n)] {
                        assert!((sets.values().sum::<f64>() - 1.0).abs() < 1e-12);
                        let cut = transport_by_cut(&p, &sets);
                        let (flow, plan) = transport_by_flow(&p, &sets);
                        assert!((cut - flow).abs() < 1e-12, "{family:?} {cut} {flow}");
                        assert!((plan.values().sum::<f64>() - flow).abs() < 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn golden_transport_values() {
        let p = [0.5, 0.3, 0.2];
        for (q, iid, without) in
            [([0.2, 0.3, 0.5], 0.86, 0.985_714_286), ([0.4, 0.35, 0.25], 1.0, 1.0)]
        {
            assert!((transport_by_cut(&p, &iid_sets(&q, 2)) - iid).abs() < 1e-9);
            let sets = without_replacement_sets(&q, 2);
            assert!((transport_by_cut(&p, &sets) - without).abs() < 1e-9);
        }
        assert!((race_acceptance(&p, &[0.2, 0.3, 0.5]) - 0.630_769_231).abs() < 1e-9);
        assert!((race_acceptance(&p, &[0.4, 0.35, 0.25]) - 0.895_774_648).abs() < 1e-9);
    }
}
