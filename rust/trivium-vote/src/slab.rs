//! Questions by handle: the slot in the low half, the generation of the slot in the high half, so
//! that no handle is ever used twice.

use crate::pool::Handle;
use crate::question::{Question, hash};
use hashbrown::HashTable;

#[derive(Debug, Clone, Default)]
struct Slot {
    question: Option<Box<Question>>,
    generation: u32,
}

/// All questions of a pool, found by handle or by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    names: HashTable<u32>,
}

/// The slot of a handle.
pub(crate) fn slot_of(handle: Handle) -> u32 {
    handle as u32
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The question of a number that may be a handle.
    pub(crate) fn get(&self, handle: i64) -> Option<&Question> {
        let handle = Handle::try_from(handle).ok()?;
        let slot = self.slots.get(slot_of(handle) as usize)?;
        let current = u64::from(slot.generation) == handle >> 32;
        slot.question.as_deref().filter(|_| current)
    }

    /// The question of a handle that [`Slab::get`] has found.
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut Question> {
        let slot = self.slots.get_mut(slot_of(handle) as usize)?;
        let current = u64::from(slot.generation) == handle >> 32;
        slot.question.as_deref_mut().filter(|_| current)
    }

    /// The handle of a slot in use.
    pub(crate) fn handle(&self, slot: u32) -> Handle {
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        u64::from(generation) << 32 | u64::from(slot)
    }

    /// The handle of an id.
    pub(crate) fn find(&self, id: &str) -> Option<Handle> {
        let same = |&slot: &u32| self.id(slot) == Some(id);
        self.names.find(hash(id), same).map(|&slot| self.handle(slot))
    }

    fn id(&self, slot: u32) -> Option<&str> {
        self.slots.get(slot as usize)?.question.as_deref().map(Question::id)
    }

    /// The slot that the next question will take.
    pub(crate) fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    /// Adds a question whose id is not in use.
    pub(crate) fn insert(&mut self, question: Question) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let own = hash(question.id());
        self.slots[slot as usize].question = Some(Box::new(question));
        let slots = &self.slots;
        let again = |&slot: &u32| {
            slots[slot as usize].question.as_deref().map_or(0, |question| hash(question.id()))
        };
        self.names.insert_unique(own, slot, again);
        self.handle(slot)
    }

    /// Drops a question.
    pub(crate) fn remove(&mut self, handle: Handle) {
        let slot = slot_of(handle);
        let Some(id) = self.id(slot) else { return };
        let own = hash(id);
        if let Ok(entry) = self.names.find_entry(own, |&found| found == slot) {
            entry.remove();
        }
        let entry = &mut self.slots[slot as usize];
        entry.question = None;
        // A slot whose generations are used up is retired.
        if let Some(next) = entry.generation.checked_add(1).filter(|g| *g < i32::MAX as u32) {
            entry.generation = next;
            self.free.push(slot);
        }
    }

    /// Handles in use, by slot.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> {
        let used = (0u32..).zip(&self.slots).filter(|(_, slot)| slot.question.is_some());
        used.map(|(at, slot)| u64::from(slot.generation) << 32 | u64::from(at))
    }

    /// Bytes held, roughly.
    pub(crate) fn memory(&self) -> usize {
        let questions = self.slots.iter().filter_map(|slot| slot.question.as_deref());
        self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<u32>()
            + self.names.allocation_size()
            + questions.map(Question::memory).sum::<usize>()
    }
}
