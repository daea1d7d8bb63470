//! Sources whose whole draft follows from the committed text: a planner and its trie.
//!
//! Published stores return a draft, not the candidates of a node. A [`Planner`] therefore writes its
//! draft, exactly as the published algorithm does, into a [`Trie`] once a step; [`Planned`] serves
//! that trie to the builder node by node: a tree node that follows a path of the trie has the
//! children of its end, one that left it has none. Reference and tree thus agree node for node
//! whenever the budget has room, and other sources may still interleave.

use super::{Candidate, Candidates, RequestSource, TopIds};
use trivium_core::TokenId;

/// Nodes of a trie; what exceeds them is not drafted.
pub(crate) const MAX_TRIE: usize = 4096;

const NONE: u32 = u32::MAX;

/// One drafted token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TrieNode {
    pub(crate) token: TokenId,
    pub(crate) parent: u32,
    /// The source's own estimate that the token is accepted given that its parent was.
    pub(crate) prior: f32,
    /// Situation, for the mixture.
    pub(crate) feature: u16,
    first_child: u32,
    last_child: u32,
    next: u32,
}

/// Drafts of one step; node 0 is the last committed token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trie {
    nodes: Vec<TrieNode>,
}

impl Trie {
    /// Only the root.
    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
        self.nodes.push(TrieNode {
            token: 0,
            parent: NONE,
            prior: 1.0,
            feature: 0,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
        });
    }

    /// Number of drafted tokens.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    pub(crate) fn node(&self, i: u32) -> &TrieNode {
        &self.nodes[i as usize]
    }

    /// Children of a node, oldest first.
    pub(crate) fn children(&self, i: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.nodes.get(i as usize).map_or(NONE, |n| n.first_child);
        std::iter::from_fn(move || {
            (at != NONE).then(|| {
                let child = at;
                at = self.nodes[child as usize].next;
                child
            })
        })
    }

    /// The child that carries a token.
    pub(crate) fn child(&self, i: u32, token: TokenId) -> Option<u32> {
        self.children(i).find(|&c| self.nodes[c as usize].token == token)
    }

    /// Adds a child, or returns the one there is: the first to name a token describes it. `None`
    /// when the trie is full.
    pub(crate) fn add(
        &mut self,
        parent: u32,
        token: TokenId,
        prior: f32,
        feature: u16,
    ) -> Option<u32> {
        if let Some(c) = self.child(parent, token) {
            return Some(c);
        }
        if self.nodes.len() > MAX_TRIE {
            return None;
        }
        let id = self.nodes.len() as u32;
        self.nodes.push(TrieNode {
            token,
            parent,
            prior,
            feature,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
        });
        let last = std::mem::replace(&mut self.nodes[parent as usize].last_child, id);
        match last {
            NONE => self.nodes[parent as usize].first_child = id,
            last => self.nodes[last as usize].next = id,
        }
        Some(id)
    }

    /// Adds a path below the root; `describe` gives prior and feature by depth (from 0).
    pub(crate) fn add_path(
        &mut self,
        tokens: &[TokenId],
        mut describe: impl FnMut(usize) -> (f32, u16),
    ) {
        let mut at = 0;
        for (depth, &t) in tokens.iter().enumerate() {
            let (prior, feature) = describe(depth);
            match self.add(at, t, prior, feature) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// Whether another token fits into `limit`.
    pub(crate) fn has_room_in(&self, limit: usize) -> bool {
        self.len() < limit
    }

    /// Sets prior and feature of every node from the path that leads to it.
    pub(crate) fn describe(&mut self, mut of: impl FnMut(&[TokenId]) -> (f32, u16)) {
        let mut path = Vec::new();
        for i in 1..self.nodes.len() {
            path.clear();
            let mut at = i as u32;
            while at != 0 {
                path.push(self.nodes[at as usize].token);
                at = self.nodes[at as usize].parent;
            }
            path.reverse();
            let (prior, feature) = of(&path);
            self.nodes[i].prior = prior;
            self.nodes[i].feature = feature;
        }
    }

    /// Root-to-leaf paths, in order of insertion.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> Vec<Vec<TokenId>> {
        let mut out = Vec::new();
        let mut stack = vec![(0, Vec::new())];
        while let Some((i, path)) = stack.pop() {
            let children: Vec<u32> = self.children(i).collect();
            if children.is_empty() && i != 0 {
                out.push(path);
                continue;
            }
            for &c in children.iter().rev() {
                let mut longer = path.clone();
                longer.push(self.node(c).token);
                stack.push((c, longer));
            }
        }
        out
    }
}

/// What became of the drafts of a step, in terms of the planner's own trie.
pub(crate) struct Seen<'a> {
    pub(crate) trie: &'a Trie,
    /// (trie node, accepted, best ids of its row), root first; only nodes that were verified.
    pub(crate) rows: Vec<(u32, bool, &'a [TokenId])>,
}

/// Turns committed text into a draft, once a step.
pub(crate) trait Planner: Clone + Send + Sync + std::fmt::Debug + 'static {
    /// `text[from..]` was committed.
    fn extend(&mut self, text: &[TokenId], from: usize);

    /// `text[left..]` is about to be taken back.
    fn retract(&mut self, text: &[TokenId], left: usize);

    /// Rows of the step whose tokens were committed just before.
    fn observe(&mut self, _text: &[TokenId], _seen: &Seen<'_>) {}

    /// Writes the draft that continues `text`; the trie holds its root.
    fn plan(&mut self, text: &[TokenId], trie: &mut Trie);

    /// The text is final.
    fn finish(&mut self, _text: &[TokenId], _prompt_len: usize) {}

    /// Bytes held, the text aside.
    fn memory(&self) -> usize;
}

/// Token and parent of each node of the last tree, to recognise its rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    nodes: Vec<(TokenId, u32)>,
}

impl Shape {
    pub(crate) fn root(&mut self, last: TokenId) {
        self.nodes.clear();
        self.nodes.push((last, NONE));
    }

    pub(crate) fn node(&mut self, parent: usize, token: TokenId) {
        self.nodes.push((token, parent as u32));
    }

    pub(crate) fn token(&self, node: usize) -> TokenId {
        self.nodes[node].0
    }

    /// Parent of a node, `None` for the root.
    pub(crate) fn parent(&self, node: usize) -> Option<usize> {
        Some(self.nodes[node].1).filter(|&p| p != NONE).map(|p| p as usize)
    }

    /// Tree node of each row: rows of a whole tree come in its order, those of an accepted path
    /// from the root down. `None` for rows of another tree.
    pub(crate) fn nodes_of(&self, rows: &[TopIds]) -> Option<Vec<usize>> {
        let whole = rows.len() <= self.nodes.len()
            && rows.iter().zip(&self.nodes).all(|(r, s)| r.token == s.0);
        if whole {
            return Some((0..rows.len()).collect());
        }
        let mut at = 0;
        let mut out = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            if i > 0 {
                let below = |s: &(TokenId, u32)| s.1 == at as u32 && s.0 == row.token;
                at = self.nodes.iter().position(below)?;
            }
            out.push(at);
        }
        Some(out)
    }

    pub(crate) fn memory(&self) -> usize {
        self.nodes.capacity() * 8
    }
}

/// Serves a planner's trie as candidates of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Planned<P> {
    planner: P,
    text: Vec<TokenId>,
    trie: Trie,
    /// Trie node of each tree node.
    at: Vec<u32>,
    shape: Shape,
}

impl<P: Planner> Planned<P> {
    pub(crate) fn open(planner: P, text: &[TokenId]) -> Box<dyn RequestSource> {
        let mut this = Self {
            planner,
            text: Vec::new(),
            trie: Trie::default(),
            at: Vec::new(),
            shape: Shape::default(),
        };
        this.commit(text);
        Box::new(this)
    }
}

impl<P: Planner> RequestSource for Planned<P> {
    fn commit(&mut self, tokens: &[TokenId]) {
        let from = self.text.len();
        self.text.extend_from_slice(tokens);
        self.planner.extend(&self.text, from);
    }

    fn rollback(&mut self, left: &[TokenId], _n: usize) {
        self.planner.retract(&self.text, left.len());
        self.text.truncate(left.len());
    }

    fn observe_rows(&mut self, rows: &[TopIds]) {
        let Some(nodes) = self.shape.nodes_of(rows) else { return };
        let seen = rows
            .iter()
            .zip(nodes)
            .filter(|(_, node)| self.at[*node] != NONE)
            .map(|(row, node)| (self.at[node], row.accepted, &row.ids[..]))
            .collect();
        self.planner.observe(&self.text, &Seen { trie: &self.trie, rows: seen });
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        Box::new(self.clone())
    }

    fn root(&mut self, last: TokenId) {
        self.trie.clear();
        self.planner.plan(&self.text, &mut self.trie);
        self.at.clear();
        self.at.push(0);
        self.shape.root(last);
    }

    fn idle(&mut self, last: TokenId) {
        self.trie.clear();
        self.at.clear();
        self.at.push(0);
        self.shape.root(last);
    }

    fn node(&mut self, parent: usize, token: TokenId) {
        let at = match self.at[parent] {
            NONE => NONE,
            p => self.trie.child(p, token).unwrap_or(NONE),
        };
        self.at.push(at);
        self.shape.node(parent, token);
    }

    fn candidates(&mut self, node: usize, _depth: usize, out: &mut Candidates) {
        if self.at[node] == NONE {
            return;
        }
        for c in self.trie.children(self.at[node]) {
            let n = self.trie.node(c);
            out.push(Candidate { token: n.token, slot: 0, feature: n.feature, prior: n.prior });
        }
    }

    fn finish(&mut self, text: &[TokenId], prompt_len: usize) {
        self.planner.finish(text, prompt_len);
    }

    fn memory(&self) -> usize {
        self.planner.memory()
            + self.text.capacity() * 4
            + self.trie.nodes.capacity() * size_of::<TrieNode>()
            + self.at.capacity() * 4
            + self.shape.memory()
    }
}

/// 0, 1, 2, 3-4, 5-8, 9 and more.
pub(crate) fn magnitude(n: usize) -> u16 {
    match n {
        0..=2 => n as u16,
        3..=4 => 3,
        5..=8 => 4,
        _ => 5,
    }
}

/// Situations of [`magnitude`].
pub(crate) const MAGNITUDES: u16 = 6;

#[cfg(test)]
pub(crate) mod testing {
    //! A source driven without a speculator.

    use super::*;
    use crate::draft::SharedSource;

    /// Paths of the draft that continues the text: what the builder would take with room for all.
    pub(crate) fn drafts(view: &mut dyn RequestSource, last: TokenId) -> Vec<Vec<TokenId>> {
        fn grow(
            view: &mut dyn RequestSource,
            (node, count): (usize, &mut usize),
            path: &[TokenId],
            out: &mut Vec<Vec<TokenId>>,
        ) {
            let mut named = Candidates::default();
            view.candidates(node, path.len(), &mut named);
            let children = named.tokens();
            // Sources that propose at every node could go on for ever.
            let end = children.is_empty() || path.len() == 40 || *count > 2000;
            if end && !path.is_empty() {
                out.push(path.to_vec());
            }
            for &token in children.iter().filter(|_| !end) {
                view.node(node, token);
                *count += 1;
                let (child, mut longer) = (*count, path.to_vec());
                longer.push(token);
                grow(view, (child, &mut *count), &longer, out);
            }
        }
        view.root(last);
        let mut out = Vec::new();
        grow(view, (0, &mut 0), &[], &mut out);
        out
    }

    /// The draft of a fresh request over `text`.
    pub(crate) fn draft_of(source: &dyn SharedSource, text: &[TokenId]) -> Vec<Vec<TokenId>> {
        let mut view = source.open(&crate::Scope::default(), text);
        drafts(view.as_mut(), text.last().copied().unwrap_or(0))
    }

    /// Commits, rollbacks and forks leave the drafts of a fresh request over the same text.
    pub(crate) fn follows_the_laws(source: &dyn SharedSource, text: &[TokenId]) {
        let mut view = source.open(&crate::Scope::default(), &text[..1]);
        for end in 2..=text.len() {
            view.commit(&text[end - 1..end]);
            if end % 3 == 0 {
                let mut fork = view.fork();
                fork.commit(&[1, 1, 0, 2, 1]);
                drop(drafts(fork.as_mut(), 1));
                view.commit(&[0, 1, 1, 0]);
                view.rollback(&text[..end], 4);
            }
            let got = drafts(view.as_mut(), text[end - 1]);
            assert_eq!(got, draft_of(source, &text[..end]), "after {:?}", &text[..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_share_prefixes_and_the_first_describes() {
        let mut t = Trie::default();
        t.clear();
        t.add_path(&[1, 2, 3], |_| (0.5, 1));
        t.add_path(&[1, 2, 4], |_| (0.9, 2));
        t.add_path(&[5], |_| (0.1, 3));
        assert_eq!(t.paths(), [vec![1, 2, 3], vec![1, 2, 4], vec![5]]);
        assert_eq!(t.len(), 5);
        let one = t.child(0, 1).unwrap();
        assert_eq!((t.node(one).prior, t.node(one).feature), (0.5, 1));
    }

    #[test]
    fn a_full_trie_takes_no_more() {
        let mut t = Trie::default();
        t.clear();
        for i in 0..2 * MAX_TRIE as u32 {
            t.add(0, i, 0.5, 0);
            if i > 20 {
                break;
            }
        }
        let long: Vec<u32> = (100..100 + 2 * MAX_TRIE as u32).collect();
        t.add_path(&long, |_| (0.5, 0));
        assert_eq!(t.len(), MAX_TRIE);
        assert_eq!(t.add(0, 7, 0.5, 0), t.child(0, 7), "known tokens are still found");
    }
}
