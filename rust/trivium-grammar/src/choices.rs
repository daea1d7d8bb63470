//! A finite list of texts as a residual: a trie with equal ends shared.

use crate::automata::charset::{self, Range};
use crate::automata::expr::{Arena, EPSILON, ExprId};

/// A node under construction.
#[derive(Default)]
struct Open {
    ends: bool,
    children: Vec<(char, ExprId)>,
}

impl Open {
    fn close(self, arena: &mut Arena) -> ExprId {
        let mut members = if self.ends { vec![EPSILON] } else { Vec::new() };
        let mut children: Vec<(ExprId, Range)> =
            self.children.iter().map(|&(c, e)| (e, (c.into(), c.into()))).collect();
        children.sort_unstable();
        for group in children.chunk_by(|a, b| a.0 == b.0) {
            let class = arena.class(charset::normalize(group.iter().map(|g| g.1).collect()));
            members.push(arena.concat(class, group[0].0));
        }
        arena.union(&members)
    }
}

/// The texts of `list`, in any order, duplicates allowed.
pub(crate) fn lower<S: AsRef<str>>(arena: &mut Arena, list: &[S]) -> ExprId {
    let mut sorted: Vec<Vec<char>> = list.iter().map(|s| s.as_ref().chars().collect()).collect();
    sorted.sort_unstable();
    let mut path: Vec<Open> = vec![Open::default()];
    let mut text: Vec<char> = Vec::new();
    let shrink = |arena: &mut Arena, path: &mut Vec<Open>, text: &mut Vec<char>, to: usize| {
        while text.len() > to {
            if let (Some(node), Some(c)) = (path.pop(), text.pop()) {
                let e = node.close(arena);
                if let Some(parent) = path.last_mut() {
                    parent.children.push((c, e));
                }
            }
        }
    };
    for s in sorted {
        let shared = s.iter().zip(&text).take_while(|(a, b)| a == b).count();
        shrink(arena, &mut path, &mut text, shared);
        for &c in &s[shared..] {
            path.push(Open::default());
            text.push(c);
        }
        if let Some(last) = path.last_mut() {
            last.ends = true;
        }
    }
    shrink(arena, &mut path, &mut text, 0);
    path.pop().unwrap_or_default().close(arena)
}
