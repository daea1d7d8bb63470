//! One question: its traces, its tally, its launch control and its result.
//!
//! Everything that decides is a function of launch order. Finished traces wait until all earlier
//! ones have ended; then they are counted one at a time, and after each one
//!
//! ```text
//! stop?   asked with the tally of the prefix 0..j and the L - j traces outstanding
//! launch  max(launched, j + min(L - j, ceil(d / p^g)))   with d = need(tally), see `Latency`
//! ```
//!
//! so that winner, tally, stop and number of launches are the same for every order of finishing.
//! What does depend on timing is kept apart: how many traces had to be cancelled, how many ended
//! too late to count, and how many tokens were paid for.

use crate::keys::Said;
use crate::spec::{Latency, Policy, Ties};
use crate::stops::{Fired, Rule, Stops, Weighted, beta, first_finish};
use crate::tally::{KeyId, Tally};
use crate::weights::conf::{Groups, percentile};
use crate::weights::{self, BallotStats, Weight};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use trivium_core::{Error, Result};

/// Why a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It finished by itself.
    Stop,
    /// It met a length limit: an answer that runs into the end of its text does not count.
    Length,
    /// It was cancelled: no ballot.
    Cancelled,
    /// It failed: no ballot.
    Error,
}

impl Reason {
    /// All reasons with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("stop", Self::Stop),
        ("length", Self::Length),
        ("cancelled", Self::Cancelled),
        ("error", Self::Error),
    ];

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] listing the names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(text, _)| *text == name);
        let names = || Self::ALL.map(|(text, _)| text).join(", ");
        found.map(|(_, reason)| *reason).ok_or_else(|| {
            Error::input("reason", format!("{name:?} is unknown; choose one of: {}", names()))
        })
    }
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End<'a> {
    /// What it said.
    pub said: Said<'a>,
    /// Why it ended.
    pub reason: Reason,
    /// Sum of its tokens' log-probabilities, overriding what was gathered.
    pub sum_logprob: Option<f64>,
    /// Number of its tokens, overriding what was counted.
    pub num_tokens: Option<u64>,
    /// A reward.
    pub reward: Option<f64>,
    /// Its confidence, overriding what tokens gathered.
    pub confidence: Option<f64>,
    /// Mean entropy of its token distributions.
    pub entropy: Option<f64>,
    /// Index of its source.
    pub source: Option<u32>,
    /// Its weight, for the weight `user`.
    pub weight: Option<f64>,
}

impl<'a> End<'a> {
    /// A trace that finished by itself.
    pub fn new(said: Said<'a>) -> Self {
        Self {
            said,
            reason: Reason::Stop,
            sum_logprob: None,
            num_tokens: None,
            reward: None,
            confidence: None,
            entropy: None,
            source: None,
            weight: None,
        }
    }
}

/// Why a vote stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StopCause {
    /// A stop rule fired.
    Rule(Rule),
    /// No completion of the budget could change the winner.
    Locked,
    /// Every trace of the budget has ended.
    Budget,
    /// The host closed the question.
    Closed,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule:{rule}"),
            Self::Locked => f.write_str("locked"),
            Self::Budget => f.write_str("budget"),
            Self::Closed => f.write_str("cancelled"),
        }
    }
}

/// One row of a result's tally.
#[derive(Debug, Clone, PartialEq)]
pub struct TallyRow {
    /// The key.
    pub key: String,
    /// Its ballots.
    pub count: u32,
    /// Their weight.
    pub weight: f64,
}

/// What a vote has cost. The first depends on launch order alone, the others on timing too: by the
/// time a stop is noticed, more traces may be running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Traces counted, abstentions included: the prefix of launch order that the decision rests on.
    /// This is what published savings count.
    pub samples: u32,
    /// Traces launched: all are paid for.
    pub launched: u32,
    /// Traces cancelled by the decision or by the host.
    pub cancelled: u32,
    /// Traces that ended by themselves but too late to be counted.
    pub late: u32,
    /// Tokens of all traces, as far as they were reported.
    pub tokens: u64,
}

/// The state of a vote, final once `stop` is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Id of the question.
    pub question: String,
    /// The winning key; none if no trace cast a ballot.
    pub winner: Option<String>,
    /// The representative's answer as it was written: the first ballot for the winner.
    pub answer: Option<String>,
    /// The representative's trace.
    pub trace: Option<u32>,
    /// Posterior probability that the winner is the most probable answer of the sampler: not that it
    /// is correct. None without a winner.
    pub p_mode: Option<f64>,
    /// Share of the ballots that the winner has, 0 without any.
    pub share: f64,
    /// Lead over the runner-up as a share of the ballots.
    pub margin: f64,
    /// Keys by falling weight, the older first on ties.
    pub tally: Vec<TallyRow>,
    /// Number of keys that share the winner's count or weight, itself included.
    pub num_tied: u32,
    /// The tied keys, the older first; empty without a tie.
    pub tied: Vec<String>,
    /// Which condition made a decided vote abstain.
    pub abstained: Option<&'static str>,
    /// Probability that the winner still leads when the budget is spent.
    pub p_final: Option<f64>,
    /// Entropy of the shares of the keys.
    pub entropy: f64,
    /// Ballots cast.
    pub num_cast: u32,
    /// Counted traces without a ballot.
    pub num_none: u32,
    /// Why the vote stopped; none while it runs.
    pub stop: Option<StopCause>,
    /// What it cost so far.
    pub cost: Cost,
    /// Name of the policy.
    pub policy: String,
    /// Seed of the question.
    pub seed: u64,
}

/// Running statistics of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TraceStats {
    pub(crate) num_tokens: u64,
    pub(crate) sum_logprob: f64,
    pub(crate) sum_conf: f64,
    pub(crate) reward: Option<f64>,
    pub(crate) confidence: Option<f64>,
    pub(crate) entropy: Option<f64>,
    pub(crate) source: Option<u32>,
    pub(crate) weight: Option<f64>,
}

/// A ballot before it is counted: the key and the answer as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ballot {
    pub(crate) key: String,
    pub(crate) raw: String,
    /// Hash of the whole text: equal texts are one path.
    pub(crate) path: u64,
}

/// Traces that run to their end before pruning begins.
const WARM_UP: u32 = 16;

/// FNV-1a, for what must not depend on the hasher of a map.
pub(crate) fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) stats: TraceStats,
    /// Group confidences, for policies that read them.
    pub(crate) groups: Option<Box<Groups>>,
    pub(crate) ended: Option<Reason>,
    pub(crate) ballot: Option<Ballot>,
}

/// What happened, in order: enough, with the traces, to replay the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The host was told to launch this many more traces.
    Launch(u32),
    /// This trace ended.
    Finish(u32),
    /// The host closed the question.
    Close,
}

/// What changed: traces to launch or to cancel, and whether the vote has just been decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) cancel: Vec<u32>,
    pub(crate) decided: bool,
}

/// One question of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) budget: u32,
    pub(crate) seed: u64,
    pub(crate) traces: Vec<Trace>,
    pub(crate) events: Vec<Event>,
    policy: Arc<Policy>,
    stops: Arc<Stops>,
    tally: Tally,
    keys: FxHashMap<Box<str>, KeyId>,
    /// First trace of each key: its representative.
    firsts: Vec<u32>,
    /// Traces counted: the prefix of launch order the tally stands for.
    counted: u32,
    num_none: u32,
    /// Counted ballots in order: key and trace.
    ballots: Vec<(KeyId, u32)>,
    /// Their weights, and sums by key; empty under the weight `one`.
    weights: Vec<f64>,
    sums: Vec<f64>,
    /// Least group confidence of traces after the warm-up.
    floor: Option<f64>,
    /// What a stop elected in place of the leader.
    elected: Option<KeyId>,
    /// Traces to have been launched by now; `traces.len()` of them the host knows about.
    target: u32,
    stop: Option<StopCause>,
}

impl Question {
    pub(crate) fn new(
        id: String,
        budget: u32,
        seed: u64,
        policy: Arc<Policy>,
        stops: Arc<Stops>,
    ) -> Self {
        let mut question = Self {
            id,
            budget,
            seed,
            traces: Vec::new(),
            events: Vec::new(),
            policy,
            stops,
            tally: Tally::default(),
            keys: FxHashMap::default(),
            firsts: Vec::new(),
            counted: 0,
            num_none: 0,
            ballots: Vec::new(),
            weights: Vec::new(),
            sums: Vec::new(),
            floor: None,
            elected: None,
            target: 0,
            stop: None,
        };
        question.aim();
        question
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stop.is_some()
    }

    /// Raises the number of launches to what launch control asks for.
    fn aim(&mut self) {
        let rest = self.budget - self.counted;
        let flying = match self.policy.config.latency {
            Latency::Max => rest,
            Latency::Factor(_) if self.policy.arrival => rest.min(self.started() - self.counted),
            Latency::Factor(exponent) => {
                let need = f64::from(self.stops.need(&self.tally, rest));
                let (a, n) = (f64::from(self.tally.top_two().0), f64::from(self.tally.num_cast()));
                let hit = (a + 1.0) / (n + 2.0);
                (need / hit.powf(exponent)).ceil().min(f64::from(rest)) as u32
            }
        };
        self.target = self.target.max(self.counted + flying);
    }

    /// Traces to start under rules on the order of finishing: the budget where none says.
    fn started(&self) -> u32 {
        let of = |rule: &Rule| match *rule {
            Rule::FirstFinish { finishes, of, .. } | Rule::LastFinish { finishes, of } => {
                if of > 0 { of } else { first_finish::started(finishes) }
            }
            _ => self.budget,
        };
        let most = self.policy.rules.iter().map(of).max().unwrap_or(self.budget);
        most.min(self.budget).max(self.counted)
    }

    /// The budget, or what an order-of-finishing rule starts.
    fn limit(&self) -> u32 {
        if self.policy.arrival { self.started() } else { self.budget }
    }

    /// Traces that the host has not been told to launch yet: the first and how many. They count as
    /// launched from now on.
    pub(crate) fn take_launch(&mut self) -> Option<(u32, u32)> {
        let first = self.traces.len() as u32;
        if self.is_done() || self.target <= first {
            return None;
        }
        let num = self.target - first;
        self.traces.resize_with(self.target as usize, Trace::default);
        self.events.push(Event::Launch(num));
        Some((first, num))
    }

    /// A trace that may still receive tokens or its end.
    pub(crate) fn running(&self, trace: i64) -> Result<u32> {
        let found = u32::try_from(trace).ok().and_then(|t| Some((t, self.traces.get(t as usize)?)));
        match found {
            None => {
                let num = self.traces.len();
                let hint = if num == 0 { "; fetch the first launches before" } else { "" };
                let id = &self.id;
                let why =
                    format!("{trace} of question {id:?} is not one of the {num} launched{hint}");
                Err(Error::input("trace", why))
            }
            Some((_, Trace { ended: Some(_), .. })) => Err(Error::state(
                format!("trace {trace} of question {:?}", self.id),
                "a running trace",
                "one that has ended",
            )),
            Some((trace, _)) => Ok(trace),
        }
    }

    /// Adds one token to the statistics of a trace that [`Question::running`] has checked; whether
    /// the trace falls below the floor of pruning, which then cancels it.
    pub(crate) fn add_token(&mut self, trace: u32, logprob: f64, conf: f64) -> bool {
        let reads_groups =
            self.policy.floor.is_some() || matches!(self.policy.weight, Weight::DeepConf(_));
        let window = self.policy.config.window;
        let floor = self.floor;
        let entry = &mut self.traces[trace as usize];
        entry.stats.num_tokens += 1;
        entry.stats.sum_logprob += logprob;
        entry.stats.sum_conf += conf;
        if !reads_groups {
            return false;
        }
        let groups = entry.groups.get_or_insert_with(|| Box::new(Groups::new(window)));
        let group = groups.push(conf);
        trace >= WARM_UP && matches!((group, floor), (Some(group), Some(floor)) if group < floor)
    }

    /// Traces below the floor end by themselves: as cancelled, without a ballot.
    pub(crate) fn prune(&mut self, trace: u32) -> Change {
        let stats = self.traces[trace as usize].stats;
        self.end(trace, Reason::Cancelled, None, stats)
    }

    /// Ends a trace that [`Question::running`] has checked, and counts what has become countable.
    pub(crate) fn end(
        &mut self,
        trace: u32,
        reason: Reason,
        ballot: Option<Ballot>,
        stats: TraceStats,
    ) -> Change {
        let entry = &mut self.traces[trace as usize];
        let groups = entry.groups.take();
        let mut stats = stats;
        if stats.confidence.is_none() {
            let mean = stats.sum_conf / stats.num_tokens.max(1) as f64;
            let gathered = groups.map_or(mean, |groups| groups.lowest());
            stats.confidence = (stats.num_tokens > 0).then_some(gathered);
        }
        *entry = Trace { stats, groups: None, ended: Some(reason), ballot };
        self.events.push(Event::Finish(trace));
        if self.is_done() {
            return Change::default();
        }
        if self.policy.floor.is_some() && self.floor.is_none() {
            self.set_floor();
        }
        if self.policy.arrival {
            self.count(trace);
            return self.decision();
        }
        while self.stop.is_none() && self.counted < self.traces.len() as u32 {
            let next = self.counted;
            if self.traces[next as usize].ended.is_none() {
                break;
            }
            self.count(next);
        }
        self.decision()
    }

    /// Decides the vote with what has been counted.
    pub(crate) fn close(&mut self) -> Change {
        if self.is_done() {
            return Change::default();
        }
        self.events.push(Event::Close);
        self.stop = Some(StopCause::Closed);
        self.decision()
    }

    /// Sets the floor of pruning once the warm-up traces have all ended.
    fn set_floor(&mut self) {
        let warm = WARM_UP.min(self.budget) as usize;
        let Some(first) = self.traces.get(..warm) else { return };
        if first.iter().any(|trace| trace.ended.is_none()) {
            return;
        }
        let lows: Vec<f64> = first.iter().filter_map(|trace| trace.stats.confidence).collect();
        let eta = self.policy.floor.unwrap_or(10.0);
        if !lows.is_empty() {
            self.floor = Some(percentile(&lows, 100.0 - eta));
        }
    }

    fn count(&mut self, trace: u32) {
        self.counted += 1;
        match &self.traces[trace as usize].ballot {
            None => {
                self.num_none += 1;
                self.tally.abstain();
            }
            Some(ballot) => {
                let known = self.keys.get(ballot.key.as_str()).copied();
                let key = known.unwrap_or(self.firsts.len() as KeyId);
                if known.is_none() {
                    self.keys.insert(ballot.key.as_str().into(), key);
                    self.firsts.push(trace);
                }
                self.tally.cast(key);
                if self.policy.weight != Weight::One || self.policy.reads_ballots() {
                    self.ballots.push((key, trace));
                    self.weigh();
                }
            }
        }
        let rest = self.limit().saturating_sub(self.counted);
        let fired = if self.policy.weight == Weight::One {
            self.stops.check(&self.tally, rest)
        } else {
            let bound = self.policy.weight.bound();
            let weighted =
                Weighted { sums: &self.sums, kappa: weights::kappa(&self.weights), bound };
            self.stops.check_weighted(&self.tally, weighted, rest)
        };
        let waits = self.policy.ties == Ties::More && rest > 0 && self.tied().len() > 1;
        self.stop = match fired {
            _ if waits => None,
            Some(Fired::Locked) if rest > 0 || self.policy.rules.contains(&Rule::Locked) => {
                Some(StopCause::Locked)
            }
            Some(Fired::Rule(rule)) => Some(StopCause::Rule(rule)),
            _ if rest == 0 => Some(StopCause::Budget),
            _ => None,
        };
        if let (Some(fired), Some(_)) = (fired, self.stop)
            && self.policy.weight == Weight::One
        {
            let elected = self.stops.elects(fired, &self.tally);
            self.elected = elected.filter(|&key| Some(key) != self.tally.leader());
        }
        let last = self.policy.rules.iter().find_map(|rule| match rule {
            Rule::LastFinish { finishes, .. } => Some(*finishes as usize),
            _ => None,
        });
        if let (Some(finishes), Some(_)) = (last, self.stop) {
            let skip = self.ballots.len().saturating_sub(finishes);
            self.elected = first_finish::majority(self.ballots[skip..].iter().map(|(key, _)| *key));
        }
        if self.stop.is_none() {
            self.aim();
        }
    }

    /// Weighs all ballots anew. What a scheme lacks was checked when the trace ended.
    fn weigh(&mut self) {
        if self.policy.weight == Weight::One {
            return;
        }
        let keys: Vec<u32> = self.ballots.iter().map(|(key, _)| *key).collect();
        let stats: Vec<BallotStats> =
            self.ballots.iter().map(|&(_, trace)| self.ballot_stats(trace)).collect();
        let log_odds = &self.policy.config.log_odds;
        let floor = self.floor;
        let mut weights = (self.policy.weight.weigh(&keys, &stats, log_odds))
            .unwrap_or_else(|_| vec![1.0; keys.len()]);
        if let Some(floor) = floor {
            // Warm-up traces below the floor are left out of the vote, too.
            for (weight, stats) in weights.iter_mut().zip(&stats) {
                if stats.confidence.is_some_and(|conf| conf < floor) {
                    *weight = 0.0;
                }
            }
        }
        self.sums = weights::sums(&keys, &weights);
        self.weights = weights;
    }

    fn ballot_stats(&self, trace: u32) -> BallotStats {
        let entry = &self.traces[trace as usize];
        let stats = entry.stats;
        let path = entry.ballot.as_ref().map_or(0, |ballot| ballot.path);
        BallotStats {
            sum_logprob: stats.sum_logprob,
            num_tokens: stats.num_tokens,
            confidence: stats.confidence,
            entropy: stats.entropy,
            reward: stats.reward,
            source: stats.source,
            weight: stats.weight,
            path,
        }
    }

    /// Whether the policy can weigh a ballot with these statistics.
    pub(crate) fn check_stats(&self, stats: &TraceStats) -> Result<()> {
        if matches!(self.policy.weight, Weight::One) {
            return Ok(());
        }
        let gathered = (stats.num_tokens > 0).then_some(0.0);
        let ballot = BallotStats {
            sum_logprob: stats.sum_logprob,
            num_tokens: stats.num_tokens,
            confidence: stats.confidence.or(gathered),
            entropy: stats.entropy,
            reward: stats.reward,
            source: stats.source,
            weight: stats.weight,
            path: 0,
        };
        self.policy.weight.weigh(&[0], &[ballot], &self.policy.config.log_odds).map(drop)
    }

    /// Keys of largest count or weight, the older first.
    fn tied(&self) -> Vec<KeyId> {
        let keys = 0..self.tally.num_keys() as KeyId;
        if self.policy.weight == Weight::One {
            let (best, _) = self.tally.top_two();
            return keys
                .filter(|&key| best > 0 && self.tally.counts()[key as usize] == best)
                .collect();
        }
        let best = self.sums.iter().copied().fold(0.0, f64::max);
        let slack = 1e-12 * self.sums.iter().sum::<f64>();
        keys.filter(|&key| self.sums[key as usize] >= best - slack).collect()
    }

    /// The winner under the tie rule, if anyone wins, and the tied keys.
    fn winner(&self) -> (Option<KeyId>, Vec<KeyId>) {
        if let Some(elected) = self.elected {
            return (Some(elected), Vec::new());
        }
        let tied = self.tied();
        let first = tied.first().copied();
        if tied.len() < 2 {
            return (first, Vec::new());
        }
        let names = || tied.iter().filter_map(|&key| Some((key, self.name(key)?)));
        let winner = match self.policy.ties {
            Ties::First | Ties::More | Ties::All => first,
            Ties::Abstain => None,
            Ties::Greedy => {
                let greedy = self.traces.first().and_then(|trace| trace.ballot.as_ref());
                names()
                    .find(|(_, name)| Some(name.as_str()) == greedy.map(|b| b.key.as_str()))
                    .map_or(first, |(key, _)| Some(key))
            }
            Ties::Random => {
                let mut sorted: Vec<(KeyId, String)> = names().collect();
                sorted.sort_by(|x, y| x.1.cmp(&y.1));
                let mut hash = fnv(0xcbf2_9ce4_8422_2325 ^ self.seed, self.id.as_bytes());
                for (_, name) in &sorted {
                    hash = fnv(hash ^ 0xff, name.as_bytes());
                }
                let pick = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                sorted.get(pick as usize % sorted.len().max(1)).map(|(key, _)| *key)
            }
            Ties::Weight => {
                let mean = |key: KeyId| {
                    let of = self.traces.iter().filter(|trace| {
                        trace.ballot.as_ref().and_then(|b| self.keys.get(b.key.as_str()))
                            == Some(&key)
                    });
                    let (sum, num) = of.fold((0.0, 0u64), |(sum, num), trace| {
                        (sum + trace.stats.sum_logprob, num + trace.stats.num_tokens)
                    });
                    sum / num.max(1) as f64
                };
                let best = tied.iter().map(|&key| mean(key)).fold(f64::NEG_INFINITY, f64::max);
                tied.iter().copied().find(|&key| mean(key) >= best)
            }
        };
        (winner, tied)
    }

    fn name(&self, key: KeyId) -> Option<String> {
        let trace = *self.firsts.get(key as usize)?;
        self.traces.get(trace as usize)?.ballot.as_ref().map(|ballot| ballot.key.clone())
    }

    /// The trace that stands for a key: its ballot of largest weight, the earliest on ties.
    fn representative(&self, key: KeyId) -> Option<u32> {
        let first = self.firsts.get(key as usize).copied();
        let of_key = self.ballots.iter().zip(&self.weights).filter(|((k, _), _)| *k == key);
        let mut best: Option<(u32, f64)> = None;
        for (&(_, trace), &weight) in of_key {
            if best.is_none_or(|(_, most)| weight > most) {
                best = Some((trace, weight));
            }
        }
        best.map(|(trace, _)| trace).or(first)
    }

    fn decision(&mut self) -> Change {
        if !self.is_done() {
            return Change::default();
        }
        let open = |(_, trace): &(usize, &Trace)| trace.ended.is_none();
        let cancel: Vec<u32> =
            self.traces.iter().enumerate().filter(open).map(|(i, _)| i as u32).collect();
        Change { cancel, decided: true }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let (a, b) = self.tally.top_two();
        let cast = self.tally.num_cast();
        let weight_of = |key: usize| match self.sums.get(key) {
            Some(&sum) => sum,
            None => f64::from(self.tally.counts()[key]),
        };
        let total: f64 = (0..self.tally.num_keys()).map(weight_of).sum();
        let share_of = |weight: f64| if total > 0.0 { weight / total } else { 0.0 };
        let (winner, tied) = self.winner();
        let mut tally: Vec<(KeyId, TallyRow)> = (0..self.tally.num_keys())
            .filter_map(|key| {
                let count = self.tally.counts()[key];
                let row = TallyRow { key: self.name(key as KeyId)?, count, weight: weight_of(key) };
                Some((key as KeyId, row))
            })
            .collect();
        // Stable, so that the older key stays first on ties.
        tally.sort_by(|x, y| y.1.weight.total_cmp(&x.1.weight));
        let best = |place: usize| tally.get(place).map_or(0.0, |(_, row)| row.weight);
        let share = match winner {
            Some(key) => share_of(weight_of(key as usize)),
            None => share_of(best(0)),
        };
        let margin = share_of(best(0) - best(1));
        let rule = self.policy.config.abstain;
        let cast_rate =
            if self.counted == 0 { 1.0 } else { f64::from(cast) / f64::from(self.counted) };
        let abstained = if self.is_done() {
            [
                ("ties", winner.is_none() && tied.len() > 1),
                ("min_ballots", cast < rule.min_ballots),
                ("min_share", share < rule.min_share),
                ("min_margin", margin < rule.min_margin),
                ("max_none_rate", cast_rate < rule.min_cast_rate),
            ]
            .into_iter()
            .find(|(_, fails)| *fails)
            .map(|(name, _)| name)
        } else {
            None
        };
        let winner = winner.filter(|_| abstained.is_none());
        let first = winner.and_then(|key| self.representative(key));
        let ballot = first.and_then(|trace| self.traces[trace as usize].ballot.as_ref());
        let entropy = -tally
            .iter()
            .map(|(_, row)| share_of(row.weight))
            .filter(|p| *p > 0.0)
            .map(|p| p * p.ln())
            .sum::<f64>();
        let rest = self.limit().saturating_sub(self.counted);
        let plain = self.policy.weight == Weight::One && winner == self.tally.leader();
        let p_final = (plain && winner.is_some() && rest <= 4096)
            .then(|| crate::stops::predictive::confidence(a, b, rest, 1.0));
        let (traces, counted) = (self.traces.as_slice(), self.counted as usize);
        let late = |t: &&Trace| matches!(t.ended, Some(Reason::Stop | Reason::Length));
        let done = self.is_done();
        let cancelled = |t: &&Trace| match t.ended {
            Some(reason) => reason == Reason::Cancelled,
            None => done,
        };
        Outcome {
            question: self.id.clone(),
            winner: ballot.map(|ballot| ballot.key.clone()),
            answer: ballot.map(|ballot| ballot.raw.clone()),
            trace: first,
            p_mode: first.map(|_| beta::posterior(a, b)),
            share,
            margin,
            num_tied: self.tied().len() as u32,
            tied: tied.iter().filter_map(|&key| self.name(key)).collect(),
            abstained,
            p_final,
            entropy: entropy.max(0.0),
            tally: tally.into_iter().map(|(_, row)| row).collect(),
            num_cast: cast,
            num_none: self.num_none,
            stop: self.stop,
            cost: Cost {
                samples: self.counted,
                launched: traces.len() as u32,
                cancelled: traces.iter().filter(cancelled).count() as u32,
                late: match done {
                    true if self.policy.arrival => {
                        let ended = traces.iter().filter(late).count();
                        let casting = counted.min(ended);
                        (ended - casting) as u32
                    }
                    true => traces[counted..].iter().filter(late).count() as u32,
                    false => 0,
                },
                tokens: traces.iter().map(|trace| trace.stats.num_tokens).sum(),
            },
            policy: self.policy.name(),
            seed: self.seed,
        }
    }

    /// Bytes held, roughly.
    pub(crate) fn memory(&self) -> usize {
        let ballots = self.traces.iter().filter_map(|trace| trace.ballot.as_ref());
        size_of::<Self>()
            + self.id.capacity()
            + self.traces.capacity() * size_of::<Trace>()
            + self.events.capacity() * size_of::<Event>()
            + ballots.map(|b| b.key.capacity() * 2 + b.raw.capacity()).sum::<usize>()
            + self.keys.capacity() * size_of::<(Box<str>, KeyId)>()
            + self.firsts.capacity() * size_of::<u32>()
            + self.ballots.capacity() * size_of::<(KeyId, u32)>()
            + (self.weights.capacity() + self.sums.capacity()) * size_of::<f64>()
            + self
                .traces
                .iter()
                .filter_map(|t| t.groups.as_ref())
                .map(|g| g.memory())
                .sum::<usize>()
    }
}
