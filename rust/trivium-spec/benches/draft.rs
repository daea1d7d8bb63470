//! Drafting: `cargo bench -p trivium-spec --bench draft -- [--traces FILE] [--task T] [--mode M]
//! [--nodes LIST] [--part K/N] [--only replay|batch|curve]`.
//!
//! On one core, without Python:
//!
//! - `replay`: a replay of token streams (JSON lines with `prompt` and `output`, as `trivium spec sim`
//!   reads them, not gzipped; without `--traces` a synthetic text that repeats itself): tokens a step,
//!   microseconds of a proposal (mean without the slowest hundredth, which other programs of the
//!   machine interrupted), and of committing a token, drafts learned from included;
//! - `batch`: one proposal for 64 requests;
//! - `curve`: a proposal, and appending a token, after contexts of growing length.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a program, not a library

use std::hint::black_box;
use std::time::Instant;
use trivium_core::TokenId;
use trivium_core::rng::philox;
use trivium_spec::{Policy, Request, RequestOptions, Speculator, SpeculatorConfig, TreeBatch};

const BATCH: usize = 64;

struct Trace {
    task: String,
    prompt: Vec<TokenId>,
    output: Vec<TokenId>,
}

/// Whole numbers below `n`, in a fixed order.
struct Noise(u32);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        philox([self.0, 0, 0, 0], [3, 4])[0] as usize % n
    }
}

/// A text of `n` tokens: frequent words are far more frequent, and half of it was said before.
fn synthetic(n: usize, seed: u32) -> Vec<TokenId> {
    let mut noise = Noise(seed << 20);
    let mut text = Vec::with_capacity(n);
    while text.len() < n {
        if text.len() > 32 && noise.below(12) == 0 {
            let from = noise.below(text.len() - 16);
            let copied: Vec<TokenId> =
                text[from..].iter().take(4 + noise.below(16)).copied().collect();
            text.extend(copied);
        } else {
            let octave = noise.below(14);
            text.push((1 << octave) + noise.below(1 << octave) as TokenId);
        }
    }
    text.truncate(n);
    text
}

struct Args {
    traces: Option<String>,
    task: Option<String>,
    modes: Vec<String>,
    nodes: Vec<usize>,
    part: Option<(usize, usize)>,
    only: Option<String>,
}

fn args() -> Args {
    let mut args = Args {
        traces: None,
        task: None,
        modes: vec!["warm".into(), "cold".into()],
        nodes: vec![8, 16, 32, 64],
        part: None,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        match word.as_str() {
            "--traces" => args.traces = Some(value()),
            "--task" => args.task = Some(value()),
            "--mode" => args.modes = value().split(',').map(Into::into).collect(),
            "--nodes" => args.nodes = value().split(',').map(|n| n.parse().unwrap()).collect(),
            "--part" => {
                let text = value();
                let (k, n) = text.split_once('/').expect("K/N");
                args.part = Some((k.parse().unwrap(), n.parse().unwrap()));
            }
            "--only" => args.only = Some(value()),
            "--bench" => {} // from cargo
            other => panic!("unknown option {other}"),
        }
    }
    args
}

fn load(args: &Args) -> Vec<Trace> {
    let Some(path) = &args.traces else {
        let trace = |i: u32| {
            let text = synthetic(2000, i % 7 + 1);
            let (prompt, output) = text.split_at(1000 + 37 * i as usize % 500);
            Trace { task: "synthetic".into(), prompt: prompt.into(), output: output.into() }
        };
        return (0..40).map(trace).collect();
    };
    let text = std::fs::read_to_string(path).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<TokenId> {
        v.as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as TokenId).collect()
    };
    let mut seen = std::collections::BTreeMap::new();
    let mut traces = Vec::new();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let task = row["task"].as_str().unwrap_or("all").to_owned();
        let at: &mut usize = seen.entry(task.clone()).or_default();
        *at += 1;
        let kept = args.part.is_none_or(|(k, n)| *at % n == k);
        if kept && args.task.as_ref().is_none_or(|t| *t == task) {
            traces.push(Trace { task, prompt: ids(&row["prompt"]), output: ids(&row["output"]) });
        }
    }
    traces
}

fn speculator(vocab: usize, nodes: usize) -> Speculator {
    Speculator::new(SpeculatorConfig {
        vocab_size: vocab,
        sources: vec!["suffix".into(), "recycle".into()],
        max_nodes: nodes + 1,
        max_depth: 64,
        policy: Policy::Full,
        seed: 0,
        max_bytes: 256 << 20,
    })
    .unwrap()
}

fn start(spec: &Speculator, prompt: &[TokenId]) -> Request {
    spec.start(prompt, RequestOptions::default()).unwrap()
}

/// Nodes of the longest path that `truth` follows.
fn path(batch: &TreeBatch, truth: &[TokenId]) -> Vec<usize> {
    let (tokens, parents) = (batch.tokens(), batch.parents());
    let mut path = Vec::new();
    let mut node = 0;
    for &t in truth {
        let child =
            (node + 1..tokens.len()).find(|&c| parents[c] as usize == node && tokens[c] == t);
        let Some(child) = child else { break };
        path.push(child);
        node = child;
    }
    path
}

/// Microseconds of each proposal and of each commit.
#[derive(Default)]
struct Times {
    draft: Vec<f64>,
    commit: f64,
    tokens: usize,
}

/// Replays one output; the request must hold its prompt.
fn decode(spec: &Speculator, request: &mut Request, output: &[TokenId], times: &mut Times) {
    let mut at = 0;
    while at < output.len() {
        let clock = Instant::now();
        let batch = spec.propose(&mut [&mut *request], None).unwrap();
        times.draft.push(clock.elapsed().as_secs_f64() * 1e6);
        let accepted = path(&batch, &output[at..]);
        if at + accepted.len() >= output.len() {
            request.commit(&output[at..]).unwrap();
            times.tokens += output.len() - at;
            return;
        }
        let mut ids = vec![-1; batch.num_nodes()];
        for (&row, &t) in std::iter::once(&0).chain(&accepted).zip(&output[at..]) {
            ids[row] = i64::from(t);
        }
        let out = spec.verify_ids(&batch, &[&mut *request], &ids, None).unwrap();
        let clock = Instant::now();
        spec.commit(&out, &mut [&mut *request]).unwrap();
        times.commit += clock.elapsed().as_secs_f64() * 1e6;
        at += accepted.len() + 1;
        times.tokens += accepted.len() + 1;
    }
}

/// Mean without the slowest hundredth.
fn typical(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let kept = &times[..times.len() - times.len() / 100];
    kept.iter().sum::<f64>() / kept.len() as f64
}

fn replay(traces: &[Trace], args: &Args, vocab: usize) {
    println!(
        "replay\n{:>10} {:>5} {:>5} {:>11} {:>9} {:>9}",
        "task", "mode", "nodes", "tokens/step", "us/draft", "us/token"
    );
    let mut tasks: Vec<&str> = traces.iter().map(|t| &*t.task).collect();
    tasks.dedup();
    for mode in &args.modes {
        for &task in &tasks {
            for &nodes in &args.nodes {
                let mut spec = speculator(vocab, nodes);
                let mut times = Times::default();
                for t in traces.iter().filter(|t| t.task == task) {
                    if mode == "cold" {
                        spec = speculator(vocab, nodes);
                    }
                    let mut request = start(&spec, &t.prompt);
                    decode(&spec, &mut request, &t.output, &mut times);
                    request.finish(mode == "warm");
                }
                let steps = times.draft.len() as f64;
                println!(
                    "{task:>10} {mode:>5} {nodes:>5} {:>11.4} {:>9.2} {:>9.2}",
                    times.tokens as f64 / steps,
                    typical(times.draft),
                    times.commit / times.tokens as f64,
                );
            }
        }
    }
}

/// One proposal for many requests, in the middle of their outputs, with warm stores.
fn batch(traces: &[Trace], args: &Args, vocab: usize) {
    println!(
        "\none proposal for {BATCH} requests\n{:>15} {:>9} {:>9}",
        "nodes a request", "us", "us/node"
    );
    for &nodes in &args.nodes {
        let spec = speculator(vocab, nodes);
        for t in traces {
            let mut request = start(&spec, &t.prompt[t.prompt.len().saturating_sub(2000)..]);
            decode(&spec, &mut request, &t.output, &mut Times::default());
            request.finish(true);
        }
        let mut requests: Vec<Request> = traces
            .iter()
            .cycle()
            .take(BATCH)
            .map(|t| {
                let mut r = start(&spec, &t.prompt);
                r.commit(&t.output[..t.output.len() / 2]).unwrap();
                r
            })
            .collect();
        let mut all: Vec<&mut Request> = requests.iter_mut().collect();
        let mut count = 0;
        let mut runs: Vec<f64> = (0..51)
            .map(|_| {
                let clock = Instant::now();
                let batch = spec.propose(&mut all, None).unwrap();
                count = black_box(batch).num_nodes() - BATCH;
                clock.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        println!(
            "{:>15.1} {:>9.0} {:>9.2}",
            count as f64 / BATCH as f64,
            runs[25],
            runs[25] / count as f64
        );
    }
}

/// Costs after contexts of growing length; the text repeats nothing on the whole.
fn curve(traces: &[Trace], args: &Args, vocab: usize) {
    let mut text: Vec<TokenId> =
        traces.iter().flat_map(|t| t.prompt.iter().chain(&t.output)).copied().collect();
    let needed = 128_000 + 512;
    if text.len() < needed {
        text.extend(synthetic(needed, 99));
    }
    let heads: Vec<String> =
        args.nodes.iter().map(|n| format!(" {:>12}", format!("us/draft, {n}"))).collect();
    println!("\nby length of the context\n{:>7} {:>9}{}", "tokens", "us/append", heads.concat());
    for length in [1_000, 4_000, 16_000, 64_000, 128_000] {
        let mut cells = Vec::new();
        let mut append = f64::INFINITY;
        for &nodes in &args.nodes {
            let spec = speculator(vocab.max(1 << 15), nodes);
            let mut request = start(&spec, &text[..length]);
            let mut times = Times::default();
            decode(&spec, &mut request, &text[length..length + 512], &mut times);
            cells.push(format!(" {:>12.2}", typical(times.draft)));
            for _ in 0..3 {
                let mut request = start(&spec, &text[..length]);
                let clock = Instant::now();
                for t in text[length..length + 512].chunks(2) {
                    request.commit(t).unwrap();
                }
                append = append.min(clock.elapsed().as_secs_f64() * 1e6 / 512.0);
            }
        }
        println!("{length:>7} {append:>9.2}{}", cells.concat());
    }
}

fn main() {
    let args = args();
    let traces = load(&args);
    let vocab =
        1 + *traces.iter().flat_map(|t| t.prompt.iter().chain(&t.output)).max().unwrap() as usize;
    let wanted = |name: &str| args.only.as_ref().is_none_or(|o| o == name);
    if wanted("replay") {
        replay(&traces, &args, vocab);
    }
    if wanted("batch") {
        batch(&traces, &args, vocab);
    }
    if wanted("curve") {
        curve(&traces, &args, vocab);
    }
}
