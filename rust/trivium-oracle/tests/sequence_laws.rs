//! The laws of per-sequence objects, applied to requests and matchers.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use proptest::prelude::*;
use std::sync::Arc;
use trivium_core::Vocabulary;
use trivium_oracle::laws::{Sequence, check};
use trivium_spec::draft::SOURCES;
use trivium_spec::{Policy, Request, RequestOptions, Speculator, SpeculatorConfig};

struct Followed {
    spec: Arc<Speculator>,
    request: Request,
}

impl Sequence for Followed {
    /// Text, and the tree that would be proposed: tokens, parents, scores.
    type View = (Vec<u32>, Vec<u32>, Vec<i32>, Vec<u32>);

    fn commit(&mut self, tokens: &[u32]) -> bool {
        self.request.commit(tokens).is_ok()
    }

    fn rollback(&mut self, n: usize) -> bool {
        self.request.rollback(n).is_ok()
    }

    fn reset(&mut self) {
        self.request.reset().unwrap();
    }

    fn sync(&mut self, tokens: &[u32]) -> bool {
        let prompt = self.request.tokens()[..self.request.prompt_len()].to_vec();
        self.request.sync(&[&prompt, tokens].concat()).is_ok()
    }

    fn fork(&self) -> Self {
        Self { spec: self.spec.clone(), request: self.spec.fork(&self.request) }
    }

    fn len(&self) -> usize {
        self.request.len() - self.request.prompt_len()
    }

    fn observe(&mut self) -> Self::View {
        let batch = self.spec.propose(&mut [&mut self.request], None).unwrap();
        (
            self.request.tokens().to_vec(),
            batch.tokens().to_vec(),
            batch.parents().to_vec(),
            batch.scores().iter().map(|s| s.to_bits()).collect(),
        )
    }
}

fn request(vocab: usize, sources: &[&str], constraint: bool) -> Followed {
    let spec = Speculator::new(SpeculatorConfig {
        vocab_size: vocab,
        sources: sources.iter().map(ToString::to_string).collect(),
        max_nodes: 12,
        max_depth: 5,
        policy: Policy::Full,
        seed: 1,
        max_bytes: 1 << 16,
    })
    .unwrap();
    let options = RequestOptions {
        constraint: constraint.then(|| Box::new(matcher("(ab*)*c?")) as _),
        ..Default::default()
    };
    let request = spec.start(&[0, 1, 2, 0, 1], options).unwrap();
    Followed { spec: Arc::new(spec), request }
}

fn vocabulary() -> Arc<Vocabulary> {
    Arc::new(Vocabulary::new(&[&b"a"[..], b"b", b"c", b"ab", b""], &[], &[4], None).unwrap())
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..6, 0..8)
}

fn matcher(pattern: &str) -> trivium_grammar::Matcher {
    let grammar = trivium_grammar::GrammarMask::regex(
        pattern,
        &vocabulary(),
        trivium_grammar::Dialect::Rust,
        true,
        trivium_grammar::CompileLimits::default(),
    )
    .unwrap();
    grammar.matcher()
}

struct Masked(trivium_grammar::Matcher);

impl Sequence for Masked {
    /// Tokens, mask, accepting, finished.
    type View = (Vec<u32>, Vec<u32>, bool, bool);

    fn commit(&mut self, tokens: &[u32]) -> bool {
        let all = tokens.iter().all(|&t| t < 5);
        let n = if all { self.0.commit_all(tokens).unwrap() } else { 0 };
        if n < tokens.len() {
            // `commit_all` stops before the first refused token and keeps the rest.
            self.0.rollback(n).unwrap();
        }
        n == tokens.len()
    }

    fn rollback(&mut self, n: usize) -> bool {
        self.0.rollback(n).is_ok()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn sync(&mut self, tokens: &[u32]) -> bool {
        let before = self.0.tokens();
        let accepted = self.0.sync(tokens).unwrap_or(usize::MAX);
        if accepted != tokens.len() {
            // A matcher follows off-grammar tokens and is dead there; the harness wants a refusal.
            assert_eq!(accepted == usize::MAX, self.0.dead_at().is_none());
            self.0.sync(&before).unwrap();
        }
        accepted == tokens.len()
    }

    fn fork(&self) -> Self {
        Self(self.0.fork())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn observe(&mut self) -> Self::View {
        let mut row = vec![0u32; self.0.words()];
        self.0.fill(&mut row).unwrap();
        (self.0.tokens(), row, self.0.is_accepting().unwrap(), self.0.is_finished())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn requests_obey_the_laws(a in tokens(), b in tokens(), which in 0..=SOURCES.len()) {
        let one = SOURCES.get(which).map(std::slice::from_ref);
        check(request(6, one.unwrap_or(&["suffix", "recycle"]), false), &a, &b);
    }

    #[test]
    fn constrained_requests_obey_the_laws(
        a in prop::collection::vec(0u32..5, 0..4), b in prop::collection::vec(0u32..5, 0..3),
    ) {
        check(request(5, &["suffix", "recycle"], true), &a, &b);
    }

    #[test]
    fn matchers_obey_the_laws(
        a in prop::collection::vec(0u32..5, 0..5), b in prop::collection::vec(0u32..6, 0..4),
        pattern in prop::sample::select(vec!["(ab*)*c?", "a{2,4}b|c+", "(a|b)*abb", "ab?c"]),
    ) {
        check(Masked(matcher(pattern)), &a, &b);
    }
}

/// Nodes that the constraint forbids are never proposed, and every allowed one keeps its place.
#[test]
fn a_constraint_prunes_the_tree() {
    let mut free = request(5, &["suffix"], false);
    let mut bound = request(5, &["suffix"], true);
    for r in [&mut free, &mut bound] {
        assert!(r.commit(&[0, 1, 2]) == (r.request.len() == 8));
    }
    let (.., parents, _) = bound.observe();
    // After "abc" the grammar (ab*)*c? allows the end of sequence only; the text's habit is "a".
    assert_eq!(parents, [-1]);
    assert!(free.observe().2.len() > 1);
}
