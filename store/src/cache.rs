//! A bounded cache, weighed by what its values cost, split so that threads rarely meet.

use lru::{DefaultHasher, LruCache};
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hash};

const SHARDS: usize = 8;

pub(crate) struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: DefaultHasher,
    /// Of one shard.
    capacity: usize,
}

struct Shard<K, V> {
    map: LruCache<K, (V, usize)>,
    weight: usize,
    hits: u64,
    misses: u64,
}

/// How a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    pub hits: u64,
    pub misses: u64,
    /// What it holds and may hold: bytes, or values.
    pub weight: u64,
    pub capacity: u64,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// Values weighing `capacity` together.
    pub fn new(capacity: usize) -> Cache<K, V> {
        let shard = || {
            Mutex::new(Shard {
                map: LruCache::unbounded(),
                weight: 0,
                hits: 0,
                misses: 0,
            })
        };
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: DefaultHasher::default(),
            capacity: capacity / SHARDS,
        }
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K, V>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    pub fn get(&self, key: &K) -> Option<V> {
        let shard = &mut *self.shard(key).lock();
        match shard.map.get(key) {
            Some((value, _)) => {
                shard.hits += 1;
                Some(value.clone())
            }
            None => {
                shard.misses += 1;
                None
            }
        }
    }

    pub fn usage(&self) -> CacheUse {
        let mut all = CacheUse {
            capacity: (self.capacity * SHARDS) as u64,
            ..CacheUse::default()
        };
        for shard in &self.shards {
            let shard = shard.lock();
            all.hits += shard.hits;
            all.misses += shard.misses;
            all.weight += shard.weight as u64;
        }
        all
    }

    /// Keeps `value`, and lets the least used go; what outweighs a shard is not kept.
    pub fn put(&self, key: K, value: V, weight: usize) {
        if weight > self.capacity {
            return;
        }
        let mut shard = self.shard(&key).lock();
        if let Some((_, old)) = shard.map.put(key, (value, weight)) {
            shard.weight -= old;
        }
        shard.weight += weight;
        while shard.weight > self.capacity {
            let Some((_, (_, gone))) = shard.map.pop_lru() else {
                break;
            };
            shard.weight -= gone;
        }
    }

    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.map.clear();
            shard.weight = 0;
        }
    }

    pub fn remove(&self, key: &K) {
        let mut shard = self.shard(key).lock();
        if let Some((_, weight)) = shard.map.pop(key) {
            shard.weight -= weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_weight() {
        let cache: Cache<u64, u64> = Cache::new(800);
        for i in 0..10_000 {
            cache.put(i, i, 10);
        }
        let held = (0..10_000).filter(|i| cache.get(i).is_some()).count();
        assert!(held <= 80, "{held} values of weight 10 in 800");
        cache.put(1, 1, 10);
        assert_eq!(cache.get(&1), Some(1));
        cache.remove(&1);
        assert_eq!(cache.get(&1), None);
        cache.put(2, 2, 101);
        assert_eq!(cache.get(&2), None);
    }

    #[test]
    fn says_how_it_did() {
        let cache: Cache<u64, u64> = Cache::new(800);
        cache.put(1, 1, 10);
        cache.put(2, 2, 20);
        let found = [1, 1, 2, 3].map(|k| cache.get(&k).is_some());
        assert_eq!(found, [true, true, true, false]);
        let expected = CacheUse {
            hits: 3,
            misses: 1,
            weight: 30,
            capacity: 800,
        };
        assert_eq!(cache.usage(), expected);
    }
}
