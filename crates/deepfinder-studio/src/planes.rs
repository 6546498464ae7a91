use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Planes that were read, the last used ones, in so many bytes.
pub(crate) struct PlaneCache<K> {
    most_bytes: usize,
    held: Mutex<Held<K>>,
}

struct Held<K> {
    planes: HashMap<K, (Arc<Vec<f32>>, u64)>,
    bytes: usize,
    clock: u64,
}

impl<K: Hash + Eq + Clone> PlaneCache<K> {
    pub(crate) fn new(most_bytes: usize) -> Self {
        let held = Held {
            planes: HashMap::new(),
            bytes: 0,
            clock: 0,
        };
        Self {
            most_bytes,
            held: Mutex::new(held),
        }
    }

    /// The plane of that key, read where it is not held.
    pub(crate) fn get<E>(
        &self,
        key: &K,
        read: impl FnOnce() -> Result<Vec<f32>, E>,
    ) -> Result<Arc<Vec<f32>>, E> {
        // A poisoned lock holds planes all the same.
        let lock = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut held = lock();
            held.clock += 1;
            let now = held.clock;
            if let Some((plane, used)) = held.planes.get_mut(key) {
                *used = now;
                return Ok(plane.clone());
            }
        }
        // Read without the lock: two may read the same plane, and nobody waits for another's.
        let plane = Arc::new(read()?);
        let mut held = lock();
        held.clock += 1;
        let now = held.clock;
        if held.planes.insert(key.clone(), (plane.clone(), now)).is_none() {
            held.bytes += size(&plane);
        }
        while held.bytes > self.most_bytes && held.planes.len() > 1 {
            let oldest = held
                .planes
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone());
            let Some((plane, _)) = oldest.and_then(|key| held.planes.remove(&key)) else {
                break;
            };
            held.bytes -= size(&plane);
        }
        Ok(plane)
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.held.lock().unwrap().bytes
    }
}

fn size(plane: &[f32]) -> usize {
    size_of_val(plane)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_last_used_planes_are_held_and_no_more() {
        let cache = PlaneCache::new(3 * 40);
        let mut read = Vec::new();
        for key in [1, 2, 3, 1, 4, 1, 2] {
            let plane = cache.get(&key, || {
                read.push(key);
                Ok::<_, Infallible>(vec![key as f32; 10])
            });
            assert_eq!(plane.unwrap()[0], key as f32);
            assert!(cache.bytes() <= 120);
        }
        assert_eq!(read, [1, 2, 3, 4, 2], "1 was used, and 2 made room");
        assert!(cache.get(&9, || Err("no")).is_err());
    }
}
