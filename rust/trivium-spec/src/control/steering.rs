//! A request's controller and off switch, and what the tree in progress looks like to them.

use super::{Controller, DraftCtx, Feedback, QSummary, Reached, StepCtx, Switch};
use trivium_core::Address;

/// The step that was last proposed.
#[derive(Debug, Clone, Default)]
struct Step {
    /// Committed length when it was proposed.
    len: usize,
    load: usize,
    allowed: usize,
    /// For the switch: whether any draft paid; `None` where none was grown.
    paid: Option<bool>,
    parents: Vec<i32>,
    scores: Vec<f32>,
    depth: usize,
    /// Law of the children of each expanded node.
    laws: Vec<Option<QSummary>>,
}

/// State of one request.
#[derive(Debug, Default)]
pub(crate) struct Steering {
    controller: Option<Box<dyn Controller>>,
    switch: Switch,
    noise: Option<Address>,
    step: Step,
}

impl Steering {
    pub(crate) fn new(controller: Option<Box<dyn Controller>>) -> Self {
        Self { controller, ..Self::default() }
    }

    pub(crate) fn fork(&self) -> Self {
        Self {
            controller: self.controller.as_ref().map(|c| c.fork()),
            switch: self.switch,
            noise: self.noise,
            step: self.step.clone(),
        }
    }

    /// Starts a step at a committed length; most nodes of its tree, node 0 counted.
    pub(crate) fn begin(&mut self, len: usize, step: StepCtx<'_>) -> usize {
        if self.step.len != len && self.step.len != 0 {
            self.switch.report(self.step.paid, self.step.load);
        }
        let allowed = self.controller.as_ref().map_or(usize::MAX, |c| c.length(step));
        let on = self.switch.is_on(step.requests);
        self.noise = Some(step.noise);
        self.step.len = len;
        self.step.load = step.requests;
        self.step.allowed = allowed;
        self.step.paid = None;
        self.step.parents.clear();
        self.step.scores.clear();
        self.step.laws.clear();
        self.step.depth = 0;
        if on { allowed.saturating_add(1) } else { 1 }
    }

    /// Whether no controller looks at the candidates.
    pub(crate) fn is_free(&self) -> bool {
        self.controller.is_none()
    }

    fn context(&self, position: usize, survival: f64) -> DraftCtx {
        let noise = self.noise.unwrap_or(Address::new(0, 0, 0));
        DraftCtx { position, survival, noise }
    }

    /// Whether to draft on below a node whose candidates are estimated so.
    pub(crate) fn expands(
        &mut self,
        node: usize,
        depth: usize,
        score: f32,
        estimates: impl Iterator<Item = f32>,
    ) -> bool {
        let Some(controller) = &self.controller else { return true };
        let q = QSummary::of_candidates(estimates.map(f64::from));
        if self.step.laws.len() <= node {
            self.step.laws.resize(node + 1, None);
        }
        self.step.laws[node] = Some(q);
        controller.before_sample(self.context(depth, f64::from(score)), q)
    }

    /// Whether to go on behind a node that was just added below `parent`.
    pub(crate) fn goes_on(&self, parent: usize, depth: usize, score: f32, above: f32) -> bool {
        let Some(controller) = &self.controller else { return true };
        let Some(q) = self.step.laws.get(parent).copied().flatten() else { return true };
        let p = if above > 0.0 { f64::from(score / above) } else { 0.0 };
        controller.after_include(self.context(depth, f64::from(score)), q, p)
    }

    /// Ends the growth of a tree of which `parents` and `scores` are kept; `grown` nodes there were.
    pub(crate) fn grown(&mut self, parents: &[i32], scores: &[f32], depth: usize, grown: usize) {
        self.step.paid = (grown > 1).then_some(parents.len() > 1);
        if self.controller.is_some() {
            self.step.depth = depth;
            self.step.parents.extend_from_slice(parents);
            self.step.scores.extend_from_slice(scores);
        }
    }

    /// Tells the controller (and `shared`, from which later requests start) what became of the step
    /// proposed at `len`: accepted nodes from the root down, of which the host may have cut some.
    pub(crate) fn report(
        &mut self,
        len: usize,
        nodes: &[i32],
        accepted: usize,
        cost: Option<f64>,
        shared: Option<&mut Box<dyn Controller>>,
    ) {
        let step = &self.step;
        let known = |&n: &i32| usize::try_from(n).is_ok_and(|n| n < step.parents.len());
        let Some(controller) = &mut self.controller else { return };
        // A tree of the host's own, or one proposed and given up.
        if step.len != len || step.parents.is_empty() || !nodes.iter().all(known) {
            return;
        }
        let mut path = Vec::new();
        let mut at = 0;
        for i in 0..=nodes.len() {
            let children = (at + 1..step.parents.len()).filter(|&c| step.parents[c] as usize == at);
            let best = children.max_by(|&a, &b| step.scores[a].total_cmp(&step.scores[b]));
            let (Some(best), Some(Some(q))) = (best, step.laws.get(at)) else { break };
            let next = nodes.get(i).map(|&n| n as usize);
            let p = f64::from(step.scores[next.unwrap_or(best)] / step.scores[at].max(1e-30));
            path.push(Reached { q: *q, p, accepted: i < accepted });
            let Some(next) = next else { break };
            at = next;
        }
        let feedback = Feedback {
            allowed: step.allowed,
            drafted: step.parents.len() - 1,
            depth: step.depth,
            accepted,
            cost,
            path: &path,
        };
        controller.report(&feedback);
        if let Some(shared) = shared {
            shared.report(&feedback);
        }
    }
}
