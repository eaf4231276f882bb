//! What is pending, sorted by id: chunks of up to 128.
//!
//! Ids come mostly in order and go mostly from the front, so chunks are full as a rule: a chunk is divided only when
//! something comes into its middle, and small neighbours become one. Chunks are reference-counted as the blocks are.

use std::collections::VecDeque;
use std::sync::Arc;

use super::id::Id;
use crate::base::allocator::good_size;
use crate::data::remains::Remains;

/// Elements in a chunk at most.
const CHUNK: usize = 128;
/// Room of the first chunk.
const FIRST: usize = 4;

/// What has an id.
pub trait Keyed {
    /// The id.
    fn id(&self) -> Id;
}

impl Keyed for Id {
    fn id(&self) -> Id {
        *self
    }
}

/// The sequence; see the head of the file.
#[derive(Debug)]
pub struct Sorted<T> {
    /// None is empty.
    chunks: VecDeque<Arc<Chunk<T>>>,
    len: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk<T>(VecDeque<T>);

impl<T: Clone> Clone for Chunk<T> {
    /// With the same capacity: it must take as many bytes as were counted.
    fn clone(&self) -> Self {
        let mut items = VecDeque::with_capacity(self.0.capacity());
        items.extend(self.0.iter().cloned());
        Chunk(items)
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        let mut chunks = VecDeque::with_capacity(self.chunks.capacity());
        chunks.extend(self.chunks.iter().cloned());
        Sorted { chunks, ..*self }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Sorted {
            chunks: VecDeque::new(),
            len: 0,
            bytes: 0,
        }
    }
}

impl<T: Keyed + Clone> Sorted<T> {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest.
    pub fn first(&self) -> Option<&T> {
        self.chunks.front()?.0.front()
    }

    /// The highest.
    pub fn last(&self) -> Option<&T> {
        self.chunks.back()?.0.back()
    }

    /// The element with this id.
    pub fn get(&self, id: Id) -> Option<&T> {
        let (chunk, at) = self.place(id).ok()?;
        self.chunks[chunk].0.get(at)
    }

    /// The element with this id, to be changed; its id stays.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (chunk, at) = self.place(id).ok()?;
        Arc::make_mut(&mut self.chunks[chunk]).0.get_mut(at)
    }

    /// Adds an element, or puts it in the place of the one with its id. Whether it was added.
    pub fn insert(&mut self, item: T) -> bool {
        let (mut chunk, mut at) = match self.place(item.id()) {
            Ok((chunk, at)) => {
                Arc::make_mut(&mut self.chunks[chunk]).0[at] = item;
                return false;
            }
            Err(place) => place,
        };
        self.len += 1;
        let Some(found) = self.chunks.get(chunk) else {
            self.insert_chunk(chunk, VecDeque::with_capacity(FIRST));
            self.edit(chunk, |items| items.push_back(item));
            return true;
        };
        if found.0.len() == CHUNK {
            if at == CHUNK && chunk + 1 == self.chunks.len() {
                // Behind all others: the full chunk stays as it is.
                self.insert_chunk(chunk + 1, VecDeque::with_capacity(CHUNK));
            } else {
                let half = self.edit(chunk, |items| items.split_off(CHUNK / 2));
                self.insert_chunk(chunk + 1, half);
            }
            let length = self.chunks[chunk].0.len();
            if at > length || self.chunks[chunk + 1].0.is_empty() {
                (chunk, at) = (chunk + 1, at - length);
            }
        }
        self.edit(chunk, |items| {
            if items.len() == items.capacity() {
                items.reserve_exact(items.len().min(CHUNK - items.len()).max(1));
            }
            items.insert(at, item);
        });
        true
    }

    /// Takes the element with this id out.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let (chunk, at) = self.place(id).ok()?;
        let removed = self.edit(chunk, |items| items.remove(at));
        self.len -= 1;
        let left = self.chunks[chunk].0.len();
        if left == 0 {
            self.remove_chunk(chunk);
        } else if left < CHUNK / 4 {
            self.unite(chunk);
        }
        removed
    }

    /// Those from `start` on, in order.
    pub fn range(&self, start: Id) -> impl Iterator<Item = &T> {
        let (first, skip) = match self.place(start) {
            Ok(place) | Err(place) => place,
        };
        let chunks = self.chunks.iter().skip(first);
        chunks.enumerate().flat_map(move |(number, chunk)| {
            let skip = if number == 0 { skip } else { 0 };
            chunk.0.range(skip.min(chunk.0.len())..)
        })
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.0)
    }

    /// Adds what is to be freed.
    pub fn move_to(self, remains: &mut Remains)
    where
        T: Send + Sync + 'static,
    {
        for chunk in self.chunks {
            let work = chunk.0.len();
            remains.push(chunk, work);
        }
    }

    /// Chunk and index of an id, or where it would be.
    fn place(&self, id: Id) -> Result<(usize, usize), (usize, usize)> {
        let behind = self
            .chunks
            .partition_point(|chunk| chunk.0.front().is_some_and(|first| first.id() <= id));
        let chunk = behind.saturating_sub(1);
        let Some(found) = self.chunks.get(chunk) else {
            return Err((0, 0));
        };
        match found.0.binary_search_by_key(&id, Keyed::id) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }

    /// Puts a chunk and its right neighbour, or its left one, together when they fill half a chunk at most.
    fn unite(&mut self, chunk: usize) {
        let length = |chunk: usize| self.chunks.get(chunk).map_or(CHUNK, |chunk| chunk.0.len());
        let left = if length(chunk) + length(chunk + 1) <= CHUNK / 2 {
            chunk
        } else if chunk > 0 && length(chunk - 1) + length(chunk) <= CHUNK / 2 {
            chunk - 1
        } else {
            return;
        };
        let right = self.remove_chunk(left + 1);
        self.edit(left, |items| items.extend(right.0.iter().cloned()));
    }

    fn edit<R>(&mut self, chunk: usize, edit: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let items = &mut Arc::make_mut(&mut self.chunks[chunk]).0;
        let before = items_bytes(items);
        let result = edit(items);
        self.bytes = self.bytes + items_bytes(items) - before;
        result
    }

    fn insert_chunk(&mut self, at: usize, items: VecDeque<T>) {
        let before = items_bytes(&self.chunks);
        self.bytes += items_bytes(&items) + Self::CHUNK_BYTES;
        self.chunks.insert(at, Arc::new(Chunk(items)));
        self.bytes = self.bytes + items_bytes(&self.chunks) - before;
    }

    fn remove_chunk(&mut self, at: usize) -> Arc<Chunk<T>> {
        let before = items_bytes(&self.chunks);
        let removed = self.chunks.remove(at).expect("the chunk is there");
        if self.chunks.len() * 4 < self.chunks.capacity() {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        let chunks = items_bytes(&self.chunks);
        self.bytes = self.bytes + chunks - before - items_bytes(&removed.0) - Self::CHUNK_BYTES;
        removed
    }

    const CHUNK_BYTES: usize = good_size(2 * size_of::<usize>() + size_of::<Chunk<T>>());
}

fn items_bytes<T>(items: &VecDeque<T>) -> usize {
    match items.capacity() {
        0 => 0,
        capacity => good_size(capacity * size_of::<T>()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::data::testing;

    /// What is counted, counted anew.
    fn count(sorted: &Sorted<Id>) -> usize {
        let chunks = sorted.chunks.iter().map(|chunk| items_bytes(&chunk.0));
        let heads = sorted.chunks.len() * Sorted::<Id>::CHUNK_BYTES;
        chunks.sum::<usize>() + heads + items_bytes(&sorted.chunks)
    }

    #[test]
    fn it_is_a_sorted_set_of_ids() {
        let mut rng = testing::seeded();
        for _ in 0..testing::rounds(30) {
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            let spread = [20, 2_000, 1 << 40][rng.usize(..3)];
            let mut snapshot: Option<(Sorted<Id>, Vec<Id>)> = None;
            for step in 0..3_000 {
                let any = Id::new(rng.u64(..spread), rng.u64(..3));
                match rng.u8(..8) + u8::from(step > 1_500) * 2 {
                    0..=2 => {
                        let last = model.last().copied().unwrap_or(Id::ZERO).next();
                        let id = last.expect("far from the end");
                        assert!(sorted.insert(id) && model.insert(id));
                    }
                    3..=5 => assert_eq!(sorted.insert(any), model.insert(any)),
                    6 | 7 => {
                        let first = model.first().copied().unwrap_or(any);
                        assert_eq!(sorted.remove(first).is_some(), model.remove(&first));
                    }
                    _ => {
                        let near = model.range(any..).next().copied().unwrap_or(any);
                        assert_eq!(sorted.remove(near).is_some(), model.remove(&near));
                    }
                }
                assert_eq!(sorted.len(), model.len());
                assert_eq!(sorted.get(any).is_some(), model.contains(&any));
                if step % 100 == 0 {
                    assert!(sorted.iter().eq(&model));
                    assert!(sorted.range(any).eq(model.range(any..)));
                    assert_eq!(
                        (sorted.first(), sorted.last()),
                        (model.first(), model.last())
                    );
                    assert_eq!(sorted.allocated_bytes(), count(&sorted));
                    if let Some((kept, content)) = snapshot.take() {
                        assert!(kept.iter().eq(&content), "a clone does not change");
                    }
                    snapshot = Some((sorted.clone(), model.iter().copied().collect()));
                }
            }
        }
    }

    #[test]
    fn ids_in_order_fill_their_chunks() {
        let mut sorted = Sorted::default();
        for ms in 0..100_000 {
            sorted.insert(Id::new(ms, 0));
        }
        let each = sorted.allocated_bytes() as f64 / 1e5;
        assert!(each < 17.0, "{each}");
        for ms in 0..100_000 {
            assert!(sorted.remove(Id::new(ms, 0)).is_some());
        }
        assert!(sorted.is_empty() && sorted.allocated_bytes() < 100);
    }
}
