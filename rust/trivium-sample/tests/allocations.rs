//! After the first rows of a width, processing and drawing allocate nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use trivium_core::{Address, Draw, ScaledRow, TargetLaw};
use trivium_sample::rules::{
    Dry, Frequency, MinP, Momentum, NgramBlock, Repetition, Rpg, Temperature, TopK, TopP, Typical,
    Xtc,
};
use trivium_sample::{Detail, History, Hyper, Input, Params, Pipeline, Scope, Session, Step};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[allow(unsafe_code)] // a counter in front of the system allocator, for this test alone
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|n| n.set(n.get() + layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATED.try_with(|n| n.set(n.get() + size));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes(f: impl FnOnce()) -> usize {
    let before = ALLOCATED.with(Cell::get);
    f();
    ALLOCATED.with(Cell::get) - before
}

fn rows() -> Vec<Vec<f32>> {
    (0..4u32)
        .map(|r| {
            (0..20_000u32)
                .map(|i| {
                    let h = (i + r * 7919).wrapping_mul(2_654_435_761) >> 8;
                    -((h % 10_007 + 1) as f32 / 10_008.0).ln() - (h % 13) as f32
                })
                .collect()
        })
        .collect()
}

#[test]
fn steady_state_allocates_nothing() {
    let steps: Vec<Step> = vec![
        NgramBlock { n: 3, include_prompt: true }.into(),
        Repetition { penalty: 1.1, scope: Scope::All, window: Some(64) }.into(),
        Frequency { frequency: 0.1, presence: 0.1, scope: Scope::Generated, window: None }.into(),
        Dry { multiplier: 0.8, base: 1.75, allowed: 2, window: 1024, breakers: vec![] }.into(),
        Rpg { include_prompt: true, ..Rpg::default() }.into(),
        Temperature { temperature: 0.8 }.into(),
        TopK { k: 200, ties: true }.into(),
        TopP { p: 0.95 }.into(),
        MinP { m: 0.01 }.into(),
        Typical { mass: 0.99, ties: false }.into(),
        Xtc { probability: 0.5, threshold: 0.1 }.into(),
        Momentum::default().into(),
    ];
    let pipeline = Pipeline::new(steps).unwrap();
    let text: Vec<u32> = (0..900).map(|i| i * 31 % 211).collect();
    let history = History::new(&text, &pipeline.ngrams());
    let rows = rows();
    let mut row = ScaledRow::new();
    for draw in [Draw::Cdf, Draw::Race] {
        let run = |row: &mut ScaledRow| {
            for (i, logits) in rows.iter().enumerate() {
                let input = Input {
                    logits: (&logits[..]).into(),
                    allowed: None,
                    history: &history,
                    address: Address::new(3, i as u32, 0),
                    mu: f32::NAN,
                    hyper: Hyper::default(),
                    aux: &[],
                    peers: &[],
                };
                pipeline.sample(&input, draw, Detail::Fast, row).unwrap();
            }
        };
        run(&mut row);
        assert_eq!(bytes(|| run(&mut row)), 0, "{draw:?}");
    }
    let law = Params { temperature: 0.7, top_k: 50, top_p: 0.9, min_p: 0.05 };
    let flat = Params { temperature: 1.5, top_k: 0, top_p: 0.99, min_p: 0.0 };
    for law in [law, flat] {
        let run = |row: &mut ScaledRow| {
            for logits in &rows {
                law.process((&logits[..]).into(), None, row).unwrap();
                row.draw(Draw::Cdf, Address::new(1, 2, 3));
            }
        };
        run(&mut row);
        assert_eq!(bytes(|| run(&mut row)), 0);
    }
}

/// A fork for a draft path costs no vocabulary and no text.
#[test]
fn forks_are_small() {
    let pipeline = Pipeline::new(vec![
        Repetition { penalty: 1.1, scope: Scope::All, window: None }.into(),
        NgramBlock { n: 3, include_prompt: true }.into(),
    ])
    .unwrap();
    let text: Vec<u32> = (0..50_000).map(|i| i * 31 % 5011).collect();
    let session = Session::new(Arc::new(pipeline), &text, 0, 0);
    let used = bytes(|| {
        let mut fork = session.fork();
        (0..32).for_each(|t| fork.observe(t));
    });
    assert!(used < 2048, "{used}");
}
