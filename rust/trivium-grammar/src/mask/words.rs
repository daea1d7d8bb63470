//! Scans of expressions that few tokens fit: keys, constants, dates.
//!
//! A state of an automaton costs a microsecond to make, and one key of an object leads through a
//! hundred of them that no text ever visits: its prefixes, and the beginnings of its escapes. Where few
//! characters may come next the trie is therefore walked with *places*, positions in the expression
//! itself: nothing is interned, no row is filled, and a scan costs about what its tokens cost.
//!
//! ```text
//! place = (part of the expression, what follows it)      set of places at a node of the trie
//! ```
//!
//! Only plain expressions (no intersections, complements, predicates, numbers) have places: all of
//! them live. The walk gives up where a class is wide, where a character is not ASCII, or after too many
//! nodes; the automaton does better there.

use super::flat::Flat;
use crate::automata::charset::ClassId;
use crate::automata::expr::{Arena, Expr, ExprId};
use crate::automata::markers::{FIRST, TERMINALS, sole};
use trivium_core::TokenId;

/// A class with more characters is left to the automaton.
const WIDE: u32 = 24;
/// So is a walk through more nodes, or with more places at work.
const MOST_NODES: usize = 4096;
const MOST_PLACES: usize = 1 << 14;

/// Nothing follows.
const LAST: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Place {
    expr: ExprId,
    /// Rounds that are left, of a repetition.
    rounds: (u32, u32),
    then: u32,
    origin: u32,
}

/// A character that may come, and the place behind it.
#[derive(Debug, Clone, Copy)]
struct Head {
    class: ClassId,
    to: u32,
}

/// Children of nodes of the trie with their bytes.
pub(crate) type Children = Vec<(u8, u32)>;

/// See the module comment.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// Tokens that stay inside; with the member of the union that they belong to, if that was asked.
    pub(crate) tokens: Vec<(u32, TokenId)>,
    /// By markers: children of nodes where they are complete.
    pub(crate) rests: Vec<(Box<[u32]>, Children)>,
    /// Nodes where the text is a whole one of the expression; not those below another.
    pub(crate) ends: Vec<u32>,
}

/// What the walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Tokens and rests.
    Scan,
    /// The same, tokens by the marker that they can lead to.
    ByMarker,
    /// Where whole texts end; the walk stops there.
    Ends,
}

impl Words {
    /// Walks the trie from an expression; `None` if the automaton has to do it.
    pub(crate) fn new(flat: &Flat, arena: &Arena, expr: ExprId, purpose: Purpose) -> Option<Self> {
        if !arena.is_plain(expr) {
            return None;
        }
        let mut walk = Walk {
            flat,
            arena,
            purpose,
            places: Vec::new(),
            heads: Vec::new(),
            todo: Vec::new(),
            steps: Vec::new(),
            nodes: 0,
            out: Self::default(),
        };
        let start = match arena.node(expr) {
            Expr::Union(members) if purpose == Purpose::ByMarker => members.to_vec(),
            _ => vec![expr],
        };
        for member in start {
            let origin = if purpose == Purpose::ByMarker { sole(arena, member)? } else { 0 };
            let rounds = rounds(arena, member);
            walk.places.push(Place { expr: member, rounds, then: LAST, origin });
        }
        let set: Vec<u32> = (0..walk.places.len() as u32).collect();
        walk.visit(0, &set)?;
        Some(walk.out)
    }
}

fn rounds(arena: &Arena, expr: ExprId) -> (u32, u32) {
    match arena.node(expr) {
        Expr::Repeat { min, max, .. } => (*min, *max),
        _ => (0, 0),
    }
}

struct Walk<'a> {
    flat: &'a Flat,
    arena: &'a Arena,
    purpose: Purpose,
    places: Vec<Place>,
    heads: Vec<Head>,
    todo: Vec<u32>,
    /// (byte, place behind it) of the nodes at work, each node's in a row.
    steps: Vec<(u8, u32)>,
    nodes: usize,
    out: Words,
}

impl Walk<'_> {
    fn place(&mut self, expr: ExprId, then: u32, origin: u32) -> u32 {
        let rounds = rounds(self.arena, expr);
        self.places.push(Place { expr, rounds, then, origin });
        self.places.len() as u32 - 1
    }

    /// Appends what may come at a place; markers that are complete, and whether a text is.
    fn open(&mut self, place: u32, markers: &mut Vec<u32>, whole: &mut bool) -> Option<()> {
        self.todo.push(place);
        while let Some(at) = self.todo.pop() {
            if self.places.len() > MOST_PLACES {
                return None;
            }
            let Place { expr, rounds: (min, max), then, origin } = self.places[at as usize];
            let mut done = false;
            match self.arena.node(expr) {
                Expr::Empty => {}
                Expr::Epsilon => done = true,
                Expr::Class(c) => {
                    let ranges = self.arena.classes.get(*c);
                    for r in ranges.iter().filter(|r| r.0 >= FIRST) {
                        if r.1 - FIRST >= TERMINALS {
                            return None;
                        }
                        markers.extend(r.0 - FIRST..=r.1 - FIRST);
                    }
                    if ranges.first().is_some_and(|r| r.0 < FIRST) {
                        self.heads.push(Head { class: *c, to: then });
                    }
                }
                Expr::Concat(head, tail) => {
                    let tail = self.place(*tail, then, origin);
                    let head = self.place(*head, tail, origin);
                    self.todo.push(head);
                }
                Expr::Union(members) => {
                    for &member in members {
                        let member = self.place(member, then, origin);
                        self.todo.push(member);
                    }
                }
                Expr::Repeat { body, .. } => {
                    if self.arena.lengths_known(*body).min == 0 {
                        return None;
                    }
                    done = min == 0;
                    if max > 0 {
                        let less = |n: u32| if n == u32::MAX { n } else { n.saturating_sub(1) };
                        let rounds = (less(min), less(max));
                        self.places.push(Place { expr, rounds, then, origin });
                        let again = self.places.len() as u32 - 1;
                        let body = self.place(*body, again, origin);
                        self.todo.push(body);
                    }
                }
                _ => return None,
            }
            if done {
                if then == LAST {
                    *whole = true;
                } else {
                    self.todo.push(then);
                }
            }
        }
        Some(())
    }

    fn visit(&mut self, node: usize, set: &[u32]) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return None;
        }
        let flat = self.flat;
        let (first_place, first_head) = (self.places.len(), self.heads.len());
        let (mut markers, mut whole) = (Vec::new(), false);
        // A place that nothing follows is the end of a text.
        for &place in set {
            if place == LAST {
                whole = true;
            } else {
                self.open(place, &mut markers, &mut whole)?;
            }
        }
        let inner = flat.end(node) > node + 1;
        if node != 0 {
            if self.purpose == Purpose::Ends && whole {
                self.out.ends.push(node as u32);
                self.places.truncate(first_place);
                self.heads.truncate(first_head);
                return Some(());
            }
            let mut last = None;
            for &place in set {
                let origin = self.places.get(place as usize).map_or(0, |p| p.origin);
                if last != Some(origin) {
                    let out = &mut self.out.tokens;
                    flat.each_token(node, |t| out.push((origin, t)));
                }
                last = Some(origin);
            }
            if inner && !markers.is_empty() {
                markers.sort_unstable();
                markers.dedup();
                self.leave(node, &markers);
            }
        }
        if inner {
            let first_step = self.steps.len();
            for i in first_head..self.heads.len() {
                let Head { class, to } = self.heads[i];
                let mut wide = 0;
                for r in self.arena.classes.get(class).iter().filter(|r| r.0 < FIRST) {
                    wide += r.1 - r.0 + 1;
                    if r.1 > 0x7f || wide > WIDE {
                        return None;
                    }
                    self.steps.extend((r.0..=r.1).map(|b| (b as u8, to)));
                }
            }
            self.heads.truncate(first_head);
            let mut steps: Vec<(u8, u32)> = self.steps.drain(first_step..).collect();
            steps.sort_unstable();
            steps.dedup();
            for group in steps.chunk_by(|a, b| a.0 == b.0) {
                if let Some(child) = flat.child(node, group[0].0) {
                    let set: Vec<u32> = group.iter().map(|s| s.1).collect();
                    self.visit(child, &set)?;
                }
            }
        }
        self.places.truncate(first_place);
        self.heads.truncate(first_head);
        Some(())
    }

    fn leave(&mut self, node: usize, markers: &[u32]) {
        let rests = &mut self.out.rests;
        let at = rests.iter().position(|r| *r.0 == *markers).unwrap_or_else(|| {
            rests.push((markers.into(), Vec::new()));
            rests.len() - 1
        });
        rests[at].1.extend(self.flat.children(node).map(|(byte, child)| (byte, child as u32)));
    }
}
