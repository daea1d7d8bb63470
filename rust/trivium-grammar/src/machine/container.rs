//! Containers: what a frame does after the lexeme or value above it.
//!
//! An object offers keys and an array items as [`super::frame`] allows; a key decides what value
//! follows, a value what the registers become. Where items are compared, the values read are
//! remembered as canonical texts.

use super::core::{Builder, Core, Cx, Work};
use super::frame::{Items, Members, Phase};
use super::graph::{Alternative, Space, Unique};
use super::stack::{StackId, Symbol};
use super::text::{self, TextId, WrittenId};
use super::thread::Thread;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use std::sync::Arc;

/// A container that is being read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    pub(super) registers: Registers,
    pub(super) phase: Phase,
    pub(super) depth: u32,
    /// What was read, if the container is compared with others when it is complete.
    pub(super) record: Option<Arc<Record>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Registers {
    Object { plan: u32, members: Members, written: WrittenId },
    Array { plan: u32, items: Items, used: WrittenId },
}

/// Stands for "two items were equal" in the set of an array's items.
const REPEATED: &str = "*";

/// A container so far, as canonical texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Record {
    /// Keys (empty in arrays) and values.
    parts: Vec<(Arc<str>, Arc<str>)>,
    key: Arc<str>,
    /// A part is not known.
    unknown: bool,
}

impl Record {
    fn at_key(record: Option<&Arc<Self>>, key: Option<&str>) -> Option<Arc<Self>> {
        let mut new = (**record?).clone();
        match key {
            Some(key) => new.key = key.into(),
            None => new.unknown = true,
        }
        Some(Arc::new(new))
    }

    fn with(&self, value: Option<&str>) -> Self {
        let mut new = self.clone();
        match value {
            Some(value) => new.parts.push((std::mem::take(&mut new.key), value.into())),
            None => new.unknown = true,
        }
        new
    }

    /// The value as canonical JSON, members sorted.
    fn text(&self, object: bool) -> Option<String> {
        if self.unknown {
            return None;
        }
        let mut parts: Vec<String> = Vec::with_capacity(self.parts.len());
        for (key, value) in &self.parts {
            parts.push(if object {
                format!("{}:{}", text::quoted(key), text::canonical(value))
            } else {
                text::canonical(value)
            });
        }
        if object {
            parts.sort_unstable();
        }
        let (open, close) = if object { ('{', '}') } else { ('[', ']') };
        Some(format!("{open}{}{close}", parts.join(",")))
    }
}

impl Core {
    fn frame(&mut self, frame: Frame) -> Symbol {
        if let Some(&id) = self.frame_index.get(&frame) {
            return Symbol::Frame(id);
        }
        let id = self.frames.len() as u32;
        self.bytes += 240;
        self.frames.push(frame.clone());
        self.frame_index.insert(frame, id);
        Symbol::Frame(id)
    }

    fn may_close(&self, r: &Registers) -> bool {
        match r {
            Registers::Object { plan, members, .. } => {
                self.objects[*plan as usize].may_close(members)
            }
            Registers::Array { plan, items, .. } => self.arrays[*plan as usize].may_close(items),
        }
    }

    /// What an array asks of equal items.
    fn compares(&self, r: &Registers) -> Unique {
        match r {
            Registers::Array { plan, .. } => self.arrays[*plan as usize].spec.unique,
            Registers::Object { .. } => Unique::Any,
        }
    }

    /// Remembers the value that was read, where it is asked for.
    fn keep(&mut self, frame: &mut Frame, text: TextId) {
        if text == text::NONE {
            return;
        }
        let value = self.texts.value(text);
        let unique = self.compares(&frame.registers);
        if let Registers::Array { used, .. } = &mut frame.registers
            && unique != Unique::Any
        {
            let known = |v: &String| self.texts.written(*used).keys.iter().any(|k| **k == **v);
            *used = match &value {
                // One pair of equal items is enough: nothing else needs to be remembered.
                Some(v) if unique == Unique::Repeated && known(v) => {
                    self.texts.add(0, Some(REPEATED))
                }
                _ if self.texts.written(*used).keys.iter().any(|k| **k == *REPEATED) => *used,
                _ => self.texts.add(*used, value.as_deref()),
            };
        }
        if let Some(record) = &mut frame.record {
            *record = Arc::new(record.with(value.as_deref()));
        }
    }

    /// The closing bracket, if it may come: not where that makes an item that was there before.
    fn offer_close(
        &mut self,
        frame: &Frame,
        q: StateId,
        kind: usize,
        whole: bool,
        below: StackId,
        b: &mut Builder,
    ) {
        if !self.may_close(&frame.registers) {
            return;
        }
        if let Registers::Array { used, .. } = &frame.registers
            && self.compares(&frame.registers) == Unique::Repeated
        {
            let written = self.texts.written(*used);
            b.uncertain |= written.unknown;
            if !written.unknown && written.keys.iter().all(|k| **k != *REPEATED) {
                return;
            }
        }
        let Some(record) = &frame.record else {
            b.threads.push(Thread::plain(q, below));
            return;
        };
        let value = record.text(kind == 0);
        let mut entries: Vec<_> = self.stacks.entries(below).to_vec();
        let before = entries.len();
        entries.retain(|&(symbol, _)| match symbol {
            Symbol::Frame(f) => {
                let parent = &self.frames[f as usize].registers;
                let Registers::Array { used, .. } = parent else { return true };
                if self.compares(parent) != Unique::Distinct {
                    return true;
                }
                let written = self.texts.written(*used);
                b.uncertain |= written.unknown || value.is_none();
                value.as_ref().is_none_or(|v| written.keys.iter().all(|k| **k != **v))
            }
            _ => true,
        });
        let stack = if entries.len() == before { below } else { self.stacks.of(&mut entries) };
        if entries.is_empty() {
            return;
        }
        // The bracket itself is read next, or all of it where one lexeme holds both.
        let text = match &value {
            None => text::UNKNOWN,
            Some(_) if whole => text::START,
            Some(v) => v.bytes().take(v.len() - 1).fold(text::START, |t, b| self.texts.push(t, b)),
        };
        b.threads.push(Thread { q, shadow: DEAD, text, stack });
    }

    fn may_go_on(&self, r: &Registers) -> bool {
        match r {
            Registers::Object { plan, members, .. } => {
                let plan = &self.objects[*plan as usize];
                !plan.offered(members).is_empty()
                    || (0..plan.spec.others.len()).any(|j| plan.offers_other(members, j))
            }
            Registers::Array { plan, items, .. } => {
                self.arrays[*plan as usize].offered(items).next().is_some()
            }
        }
    }

    /// The opening bracket.
    pub(super) fn open(
        &mut self,
        cx: Cx<'_>,
        frame: Frame,
        kind: usize,
        below: StackId,
        b: &mut Builder,
    ) -> Result<()> {
        let marks = self.marks(cx, frame.depth)?;
        let lined = matches!(cx.program.layout.space, Space::Indent(_));
        if lined {
            self.offer_close(&frame, marks.close_empty[kind], kind, true, below, b);
        }
        if !lined || self.may_go_on(&frame.registers) {
            let symbol = self.frame(frame);
            let stack = self.stacks.push(symbol, below);
            b.threads.push(Thread::plain(marks.open[kind], stack));
        }
        Ok(())
    }

    /// What a frame does after the lexeme or value above it.
    pub(super) fn in_frame(
        &mut self,
        cx: Cx<'_>,
        id: u32,
        below: StackId,
        marker: u32,
        text: TextId,
        b: &mut Builder,
    ) -> Result<()> {
        let mut frame = self.frames[id as usize].clone();
        let marks = self.marks(cx, frame.depth)?;
        let kind = usize::from(matches!(frame.registers, Registers::Array { .. }));
        match frame.phase {
            Phase::Value => {
                self.keep(&mut frame, text);
                self.offer_close(&frame, marks.close[kind], kind, false, below, b);
                if self.may_go_on(&frame.registers) {
                    let distinct =
                        matches!(frame.registers, Registers::Array { used, .. } if used > 0);
                    let next = self.frame(Frame { phase: Phase::Comma, ..frame });
                    let stack = self.stacks.push(next, below);
                    // All values may be used up.
                    if !distinct || !self.exit(cx, stack, 0, text::NONE)?.threads.is_empty() {
                        b.threads.push(Thread::plain(marks.comma, stack));
                    }
                }
            }
            Phase::Open | Phase::Comma => {
                let lined = matches!(cx.program.layout.space, Space::Indent(_));
                let first = frame.phase == Phase::Open;
                if first && !lined {
                    self.offer_close(&frame, marks.close_empty[kind], kind, false, below, b);
                }
                match &frame.registers {
                    Registers::Object { .. } => self.offer_keys(cx, frame, below, b)?,
                    Registers::Array { plan, items, used } => {
                        let (plan_id, used) = (*plan, *used);
                        let plan = Arc::clone(&self.arrays[plan_id as usize]);
                        for v in plan.offered(items) {
                            let items = plan.take(items, v.counts);
                            let registers = Registers::Array { plan: plan_id, items, used };
                            let record = frame.record.clone();
                            self.value(v, registers, frame.depth, record, below, b);
                        }
                    }
                }
            }
            Phase::Key => self.after_key(&frame, below, marker, text, b),
        }
        Ok(())
    }

    fn offer_keys(
        &mut self,
        cx: Cx<'_>,
        frame: Frame,
        below: StackId,
        b: &mut Builder,
    ) -> Result<()> {
        let Registers::Object { plan: plan_id, ref members, written } = frame.registers else {
            return Ok(());
        };
        let plan = Arc::clone(&self.objects[plan_id as usize]);
        let offered = plan.offered(members);
        let others: Vec<u32> = (0..plan.spec.others.len())
            .filter(|&j| plan.offers_other(members, j))
            .map(|j| (plan.spec.members.len() + j) as u32)
            .collect();
        let symbol = self.frame(Frame { phase: Phase::Key, ..frame });
        let stack = self.stacks.push(symbol, below);
        if !offered.is_empty() {
            let q = self.key_state(cx, plan_id, None)?;
            let shadow = self.offer(&offered);
            b.threads.push(Thread { q, shadow, text: text::NONE, stack });
        }
        // After a key that is not known this one is not known either, to say so at its closing quote.
        let text = if self.texts.written(written).unknown { text::UNREAD } else { text::START };
        for j in others {
            let q = self.key_state(cx, plan_id, Some(j))?;
            let shadow = self.shadow(cx, plan_id, written)?;
            b.threads.push(Thread { q, shadow, text, stack });
        }
        Ok(())
    }

    fn after_key(
        &mut self,
        frame: &Frame,
        below: StackId,
        marker: u32,
        text: TextId,
        b: &mut Builder,
    ) {
        let Registers::Object { plan: plan_id, ref members, written } = frame.registers else {
            return;
        };
        let plan = Arc::clone(&self.objects[plan_id as usize]);
        let n = plan.spec.members.len() as u32;
        if let Some(member) = plan.spec.members.get(marker as usize) {
            for &v in &member.values {
                let members = plan.take(members, marker as usize, v.counts);
                if plan.is_open(&members) {
                    let registers = Registers::Object { plan: plan_id, members, written };
                    let record = Record::at_key(frame.record.as_ref(), Some(&member.key));
                    self.value(v, registers, frame.depth, record, below, b);
                }
            }
        } else if let Some(others) = plan.spec.others.get((marker - n) as usize) {
            let key = self.texts.key(text);
            let written = self.texts.add(written, key.as_deref());
            for &v in &others.values {
                let members = plan.take_other(members, v.counts);
                if plan.is_open(&members) {
                    let registers = Registers::Object { plan: plan_id, members, written };
                    let record = Record::at_key(frame.record.as_ref(), key.as_deref());
                    self.value(v, registers, frame.depth, record, below, b);
                }
            }
        }
    }

    fn value(
        &mut self,
        v: Alternative,
        registers: Registers,
        depth: u32,
        record: Option<Arc<Record>>,
        below: StackId,
        b: &mut Builder,
    ) {
        let recorded = record.is_some() || self.compares(&registers) == Unique::Repeated;
        let distinct = match &registers {
            Registers::Array { plan, used, .. } => {
                let unique = self.arrays[*plan as usize].spec.unique;
                (unique == Unique::Distinct).then_some(*used)
            }
            Registers::Object { .. } => None,
        };
        let symbol = self.frame(Frame { registers, phase: Phase::Value, depth, record });
        let stack = self.stacks.push(symbol, below);
        b.work.push(match distinct {
            None if recorded => Work::Recorded(v.value, stack, depth + 1),
            None => Work::Node(v.value, stack, depth + 1),
            Some(used) => Work::Fresh(v.value, stack, depth + 1, used),
        });
    }
}
