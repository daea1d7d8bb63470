//! Draws by inverse CDF, and by race over a truncated law: what they are asked, and the answer of `trivium_core`'s draw under trivium-sample's law.

use super::Noise;
use super::job::{Buffer, Job, Memory, write};
use super::rows::{Rows, any_rows, large_rows};
use trivium_core::logits::LogitsRow;
use trivium_core::{Address, Draw, ScaledRow, TargetLaw};
use trivium_cuda::{CdfDraw, DeviceSlice, Kernel, Plan, Race, RaceDraw};
use trivium_sample::Params;

/// Largest absolute difference of a log-probability.
const BOUND: f32 = 1e-5;

/// Who chooses the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Cdf,
    Race,
    /// The caller: any token is scored, also one that is removed or does not exist.
    Given,
}

/// A draw.
#[derive(Debug, Clone)]
pub struct CdfJob {
    pub rows: Rows,
    pub truncate: bool,
    pub choice: Choice,
    /// Launch one block whatever the plan says: the kernel's loops must cover the rest.
    pub one_block: bool,
}

impl CdfJob {
    /// The tokens before the launch.
    fn before(&self) -> Vec<u32> {
        let (mut noise, n) = (Noise(!self.rows.seed), self.rows.rows());
        let any = |_| match noise.next() % 8 {
            0 => u32::MAX,
            1 => self.rows.vocab as u32,
            _ => noise.next() % self.rows.vocab as u32,
        };
        if self.choice == Choice::Given { (0..n).map(any).collect() } else { vec![0xDEAD; n] }
    }

    /// Row `r` under its law, or its status.
    pub fn law(&self, logits: &[u32], r: usize) -> Result<ScaledRow, u32> {
        let (asked, row) = self.rows.penalised(logits, r)?;
        let mut law = ScaledRow::new();
        // The rules of the pipeline, by the temperature's own factor: 1 / T of a T that was inverted once is T.
        let greedy = asked.factor == 0.0;
        law.load_raw(LogitsRow::F32(&row), None);
        law.settle().unwrap();
        if greedy {
            law.make_greedy();
        } else {
            let scaled: Vec<f32> = row
                .iter()
                .map(|&x| if asked.factor == 1.0 { x } else { x * asked.factor })
                .collect();
            let whole = Params { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
            let params = Params {
                top_k: asked.top_k as usize,
                top_p: asked.top_p,
                min_p: asked.ln_min_p.exp(),
                ..whole
            };
            let params = if self.truncate { params } else { whole };
            params.process(LogitsRow::F32(&scaled), None, &mut law).unwrap();
        }
        Ok(law)
    }

    /// What row `r` must answer: the token and its log-probability, or the status.
    fn expected(&self, logits: &[u32], r: usize) -> Result<(u32, f32), u32> {
        let mut law = self.law(logits, r)?;
        let asked = self.rows.row(r).asked;
        let address = Address::new(asked.seed, asked.index, asked.branch);
        let token = match self.choice {
            Choice::Cdf => law.draw(Draw::Cdf, address),
            Choice::Race => law.draw(Draw::Race, address),
            Choice::Given => self.before()[r],
        };
        Ok((token, law.log_prob(token)))
    }

    pub fn args(&self, at: &[u64]) -> CdfDraw {
        let rows = self.rows.rows();
        let slice = |i: usize, len: usize| DeviceSlice { address: at[i], len };
        let mut draw = CdfDraw {
            rows: self.rows.args(at),
            truncate: self.truncate,
            given: self.choice != Choice::Cdf,
            workspace: DeviceSlice { address: at[7], len: 0 },
            tokens: slice(8, rows),
            log_probs: slice(9, rows),
            status: slice(10, rows),
        };
        draw.workspace.len = draw.workspace();
        draw
    }

    pub fn race(&self, at: &[u64]) -> RaceDraw {
        let cdf = self.args(at);
        let rows = self.rows.rows();
        let mut race = Race {
            rows: cdf.rows,
            floors: cdf.floors(),
            winners: 1,
            workspace: DeviceSlice { address: at[12], len: 0 },
            tokens: cdf.tokens,
            keys: DeviceSlice { address: at[11], len: rows },
            status: cdf.status,
        };
        race.workspace.len = race.workspace();
        RaceDraw { cdf, race }
    }
}

impl Job for CdfJob {
    fn buffers(&self) -> Vec<Buffer> {
        let mut buffers = self.rows.buffers();
        buffers.extend([
            write(c"workspace", Memory::U64(vec![u64::MAX; self.args(&[8; 11]).workspace.len])),
            write(c"tokens", Memory::U32(self.before())),
            write(c"log_probs", Memory::U32(vec![0xDEAD; self.rows.rows()])),
            write(c"status", Memory::U32(vec![77; self.rows.rows()])),
            write(c"keys", Memory::U32(vec![0xDEAD; self.rows.rows()])),
            // As much as any race of these rows needs.
            write(c"race", Memory::U64(vec![u64::MAX; 8 * self.rows.rows() * 2])),
        ]);
        buffers
    }

    fn plans(&self, at: &[u64]) -> Vec<Plan> {
        let mut plans = self.kernel(at).plan().unwrap();
        if self.one_block && self.choice == Choice::Cdf {
            for plan in &mut plans {
                plan.grid = [1, 1, 1];
            }
        }
        plans
    }

    fn kernel(&self, at: &[u64]) -> Box<dyn Kernel> {
        if self.choice == Choice::Race { Box::new(self.race(at)) } else { Box::new(self.args(at)) }
    }

    fn check(&self, after: &[Buffer]) -> Result<(), String> {
        let logits = self.rows.logits();
        let (tokens, log_probs) = (after[8].memory.i32s(), after[9].memory.f32s());
        for r in 0..self.rows.rows() {
            let expected = self.expected(&logits, r);
            let status = expected.err().unwrap_or(0);
            let (mut token, log_prob) =
                expected.map_or((-1, f32::NEG_INFINITY), |(token, l)| (token.cast_signed(), l));
            if self.choice == Choice::Given {
                token = self.before()[r].cast_signed();
            } else if after[10].memory.u32s()[r] != status {
                return Err(format!(
                    "row {r}: status {}, not {status}",
                    after[10].memory.u32s()[r]
                ));
            }
            // Both may be -inf, of which the difference is none.
            let apart = (log_probs[r] - log_prob).abs();
            let far = log_probs[r] != log_prob && (apart > BOUND || apart.is_nan());
            if tokens[r] != token || far {
                let found = (tokens[r], log_probs[r]);
                return Err(format!("row {r}: {found:?}, the twin has {:?}", (token, log_prob)));
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        self.rows.seed
    }
}

/// Draws around every border; every third one also by race, every third one scored.
pub fn cdf_jobs() -> Vec<CdfJob> {
    let mut jobs: Vec<CdfJob> =
        any_rows(&[(1, 2), (31, 6), (33, 6), (255, 4), (257, 4), (1_100, 12), (16_385, 1)])
            .into_iter()
            .enumerate()
            .map(|(i, rows)| CdfJob {
                truncate: i % 3 != 0,
                choice: Choice::Cdf,
                one_block: rows.seed % 2 == 0,
                rows,
            })
            .collect();
    for (first, choice) in [(0, Choice::Race), (1, Choice::Given)] {
        let more: Vec<CdfJob> = jobs.iter().skip(first).step_by(3).cloned().collect();
        jobs.extend(more.into_iter().map(|job| CdfJob { choice, ..job }));
    }
    jobs
}

/// Vocabularies of real models.
pub fn large_cdf_jobs() -> Vec<CdfJob> {
    let job = |(i, rows)| CdfJob {
        rows,
        truncate: i == 1,
        choice: [Choice::Cdf, Choice::Race, Choice::Given][i],
        one_block: false,
    };
    large_rows().into_iter().enumerate().map(job).collect()
}

/// Races over truncated laws: the draws of a race family that read floors.
pub fn floor_jobs() -> Vec<CdfJob> {
    cdf_jobs()
        .into_iter()
        .map(|job| CdfJob { truncate: true, choice: Choice::Race, ..job })
        .collect()
}
