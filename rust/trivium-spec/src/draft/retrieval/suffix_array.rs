//! Suffixes of documents in lexicographic order, each ending with its document.
//!
//! A suffix never reaches into the next document, so no match and no continuation does either. Built
//! by prefix doubling: O(n log² n), 12 bytes a token while building, 4 when built.

use trivium_core::TokenId;

/// Positions of all suffixes in order; a suffix that is a prefix of another one comes first, equal
/// ones by position.
pub(crate) fn suffix_array(tokens: &[TokenId], starts: &[u32]) -> Vec<u32> {
    let n = tokens.len();
    let mut end = vec![n as u32; n];
    for (i, &s) in starts.iter().enumerate() {
        let e = starts.get(i + 1).copied().unwrap_or(n as u32);
        end[s as usize..e as usize].fill(e);
    }
    let mut rank: Vec<u32> = ranks_of(tokens);
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut length = 1;
    loop {
        // 0 stands for the end of the document and sorts before every rank.
        let key = |i: u32| {
            let next = i as usize + length;
            let second = if next < end[i as usize] as usize { rank[next] + 1 } else { 0 };
            (rank[i as usize], second)
        };
        order.sort_unstable_by_key(|&i| (key(i), i));
        let mut fresh = vec![0u32; n];
        let mut distinct = 0;
        for w in 0..n {
            if w > 0 && key(order[w]) != key(order[w - 1]) {
                distinct += 1;
            }
            fresh[order[w] as usize] = distinct;
        }
        let longest = end.iter().enumerate().map(|(i, &e)| e as usize - i).max().unwrap_or(0);
        rank = fresh;
        length *= 2;
        if distinct as usize + 1 >= n || length >= longest {
            break;
        }
    }
    order.sort_unstable_by_key(|&i| (rank[i as usize], i));
    order
}

fn ranks_of(tokens: &[TokenId]) -> Vec<u32> {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    tokens.iter().map(|t| sorted.partition_point(|s| s < t) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn suffixes_are_sorted_and_stay_in_their_documents(
            documents in prop::collection::vec(prop::collection::vec(0u32..3, 1..20), 0..6)
        ) {
            let tokens: Vec<u32> = documents.concat();
            let starts: Vec<u32> = documents.iter().scan(0, |at, d| {
                let start = *at;
                *at += d.len() as u32;
                Some(start)
            }).collect();
            let suffix = |p: u32| {
                let e = starts.iter().copied().find(|&s| s > p).unwrap_or(tokens.len() as u32);
                &tokens[p as usize..e as usize]
            };
            let mut want: Vec<u32> = (0..tokens.len() as u32).collect();
            want.sort_by_key(|&p| (suffix(p), p));
            prop_assert_eq!(suffix_array(&tokens, &starts), want);
        }
    }
}
