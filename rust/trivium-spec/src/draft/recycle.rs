//! Token Recycling: after token `t`, propose the ids the target last ranked highest after `t`.
//!
//! Luo et al., "Turning Trash into Treasure: Accelerating Inference of Large Language Models with
//! Token Recycling" (arXiv 2408.08696). State: [`RANKS`] ids a token. Three things differ from the
//! released code, none of which can change emitted text: unset rows propose nothing instead of
//! token 0; a row seen on the accepted path beats one seen off it; text seeds a token's row with
//! its successors until the target's own ranking is known (where no suffix source says the same, and
//! more, of them). The fixed template is replaced by the
//! builder's heap, which grows the same rows by measured acceptance.
//!
//! A request writes to its own overlay, with an undo journal of the last [`JOURNAL`] writes; the
//! tenant's table learns at `finish`.

use super::{Candidate, Candidates, RequestSource, Saved, Scope, SharedSource, TopIds};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Ids kept a token.
pub const RANKS: usize = 8;

/// Overlay writes that rollback can undo.
const JOURNAL: usize = 4096;

const UNSET: TokenId = TokenId::MAX;

/// Guess of the acceptance by rank before anything is measured.
const PRIOR: [f32; RANKS] = [0.35, 0.12, 0.07, 0.05, 0.03, 0.025, 0.02, 0.015];

type Row = [TokenId; RANKS];
type Shared = Arc<RwLock<FxHashMap<TokenId, Row>>>;

/// The recycling source of a speculator: one table a tenant, at most `RANKS * 4 * V` bytes each.
#[derive(Debug)]
pub struct Recycle {
    tenants: Mutex<BTreeMap<Option<String>, Shared>>,
    vocab: usize,
    /// Whether text seeds rows.
    seeds: bool,
}

impl Recycle {
    /// A source over ids below `vocab`.
    pub fn new(vocab: usize) -> Self {
        Self { tenants: Mutex::default(), vocab, seeds: true }
    }

    fn tenant(&self, name: Option<&String>) -> Shared {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(name.cloned()).or_default().clone()
    }
}

impl SharedSource for Recycle {
    fn name(&self) -> &'static str {
        "recycle"
    }

    fn slots(&self) -> &'static [usize] {
        &[RANKS * 3 * 4]
    }

    fn beside(&mut self, others: &[&str]) {
        self.seeds = !others.contains(&"suffix");
    }

    fn open(&self, scope: &Scope, text: &[TokenId]) -> Box<dyn RequestSource> {
        let mut view = View {
            shared: self.tenant(scope.tenant.as_ref()),
            seeds: self.seeds,
            overlay: FxHashMap::default(),
            journal: VecDeque::new(),
            last: None,
            len: 0,
            nodes: Vec::new(),
        };
        view.commit(text);
        Box::new(view)
    }

    fn memory(&self) -> usize {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.values().map(|t| read(t).capacity() * (size_of::<Row>() + 5)).sum()
    }

    fn save(&self) -> Saved {
        let table = self.tenant(None);
        let mut rows: Vec<(TokenId, Row)> = read(&table).iter().map(|(t, r)| (*t, *r)).collect();
        rows.sort_unstable();
        Saved::from([
            ("tokens".into(), rows.iter().map(|(t, _)| *t).collect()),
            ("rows".into(), rows.iter().flat_map(|(_, r)| *r).collect()),
        ])
    }

    fn load(&self, saved: &Saved) -> Result<()> {
        let part = |name: &str| {
            saved
                .get(name)
                .ok_or_else(|| Error::input("store", format!("recycle.{name} is missing")))
        };
        let (tokens, rows) = (part("tokens")?, part("rows")?);
        let sound = rows.len() == tokens.len() * RANKS
            && tokens.iter().all(|&t| (t as usize) < self.vocab)
            && rows.iter().all(|&t| t == UNSET || (t as usize) < self.vocab);
        if !sound {
            return Err(Error::input("store", "recycle.rows does not fit recycle.tokens"));
        }
        let table = tokens
            .iter()
            .zip(rows.chunks_exact(RANKS))
            .map(|(&t, r)| (t, std::array::from_fn(|i| r[i])))
            .collect();
        let shared = self.tenant(None);
        *shared.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }
}

fn read(table: &Shared) -> std::sync::RwLockReadGuard<'_, FxHashMap<TokenId, Row>> {
    table.read().unwrap_or_else(PoisonError::into_inner)
}

/// Where a row came from, which decides what may replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Successor in the text.
    Seed,
    /// The target's ranking.
    Ranked,
}

#[derive(Debug, Clone, Copy)]
struct Undo {
    /// Length of the text after the commit that wrote.
    len: usize,
    token: TokenId,
    old: Option<(Row, Origin)>,
}

#[derive(Debug, Clone)]
struct View {
    shared: Shared,
    overlay: FxHashMap<TokenId, (Row, Origin)>,
    journal: VecDeque<Undo>,
    last: Option<TokenId>,
    len: usize,
    seeds: bool,
    /// Token of each node of the tree.
    nodes: Vec<TokenId>,
}

impl View {
    fn write(&mut self, token: TokenId, row: Row, origin: Origin) {
        let old = self.overlay.insert(token, (row, origin));
        if old == Some((row, origin)) {
            return;
        }
        if self.journal.len() == JOURNAL {
            self.journal.pop_front();
        }
        self.journal.push_back(Undo { len: self.len, token, old });
    }
}

impl RequestSource for View {
    fn commit(&mut self, tokens: &[TokenId]) {
        if !self.seeds {
            self.len += tokens.len();
            return;
        }
        for &t in tokens {
            self.len += 1;
            if let Some(previous) = self.last {
                let seeded = self.overlay.get(&previous).copied();
                if !matches!(seeded, Some((_, Origin::Ranked))) {
                    // The newest successor leads, older ones follow.
                    let mut row = seeded.map_or([UNSET; RANKS], |(row, _)| row);
                    let at = row.iter().position(|&x| x == t || x == UNSET).unwrap_or(RANKS - 1);
                    row[..=at].rotate_right(1);
                    row[0] = t;
                    self.write(previous, row, Origin::Seed);
                }
            }
            self.last = Some(t);
        }
    }

    fn rollback(&mut self, left: &[TokenId], n: usize) {
        self.len -= n.min(self.len);
        while let Some(undo) = self.journal.back().copied().filter(|u| u.len > self.len) {
            self.journal.pop_back();
            match undo.old {
                Some(row) => self.overlay.insert(undo.token, row),
                None => self.overlay.remove(&undo.token),
            };
        }
        self.last = left.last().copied();
    }

    fn observe_rows(&mut self, rows: &[TopIds]) {
        // Accepted rows last: where a token occurs twice, the accepted context wins.
        for accepted in [false, true] {
            for r in rows.iter().filter(|r| r.accepted == accepted) {
                let row = std::array::from_fn(|i| r.ids.get(i).copied().unwrap_or(UNSET));
                self.write(r.token, row, Origin::Ranked);
            }
        }
    }

    fn fork(&self) -> Box<dyn RequestSource> {
        Box::new(self.clone())
    }

    fn root(&mut self, last: TokenId) {
        self.nodes.clear();
        self.nodes.push(last);
    }

    fn node(&mut self, _parent: usize, token: TokenId) {
        self.nodes.push(token);
    }

    fn candidates(&mut self, node: usize, depth: usize, out: &mut Candidates) {
        let token = self.nodes[node];
        let shared = || read(&self.shared).get(&token).copied();
        let (row, origin) = match self.overlay.get(&token) {
            Some((row, Origin::Ranked)) => (*row, 0),
            Some((row, Origin::Seed)) => shared().map_or((*row, 2), |r| (r, 1)),
            None => match shared() {
                Some(row) => (row, 1),
                None => return,
            },
        };
        let level = depth.min(3) as u16;
        for (rank, &token) in row.iter().enumerate().take_while(|(_, t)| **t != UNSET) {
            let feature = (rank as u16 * 3 + origin) * 4 + level;
            out.push(Candidate { token, slot: 0, feature, prior: PRIOR[rank] });
        }
    }

    fn finish(&mut self, _text: &[TokenId], _prompt_len: usize) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::iter_over_hash_type)] // each key is written once, in any order
        for (&token, &(row, origin)) in &self.overlay {
            if origin == Origin::Ranked {
                shared.insert(token, row);
            } else {
                shared.entry(token).or_insert(row);
            }
        }
    }

    fn memory(&self) -> usize {
        self.overlay.capacity() * (size_of::<(Row, Origin)>() + 5)
            + self.journal.capacity() * size_of::<Undo>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(view: &mut dyn RequestSource, token: TokenId) -> Vec<TokenId> {
        view.root(token);
        let mut out = Candidates::default();
        view.candidates(0, 0, &mut out);
        out.iter().map(|c| c.token).collect()
    }

    fn rows(token: TokenId, accepted: bool, ids: &[TokenId]) -> TopIds {
        TopIds { token, accepted, ids: ids.to_vec() }
    }

    #[test]
    fn unset_rows_propose_nothing_and_text_seeds_them() {
        let r = Recycle::new(100);
        let mut v = r.open(&Scope::default(), &[1, 2, 1, 3]);
        assert_eq!(top(v.as_mut(), 9), [] as [u32; 0]);
        assert_eq!(top(v.as_mut(), 1), [3, 2]);
        v.observe_rows(&[rows(1, false, &[7, 8])]);
        v.commit(&[1, 5]);
        assert_eq!(top(v.as_mut(), 1), [7, 8], "the target's ranking beats the text");
    }

    #[test]
    fn beside_a_suffix_source_only_the_target_ranks() {
        let mut r = Recycle::new(100);
        r.beside(&["suffix", "recycle"]);
        let mut v = r.open(&Scope::default(), &[1, 2, 1, 3]);
        assert_eq!(top(v.as_mut(), 1), [] as [u32; 0]);
        v.observe_rows(&[rows(1, false, &[7, 8])]);
        v.commit(&[1, 5]);
        assert_eq!(top(v.as_mut(), 1), [7, 8]);
        v.rollback(&[1, 2, 1, 3, 1], 1);
        assert_eq!(top(v.as_mut(), 1), [7, 8], "written before the token that was taken back");
    }

    #[test]
    fn accepted_rows_win_over_rejected_ones() {
        let r = Recycle::new(100);
        let mut v = r.open(&Scope::default(), &[1]);
        v.observe_rows(&[
            rows(4, true, &[5]),
            rows(4, false, &[6]),
            rows(3, false, &[1]),
            rows(3, false, &[2]),
        ]);
        assert_eq!(top(v.as_mut(), 4), [5]);
        assert_eq!(top(v.as_mut(), 3), [2], "the last in breadth-first order wins");
    }

    #[test]
    fn rollback_undoes_what_its_tokens_wrote() {
        let r = Recycle::new(100);
        let mut v = r.open(&Scope::default(), &[1, 2]);
        v.commit(&[1, 3]);
        v.observe_rows(&[rows(1, true, &[9])]);
        assert_eq!(top(v.as_mut(), 1), [9]);
        v.rollback(&[1, 2], 2);
        assert_eq!(top(v.as_mut(), 1), [2]);
        assert_eq!(top(v.as_mut(), 2), [] as [u32; 0]);
    }

    #[test]
    fn the_table_is_shared_at_finish_and_survives_a_file() {
        let r = Recycle::new(100);
        let mut v = r.open(&Scope::default(), &[1]);
        v.observe_rows(&[rows(1, true, &[9, 8])]);
        let mut w = r.open(&Scope::default(), &[5]);
        assert_eq!(top(w.as_mut(), 1), [] as [u32; 0]);
        v.finish(&[1], 1);
        assert_eq!(top(w.as_mut(), 1), [9, 8]);
        let fresh = Recycle::new(100);
        fresh.load(&r.save()).unwrap();
        assert_eq!(top(fresh.open(&Scope::default(), &[5]).as_mut(), 1), [9, 8]);
        assert!(Recycle::new(5).load(&r.save()).is_err());
    }
}
