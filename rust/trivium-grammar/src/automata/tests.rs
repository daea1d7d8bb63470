//! Random expressions with all operators against membership by definition, over all short texts.

use super::dfa::Automaton;
use super::expr::{Arena, EMPTY, ExprId, INF};
use super::look::Ctx;
use super::spell::Spelling;
use super::table::DEAD;
use crate::limits::CompileLimits;

/// An expression as the oracle reads it.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Chars(Vec<char>),
    Cat(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Not(Box<Tree>),
    Loop(Box<Tree>, u32, u32),
}

/// A small deterministic source of choices.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn tree(&mut self, depth: u32) -> Tree {
        let sub = |r: &mut Self| Box::new(r.tree(depth - 1));
        match if depth == 0 { 0 } else { self.below(12) } {
            0..=2 => {
                let all = ['a', 'b', 'é', '"', '\n'];
                Tree::Chars(all.into_iter().filter(|_| self.below(2) == 0).collect())
            }
            3..=5 => Tree::Cat(sub(self), sub(self)),
            6 => Tree::Or(sub(self), sub(self)),
            7 | 8 => Tree::And(sub(self), sub(self)),
            9 => Tree::Not(sub(self)),
            _ => {
                let (min, max) =
                    [(0, INF), (1, INF), (0, 1), (2, 3), (0, 2), (2, INF)][self.below(6)];
                Tree::Loop(sub(self), min, max)
            }
        }
    }
}

pub(crate) const ALPHABET: [char; 6] = ['a', 'b', 'é', '"', '\n', '\\'];

impl Tree {
    fn holds(&self, text: &[char]) -> bool {
        match self {
            Self::Chars(set) => text.len() == 1 && set.contains(&text[0]),
            Self::Cat(x, y) => (0..=text.len()).any(|i| x.holds(&text[..i]) && y.holds(&text[i..])),
            Self::Or(x, y) => x.holds(text) || y.holds(text),
            Self::And(x, y) => x.holds(text) && y.holds(text),
            Self::Not(x) => !x.holds(text),
            Self::Loop(x, min, max) => {
                if text.is_empty() {
                    return *min == 0 || x.holds(text);
                }
                if *max == 0 {
                    return false;
                }
                let less = |n: u32| if n == INF { INF } else { n.saturating_sub(1) };
                let min = if x.holds(&[]) { 0 } else { less(*min) };
                let rest = Self::Loop(x.clone(), min, less(*max));
                (1..=text.len()).any(|i| x.holds(&text[..i]) && rest.holds(&text[i..]))
            }
        }
    }

    fn build(&self, a: &mut Arena) -> ExprId {
        match self {
            Self::Chars(set) => {
                let set = set.iter().map(|&c| (c.into(), c.into())).collect();
                a.class(super::charset::normalize(set))
            }
            Self::Cat(x, y) => {
                let (x, y) = (x.build(a), y.build(a));
                a.concat(x, y)
            }
            Self::Or(x, y) => {
                let (x, y) = (x.build(a), y.build(a));
                a.union(&[x, y])
            }
            Self::And(x, y) => {
                let (x, y) = (x.build(a), y.build(a));
                a.inter(&[x, y])
            }
            Self::Not(x) => {
                let x = x.build(a);
                a.not(x)
            }
            Self::Loop(x, min, max) => {
                let x = x.build(a);
                a.repeat(x, *min, *max)
            }
        }
    }
}

fn texts(len: usize) -> Vec<Vec<char>> {
    let mut out = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..len {
        let to = out.len();
        for i in from..to {
            for c in ALPHABET {
                let mut t: Vec<char> = out[i].clone();
                t.push(c);
                out.push(t);
            }
        }
        from = to;
    }
    out
}

/// A shortest text by breadth-first derivation.
fn witness(a: &mut Arena, e: ExprId) -> Vec<char> {
    let mut layer = vec![(a.place(e, Ctx::Edge), Vec::new())];
    loop {
        let mut next = Vec::new();
        for ((e, ctx), text) in layer {
            if a.accepts(e, ctx) {
                return text;
            }
            for c in ALPHABET {
                let to = a.derive(e, ctx, c.into()).unwrap();
                if to.0 != EMPTY && !next.iter().any(|(p, _)| *p == to) {
                    let mut longer: Vec<char> = text.clone();
                    longer.push(c);
                    next.push((to, longer));
                }
            }
        }
        layer = next;
        assert!(!layer.is_empty(), "a live expression without a text over the alphabet");
    }
}

#[test]
fn boolean_expressions_mean_what_they_say() {
    let all = texts(4);
    let mut random = Random(5);
    for round in 0..600 {
        let tree = random.tree(3);
        // Only the alphabet, so that emptiness can be judged by the texts over it.
        let mut a = Arena::new(1 << 26);
        let inner = tree.build(&mut a);
        let set = super::charset::normalize(ALPHABET.map(|c| (c.into(), c.into())).to_vec());
        let class = a.class(set);
        let over = a.repeat(class, 0, INF);
        let e = a.inter(&[inner, over]);
        a.refuel();
        let mut lengths = [false; 5];
        for t in &all {
            let text: String = t.iter().collect();
            let want = tree.holds(t);
            assert_eq!(a.matches(e, &text).unwrap(), want, "{round}: {tree:?} on {text:?}");
            lengths[t.len()] |= want;
        }
        a.refuel();
        let live = a.is_live(e, Ctx::Edge).unwrap();
        if lengths.contains(&true) {
            assert!(live, "{round}: {tree:?}");
        }
        let found = a.lengths(e).unwrap();
        assert_eq!(found.shortest.is_some(), live, "{round}: {tree:?}");
        if live {
            let text = witness(&mut a, e);
            assert!(tree.holds(&text), "{round}: {tree:?} has no {text:?}");
            assert_eq!(found.shortest, Some(text.len() as u32), "{round}: {tree:?}");
        }
        // Every length that is claimed exists, and live intervals are the ones with a text.
        for (n, &exists) in lengths.iter().enumerate() {
            if found.all_from.is_some_and(|from| from as usize <= n) {
                assert!(exists, "{round}: {tree:?} length {n}");
            }
            for m in 0..=n {
                let interval = a.of_length(m as u32, n as u32);
                let both = a.inter(&[e, interval]);
                assert_eq!(
                    !a.is_empty(both).unwrap(),
                    lengths[m..=n].contains(&true),
                    "{round}: {tree:?} {m}..={n}"
                );
            }
        }
        let known = a.lengths_known(e);
        if known.dense {
            for (n, &exists) in lengths.iter().enumerate() {
                let n = n as u32;
                assert_eq!(exists, (known.min..=known.max).contains(&n), "{round}: {tree:?}");
            }
        }
    }
}

/// All spellings of a character.
fn spellings(c: char, how: Spelling) -> Vec<String> {
    let mut out = Vec::new();
    let short = match c {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        '\n' => Some("\\n"),
        _ => None,
    };
    out.extend(short.map(str::to_owned));
    if short.is_none() {
        out.push(c.to_string());
    }
    if how == Spelling::Any {
        let mut units = [0; 2];
        let units = c.encode_utf16(&mut units);
        out.push(units.iter().map(|u| format!("\\u{u:04x}")).collect());
        out.push(units.iter().map(|u| format!("\\u{u:04X}")).collect());
    }
    out
}

#[test]
fn spelled_languages_are_the_spellings() {
    let all = texts(3);
    let mut random = Random(17);
    for round in 0..200 {
        let tree = random.tree(3);
        let mut a = Arena::new(1 << 26);
        let e = tree.build(&mut a);
        for how in [Spelling::Minimal, Spelling::Any] {
            let spelled = a.spell(e, how);
            for t in &all {
                let text: String = t
                    .iter()
                    .map(|&c| {
                        let s = spellings(c, how);
                        s[random.below(s.len())].clone()
                    })
                    .collect();
                a.refuel();
                let want = tree.holds(t);
                assert_eq!(a.matches(spelled, &text).unwrap(), want, "{tree:?} {text:?}");
            }
            assert_eq!(a.is_empty(spelled).unwrap(), a.is_empty(e).unwrap(), "{round}: {tree:?}");
        }
    }
}

#[test]
fn every_character_has_exactly_its_spellings() {
    let mut a = Arena::new(1 << 26);
    let any = a.of_length(1, 1);
    let minimal = a.spell(any, Spelling::Minimal);
    let full = a.spell(any, Spelling::Any);
    for bad in
        ["\"", "\\", "\n", r"\x", r"\u12", r"\ud800", r"\udc00", r"\ud800\u0041", "ab", "\u{1}"]
    {
        for e in [minimal, full] {
            assert!(!a.matches(e, bad).unwrap(), "{bad:?}");
        }
    }
    for (text, both) in [
        (r"\u0001", true),
        (r"\u001F", true),
        (r"\u000a", false),
        (r"\/", true),
        ("/", true),
        ("\u{7f}", true),
        ("\u{2028}", true),
        (r"\u00e9", false),
        (r"\ud83d\ude00", false),
        ("😀", true),
        (r"\uDBFF\uDFFF", false),
        (r"\uFFFF", false),
        (r"\b", true),
    ] {
        assert_eq!(a.matches(minimal, text).unwrap(), both, "{text}");
        assert!(a.matches(full, text).unwrap(), "{text}");
    }
    // Every code point of a class, and only those.
    for (lo, hi) in
        [(0x20, 0x20), (0xd7ff, 0xe001), (0xfff0, 0x1_0010), (0x1_03ff, 0x1_0c01), (0x9, 0x1f)]
    {
        let class = a.class(vec![(lo, hi)]);
        let e = a.spell(class, Spelling::Any);
        for c in (lo.saturating_sub(3)..hi + 3).filter_map(char::from_u32) {
            let mut units = [0; 2];
            let text: String =
                c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}")).collect();
            a.refuel();
            assert_eq!(a.matches(e, &text).unwrap(), (lo..=hi).contains(&c.into()), "{text}");
        }
    }
}

#[test]
fn long_strings_cost_nothing() {
    let mut a = Arena::new(1 << 22);
    let word = a.class(vec![(97, 122)]);
    let words = a.repeat(word, 1, INF);
    let pair = a.sequence(&[word, word]);
    let pairs = a.repeat(pair, 1, INF);
    let forbidden = a.literal("zz");
    let top = a.top();
    let holds = a.sequence(&[top, forbidden, top]);
    let free = a.not(holds);
    for x in [words, pairs, free] {
        let length = a.of_length(100_000, 100_001);
        let e = a.inter(&[x, free, length]);
        a.refuel();
        assert!(!a.is_empty(e).unwrap());
        let spelled = a.spell(e, Spelling::Any);
        let mut here = a.place(spelled, Ctx::Edge);
        for _ in 0..20 {
            here = a.derive(here.0, here.1, 'a'.into()).unwrap();
            assert!(a.is_live(here.0, here.1).unwrap());
        }
    }
    let even = a.inter(&[pairs, free]);
    let odd = a.of_length(7, 7);
    let none = a.inter(&[even, odd]);
    assert!(a.is_empty(none).unwrap());
    assert!(a.includes(words, even).unwrap());
    assert!(!a.includes(even, words).unwrap());
    assert!(a.memory() < 1 << 20, "{}", a.memory());
}

#[test]
fn automata_of_boolean_expressions_have_no_dead_end() {
    let all = texts(3);
    let mut random = Random(29);
    for _ in 0..150 {
        let tree = random.tree(3);
        let mut a = Arena::new(1 << 26);
        let e = tree.build(&mut a);
        let automaton = Automaton::new(a, e, CompileLimits::default(), None).unwrap();
        for t in &all {
            let text: String = t.iter().collect();
            let state = automaton.walk(automaton.start(), text.as_bytes()).unwrap();
            assert_eq!(automaton.accepting(state).unwrap(), tree.holds(t), "{tree:?} {text:?}");
        }
        // From every state that a few bytes reach, a completion.
        let mut states = vec![automaton.start()];
        let mut i = 0;
        while i < states.len() && states.len() < 60 {
            for &to in automaton.row(states[i]).unwrap() {
                if to != DEAD && !states.contains(&to) {
                    states.push(to);
                }
            }
            i += 1;
        }
        for &s in states.iter().filter(|&&s| s != DEAD) {
            let mut seen = vec![s];
            let mut at = 0;
            loop {
                assert!(at < seen.len(), "{tree:?}: a dead end");
                if automaton.accepting(seen[at]).unwrap() {
                    break;
                }
                for &to in automaton.row(seen[at]).unwrap() {
                    if to != DEAD && !seen.contains(&to) {
                        seen.push(to);
                    }
                }
                at += 1;
            }
        }
    }
}
