//! Consensus of sibling samples: what the others wrote after the same words.
//!
//! With k samples of one prompt in flight, the last n tokens of one are looked up in all of them; the
//! continuations, weighted, make a tree whose best paths are the draft. The longest n with a match
//! counts most: an occurrence of a shorter match weighs [`DISCOUNT`] less a token, a match in the
//! sample itself as much as one elsewhere.
//!
//! "Speculative Decoding for Multi-Sample Inference". Samples see each other *while they run*,
//! which no other shared store allows: the group's texts are read when a tree is proposed. Drafts
//! thus depend on what siblings have committed by then; texts never do, and votes stay independent
//! as long as each sample has noise of its own (another `branch`).
//!
//! A group keeps at most [`SAMPLES`] texts, the oldest leaving first, each with an index of
//! [`ORDERS`] orders. Finished samples of all groups together are bounded in bytes, the one that
//! finished first leaving first; a request that is dropped unfinished leaves at once.

use super::index::NgramIndex;
use crate::draft::options::Options;
use crate::draft::plan::{MAGNITUDES, Trie, magnitude};
use crate::draft::scoped::{Scoped, Shared};
use crate::draft::{Candidate, Candidates, RequestSource, Saved, Scope, SharedSource};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Longest match.
const ORDERS: usize = 6;
/// Texts of a group.
const SAMPLES: usize = 128;
/// Occurrences of a match that are read in one text.
const OCCURRENCES: usize = 16;
/// Weight of a match one token shorter.
const DISCOUNT: f32 = 0.25;

#[derive(Debug, Clone, Copy)]
struct Rule {
    min_ngram: usize,
    num_tokens: usize,
    choices: usize,
    max_bytes: usize,
}

/// One sample's text.
#[derive(Debug, Clone)]
struct Sample {
    text: Vec<TokenId>,
    index: NgramIndex,
    /// Others see continuations from here: the prompt is everyone's.
    visible: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self { text: Vec::new(), index: NgramIndex::new(ORDERS), visible: 0 }
    }
}

impl Sample {
    fn memory(&self) -> usize {
        self.index.memory() + 4 * self.text.capacity()
    }
}

type Group = VecDeque<Shared<Sample>>;

/// Finished samples, oldest first, and their bytes.
#[derive(Debug, Default)]
struct Finished {
    samples: VecDeque<(Shared<Group>, Shared<Sample>, usize)>,
    bytes: usize,
}

impl Finished {
    fn push(&mut self, group: Shared<Group>, sample: Shared<Sample>, max_bytes: usize) {
        let bytes = sample.read().memory();
        self.bytes += bytes;
        self.samples.push_back((group, sample, bytes));
        while self.bytes > max_bytes {
            let Some((group, sample, bytes)) = self.samples.pop_front() else { return };
            self.bytes -= bytes;
            group.write().retain(|s| !s.same(&sample));
        }
    }
}

/// The source `siblings`.
#[derive(Debug)]
pub(crate) struct Siblings {
    groups: Scoped<Scope, Group>,
    finished: Arc<Mutex<Finished>>,
    rule: Rule,
}

impl Siblings {
    pub(crate) fn parse(mut o: Options, max_bytes: usize) -> Result<Self> {
        let rule = Rule {
            min_ngram: o.number("min_ngram", 2, 1..=ORDERS)?,
            num_tokens: o.number("num_tokens", 10, 1..=64)?,
            choices: o.number("choices", 32, 1..=1024)?,
            max_bytes,
        };
        o.done()?;
        Ok(Self { groups: Scoped::default(), finished: Arc::default(), rule })
    }
}

impl SharedSource for Siblings {
    fn name(&self) -> &'static str {
        "siblings"
    }

    fn slots(&self) -> &'static [usize] {
        const { &[(MAGNITUDES * MAGNITUDES * 4) as usize] }
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        // Without a group the only sibling is the sample itself.
        let group = scope.group.as_ref().map(|_| self.groups.get(scope));
        let own = Shared::<Sample>::default();
        {
            let mut sample = own.write();
            sample.text = text.to_vec();
            sample.visible = text.len();
            let Sample { text, index, .. } = &mut *sample;
            index.extend(text, 0);
        }
        let view = View {
            rule: self.rule,
            group,
            own,
            finished: Some(self.finished.clone()),
            trie: Trie::default(),
            at: Vec::new(),
        };
        view.join();
        Box::new(view)
    }

    fn memory(&self) -> usize {
        self.groups.sum(|g| g.iter().map(|s| s.read().memory()).sum())
    }

    fn save(&self) -> Saved {
        Saved::new()
    }

    fn load(&self, _saved: &Saved) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct View {
    rule: Rule,
    group: Option<Shared<Group>>,
    own: Shared<Sample>,
    /// None once this sample is among them.
    finished: Option<Arc<Mutex<Finished>>>,
    trie: Trie,
    at: Vec<Option<u32>>,
}

impl Drop for View {
    fn drop(&mut self) {
        if let (Some(group), Some(_)) = (&self.group, &self.finished) {
            group.write().retain(|s| !s.same(&self.own));
        }
    }
}

impl View {
    fn join(&self) {
        if let Some(group) = &self.group {
            let mut group = group.write();
            if group.len() == SAMPLES {
                group.pop_front();
            }
            group.push_back(self.own.clone());
        }
    }

    /// Weighted continuations: (token, parent, weight), node 0 the root.
    fn gather(&self) -> Vec<(TokenId, u32, f32)> {
        let mut nodes: Vec<(TokenId, u32, f32)> = vec![(0, 0, 0.0)];
        let own = self.own.read();
        let text = &own.text;
        let group = self.group.as_ref().map(Shared::read);
        let others: Vec<_> = group
            .iter()
            .flat_map(|g| g.iter())
            .filter(|s| !s.same(&self.own))
            .map(Shared::read)
            .collect();
        let mut longest = None;
        for n in (self.rule.min_ngram..=ORDERS.min(text.len())).rev() {
            let gram = &text[text.len() - n..];
            let mut add = |other: &Sample, end: usize| {
                if end == other.text.len() {
                    return; // nothing follows yet
                }
                let longest = *longest.get_or_insert(n);
                let weight = DISCOUNT.powi((longest - n) as i32);
                let mut at = 0;
                let to = other.text.len().min(end + self.rule.num_tokens);
                for &t in &other.text[end..to] {
                    let known = nodes.iter().position(|x| x.0 == t && x.1 == at && x.2 > 0.0);
                    let node = known.unwrap_or_else(|| {
                        nodes.push((t, at, 0.0));
                        nodes.len() - 1
                    });
                    nodes[node].2 += weight;
                    at = node as u32;
                }
            };
            let ends = own.index.ends(text, gram).take(OCCURRENCES);
            ends.for_each(|e| add(&own, e as usize));
            for other in &others {
                let ends = other.index.ends(&other.text, gram).take(OCCURRENCES);
                ends.filter(|&e| e as usize >= other.visible).for_each(|e| add(other, e as usize));
            }
            // Two orders below the longest hardly weigh.
            if longest.is_some_and(|l| l > n + 1) {
                break;
            }
        }
        nodes
    }

    /// The nodes of highest product of shares.
    fn draft(&mut self) {
        let nodes = self.gather();
        self.trie.clear();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        (1..nodes.len()).for_each(|i| children[nodes[i].1 as usize].push(i));
        let mut heap = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<_>, node: usize, at: u32, p: f32, depth: usize| {
            let total: f32 = children[node].iter().map(|&c| nodes[c].2).sum();
            for &c in &children[node] {
                let share = nodes[c].2 / total;
                heap.push(((p * share).to_bits(), Reverse(c), at, share.to_bits(), depth));
            }
        };
        push(&mut heap, 0, 0, 1.0, 0);
        while self.trie.has_room_in(self.rule.choices) {
            let Some((p, Reverse(c), at, share, depth)) = heap.pop() else { return };
            let share = f32::from_bits(share);
            let step = match share {
                s if s < 0.25 => 0,
                s if s < 0.6 => 1,
                s if s < 0.95 => 2,
                _ => 3,
            };
            let weight = magnitude(nodes[c].2.ceil() as usize);
            let feature = (step * MAGNITUDES + weight) * MAGNITUDES + magnitude(depth);
            let Some(id) = self.trie.add(at, nodes[c].0, 0.8 * share, feature) else { return };
            push(&mut heap, c, id, f32::from_bits(p), depth + 1);
        }
    }
}

impl RequestSource for View {
    fn commit(&mut self, tokens: &[TokenId]) {
        let mut own = self.own.write();
        let Sample { text, index, .. } = &mut *own;
        let from = text.len();
        text.extend_from_slice(tokens);
        index.extend(text, from);
    }

    fn rollback(&mut self, left: &[TokenId], _n: usize) {
        let mut own = self.own.write();
        let Sample { text, index, .. } = &mut *own;
        index.retract(text, left.len());
        text.truncate(left.len());
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        let own = Shared::<Sample>::default();
        own.write().clone_from(&self.own.read());
        let fork = Self {
            rule: self.rule,
            group: self.group.clone(),
            own,
            finished: self.finished.clone(),
            trie: Trie::default(),
            at: Vec::new(),
        };
        fork.join();
        Box::new(fork)
    }

    fn root(&mut self, _last: TokenId) {
        self.draft();
        self.at.clear();
        self.at.push(Some(0));
    }

    fn node(&mut self, parent: usize, token: TokenId) {
        let at = self.at[parent].and_then(|p| self.trie.child(p, token));
        self.at.push(at);
    }

    fn candidates(&mut self, node: usize, _depth: usize, out: &mut Candidates) {
        let Some(at) = self.at[node] else { return };
        for c in self.trie.children(at) {
            let n = self.trie.node(c);
            out.push(Candidate { token: n.token, slot: 0, feature: n.feature, prior: n.prior });
        }
    }

    /// The text stays for the siblings that still run, within the bytes.
    fn finish(&mut self, _text: &[TokenId], _prompt_len: usize) {
        let (Some(group), Some(finished)) = (&self.group, self.finished.take()) else { return };
        let mut finished = finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.push(group.clone(), self.own.clone(), self.rule.max_bytes);
    }

    fn memory(&self) -> usize {
        // In a group the text belongs to the shared store.
        if self.group.is_some() { 0 } else { self.own.read().memory() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::plan::testing::{draft_of, drafts, follows_the_laws};

    fn source(text: &str) -> Siblings {
        Siblings::parse(Options::parse(text).unwrap(), 1 << 20).unwrap()
    }

    fn scope(group: &str) -> Scope {
        Scope { tenant: None, group: Some(group.into()) }
    }

    #[test]
    fn running_siblings_are_read_and_prompts_are_not_counted_twice() {
        let s = source("siblings:num_tokens=3");
        let prompt = [1, 2, 3, 1, 2];
        let mut a = s.open(&scope("g"), &prompt);
        let mut b = s.open(&scope("g"), &prompt);
        let mut elsewhere = s.open(&scope("h"), &prompt);
        assert_eq!(drafts(b.as_mut(), 2), [[3, 1, 2]], "its own text, once");
        a.commit(&[7, 8, 9, 10]);
        for view in [&mut b, &mut elsewhere] {
            view.commit(&[5, 7, 8]);
        }
        assert_eq!(drafts(b.as_mut(), 8), [[9, 10]], "while a still runs");
        assert!(drafts(elsewhere.as_mut(), 8).is_empty());
        a.rollback(&prompt, 4);
        assert!(drafts(b.as_mut(), 8).is_empty(), "what a took back");
    }

    /// Two samples say 3, one says 4: shares 2/3 and 1/3, and the majority's path comes first.
    #[test]
    fn the_majority_is_the_heaviest_path() {
        let s = source("siblings:num_tokens=2;choices=2");
        let mut views: Vec<_> = (0..4).map(|_| s.open(&scope("g"), &[0])).collect();
        for (v, tail) in views.iter_mut().zip([[3, 5], [3, 5], [4, 6]]) {
            v.commit(&[1, 2]);
            v.commit(&tail);
        }
        views[3].commit(&[1, 2]);
        assert_eq!(drafts(views[3].as_mut(), 2), [[3, 5]]);
        let mut out = Candidates::default();
        views[3].root(2);
        views[3].candidates(0, 0, &mut out);
        let first = out.iter().next().unwrap();
        assert!((first.prior - 0.8 * 2.0 / 3.0).abs() < 1e-6);
    }

    /// Against the definition: counts over all interleavings of commits are the same.
    #[test]
    fn interleavings_do_not_matter() {
        let texts = [[1u32, 2, 3, 1, 2], [1, 2, 4, 1, 2], [2, 3, 1, 2, 3]];
        let mut want: Option<Vec<Vec<u32>>> = None;
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            for lockstep in [true, false] {
                let s = source("siblings:choices=1000");
                let mut views: Vec<_> = (0..3).map(|_| s.open(&scope("g"), &[0])).collect();
                if lockstep {
                    for i in 0..5 {
                        order.iter().for_each(|&o| views[o].commit(&texts[o][i..=i]));
                    }
                } else {
                    order.iter().for_each(|&o| views[o].commit(&texts[o]));
                }
                let mut got = drafts(views[0].as_mut(), 2);
                got.sort();
                assert!(!got.is_empty());
                assert_eq!(*want.get_or_insert(got.clone()), got);
            }
        }
    }

    #[test]
    fn finished_samples_are_bounded_and_dropped_ones_leave() {
        let s = Siblings::parse(Options::parse("siblings").unwrap(), 200_000).unwrap();
        for i in 0..60u32 {
            let mut v = s.open(&scope(&format!("g{}", i % 7)), &[i]);
            v.commit(&(0..200).map(|j| i * 1000 + j).collect::<Vec<_>>());
            v.finish(&[], 1);
            assert!(s.memory() <= 200_000, "{}", s.memory());
        }
        assert!(s.memory() > 100_000, "the bytes are used: {}", s.memory());
        let mut newest = s.open(&scope("g3"), &[7, 59_001]);
        assert!(drafts(newest.as_mut(), 59_001).is_empty(), "a match of one");
        newest.commit(&[59_002]);
        assert!(!drafts(newest.as_mut(), 59_002).is_empty(), "59 = 3 mod 7");
        let before = s.memory();
        let mut gone = s.open(&scope("g3"), &[1]);
        gone.commit(&[2; 50]);
        assert!(s.memory() > before);
        drop(gone);
        assert_eq!(s.memory(), before);
    }

    #[test]
    fn per_request_laws() {
        let s = source("siblings");
        follows_the_laws(&s, &[0, 1, 2, 0, 1, 2, 1, 1, 0, 1, 2, 0, 2, 1]);
        assert!(draft_of(&s, &[1]).is_empty());
        for i in 0..300 {
            s.open(&scope("g"), &[i]).finish(&[i], 1);
        }
        assert!(s.groups.get(&scope("g")).read().len() <= SAMPLES);
    }
}
