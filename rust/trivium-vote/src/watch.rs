//! What is watched of running traces, and what follows from it.
//!
//! | option | reads | effect |
//! |---|---|---|
//! | `prune = conf_floor:ETA` | confidences | after 16 whole traces, one whose group confidence falls below that of the best `ETA` per cent is cancelled (`DeepConf` online) |
//! | `prune = cover:GAMMA:EVERY:KEEP` | ids, log-probabilities | each `EVERY` tokens a trace, those that the others' tokens cover are cancelled ([`crate::cover`]) |
//! | `prune = loop:R:LEAST` | ids | a trace that repeats itself is cancelled ([`crate::loops`]) |
//! | `finish_on_answer` | texts | a trace whose answer is marked and whole is finished with it |
//! | `probe = provisional:RHO:K` | early answers | they count `RHO` in the provisional tally; `K` equal ones finish the trace |
//! | `probe = temporal:WEIGHT:ALPHA:STEPS` | answers of denoising steps | the trace votes with the winner of its steps ([`crate::temporal`]) |
//! | `steps` | rewards of steps | they make up the reward of the trace |
//! | `accept` | rewards of steps | a step below it is to be written again by the larger model |
//! | `fork = entropy:TAU:WINDOW:N` | entropies | a trace is forked where its rolling entropy exceeds `TAU` nats |
//!
//! A trace that is finished or cancelled here ends as if its host had said so: the log holds the end,
//! so that it replays without the tokens.

use crate::loops::{LoopRule, Loops};
use crate::spec::{Policy, unknown};
use crate::temporal::StepWeight;
use crate::weights::conf::{Groups, TraceConf};
use crate::weights::{Soft, Weight};
use rustc_hash::FxHashSet;
use trivium_core::{Error, Result};

/// Bytes of a text in which an answer is looked for while it is being written.
const TAIL: usize = 4096;

/// Parameters of an option after its name, all with defaults.
struct Parts<'a> {
    what: &'static str,
    text: &'a str,
    rest: std::str::Split<'a, char>,
}

impl<'a> Parts<'a> {
    fn new(what: &'static str, text: &'a str) -> (&'a str, Self) {
        let mut rest = text.split(':');
        let name = rest.next().unwrap_or_default();
        (name, Self { what, text, rest })
    }

    fn number(&mut self, default: f64, means: &str, good: impl Fn(f64) -> bool) -> Result<f64> {
        let Some(part) = self.rest.next() else { return Ok(default) };
        part.parse().ok().filter(|x: &f64| x.is_finite() && good(*x)).ok_or_else(|| {
            Error::input(self.what, format!("{} needs {means}, found {part:?}", self.text))
        })
    }

    fn count(&mut self, default: u32, least: u32) -> Result<u32> {
        let whole = |x: f64| x >= f64::from(least) && x <= 65_536.0 && x.fract() == 0.0;
        Ok(self.number(f64::from(default), &format!("a whole number from {least} on"), whole)?
            as u32)
    }

    fn end(mut self) -> Result<()> {
        match self.rest.next() {
            None => Ok(()),
            Some(part) => {
                let why = format!("{} takes no further parameter, found {part:?}", self.text);
                Err(Error::input(self.what, why))
            }
        }
    }
}

/// Rules under which running traces are cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Pruning {
    /// Per cent of warm-up confidences that lie above the floor.
    pub(crate) floor: Option<f64>,
    pub(crate) loops: Option<LoopRule>,
    pub(crate) cover: Option<Cover>,
}

/// Token set cover of running traces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cover {
    pub(crate) gamma: f64,
    pub(crate) every: u32,
    pub(crate) keep: u32,
}

impl Pruning {
    pub(crate) fn parse(list: &[String]) -> Result<Self> {
        let mut found = Self::default();
        for text in list {
            let (name, mut parts) = Parts::new("prune", text);
            match name {
                "conf_floor" => {
                    let percent = |x: f64| (0.0..=100.0).contains(&x);
                    found.floor = Some(parts.number(10.0, "a share in per cent", percent)?);
                }
                "loop" => {
                    let (repeats, least) = (parts.count(8, 2)?, parts.count(64, 1)?);
                    if repeats > 64 || least > 4096 {
                        let why = format!("{text}: at most 64 repetitions and 4096 tokens");
                        return Err(Error::input("prune", why));
                    }
                    let rule = LoopRule { repeats: repeats as usize, least: least as usize };
                    found.loops = Some(rule);
                }
                "cover" => {
                    let share = |x: f64| (0.0..=1.0).contains(&x);
                    let gamma = parts.number(0.95, "a share in [0, 1]", share)?;
                    let (every, keep) = (parts.count(512, 1)?, parts.count(1, 1)?);
                    found.cover = Some(Cover { gamma, every, keep });
                }
                _ => {
                    let names = ["conf_floor:ETA", "loop:R:LEAST", "cover:GAMMA:EVERY:KEEP"];
                    return Err(unknown("prune", text, &names, &[]));
                }
            }
            parts.end()?;
        }
        Ok(found)
    }
}

/// What early answers do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Probing {
    /// They count this much until the trace ends; so many equal ones end it (0: never).
    Provisional(f64, u32),
    /// They are denoising steps, of which there are so many in all (0: unknown).
    Temporal(StepWeight, u32),
}

impl Probing {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (name, mut parts) = Parts::new("probe", text);
        let found = match name {
            "provisional" => {
                let rho = parts.number(0.5, "a weight in (0, 1)", |x| x > 0.0 && x < 1.0)?;
                Self::Provisional(rho, parts.count(0, 0)?)
            }
            "temporal" => {
                let law = parts.rest.next().unwrap_or("exponential");
                let weight = match law {
                    "fixed" => StepWeight::Fixed,
                    "linear" => StepWeight::Linear,
                    "exponential" => {
                        let range = |x: f64| (0.0..700.0).contains(&x);
                        StepWeight::Exponential(parts.number(5.0, "a growth in [0, 700)", range)?)
                    }
                    _ => {
                        let names = ["fixed", "linear", "exponential"];
                        return Err(unknown("probe", law, &names, &[]));
                    }
                };
                Self::Temporal(weight, parts.count(0, 0)?)
            }
            _ => {
                let names = ["provisional:RHO:K", "temporal:WEIGHT:ALPHA:STEPS"];
                return Err(unknown("probe", text, &names, &[]));
            }
        };
        parts.end()?;
        Ok(found)
    }
}

/// How rewards of steps become that of their trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepReward {
    Last,
    Min,
    Prod,
    Mean,
}

impl StepReward {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "last" => Ok(Self::Last),
            "min" => Ok(Self::Min),
            "prod" => Ok(Self::Prod),
            "mean" => Ok(Self::Mean),
            _ => Err(unknown("steps", text, &["last", "min", "prod", "mean"], &[])),
        }
    }
}

/// When a trace is forked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Forking {
    pub(crate) above: f64,
    pub(crate) window: u32,
    pub(crate) branches: u32,
}

impl Forking {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (name, mut parts) = Parts::new("fork", text);
        if name != "entropy" {
            return Err(unknown("fork", text, &["entropy:TAU:WINDOW:N"], &[]));
        }
        let above = parts.number(1.0, "an entropy from 0 on", |x| x >= 0.0)?;
        let (window, branches) = (parts.count(16, 1)?, parts.count(1, 1)?);
        parts.end()?;
        Ok(Self { above, window, branches })
    }
}

/// Rewards of the steps of one trace.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    num: u32,
    sum: f64,
    least: f64,
    product: f64,
    last: f64,
}

/// One token as a host reports it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Token {
    pub(crate) id: Option<u32>,
    pub(crate) logprob: f64,
    pub(crate) conf: f64,
    pub(crate) entropy: Option<f64>,
}

/// What a token asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// The trace repeats itself.
    Loops,
    /// Its group confidence is below the floor.
    Low,
    /// It is uncertain: fork it.
    Fork,
}

/// Statistics of one running trace that only some policies read. What every token of the common
/// policy touches stands first, in one or two lines of memory.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub(crate) struct Watch {
    groups: Option<Groups>,
    num: u64,
    entropies: Option<(f64, u64)>,
    uncertain: Option<(Vec<f32>, usize)>,
    loops: Option<Loops>,
    /// Token ids, and log-probabilities since the last sweep.
    pub(crate) seen: Option<FxHashSet<u32>>,
    recent: (f64, u32),
    least_logprob: f64,
    sum_prob: f64,
    tail: String,
    /// Keys of early answers, and their names.
    probes: Vec<Option<u32>>,
    names: Vec<Box<str>>,
    steps: Option<Steps>,
}

impl Watch {
    /// Whether a policy watches tokens at all.
    pub(crate) fn reads_tokens(policy: &Policy) -> bool {
        policy.prune != Pruning::default()
            || policy.fork.is_some()
            || matches!(policy.weight, Weight::DeepConf(..) | Weight::Soft(_))
    }

    pub(crate) fn new(policy: &Policy) -> Self {
        let window = policy.config.window;
        let groups = match policy.weight {
            Weight::DeepConf(_, TraceConf::Bottom) => Some(Groups::keeping(window)),
            Weight::DeepConf(..) => Some(Groups::new(window)),
            _ => policy.prune.floor.map(|_| Groups::new(window)),
        };
        Self {
            groups,
            loops: policy.prune.loops.map(Loops::new),
            seen: policy.prune.cover.map(|_| FxHashSet::default()),
            uncertain: policy.fork.map(|_| (Vec::new(), 0)),
            ..Self::default()
        }
    }

    /// Adds a token; `floor` is the least group confidence, where one is known.
    pub(crate) fn token(&mut self, token: Token, policy: &Policy, floor: Option<f64>) -> Verdict {
        self.num += 1;
        if matches!(policy.weight, Weight::Soft(_)) {
            self.least_logprob = self.least_logprob.min(token.logprob);
            self.sum_prob += token.logprob.exp();
        }
        if let Some(entropy) = token.entropy {
            let (sum, num) = self.entropies.get_or_insert_default();
            (*sum, *num) = (*sum + entropy, *num + 1);
        }
        if policy.prune.cover.is_some()
            && let (Some(id), Some(seen)) = (token.id, &mut self.seen)
        {
            seen.insert(id);
            self.recent = (self.recent.0 + token.logprob, self.recent.1 + 1);
        }
        if let Some(groups) = &mut self.groups
            && let (Some(group), Some(floor)) = (groups.push(token.conf), floor)
            && group < floor
        {
            return Verdict::Low;
        }
        if policy.prune.loops.is_some()
            && let (Some(id), Some(loops)) = (token.id, &mut self.loops)
            && loops.push(id)
        {
            return Verdict::Loops;
        }
        if let (Some(rule), Some(entropy)) = (policy.fork, token.entropy)
            && self.is_uncertain(entropy, rule)
        {
            return Verdict::Fork;
        }
        Verdict::Go
    }

    /// Whether the mean entropy of a full window exceeds the threshold; the window then begins anew.
    fn is_uncertain(&mut self, entropy: f64, rule: Forking) -> bool {
        let (ring, at) = self.uncertain.get_or_insert_default();
        if ring.len() < rule.window as usize {
            ring.push(entropy as f32);
        } else {
            ring[*at] = entropy as f32;
            *at = (*at + 1) % ring.len();
        }
        let mean = ring.iter().map(|&x| f64::from(x)).sum::<f64>() / ring.len() as f64;
        let fork = ring.len() == rule.window as usize && mean > rule.above;
        if fork {
            ring.clear();
            *at = 0;
        }
        fork
    }

    /// `exp` of the mean log-probability since the last call.
    pub(crate) fn recent_confidence(&mut self) -> f64 {
        let (sum, num) = std::mem::take(&mut self.recent);
        (sum / f64::from(num.max(1))).exp()
    }

    /// Adds text; the part of it in which an answer is looked for.
    pub(crate) fn text(&mut self, chunk: &str) -> &str {
        self.tail.push_str(chunk);
        if self.tail.len() > 2 * TAIL {
            let mut from = self.tail.len() - TAIL;
            while !self.tail.is_char_boundary(from) {
                from += 1;
            }
            self.tail.drain(..from);
        }
        &self.tail
    }

    /// Adds an early answer; the answer that the trace may be finished with.
    pub(crate) fn probe(&mut self, key: Option<&str>, rule: Probing) -> Option<Box<str>> {
        let id = key.map(|key| {
            let known = self.names.iter().position(|name| **name == *key);
            known.unwrap_or_else(|| {
                self.names.push(key.into());
                self.names.len() - 1
            }) as u32
        });
        self.probes.push(id);
        match rule {
            Probing::Provisional(_, stable) => {
                let last = self.probes.iter().rev().take(stable as usize);
                let agree =
                    last.clone().count() == stable as usize && last.clone().all(|p| *p == id);
                if self.probes.len() > stable.max(1) as usize {
                    self.probes.remove(0);
                }
                (stable > 0 && agree).then(|| key.map(Into::into)).flatten()
            }
            Probing::Temporal(weight, steps) => {
                let (winner, decided) =
                    crate::temporal::vote(&self.probes, self.num_steps(steps), weight);
                let winner = winner.and_then(|id| self.names.get(id as usize));
                winner.filter(|_| steps > 0 && decided).cloned()
            }
        }
    }

    fn num_steps(&self, steps: u32) -> usize {
        self.probes.len().max(steps as usize)
    }

    /// The last early answer.
    pub(crate) fn last_probe(&self) -> Option<&str> {
        let id = (*self.probes.last()?)?;
        self.names.get(id as usize).map(|name| &**name)
    }

    /// The winner of the steps so far and its confidence.
    pub(crate) fn temporal(&self, rule: Probing) -> Option<(Box<str>, f64)> {
        let Probing::Temporal(weight, _) = rule else { return None };
        let (winner, _) = crate::temporal::vote(&self.probes, self.probes.len(), weight);
        let name = self.names.get(winner? as usize)?.clone();
        Some((name, crate::temporal::entropy(&self.probes).1))
    }

    /// Adds the reward of a step.
    pub(crate) fn step(&mut self, reward: f64) {
        let steps = self.steps.get_or_insert(Steps {
            num: 0,
            sum: 0.0,
            least: f64::INFINITY,
            product: 1.0,
            last: 0.0,
        });
        steps.num += 1;
        steps.sum += reward;
        steps.least = steps.least.min(reward);
        steps.product *= reward;
        steps.last = reward;
    }

    /// The reward that the steps make up.
    pub(crate) fn reward(&self, how: StepReward) -> Option<f64> {
        self.steps.map(|steps| match how {
            StepReward::Last => steps.last,
            StepReward::Min => steps.least,
            StepReward::Prod => steps.product,
            StepReward::Mean => steps.sum / f64::from(steps.num),
        })
    }

    /// Mean entropy of the tokens that came with one.
    pub(crate) fn entropy(&self) -> Option<f64> {
        self.entropies.map(|(sum, num)| sum / num as f64)
    }

    /// The confidence that the weight of ballots reads.
    pub(crate) fn confidence(&self, weight: Weight) -> Option<f64> {
        match weight {
            _ if self.num == 0 => None,
            Weight::Soft(Soft::Min) => Some(self.least_logprob.exp()),
            Weight::Soft(Soft::Mean) => Some(self.sum_prob / self.num as f64),
            Weight::DeepConf(_, how) => self.groups.as_ref().map(|groups| groups.confidence(how)),
            _ => self.groups.as_ref().map(Groups::lowest),
        }
    }

    /// Bytes held outside of this value.
    pub(crate) fn memory(&self) -> usize {
        self.groups.as_ref().map_or(0, Groups::memory)
            + self.uncertain.as_ref().map_or(0, |(ring, _)| ring.capacity() * size_of::<f32>())
            + self.loops.as_ref().map_or(0, Loops::memory)
            + self.seen.as_ref().map_or(0, |seen| seen.capacity() * size_of::<u32>() * 8 / 7)
            + self.tail.capacity()
            + self.probes.capacity() * size_of::<Option<u32>>()
            + self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_with_what_exists() {
        let prune = |text: &str| Pruning::parse(&[text.to_owned()]);
        assert_eq!(prune("conf_floor").unwrap().floor, Some(10.0));
        assert_eq!(prune("loop:4:32").unwrap().loops, Some(LoopRule { repeats: 4, least: 32 }));
        assert_eq!(
            prune("cover:0.9:64:2").unwrap().cover,
            Some(Cover { gamma: 0.9, every: 64, keep: 2 })
        );
        for bad in ["floor", "conf_floor:101", "loop:1", "loop:8:64:3", "cover:2", "cover:1:0", ""]
        {
            assert!(prune(bad).is_err(), "{bad}");
        }
        assert_eq!(Probing::parse("provisional:0.25:3"), Ok(Probing::Provisional(0.25, 3)));
        let law = StepWeight::Exponential(5.0);
        assert_eq!(Probing::parse("temporal"), Ok(Probing::Temporal(law, 0)));
        assert_eq!(
            Probing::parse("temporal:fixed:64"),
            Ok(Probing::Temporal(StepWeight::Fixed, 64))
        );
        for bad in ["provisional:1", "temporal:cubic", "temporal:fixed:x", "often"] {
            assert!(Probing::parse(bad).is_err(), "{bad}");
        }
        assert!(Forking::parse("entropy:-1").is_err() && Forking::parse("luck").is_err());
        assert!(StepReward::parse("sum").is_err());
    }

    #[test]
    fn steps_make_up_their_published_rewards() {
        let mut watch = Watch::default();
        [0.9, 0.8, 0.95].into_iter().for_each(|r| watch.step(r));
        for (how, expected) in [
            (StepReward::Min, 0.8),
            (StepReward::Prod, 0.684),
            (StepReward::Last, 0.95),
            (StepReward::Mean, 0.883_333_333),
        ] {
            assert!((watch.reward(how).unwrap() - expected).abs() < 1e-9);
        }
        assert_eq!(Watch::default().reward(StepReward::Last), None);
    }

    #[test]
    fn texts_keep_their_tail() {
        let mut watch = Watch::default();
        for _ in 0..3000 {
            watch.text("é and so ");
        }
        assert!(watch.text("end").ends_with("so end") && watch.memory() <= 32_768);
    }
}
