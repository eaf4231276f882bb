//! Memory for entries, in sizes that the allocator does not have.
//!
//! jemalloc's classes are 16 bytes apart up to 128 and up to a quarter of their size above, and for each of its slabs it keeps
//! 128 bytes of records, which are 16 for each of eight values of 512 bytes. Here sizes are 8 bytes apart up to 256, then 16,
//! then 32 up to a KiB. A key of 16 bytes with a value of 64 behind a header of 8 takes 88 bytes instead of 96, one with a value
//! of 512 takes 544 instead of 32 and 528; of a million keys, resident bytes beyond key and value became 28 and 43 from 37 and 53,
//! at the same cost of SET. Sizes that jemalloc has, it gives out: it does so without a lock.
//!
//! ```text
//! chunk: 224 KiB, at a multiple of 256 KiB
//! | header: 64 bytes | slot | slot | slot | ..
//! ```
//!
//! All slots of a chunk have one size. A chunk belongs to a shard: a thread takes slots from its own shard, and gives them back
//! to the chunk that they are in, which the address tells. The next slot is that which was given back last, in the chunk that
//! was full last: full chunks stay full, and empty ones go back to the allocator. One empty chunk stays with each shard, so that
//! a key that comes and goes does not cost one each time.

#![expect(unsafe_code, reason = "an allocator; see the file's head")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::base::allocator::good_size;

/// Of all that is given out.
const ALIGN: usize = 8;

/// The largest size that has slots.
const SLOT_MAX: usize = 1024;

const CHUNK_ALIGN: usize = 256 * 1024;
/// A class of jemalloc. Less than the alignment, so that the page which it keeps free behind each large allocation fits in; that
/// page, which is often resident, costs a slot of 88 bytes 1.6 (with chunks of 56 KiB it was 6).
const CHUNK_BYTES: usize = 224 * 1024;
const HEADER_BYTES: usize = 64;

/// Sizes up to 256, 512 and 1024: see [`slot_size`].
const CLASSES: usize = 32 + 16 + 16;

/// Threads that take slots at once without waiting for each other.
const SHARD_COUNT: usize = 16;

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES && CHUNK_BYTES <= CHUNK_ALIGN);

/// What an allocation of `bytes`, at least one, takes: the size to ask [`allocate`] for.
#[inline]
pub(super) const fn slot_size(bytes: usize) -> usize {
    let step = if bytes <= 256 {
        8
    } else if bytes <= 512 {
        16
    } else if bytes <= SLOT_MAX {
        32
    } else {
        return good_size(bytes);
    };
    (bytes + step - 1) & !(step - 1)
}

/// Whether a size that [`slot_size`] gave stands in slots: the allocator's own does not.
#[inline]
const fn has_slots(size: usize) -> bool {
    size <= SLOT_MAX && good_size(size) != size
}

#[inline]
const fn class_of(size: usize) -> usize {
    if size <= 256 {
        size / 8 - 1
    } else if size <= 512 {
        32 - 1 + (size - 256) / 16
    } else {
        48 - 1 + (size - 512) / 32
    }
}

const fn slots_of(size: usize) -> usize {
    (CHUNK_BYTES - HEADER_BYTES) / size
}

/// Memory of a size that [`slot_size`] gave, aligned to 8 bytes.
pub(super) fn allocate(size: usize) -> NonNull<u8> {
    debug_assert!(size > 0 && size == slot_size(size));
    if has_slots(size) {
        let home = home();
        SHARDS[home].0.lock().take(home, size)
    } else {
        from_allocator(layout(size))
    }
}

/// Gives memory back.
///
/// # Safety
/// `base` came from `allocate(size)` and is not used any more.
pub(super) unsafe fn release(base: NonNull<u8>, size: usize) {
    debug_assert!(size > 0 && size == slot_size(size));
    if !has_slots(size) {
        // SAFETY: the caller's duty, and `allocate` took it from the allocator.
        unsafe { dealloc(base.as_ptr(), layout(size)) };
        return;
    }
    let chunk = chunk_of(base);
    // SAFETY: the slot is in use, so its chunk is there; its shard was written before the slot was given out and never after.
    let shard = unsafe { (*chunk.as_ptr()).shard };
    // SAFETY: the caller's duty; the chunk belongs to this shard.
    let unused = unsafe { SHARDS[shard].0.lock().give(base, size) };
    if let Some(chunk) = unused {
        // SAFETY: the shard has none of it any more, and nobody has a slot in it.
        unsafe { give_back(chunk) };
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("entries are far below isize::MAX")
}

const CHUNK: Layout = match Layout::from_size_align(CHUNK_BYTES, CHUNK_ALIGN) {
    Ok(layout) => layout,
    Err(_) => panic!("the alignment is a power of two"),
};

fn from_allocator(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here is of no bytes.
    let fresh = unsafe { alloc(layout) };
    NonNull::new(fresh).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// The chunk was taken from the allocator, and nothing in it is used any more.
unsafe fn give_back(chunk: Chunk) {
    // SAFETY: the caller's duty.
    unsafe { dealloc(chunk.cast::<u8>().as_ptr(), CHUNK) };
}

/// The first bytes of a chunk. Read and written in the shard's lock, but for `shard`, which stays as it is; by places, never by
/// reference, since who gives a slot back reads `shard` before it has the lock.
struct Header {
    /// Neighbours in the list of the chunks of this size that have a free slot.
    next: Option<Chunk>,
    previous: Option<Chunk>,
    /// The slot that was given back last; it names the one before it in its first bytes.
    free: Option<NonNull<u8>>,
    /// How many slots there are.
    slots: usize,
    /// Slots in use.
    used: usize,
    /// Slots that have been in use: those behind them were never written.
    touched: usize,
    /// Of a slot.
    size: usize,
    shard: usize,
}

type Chunk = NonNull<Header>;

fn chunk_of(slot: NonNull<u8>) -> Chunk {
    slot.map_addr(|address| {
        let start = address.get() & !(CHUNK_ALIGN - 1);
        start.try_into().expect("no chunk is at zero")
    })
    .cast()
}

/// Chunks with free slots.
struct Shard {
    /// For each size the list's first chunk.
    lists: [Option<Chunk>; CLASSES],
    /// An empty chunk, for any size.
    spare: Option<Chunk>,
}

// SAFETY: what it points to is its own, and is read and written by whoever has it as `&mut`.
unsafe impl Send for Shard {}

/// On cache lines of its own.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// Each lock protects the lists, and the headers and free slots of the shard's chunks. Innermost: under it the allocator may be
/// asked for a chunk, nothing else.
static SHARDS: [Padded; SHARD_COUNT] = [const { Padded(Mutex::new(Shard::new())) }; SHARD_COUNT];

/// The shard from which this thread takes.
#[inline]
fn home() -> usize {
    /// Threads that have one. Written by each once; relaxed, it only spreads them.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let mut home = HOME.get();
    if home == usize::MAX {
        home = NEXT.fetch_add(1, Ordering::Relaxed) % SHARD_COUNT;
        HOME.set(home);
    }
    home
}

impl Shard {
    const fn new() -> Shard {
        Shard {
            lists: [None; CLASSES],
            spare: None,
        }
    }

    /// A slot of this size. `number` is the shard's own.
    fn take(&mut self, number: usize, size: usize) -> NonNull<u8> {
        let chunk = match self.lists[class_of(size)] {
            Some(chunk) => chunk,
            None => self.open(number, size),
        };
        let header = chunk.as_ptr();
        // SAFETY: a chunk in a list is there, and its header and free slots are the shard's. It has a free slot: one that was given
        // back, whose first bytes name the next, or one behind those that were ever in use.
        let (slot, is_full) = unsafe {
            let slot = match (*header).free {
                Some(slot) => {
                    (*header).free = slot.cast::<Option<NonNull<u8>>>().read();
                    slot
                }
                None => {
                    let at = HEADER_BYTES + (*header).touched * size;
                    (*header).touched += 1;
                    chunk.cast::<u8>().add(at)
                }
            };
            (*header).used += 1;
            (slot, (*header).used == (*header).slots)
        };
        if is_full {
            self.unlink(chunk);
        }
        slot
    }

    /// Takes a slot back. A chunk that is empty then and that the shard does not keep.
    ///
    /// # Safety
    /// The slot came from `take` of this shard with this size, and is not used any more.
    unsafe fn give(&mut self, slot: NonNull<u8>, size: usize) -> Option<Chunk> {
        let chunk = chunk_of(slot);
        let header = chunk.as_ptr();
        // SAFETY: the slot is the caller's to give, and at least 8 bytes long; so its chunk is there, and the header is the shard's.
        let (was_full, is_empty) = unsafe {
            debug_assert_eq!((*header).size, size, "the size it was asked for");
            let was_full = (*header).used == (*header).slots;
            slot.cast::<Option<NonNull<u8>>>().write((*header).free);
            (*header).free = Some(slot);
            (*header).used -= 1;
            (was_full, (*header).used == 0)
        };
        if was_full {
            self.link(chunk);
        }
        if !is_empty {
            return None;
        }
        self.unlink(chunk);
        match self.spare {
            None => {
                self.spare = Some(chunk);
                None
            }
            Some(_) => Some(chunk),
        }
    }

    /// A chunk of this size, all of whose slots are free.
    #[cold]
    fn open(&mut self, number: usize, size: usize) -> Chunk {
        let spare = self.spare.take();
        let chunk = spare.unwrap_or_else(|| from_allocator(CHUNK).cast());
        let header = Header {
            next: None,
            previous: None,
            free: None,
            slots: slots_of(size),
            used: 0,
            touched: 0,
            size,
            shard: number,
        };
        // SAFETY: nobody has a slot of it, and it is large enough and aligned.
        unsafe { chunk.write(header) };
        self.link(chunk);
        chunk
    }

    /// Puts a chunk first in its list.
    fn link(&mut self, chunk: Chunk) {
        let header = chunk.as_ptr();
        // SAFETY: the chunks of a list are there, and their headers the shard's.
        unsafe {
            let first = &mut self.lists[class_of((*header).size)];
            (*header).previous = None;
            (*header).next = *first;
            if let Some(next) = *first {
                (*next.as_ptr()).previous = Some(chunk);
            }
            *first = Some(chunk);
        }
    }

    /// Takes a chunk out of its list.
    fn unlink(&mut self, chunk: Chunk) {
        let header = chunk.as_ptr();
        // SAFETY: as in `link`.
        unsafe {
            let (previous, next) = ((*header).previous, (*header).next);
            match previous {
                Some(previous) => (*previous.as_ptr()).next = next,
                None => self.lists[class_of((*header).size)] = next,
            }
            if let Some(next) = next {
                (*next.as_ptr()).previous = previous;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::data::testing::seeded;

    /// Slots with what was written into them.
    #[derive(Default)]
    struct Model(Vec<(NonNull<u8>, usize, u8)>);

    // SAFETY: the slots are its own.
    unsafe impl Send for Model {}

    impl Model {
        fn write(&mut self, slot: NonNull<u8>, size: usize, filler: u8) {
            assert_eq!(slot.addr().get() % ALIGN, 0);
            // SAFETY: the slot has this size, and is ours.
            unsafe { slot.write_bytes(filler, size) };
            self.0.push((slot, size, filler));
        }

        /// Takes one out that nobody else has written to.
        fn remove(&mut self, at: usize) -> (NonNull<u8>, usize) {
            let (slot, size, filler) = self.0.swap_remove(at);
            // SAFETY: as in `write`, which has written all of it.
            let bytes = unsafe { std::slice::from_raw_parts(slot.as_ptr(), size) };
            assert!(
                bytes.iter().all(|&byte| byte == filler),
                "{size}: {bytes:?}"
            );
            (slot, size)
        }

        /// Takes all of them out.
        fn drain(&mut self, mut give: impl FnMut(NonNull<u8>, usize)) {
            while !self.0.is_empty() {
                let (slot, size) = self.remove(0);
                give(slot, size);
            }
        }
    }

    #[test]
    fn sizes() {
        let mut classes = Vec::new();
        for bytes in 1..=SLOT_MAX {
            let size = slot_size(bytes);
            assert!(size >= bytes && size <= good_size(bytes), "{bytes}: {size}");
            assert_eq!(slot_size(size), size);
            assert!(size - bytes < 8.max(bytes / 15), "{bytes}: {size}");
            if has_slots(size) && classes.last() != Some(&class_of(size)) {
                classes.push(class_of(size));
            }
        }
        assert!(classes.is_sorted_by(|one, next| one < next) && classes.len() == 43);
        assert!(classes.last().is_some_and(|&last| last < CLASSES));
        for (bytes, size) in [(1, 8), (88, 88), (257, 272), (513, 544), (1025, 1280)] {
            assert_eq!(slot_size(bytes), size);
        }
        assert!(has_slots(24) && has_slots(88) && has_slots(992));
        assert!(!has_slots(8) && !has_slots(96) && !has_slots(1024) && !has_slots(1280));
    }

    /// Aim: what is in use overlaps with nothing, and a shard that has everything back keeps one chunk.
    #[test]
    fn random_slots_agree_with_a_model() {
        let mut rng = seeded();
        let mut shard = Shard::new();
        let mut model = Model::default();
        let rounds = if cfg!(miri) { 1_500 } else { 60_000 };
        for round in 0..rounds {
            // Grows and shrinks in turns.
            let grows = round / (rounds / 6) % 2 == 0;
            if model.0.is_empty() || rng.u8(0..10) < if grows { 8 } else { 2 } {
                let few = rng.choice([24, 88, 300, 900]).filter(|_| rng.bool());
                let size = slot_size(few.unwrap_or_else(|| rng.usize(1..1024)));
                if has_slots(size) {
                    model.write(shard.take(3, size), size, rng.u8(..));
                }
            } else {
                let (slot, size) = model.remove(rng.usize(0..model.0.len()));
                // SAFETY: it came from this shard, with this size.
                unsafe { shard.give(slot, size).map(|chunk| give_back(chunk)) };
            }
        }
        model.drain(|slot, size| {
            // SAFETY: as above.
            unsafe { shard.give(slot, size).map(|chunk| give_back(chunk)) };
        });
        assert!(shard.lists.iter().all(Option::is_none));
        let spare = shard.spare.take().expect("one is kept");
        // SAFETY: the shard does not have it any more.
        unsafe { give_back(spare) };
    }

    /// Aim: all slots of a chunk are used, and used again before another chunk is opened.
    #[test]
    fn a_chunk_is_filled_before_another_is_opened() {
        let mut shard = Shard::new();
        let count = slots_of(928);
        let mut slots: Vec<_> = (0..count).map(|_| shard.take(0, 928)).collect();
        let chunk = chunk_of(slots[0]);
        assert!(slots.iter().all(|&slot| chunk_of(slot) == chunk));
        assert!(shard.lists.iter().all(Option::is_none), "it is full");
        let other = shard.take(0, 928);
        assert_ne!(chunk_of(other), chunk);
        // SAFETY: it came from this shard, with this size.
        assert_eq!(unsafe { shard.give(slots.remove(1), 928) }, None);
        slots.push(shard.take(0, 928));
        assert_eq!(chunk_of(slots[count - 1]), chunk, "the fuller one first");
        slots.push(other);
        // SAFETY: as above.
        let unused: Vec<_> = slots
            .into_iter()
            .filter_map(|slot| unsafe { shard.give(slot, 928) })
            .collect();
        assert_eq!(unused.len(), 1, "one of two is kept");
        for chunk in unused.into_iter().chain(shard.spare.take()) {
            // SAFETY: nobody has it any more.
            unsafe { give_back(chunk) };
        }
    }

    /// Aim: what one thread takes another one gives back, while both take and give.
    #[test]
    fn threads_give_back_what_others_took() {
        let mut rng = seeded();
        let rounds = if cfg!(miri) { 150 } else { 20_000 };
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| mpsc::channel::<Model>()).unzip();
        std::thread::scope(|scope| {
            for (number, receiver) in receivers.into_iter().enumerate() {
                let next = senders[(number + 1) % 3].clone();
                let mut rng = rng.fork();
                scope.spawn(move || {
                    let mut model = Model::default();
                    for _ in 0..rounds {
                        let size = slot_size(rng.usize(1..1300));
                        model.write(allocate(size), size, rng.u8(..));
                        if model.0.len() == 50 {
                            let given = std::mem::take(&mut model);
                            next.send(given).expect("all wait for each other");
                        }
                        for mut given in receiver.try_iter() {
                            // SAFETY: they came from `allocate` with their sizes.
                            given.drain(|slot, size| unsafe { release(slot, size) });
                        }
                    }
                    drop(next);
                    for mut given in std::iter::once(model).chain(receiver) {
                        // SAFETY: as above.
                        given.drain(|slot, size| unsafe { release(slot, size) });
                    }
                });
            }
            drop(senders);
        });
    }
}
