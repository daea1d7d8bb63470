//! Productions made fit for a top-down reader.
//!
//! 1. What matches no text goes.
//! 2. Each nonterminal `N` is split into `N⁺`, its nonempty texts, and ε. A production of `N⁺` begins with
//!    a terminal or some `M⁺`, so no left recursion hides behind an empty beginning.
//! 3. Nonterminals that reach themselves as a first symbol are replaced by the left-corner transform
//!    (Rosenkrantz and Lewis 1970; Moore, "Removing left recursion from context-free grammars", 2000),
//!    whose size is quadratic in a group of nonterminals that reach each other:
//!
//!    ```text
//!    A   → a γ · A\B     for B → a γ, a outside the group       A   → a γ   for A → a γ
//!    A\X → β · A\B       for B → X β                            A\X → β     for A → X β
//!    ```
//!
//!    `A\X` is what may follow an `X` at the left edge of an `A`. It stands last in its productions, and
//!    a last call is a jump, so a list of any length is read in constant stack.

use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// A symbol of a production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Symbol {
    /// A terminal, never empty.
    Term(u32),
    /// A nonterminal; after [`prepare`], a rule.
    Rule(u32),
}

/// The right-hand side of a production.
pub(super) type Production = Vec<Symbol>;

/// A rule that is never left-recursive.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready {
    /// Whether the empty text belongs to it.
    pub(super) empty: bool,
    pub(super) productions: Vec<Production>,
}

/// What [`prepare`] makes.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    pub(super) rules: Vec<Ready>,
    pub(super) start: u32,
    /// Nonterminals without a text.
    pub(super) unproductive: Vec<u32>,
}

/// The nonterminals for which `holds` follows from their productions, least solution. `of` says
/// whether a terminal counts as holding.
fn fixpoint(productions: &[Vec<Production>], terminals: bool) -> Vec<bool> {
    let n = productions.len();
    let mut holds = vec![false; n];
    // Open symbols of each production, and where each nonterminal stands.
    let mut open: Vec<Vec<usize>> = Vec::with_capacity(n);
    let mut uses: Vec<Vec<(u32, u32)>> = vec![Vec::new(); n];
    let mut ready: Vec<u32> = Vec::new();
    for (i, all) in productions.iter().enumerate() {
        let mut counts = Vec::with_capacity(all.len());
        for (j, p) in all.iter().enumerate() {
            let mut count = 0;
            for s in p {
                match s {
                    Symbol::Term(_) if terminals => {}
                    Symbol::Term(_) => count += usize::MAX / (2 * p.len().max(1)),
                    Symbol::Rule(r) => {
                        count += 1;
                        uses[*r as usize].push((i as u32, j as u32));
                    }
                }
            }
            counts.push(count);
            if count == 0 && !holds[i] {
                holds[i] = true;
                ready.push(i as u32);
            }
        }
        open.push(counts);
    }
    while let Some(r) = ready.pop() {
        for &(i, j) in &uses[r as usize] {
            let count = &mut open[i as usize][j as usize];
            *count -= 1;
            if *count == 0 && !holds[i as usize] {
                holds[i as usize] = true;
                ready.push(i);
            }
        }
    }
    holds
}

/// Groups of nonterminals that reach each other, by a number each; Kosaraju's algorithm, iterative.
fn groups(edges: &[Vec<u32>]) -> Vec<u32> {
    let n = edges.len();
    let mut order = Vec::with_capacity(n);
    let mut seen = vec![false; n];
    for root in 0..n as u32 {
        if seen[root as usize] {
            continue;
        }
        seen[root as usize] = true;
        let mut stack = vec![(root, 0)];
        while let Some((v, next)) = stack.last_mut() {
            if let Some(&w) = edges[*v as usize].get(*next) {
                *next += 1;
                if !std::mem::replace(&mut seen[w as usize], true) {
                    stack.push((w, 0));
                }
            } else {
                order.push(*v);
                stack.pop();
            }
        }
    }
    let mut back: Vec<Vec<u32>> = vec![Vec::new(); n];
    for (v, out) in edges.iter().enumerate() {
        for &w in out {
            back[w as usize].push(v as u32);
        }
    }
    let mut group = vec![u32::MAX; n];
    for (g, &root) in order.iter().rev().enumerate() {
        let mut todo = vec![root];
        while let Some(v) = todo.pop() {
            if group[v as usize] == u32::MAX {
                group[v as usize] = g as u32;
                todo.extend(&back[v as usize]);
            }
        }
    }
    group
}

/// See the module comment. `max`: productions of the result,
/// long ones counted several times.
pub(super) fn prepare(
    mut productions: Vec<Vec<Production>>,
    start: u32,
    max: usize,
) -> Result<Grammar> {
    let n = productions.len();
    let productive = fixpoint(&productions, true);
    for (i, all) in productions.iter_mut().enumerate() {
        all.retain(|p| p.iter().all(|s| !matches!(s, Symbol::Rule(r) if !productive[*r as usize])));
        all.sort_unstable();
        all.dedup();
        if !productive[i] {
            all.clear();
        }
    }
    let unproductive = (0..n as u32).filter(|&i| !productive[i as usize]).collect();
    let nullable = fixpoint(&productions, false);

    // Rules: N⁺ under the number of N; N itself, where it may be empty, behind them.
    let mut optional: Vec<u32> = vec![u32::MAX; n];
    let mut count = n as u32;
    for i in 0..n {
        if nullable[i] {
            optional[i] = count;
            count += 1;
        } else {
            optional[i] = i as u32;
        }
    }
    let mut total = 0;
    let mut plus: Vec<Vec<Production>> = Vec::with_capacity(n);
    for (i, all) in productions.iter().enumerate() {
        let mut out: Vec<Production> = Vec::new();
        for p in all {
            for (k, &first) in p.iter().enumerate() {
                let mut new = vec![first];
                new.extend(p[k + 1..].iter().map(|s| match *s {
                    Symbol::Rule(r) => Symbol::Rule(optional[r as usize]),
                    term @ Symbol::Term(_) => term,
                }));
                // A rule that is itself says nothing.
                if new != [Symbol::Rule(i as u32)] {
                    total += 1 + new.len() / 8;
                    out.push(new);
                }
                if total > max {
                    return Err(Error::limit("max_rules", total as u64, max as u64));
                }
                if !matches!(first, Symbol::Rule(r) if nullable[r as usize]) {
                    break;
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        plus.push(out);
    }
    // A first symbol M⁺ without a production (M is ε alone) cannot begin anything.
    let alive = fixpoint(
        &plus
            .iter()
            .map(|all| {
                all.iter()
                    .map(|p| p.iter().filter(|s| is_plus(**s, n)).copied().collect())
                    .collect()
            })
            .collect::<Vec<_>>(),
        true,
    );
    for all in &mut plus {
        all.retain(|p| {
            p.iter()
                .all(|s| !matches!(s, Symbol::Rule(r) if (*r as usize) < n && !alive[*r as usize]))
        });
    }

    let mut rules: Vec<Ready> = Vec::with_capacity(count as usize);
    let corners = left_corner(&plus, count, max)?;
    for productions in corners.own {
        rules.push(Ready { empty: false, productions });
    }
    for i in 0..n {
        if nullable[i] {
            let productions = rules[i].productions.clone();
            rules.push(Ready { empty: true, productions });
        }
    }
    rules.extend(
        corners
            .more
            .into_iter()
            .map(|productions| Ready { empty: productions.iter().any(Vec::is_empty), productions }),
    );
    Ok(Grammar { rules, start: optional[start as usize], unproductive })
}

fn is_plus(symbol: Symbol, n: usize) -> bool {
    matches!(symbol, Symbol::Rule(r) if (r as usize) < n)
}

struct Corners {
    own: Vec<Vec<Production>>,
    /// Rules `A\X`, numbered from the count handed over.
    more: Vec<Vec<Production>>,
}

fn left_corner(plus: &[Vec<Production>], first: u32, max: usize) -> Result<Corners> {
    let n = plus.len();
    let head = |p: &Production| match p.first() {
        Some(Symbol::Rule(r)) if (*r as usize) < n => Some(*r),
        _ => None,
    };
    let edges: Vec<Vec<u32>> =
        plus.iter().map(|all| all.iter().filter_map(head).collect()).collect();
    let group = groups(&edges);
    let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for i in 0..n as u32 {
        members.entry(group[i as usize]).or_default().push(i);
    }
    let mut own = plus.to_vec();
    let mut more: Vec<Vec<Production>> = Vec::new();
    let mut total = 0;
    for all in members.values() {
        let recursive = all.len() > 1 || all.iter().any(|&a| edges[a as usize].contains(&a));
        if !recursive {
            continue;
        }
        let inside = |x: u32| group[x as usize] == group[all[0] as usize];
        for &a in all {
            let base = first + more.len() as u32;
            let number: FxHashMap<u32, u32> =
                all.iter().enumerate().map(|(k, &x)| (x, base + k as u32)).collect();
            let mut goal: Vec<Production> = Vec::new();
            let mut rest: FxHashMap<u32, Vec<Production>> =
                all.iter().map(|&x| (x, Vec::new())).collect();
            for &b in all {
                for p in &plus[b as usize] {
                    let (into, tail) = match head(p).filter(|&x| inside(x)) {
                        Some(x) => (rest.get_mut(&x), p[1..].to_vec()),
                        None => (Some(&mut goal), p.clone()),
                    };
                    let Some(into) = into else { continue };
                    total += 2 + tail.len() / 4;
                    if total > max {
                        return Err(Error::limit("max_rules", total as u64, max as u64));
                    }
                    if b == a {
                        into.push(tail.clone());
                    }
                    let mut on = tail;
                    on.push(Symbol::Rule(number[&b]));
                    into.push(on);
                }
            }
            own[a as usize] = goal;
            for &x in all {
                more.push(rest.remove(&x).unwrap_or_default());
            }
        }
    }
    Ok(Corners { own, more })
}
