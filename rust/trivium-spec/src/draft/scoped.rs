//! One shared store a tenant, made when it is first asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Scopes kept; the one that was made first goes first.
const SCOPES: usize = 1024;

/// A store that several requests read and that learns when one of them ends.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<RwLock<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether two handles are of one store.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores by key, at most [`SCOPES`] of them.
#[derive(Debug)]
pub(crate) struct Scoped<K, T>(Mutex<Stores<K, T>>);

/// Number of the store's making, and the store; next number.
type Stores<K, T> = (BTreeMap<K, (u64, Shared<T>)>, u64);

impl<K: Ord + Clone, T: Default> Default for Scoped<K, T> {
    fn default() -> Self {
        Self(Mutex::new((BTreeMap::new(), 0)))
    }
}

impl<K: Ord + Clone, T: Default> Scoped<K, T> {
    /// The store of a key. Requests that still hold an evicted one keep it until they end.
    pub(crate) fn get(&self, key: &K) -> Shared<T> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, next) = &mut *stores;
        if let Some((_, store)) = map.get(key) {
            return store.clone();
        }
        if map.len() == SCOPES
            && let Some(oldest) = map.iter().min_by_key(|(_, v)| v.0).map(|(k, _)| k.clone())
        {
            map.remove(&oldest);
        }
        let store = Shared(Arc::new(RwLock::new(T::default())));
        map.insert(key.clone(), (*next, store.clone()));
        *next += 1;
        store
    }

    /// Sum over all stores.
    pub(crate) fn sum(&self, of: impl Fn(&T) -> usize) -> usize {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.0.values().map(|(_, s)| of(&s.read())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_apart_and_bounded() {
        let s: Scoped<u32, Vec<u8>> = Scoped::default();
        s.get(&1).write().push(1);
        assert_eq!(s.get(&1).read().len(), 1);
        assert!(s.get(&2).read().is_empty());
        for k in 3..3 + SCOPES as u32 {
            s.get(&k).write().push(0);
        }
        assert!(s.get(&1).read().is_empty(), "the first was evicted");
        assert!(s.sum(Vec::len) <= SCOPES);
    }
}
