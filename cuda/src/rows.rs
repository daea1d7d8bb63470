//! Calls over rows of logits that answer in host memory: draws, best ids, masks.
//!
//! The public halves of the library end here on a device: `Pipeline.sample`, `Speculator.verify` and
//! `Matcher.apply` are these three functions and the host's own walk. Each synchronises the stream once (a mask
//! twice: a row that is no row must stay as it was).

use crate::asked::{AskedRow, AskedRows, NOT_REPEATED, Seen};
use crate::plan::{LogitsRows, MaskedRows};
use crate::race::MAX_WINNERS;
use crate::reject::{ChainRule, RejectChains, TargetDraw};
use crate::scratch::Call;
use crate::{ApplyMask, CdfDraw, DeviceSlice, Race, RaceDraw, RowStat, TreePack};
use trivium_core::law::{PlainLaw, SeenToken};
use trivium_core::{Address, Draw, Error, Result, mask};

/// One row and the draw that is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct RowAsk<'a> {
    /// Logits row.
    pub row: usize,
    /// Noise of the token being chosen.
    pub address: Address,
    /// How the law becomes a token.
    pub draw: Draw,
    /// The law.
    pub law: &'a PlainLaw,
    /// Packed mask, applied first; `None` allows all.
    pub allowed: Option<&'a [u32]>,
}

/// The token of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowAnswer {
    /// The token; -1 where there is none.
    pub token: i32,
    /// Natural log-probability under the law, within 1e-5 of the CPU's.
    pub log_prob: f32,
    /// 0, or why there is no token ([`Race::status`]): then the CPU decides and names the fault.
    pub status: u32,
}

/// The law as the kernels read it.
fn asked(ask: &RowAsk<'_>) -> AskedRow {
    let PlainLaw { temperature, repetition, frequency, presence, top_k, top_p, min_p, .. } =
        *ask.law;
    let greedy = temperature < trivium_core::draw::GREEDY_TEMPERATURE;
    let Address { seed, index, branch } = ask.address;
    AskedRow {
        factor: if greedy {
            0.0
        } else if temperature == 1.0 {
            1.0
        } else {
            1.0 / temperature
        },
        repetition,
        frequency,
        presence,
        top_k: u32::try_from(top_k).unwrap_or(0),
        top_p,
        ln_min_p: if min_p > 0.0 { min_p.min(1.0).ln() } else { f32::NEG_INFINITY },
        ..AskedRow::new(seed, index, branch)
    }
}

/// Draws a token of every row asked for, in their order.
///
/// # Errors
/// `InvalidInput` for rows beyond the logits and shapes beyond the kernels' counts; `Device`.
///
/// # Safety
/// The logits are memory of the call's device that nothing writes until the call ends.
pub unsafe fn draw(
    call: &mut Call,
    logits: &LogitsRows,
    asks: &[RowAsk<'_>],
) -> Result<Vec<RowAnswer>> {
    if let Some(ask) = asks.iter().find(|a| a.row >= logits.rows) {
        return Err(Error::input("rows", format!("row {} of {}", ask.row, logits.rows)));
    }
    let mut groups = Vec::new();
    for draw in [Draw::Cdf, Draw::Race] {
        let places: Vec<usize> = (0..asks.len()).filter(|&i| asks[i].draw == draw).collect();
        if !places.is_empty() {
            let group: Vec<&RowAsk<'_>> = places.iter().map(|&i| &asks[i]).collect();
            let target = prepare(call, logits, &group, draw)?;
            // SAFETY: the caller's word for the logits; everything else is of this call, of the stated length.
            unsafe { call.enqueue(&target)? };
            groups.push((places, target));
        }
    }
    let none = RowAnswer { token: -1, log_prob: f32::NEG_INFINITY, status: 0 };
    let mut answers = vec![none; asks.len()];
    for (places, target) in groups {
        let CdfDraw { tokens, log_probs, status, .. } = *target.cdf();
        // SAFETY: the kernels wrote these, of these types.
        let (tokens, log_probs, status): (Vec<i32>, Vec<f32>, Vec<u32>) =
            unsafe { (call.download(tokens)?, call.download(log_probs)?, call.download(status)?) };
        for (i, &place) in places.iter().enumerate() {
            let (token, log_prob, status) = (tokens[i], log_probs[i], status[i]);
            answers[place] = RowAnswer { token, log_prob, status };
        }
    }
    Ok(answers)
}

/// The draws of one kind, their arguments on the device.
fn prepare(
    call: &mut Call,
    logits: &LogitsRows,
    asks: &[&RowAsk<'_>],
    draw: Draw,
) -> Result<TargetDraw> {
    let count = asks.len();
    let indices: Vec<i32> = asks.iter().map(|a| a.row as i32).collect();
    let in_place = indices.iter().enumerate().all(|(i, &r)| r == i as i32);
    let row_indices = if in_place { None } else { Some(call.upload(&indices)?) };
    let words = mask::words(logits.vocab);
    let masked = asks.iter().any(|a| a.allowed.is_some());
    let mask = if masked {
        let mut all = vec![u32::MAX; count * words];
        for (row, ask) in all.chunks_exact_mut(words.max(1)).zip(asks) {
            if let Some(allowed) = ask.allowed {
                let n = allowed.len().min(words);
                row[..n].copy_from_slice(&allowed[..n]);
                row[n..].fill(0);
            }
        }
        Some(call.upload(&all)?)
    } else {
        None
    };
    let rows: Vec<AskedRow> = asks.iter().map(|a| asked(a)).collect();
    let packed: Vec<u64> = rows.iter().flat_map(AskedRow::words).collect();
    let asked_rows = AskedRows {
        rows: MaskedRows {
            logits: *logits,
            rows: count,
            row_indices,
            mask,
            mask_words: if masked { words } else { 0 },
        },
        asked: DeviceSlice { len: count, ..call.upload(&packed)? },
        seen: upload_seen(call, asks)?,
    };
    let truncate = rows.iter().any(|r| {
        r.factor != 0.0 && (r.top_k != 0 || r.top_p < 1.0 || r.ln_min_p > f32::NEG_INFINITY)
    });
    let (tokens, status) = (call.reserve::<i32>(count)?, call.reserve::<u32>(count)?);
    let log_probs = call.reserve::<f32>(count)?;
    let mut cdf = CdfDraw {
        rows: asked_rows,
        truncate,
        given: draw == Draw::Race,
        workspace: DeviceSlice { address: 0, len: 0 },
        tokens,
        log_probs,
        status,
    };
    cdf.workspace = call.reserve::<u64>(cdf.workspace())?;
    if draw == Draw::Cdf {
        return Ok(TargetDraw::Cdf(cdf));
    }
    let mut race = Race {
        rows: asked_rows,
        floors: cdf.floors(),
        winners: 1,
        workspace: DeviceSlice { address: 0, len: 0 },
        tokens,
        keys: call.reserve::<f32>(count)?,
        status,
    };
    race.workspace = call.reserve::<u64>(race.workspace())?;
    Ok(TargetDraw::Race(RaceDraw { cdf, race }))
}

/// Drafted chains: request `b` owns nodes `cu_nodes[b]` to `cu_nodes[b + 1]`, each the child of the one before.
#[derive(Debug, Clone, Copy)]
pub struct Chains<'a> {
    /// float32 rows of draft probabilities, one a node.
    pub q: LogitsRows,
    /// The drafted tokens.
    pub tokens: &'a [i32],
    /// Offsets of the requests, from 0 to the nodes.
    pub cu_nodes: &'a [i32],
    /// Which test decides.
    pub rule: ChainRule,
}

/// What a batch of chains committed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainAnswers {
    /// Offsets into tokens and log-probabilities; `None` where the walk of a request read a row that is no law: then
    /// the CPU decides and names the fault.
    pub cu_tokens: Option<Vec<i32>>,
    /// Committed tokens of all requests.
    pub tokens: Vec<i32>,
    /// Their log-probabilities.
    pub log_probs: Vec<f32>,
}

/// Verifies chains against the law they were drawn from; one ask a node, all of one draw.
///
/// # Errors
/// As [`draw`]; `InvalidInput` for asks that are not one a node.
///
/// # Safety
/// As [`draw`], for `q` too.
pub unsafe fn verify_chains(
    call: &mut Call,
    logits: &LogitsRows,
    asks: &[RowAsk<'_>],
    chains: &Chains<'_>,
) -> Result<ChainAnswers> {
    let nodes = asks.len();
    let draw = asks.first().map_or(Draw::Cdf, |a| a.draw);
    let in_order = asks.iter().enumerate().all(|(i, a)| a.row == i && a.draw == draw);
    let ends = chains.cu_nodes.last().is_some_and(|&n| n as usize == nodes);
    let rising = chains.cu_nodes.windows(2).all(|w| w[0] < w[1]);
    let fits = chains.tokens.len() == nodes && logits.rows == nodes;
    if !in_order || !ends || !rising || !fits || chains.cu_nodes.first() != Some(&0) {
        return Err(Error::input("chains", "need one ask, token and row a node, of one draw"));
    }
    let requests = chains.cu_nodes.len() - 1;
    let group: Vec<&RowAsk<'_>> = asks.iter().collect();
    let cu_nodes = call.upload(chains.cu_nodes)?;
    let mut reject = RejectChains {
        target: prepare(call, logits, &group, draw)?,
        q: chains.q,
        tokens: call.upload(chains.tokens)?,
        cu_nodes,
        requests,
        rule: chains.rule,
        workspace: DeviceSlice { address: 0, len: 0 },
        tokens_out: call.reserve::<i32>(nodes)?,
        log_probs_out: call.reserve::<f32>(nodes)?,
        counts: call.reserve::<i32>(requests)?,
        status: call.reserve::<u32>(requests)?,
    };
    reject.workspace = call.reserve::<u64>(reject.workspace())?;
    let log_probs = call.reserve::<f32>(nodes)?;
    let pack = TreePack {
        requests,
        nodes,
        cu_nodes,
        counts: reject.counts,
        tokens: reject.tokens_out,
        gather: None,
        log_probs: Some(reject.log_probs_out),
        cu_tokens: call.reserve::<i32>(requests + 1)?,
        tokens_out: call.reserve::<i32>(nodes)?,
        gather_out: None,
        rows_out: None,
        log_probs_out: Some(log_probs),
    };
    // SAFETY: the caller's word for logits and q; everything else is of this call, of the stated length.
    unsafe {
        call.enqueue(&reject)?;
        call.enqueue(&pack)?;
        let status: Vec<u32> = call.download(reject.status)?;
        let cu_tokens: Vec<i32> = call.download(pack.cu_tokens)?;
        let total = cu_tokens.last().map_or(0, |&n| (n.max(0) as usize).min(nodes));
        let some = |slice: DeviceSlice| DeviceSlice { len: total, ..slice };
        Ok(ChainAnswers {
            cu_tokens: status.iter().all(|&s| s == 0).then_some(cu_tokens),
            tokens: call.download(some(pack.tokens_out))?,
            log_probs: call.download(some(log_probs))?,
        })
    }
}

/// The histories as one CSR; `None` where no law has one.
fn upload_seen(call: &mut Call, asks: &[&RowAsk<'_>]) -> Result<Option<Seen>> {
    if asks.iter().all(|a| a.law.seen.is_empty()) {
        return Ok(None);
    }
    let (mut starts, mut tokens, mut counts) = (vec![0i32], Vec::new(), Vec::new());
    for ask in asks {
        for &SeenToken { token, count, repeated } in &ask.law.seen {
            tokens.push(token);
            counts.push(count.min(NOT_REPEATED - 1) | if repeated { 0 } else { NOT_REPEATED });
        }
        let end = i32::try_from(tokens.len());
        starts.push(end.map_err(|_| Error::input("history", "is longer than kernels count"))?);
    }
    Ok(Some(Seen {
        starts: call.upload(&starts)?,
        tokens: call.upload(&tokens)?,
        counts: call.upload(&counts)?,
    }))
}

/// The best ids of every row, before any law: `[rows, MAX_WINNERS]`, best first, -1 padded; a row with NaN or +inf has
/// none.
///
/// # Errors
/// As [`draw`].
///
/// # Safety
/// As [`draw`].
pub unsafe fn top_ids(call: &mut Call, logits: &LogitsRows) -> Result<Vec<i32>> {
    let greedy = AskedRow { factor: 0.0, ..AskedRow::new(0, 0, 0) };
    let packed: Vec<u64> = (0..logits.rows).flat_map(|_| greedy.words()).collect();
    let asked = DeviceSlice { len: logits.rows, ..call.upload(&packed)? };
    let rows = AskedRows { rows: MaskedRows::all(*logits), asked, seen: None };
    let answers = logits.rows * MAX_WINNERS;
    let mut race = Race {
        rows,
        floors: None,
        winners: MAX_WINNERS,
        workspace: DeviceSlice { address: 0, len: 0 },
        tokens: call.reserve::<i32>(answers)?,
        keys: call.reserve::<f32>(answers)?,
        status: call.reserve::<u32>(logits.rows)?,
    };
    race.workspace = call.reserve::<u64>(race.workspace())?;
    // SAFETY: the caller's word for the logits; everything else is of this call and of the stated length.
    unsafe {
        call.enqueue(&race)?;
        call.download(race.tokens)
    }
}

/// Masks one row in place and returns the natural log of the mass that was kept, minus infinity if nothing was;
/// within 1e-4 of the CPU's.
///
/// # Errors
/// `InvalidInput` for NaN or +inf in the row, which then stays as it was; `Device`.
///
/// # Safety
/// The logits are one row in memory of the call's device that nothing else touches until the call ends.
pub unsafe fn apply(call: &mut Call, logits: &LogitsRows, words: &[u32]) -> Result<f64> {
    let mask = call.upload(words)?;
    let stat = |call: &mut Call, mask: Option<DeviceSlice>| -> Result<RowStat> {
        let mask_words = if mask.is_some() { words.len() } else { 0 };
        let mut stat = RowStat {
            rows: MaskedRows { mask, mask_words, ..MaskedRows::all(*logits) },
            factors: None,
            workspace: DeviceSlice { address: 0, len: 0 },
            ids: call.reserve::<i32>(2)?,
            values: call.reserve::<f32>(4)?,
            status: call.reserve::<u32>(1)?,
        };
        stat.workspace = call.reserve::<u64>(stat.workspace())?;
        // SAFETY: as for the function; the rest is of this call.
        unsafe { call.enqueue(&stat)? };
        Ok(stat)
    };
    let (whole, left) = (stat(call, None)?, stat(call, Some(mask))?);
    // SAFETY: the kernels wrote these, of these types.
    let (found, all, some) = unsafe {
        (
            call.download::<u32>(whole.status)?,
            call.download::<f32>(whole.values)?,
            call.download::<f32>(left.values)?,
        )
    };
    if found[0] > 1 {
        return Err(Error::input("logits", "hold NaN or +inf"));
    }
    let kernel = ApplyMask {
        logits: logits.logits,
        dtype: logits.dtype,
        mask,
        row_indices: None,
        rows: 1,
        mask_words: words.len(),
        logits_rows: 1,
        vocab: logits.vocab,
        stride: logits.stride,
    };
    // SAFETY: as for the function.
    unsafe { call.enqueue(&kernel)? };
    // ln of the ratio of two sums, each by its largest logit and ln of the sum relative to it.
    let ln = |v: &[f32]| f64::from(v[0]) + f64::from(v[2]);
    Ok(if some[0] == f32::NEG_INFINITY { f64::NEG_INFINITY } else { ln(&some) - ln(&all) }.min(0.0))
}
