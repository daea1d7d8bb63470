//! A tree in the forms other stacks read; each is O(n) or O(n²/64).

/// First-child / next-sibling tables (SGLang, XGrammar): -1 where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// First child of each node.
    pub next_token: Vec<i64>,
    /// Next node with the same parent.
    pub next_sibling: Vec<i64>,
}

/// Siblings are listed in index order; the root has no sibling.
pub fn links(parents: &[i32]) -> Links {
    let n = parents.len();
    let (mut next_token, mut next_sibling) = (vec![-1; n], vec![-1; n]);
    for i in (1..n).rev() {
        let p = parents[i] as usize;
        next_sibling[i] = next_token[p];
        next_token[p] = i as i64;
    }
    Links { next_token, next_sibling }
}

/// Packed ancestor masks: bit `j` of node `i` is set if `j` is `i` or an ancestor of it.
/// `ceil(n / 64)` words a node.
pub fn mask_words(parents: &[i32]) -> Vec<u64> {
    let width = parents.len().div_ceil(64);
    let mut words = vec![0u64; parents.len() * width];
    for (i, &p) in parents.iter().enumerate() {
        if p >= 0 {
            words.copy_within(p as usize * width..(p as usize + 1) * width, i * width);
        }
        words[i * width + i / 64] |= 1 << (i % 64);
    }
    words
}

/// The ancestor matrix, self included, row-major `[n, width]` with `width >= n`.
pub fn ancestors(parents: &[i32], width: usize, out: &mut Vec<bool>) {
    let start = out.len();
    out.resize(start + parents.len() * width, false);
    let rows = &mut out[start..];
    for (i, &p) in parents.iter().enumerate() {
        if p >= 0 {
            rows.copy_within(p as usize * width..(p as usize + 1) * width, i * width);
        }
        rows[i * width + i] = true;
    }
}

/// The inverse of [`ancestors`]: the parent of `i` is the largest `j < i` with `mask[i, j]`.
pub fn parents_from_ancestors(mask: &[bool], n: usize, width: usize) -> Vec<i32> {
    (0..n).map(|i| (0..i).rev().find(|&j| mask[i * width + j]).map_or(-1, |j| j as i32)).collect()
}

/// Root-to-leaf paths (Medusa, EAGLE, TensorRT-LLM), one a leaf, padded with -1 to `max_depth + 1`.
pub fn root_paths(parents: &[i32], depths: &[u16]) -> (Vec<i32>, usize) {
    let width = depths.iter().copied().max().unwrap_or(0) as usize + 1;
    let mut inner = vec![false; parents.len()];
    for &p in parents.iter().filter(|p| **p >= 0) {
        inner[p as usize] = true;
    }
    let mut out = Vec::new();
    for leaf in (0..parents.len()).filter(|&i| !inner[i]) {
        let start = out.len();
        out.resize(start + width, -1);
        let mut node = leaf as i32;
        while node >= 0 {
            out[start + depths[node as usize] as usize] = node;
            node = parents[node as usize];
        }
    }
    (out, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree() -> impl Strategy<Value = Vec<i32>> {
        prop::collection::vec(any::<u32>(), 0..90).prop_map(|v| {
            let mut parents = vec![-1];
            for (i, x) in v.into_iter().enumerate() {
                parents.push((x as usize % (i + 1)) as i32);
            }
            parents
        })
    }

    proptest! {
        #[test]
        fn forms_have_exact_inverses(parents in tree()) {
            let n = parents.len();
            let mut dense = Vec::new();
            ancestors(&parents, n + 3, &mut dense);
            prop_assert_eq!(parents_from_ancestors(&dense, n, n + 3), parents.clone());
            let words = mask_words(&parents);
            let width = n.div_ceil(64);
            for i in 0..n {
                for j in 0..n {
                    prop_assert_eq!(words[i * width + j / 64] >> (j % 64) & 1 == 1, dense[i * (n + 3) + j]);
                }
            }
            let l = links(&parents);
            let mut back = vec![-1; n];
            for p in 0..n {
                let mut c = l.next_token[p];
                let mut previous = -1;
                while c >= 0 {
                    prop_assert!(c > previous);
                    back[c as usize] = p as i32;
                    previous = c;
                    c = l.next_sibling[c as usize];
                }
            }
            prop_assert_eq!(back, parents.clone());
            let depths = crate::tree::validate(&(0..n as u32).collect::<Vec<_>>(), &parents, n).unwrap();
            let (paths, width) = root_paths(&parents, &depths);
            for path in paths.chunks(width) {
                prop_assert_eq!(path[0], 0);
                for w in path.windows(2) {
                    prop_assert!(w[1] == -1 || parents[w[1] as usize] == w[0]);
                }
            }
        }
    }
}
