//! What every source promises of the texts that requests share: a bound in bytes, tenants apart,
//! files that give the same drafts again, damage refused.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use trivium_core::TokenId;
use trivium_core::rng::philox;
use trivium_spec::draft::{SOURCES, Saved, Scope, SharedSource, by_name};
use trivium_spec::{Policy, RequestOptions, Speculator, SpeculatorConfig};

const VOCAB: usize = 500;
const BYTES: usize = 400_000;

/// A text with repeats: runs of a few phrases and noise between them.
fn text(seed: u32, n: usize) -> Vec<TokenId> {
    let at = |i: usize, lane: u32| philox([i as u32 / 8, lane, seed, 3], [5, 5])[0];
    (0..n)
        .map(|i| {
            let (phrase, noise) = (at(i, 0) % 12, at(i, 1) % 3 == 0);
            if noise {
                philox([i as u32, 9, seed, 1], [1, 1])[0] % VOCAB as u32
            } else {
                (phrase * 8 + i as u32 % 8) * 5 % VOCAB as u32
            }
        })
        .collect()
}

fn learn(source: &dyn SharedSource, scope: &Scope, text: &[TokenId]) {
    let mut view = source.open(scope, &text[..1]);
    text[1..].chunks(7).for_each(|c| view.commit(c));
    view.finish(text, 1);
}

/// Sources whose shared store learns from finished texts, and what it may hold at most.
fn bound(name: &str) -> usize {
    match name {
        // A fixed table a tenant, whatever was said.
        "recycle" => VOCAB * 100,
        _ => BYTES,
    }
}

#[test]
fn bytes_are_bounded_whatever_is_learned() {
    for name in SOURCES {
        let source = by_name(name, VOCAB, BYTES).unwrap();
        let mut most = 0;
        for i in 0..60 {
            let scope = Scope { tenant: None, group: Some(format!("g{}", i / 4)) };
            learn(source.as_ref(), &scope, &text(i, 400));
            most = most.max(source.memory());
            assert!(source.memory() <= bound(name), "{name}: {} bytes", source.memory());
        }
        let learns = !matches!(
            name,
            "prompt_lookup" | "ngram" | "lookahead" | "jacobi" | "fastcot" | "aded" | "recycle"
        );
        assert!(!learns || most > BYTES / 5, "{name} uses {most} of {BYTES}");
    }
}

#[test]
fn tenants_share_nothing() {
    let said = text(1, 300);
    for name in SOURCES {
        let config = |sources: Vec<String>| SpeculatorConfig {
            vocab_size: VOCAB,
            sources,
            max_nodes: 12,
            max_depth: 8,
            policy: Policy::Full,
            seed: 0,
            max_bytes: BYTES,
        };
        let spec = Speculator::new(config(vec![name.into()])).unwrap();
        let scope = |tenant: &str| RequestOptions {
            scope: Scope { tenant: Some(tenant.into()), group: Some("g".into()) },
            ..RequestOptions::default()
        };
        let draft = |spec: &Speculator, tenant: &str| {
            let mut r = spec.start(&said[270..290], scope(tenant)).unwrap();
            spec.propose(&mut [&mut r], None).unwrap().tokens().to_vec()
        };
        let fresh = draft(&Speculator::new(config(vec![name.into()])).unwrap(), "b");
        for _ in 0..6 {
            let mut r = spec.start(&said[..20], scope("a")).unwrap();
            r.commit(&said[20..]).unwrap();
            r.finish(true);
        }
        assert_eq!(draft(&spec, "b"), fresh, "{name}: what a tenant said reaches no other");
        let learns = !matches!(
            name,
            "prompt_lookup" | "ngram" | "lookahead" | "jacobi" | "fastcot" | "aded"
        );
        assert!(!learns || draft(&spec, "a") != fresh, "{name}: its own requests know it");
    }
}

/// What a store proposes after a text, over the anonymous tenant.
fn drafts(source: &dyn SharedSource, prompt: &[TokenId]) -> Vec<(TokenId, u8, u16)> {
    let mut view = source.open(&Scope::default(), prompt);
    let mut out = Vec::new();
    view.root(prompt[prompt.len() - 1]);
    let mut seen = trivium_spec::draft::Candidates::default();
    view.candidates(0, 0, &mut seen);
    out.extend(seen.iter().map(|c| (c.token, c.slot, c.feature)));
    out
}

#[test]
fn files_give_the_same_drafts_and_damage_is_refused() {
    // Room for one generation, whose border would move.
    const ROOMY: usize = 10 * BYTES;
    for name in SOURCES {
        let source = by_name(name, VOCAB, ROOMY).unwrap();
        (0..8).for_each(|i| learn(source.as_ref(), &Scope::default(), &text(i, 200)));
        let saved = source.save();
        let again = by_name(name, VOCAB, ROOMY).unwrap();
        again.load(&saved).unwrap();
        let mut known = 0;
        for i in 0..40 {
            let prompt = &text(i % 8, 200)[i as usize..i as usize + 9];
            let want = drafts(source.as_ref(), prompt);
            known += usize::from(!want.is_empty());
            assert_eq!(drafts(again.as_ref(), prompt), want, "{name}");
        }
        assert!(again.memory() <= ROOMY, "{name}");
        if saved.is_empty() {
            continue; // holds no texts: what it knows is the request's own, or a file of its own
        }
        assert!(known > 0, "{name} drafts");
        // A smaller store takes of a file what it has room for.
        let small = by_name(name, VOCAB, 60_000).unwrap();
        small.load(&saved).unwrap();
        assert!(small.memory() <= bound(name).min(60_000) || name == "recycle", "{name}");
        // Arrays missing, or with ids that do not exist.
        assert!(again.load(&Saved::new()).is_err(), "{name}");
        for key in saved.keys() {
            let mut bad = saved.clone();
            let array = bad.get_mut(key).unwrap();
            array.iter_mut().for_each(|x| *x = u32::MAX - 7);
            // The file's reader has looked at the ids of `suffix`.
            if !array.is_empty() && key != "tokens" || name == "recycle" {
                let failed = again.load(&bad).is_err();
                assert!(failed, "{name}.{key}");
            }
        }
        let prompt = &text(3, 200)[5..14];
        assert_eq!(drafts(again.as_ref(), prompt), drafts(source.as_ref(), prompt), "{name}");
    }
}
