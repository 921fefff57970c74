//! A store of values with a limit on their size.

use std::collections::VecDeque;
use std::sync::Arc;

/// Size in bytes of one store: a sixteenth of this machine's memory, and at least `least`. A check of several variants
/// uses the same inputs and references for each of them, in order; a store that is too small for all of them would miss
/// every time.
pub fn capacity(least: usize) -> usize {
    // SAFETY: always allowed; an unknown name is -1.
    let [pages, size] =
        [nix::libc::_SC_PHYS_PAGES, nix::libc::_SC_PAGESIZE].map(|name| unsafe { nix::libc::sysconf(name) });
    let memory = usize::try_from(pages).unwrap_or(0).saturating_mul(usize::try_from(size).unwrap_or(0));
    least.max(memory / 16)
}

/// Keeps values by key, and drops the least recently used ones once they exceed a number of bytes.
#[derive(Debug)]
pub struct LruCache<V> {
    limit: usize,
    used: usize,
    entries: VecDeque<(String, usize, Arc<V>)>,
}

impl<V> LruCache<V> {
    /// An empty store for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, entries: VecDeque::new() }
    }

    /// The value under `key`, which is then the most recently used one.
    pub fn get(&mut self, key: &str) -> Option<Arc<V>> {
        let at = self.entries.iter().position(|(of, ..)| of == key)?;
        let entry = self.entries.remove(at)?;
        let value = Arc::clone(&entry.2);
        self.entries.push_back(entry);
        Some(value)
    }

    /// Whether there is a value under `key`.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(of, ..)| of == key)
    }

    /// Keeps `value`, unless it alone exceeds the limit.
    pub fn insert(&mut self, key: String, bytes: usize, value: Arc<V>) {
        if bytes > self.limit {
            return;
        }
        self.entries.retain(|(of, bytes, _)| {
            let same = *of == key;
            if same {
                self.used -= bytes;
            }
            !same
        });
        self.entries.push_back((key, bytes, value));
        self.used += bytes;
        while self.used > self.limit
            && let Some((_, bytes, _)) = self.entries.pop_front()
        {
            self.used -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = LruCache::new(10);
        for key in ["a", "b"] {
            cache.insert(key.into(), 4, Arc::new(key));
        }
        assert_eq!(cache.get("a").as_deref(), Some(&"a"));
        cache.insert("c".into(), 4, Arc::new("c"));
        assert_eq!(cache.get("b"), None);
        assert!(cache.get("a").is_some() && cache.get("c").is_some());
        cache.insert("huge".into(), 11, Arc::new("huge"));
        assert!(cache.get("huge").is_none() && cache.get("a").is_some());
        cache.insert("a".into(), 10, Arc::new("A"));
        assert_eq!(cache.get("a").as_deref(), Some(&"A"));
        assert_eq!((cache.used, cache.entries.len()), (10, 1));
    }
}
