//! The members of a sorted set with their scores, each in one record behind a handle.
//!
//! ```text
//! record   | score: 8 | length: 1 | member .. |        free   | next: 4 | previous: 4 | 255 | .. |
//! handle   class: 4 bits | number: 28 bits             page  510 records of one class
//! ```
//!
//! Records come in 14 sizes from 12 to 128 bytes, chosen so that a page is a size class of the allocator; the page that is
//! not full grows by doubling. A member of 16 bytes takes 28, one of 36 bytes (a UUID) 48. Members longer than 119 bytes have
//! an allocation of their own beside a record of the last class. [`Index`] finds the handle of a member.
//!
//! # Holes
//! A removed record goes to the free list of its class. When the free ones outnumber half of the live ones, every removal
//! is followed by two steps that each take the last record of the class away, into a hole if it is live: pages at the end
//! become empty and go. Records only ever move to lower
//! handles, so a scan from the highest handle downwards meets every record that is there all the time ([`Members::scan`]);
//! one that moves may be met twice, which Redis allows.
//!
//! # Snapshots
//! Pages are reference-counted: a clone costs a count for each, and who changes a page that a clone holds copies it.
//!
//! # Limits
//! A class has room for 2^28 records; when it is full, the next larger one is used. The last one full is refused.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use smallvec::SmallVec;

use super::dense::{WARM_MIN, WARMED};
use super::index::Index;
use super::ordered::Scores;
use super::remains::Remains;
use crate::base::allocator::good_size;
use crate::base::hash::KeyHasher;

/// Record sizes; the last class holds the scores of members that stand apart.
const SIZES: [usize; 15] = [12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 12];
const APART: usize = SIZES.len() - 1;
const CLASSES: usize = SIZES.len();
const SCORE: usize = 8;
const FRONT: usize = SCORE + 1;
const INLINE_MAX: usize = 128 - FRONT;
const FREE: u8 = 255;
const NONE: u32 = u32::MAX;

/// Records of a page: two less than 512 leave room for the counts of its `Arc` in the size class.
const PAGE: usize = 510;
const COUNTS: usize = 2 * size_of::<usize>();
/// Records of the first page of a class at first.
const PAGE_MIN: usize = 8;
const NUMBER_BITS: u32 = 28;
const NUMBER_MAX: u32 = (1 << NUMBER_BITS) - 1;

/// The class for each length up to [`INLINE_MAX`].
const CLASS_OF: [u8; INLINE_MAX + 1] = {
    let mut classes = [0; INLINE_MAX + 1];
    let mut class = 0;
    let mut length = 0;
    while length <= INLINE_MAX {
        while SIZES[class] < FRONT + length {
            class += 1;
        }
        classes[length] = class as u8;
        length += 1;
    }
    classes
};

/// A record that went to another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub from: u32,
    /// Where it is.
    pub to: u32,
}

/// Members and scores. See the file's head.
#[derive(Debug)]
pub struct Members {
    classes: [Class; CLASSES],
    /// Members of the last class, by number.
    apart: Vec<Arc<Apart>>,
    index: Index,
    bytes: usize,
}

#[derive(Debug)]
struct Class {
    pages: Vec<Arc<[u8]>>,
    /// Records, free ones included.
    used: u32,
    live: u32,
    /// First of the free ones.
    free: u32,
}

/// A page of members that stand apart.
#[derive(Debug, Default)]
struct Apart(Vec<Bytes>);

// Clones keep the capacity: they must take as many bytes as were counted.

impl Clone for Members {
    fn clone(&self) -> Members {
        Members {
            classes: self.classes.clone(),
            apart: clone_vec(&self.apart),
            index: self.index.clone(),
            bytes: self.bytes,
        }
    }
}

impl Clone for Class {
    fn clone(&self) -> Class {
        Class {
            pages: clone_vec(&self.pages),
            ..*self
        }
    }
}

impl Clone for Apart {
    fn clone(&self) -> Apart {
        Apart(clone_vec(&self.0))
    }
}

impl Default for Members {
    fn default() -> Members {
        Members::new()
    }
}

impl Members {
    /// No members.
    pub fn new() -> Members {
        Members {
            classes: std::array::from_fn(|_| Class::new()),
            apart: Vec::new(),
            index: Index::new(),
            bytes: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What they take from the allocator besides the structure itself, in bytes. What they share with a clone counts for both.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes + self.index.allocated_bytes()
    }

    /// The handle of a member.
    #[inline]
    pub fn find(&self, member: &[u8]) -> Option<u32> {
        let hash = member_hash(member);
        self.index
            .find(hash, |handle| self.member(handle) == member)
    }

    /// Reads where these members stand, as [`Dense::warm`](super::dense::Dense::warm).
    pub fn warm(&self, members: &[&[u8]]) {
        if self.len() < WARM_MIN {
            return;
        }
        let hashes: SmallVec<[u64; WARMED]> = members.iter().map(|one| member_hash(one)).collect();
        let mut found = SmallVec::<[u32; WARMED]>::new();
        for hash in hashes {
            // None is the one: all that might be are noted.
            let _ = self.index.find(hash, |handle| {
                found.push(handle);
                false
            });
        }
        for handle in found {
            std::hint::black_box(self.score(handle));
        }
    }

    /// The member behind a handle.
    #[inline]
    pub fn member(&self, handle: u32) -> &[u8] {
        let (class, number) = parts(handle);
        if class == APART {
            let (page, place) = place(number);
            return &self.apart[page].0[place];
        }
        let record = self.classes[class].record(number, SIZES[class]);
        &record[FRONT..FRONT + record[SCORE] as usize]
    }

    /// The score behind a handle.
    #[inline]
    pub fn score(&self, handle: u32) -> f64 {
        let (class, number) = parts(handle);
        self.classes[class].score(number, SIZES[class])
    }

    /// Changes a score.
    pub fn set_score(&mut self, handle: u32, score: f64) {
        let (class, number) = parts(handle);
        let record = self.classes[class].record_mut(number, SIZES[class]);
        record[..SCORE].copy_from_slice(&score.to_le_bytes());
    }

    /// Adds a member that is not there; `None` when there is no room for it (see "Limits").
    pub fn insert(&mut self, member: &[u8], score: f64) -> Option<u32> {
        let fits = CLASS_OF
            .get(member.len())
            .map_or(APART, |&class| class.into());
        let class = (fits..CLASSES).find(|&class| self.classes[class].has_room())?;
        let number = self.allocate(class);
        let record = self.classes[class].record_mut(number, SIZES[class]);
        record[..SCORE].copy_from_slice(&score.to_le_bytes());
        if class == APART {
            record[SCORE] = 0;
            self.put_apart(number, Bytes::copy_from_slice(member));
        } else {
            record[SCORE] = member.len() as u8;
            record[FRONT..FRONT + member.len()].copy_from_slice(member);
        }
        let handle = handle(class, number);
        let mut index = std::mem::take(&mut self.index);
        index.insert(member_hash(member), handle, |handle| self.hash(handle));
        self.index = index;
        Some(handle)
    }

    /// Removes a member. The caller then lets two steps of [`Members::compact`] follow.
    pub fn remove(&mut self, handle: u32) {
        let (class, number) = parts(handle);
        let hash = self.hash(handle);
        let mut index = std::mem::take(&mut self.index);
        index.remove(hash, handle, |handle| self.hash(handle));
        self.index = index;
        if class == APART {
            self.put_apart(number, Bytes::new());
        }
        self.classes[class].release(number, SIZES[class]);
        self.classes[class].live -= 1;
    }

    /// One step of compaction where `removed` was, when there are too many holes: takes the last record away. When it moved
    /// into a hole, the index has its new handle already; whoever else knows the old one learns it from the result.
    pub fn compact(&mut self, removed: u32) -> Option<Moved> {
        self.fill_hole(parts(removed).0)
    }

    /// Shows members from a cursor on, about `count`; returns the cursor to go on with, 0 at the end. 0 also starts.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(u32)) -> u64 {
        let start = match cursor {
            0 => u64::from(u32::MAX) + 1,
            cursor => cursor.min(u64::from(u32::MAX) + 1),
        };
        let mut left = count.max(1);
        let (top, below) = parts((start - 1) as u32);
        for class in (0..=top.min(APART)).rev() {
            let used = self.classes[class].used;
            let end = if class == top {
                used.min(below + 1)
            } else {
                used
            };
            for number in (0..end).rev() {
                if left == 0 {
                    return u64::from(handle(class, number)) + 1;
                }
                left -= 1;
                if self.classes[class].record(number, SIZES[class])[SCORE] != FREE {
                    show(handle(class, number));
                }
            }
        }
        0
    }

    /// The pages, to be freed piece by piece.
    pub fn move_to(self, remains: &mut Remains) {
        self.index.move_to(remains);
        for page in self.classes.into_iter().flat_map(|class| class.pages) {
            // One call of the allocator, but up to 64 KiB; members that stand apart are one call each.
            remains.push(Arc::new(page), PAGE / 8);
        }
        for page in self.apart {
            remains.push(page, PAGE);
        }
    }

    fn hash(&self, handle: u32) -> u64 {
        member_hash(self.member(handle))
    }

    /// A number for a record of a class that has room.
    fn allocate(&mut self, class: usize) -> u32 {
        let size = SIZES[class];
        let slab = &mut self.classes[class];
        slab.live += 1;
        if slab.free != NONE {
            let number = slab.free;
            slab.unlink(number, size);
            return number;
        }
        let number = slab.used;
        let before = slab.bytes();
        slab.grow_to(number, size);
        slab.used += 1;
        self.bytes = self.bytes + self.classes[class].bytes() - before;
        number
    }

    /// One step of the compaction of a class, when it has too many holes: takes its last record away.
    fn fill_hole(&mut self, class: usize) -> Option<Moved> {
        let size = SIZES[class];
        let slab = &mut self.classes[class];
        if slab.live == 0 {
            self.clear(class);
            return None;
        }
        let holes = slab.used - slab.live;
        if holes <= slab.live / 2 || holes < PAGE_MIN as u32 {
            return None;
        }
        let last = slab.used - 1;
        let mut moved = None;
        if slab.record(last, size)[SCORE] == FREE {
            slab.unlink(last, size);
        } else {
            let hole = slab.free;
            slab.unlink(hole, size);
            slab.copy(last, hole, size);
            moved = Some(Moved {
                from: handle(class, last),
                to: handle(class, hole),
            });
            if class == APART {
                let (page, at) = place(last);
                let member = std::mem::take(&mut Arc::make_mut(&mut self.apart[page]).0[at]);
                let (page, at) = place(hole);
                Arc::make_mut(&mut self.apart[page]).0[at] = member;
            }
        }
        let before = self.classes[class].bytes();
        self.classes[class].drop_last(size);
        self.bytes = self.bytes + self.classes[class].bytes() - before;
        if class == APART {
            self.drop_last_apart();
        }
        if let Some(moved) = moved {
            let hash = self.hash(moved.to);
            self.index.replace(hash, moved.from, moved.to);
        }
        moved
    }

    /// Gives back what a class without live records has.
    fn clear(&mut self, class: usize) {
        self.bytes -= self.classes[class].bytes();
        self.classes[class] = Class::new();
        if class == APART {
            let pages: usize = self.apart.iter().map(apart_page_bytes).sum();
            self.bytes -= vec_bytes(&self.apart) + pages;
            self.apart = Vec::new();
        }
    }

    fn put_apart(&mut self, number: u32, member: Bytes) {
        let (page, at) = place(number);
        let before = self.apart_bytes(page);
        if page == self.apart.len() {
            self.apart.push(Arc::default());
        }
        let members = &mut Arc::make_mut(&mut self.apart[page]).0;
        if at == members.len() {
            members.push(Bytes::new());
        }
        let grown = boxed_bytes(&member);
        let old = std::mem::replace(&mut members[at], member);
        self.bytes = self.bytes + grown + self.apart_bytes(page) - before - boxed_bytes(&old);
    }

    /// Takes away the last place of the members that stand apart, which is empty.
    fn drop_last_apart(&mut self) {
        let last = self.apart.len().saturating_sub(1);
        let before = self.apart_bytes(last);
        if let Some(page) = self.apart.last_mut() {
            let page = &mut Arc::make_mut(page).0;
            page.pop();
            if page.is_empty() {
                self.apart.pop();
                self.apart.shrink_to(self.apart.len() * 2);
            } else if page.len() * 4 < page.capacity() {
                page.shrink_to(page.len() * 2);
            }
        }
        self.bytes = self.bytes + self.apart_bytes(last) - before;
    }

    /// Bytes of a page of members apart, 0 when it is not there, and of the directory.
    fn apart_bytes(&self, page: usize) -> usize {
        vec_bytes(&self.apart) + self.apart.get(page).map_or(0, apart_page_bytes)
    }
}

impl Scores for Members {
    #[inline]
    fn score(&self, handle: u32) -> f64 {
        Members::score(self, handle)
    }
}

impl Class {
    fn new() -> Class {
        Class {
            pages: Vec::new(),
            used: 0,
            live: 0,
            free: NONE,
        }
    }

    fn has_room(&self) -> bool {
        self.free != NONE || self.used < NUMBER_MAX
    }

    #[inline]
    fn record(&self, number: u32, size: usize) -> &[u8] {
        let (page, at) = place(number);
        &self.pages[page][at * size..(at + 1) * size]
    }

    #[inline]
    fn record_mut(&mut self, number: u32, size: usize) -> &mut [u8] {
        let (page, at) = place(number);
        &mut Arc::make_mut(&mut self.pages[page])[at * size..(at + 1) * size]
    }

    #[inline]
    fn score(&self, number: u32, size: usize) -> f64 {
        let record = self.record(number, size);
        f64::from_le_bytes(record[..SCORE].try_into().expect("eight bytes"))
    }

    fn copy(&mut self, from: u32, to: u32, size: usize) {
        let mut record = [0; INLINE_MAX + FRONT];
        record[..size].copy_from_slice(self.record(from, size));
        self.record_mut(to, size).copy_from_slice(&record[..size]);
    }

    /// Puts a record at the head of the free list.
    fn release(&mut self, number: u32, size: usize) {
        let next = self.free;
        self.link(number, next, NONE, size);
        self.record_mut(number, size)[SCORE] = FREE;
        if next != NONE {
            let (after, _) = self.links(next, size);
            self.link(next, after, number, size);
        }
        self.free = number;
    }

    /// Takes a record out of the free list.
    fn unlink(&mut self, number: u32, size: usize) {
        let (next, previous) = self.links(number, size);
        if next != NONE {
            let (after, _) = self.links(next, size);
            self.link(next, after, previous, size);
        }
        if previous == NONE {
            self.free = next;
        } else {
            let (_, before) = self.links(previous, size);
            self.link(previous, next, before, size);
        }
    }

    fn links(&self, number: u32, size: usize) -> (u32, u32) {
        let record = self.record(number, size);
        let word = u64::from_le_bytes(record[..SCORE].try_into().expect("eight bytes"));
        (word as u32, (word >> 32) as u32)
    }

    fn link(&mut self, number: u32, next: u32, previous: u32, size: usize) {
        let word = u64::from(next) | u64::from(previous) << 32;
        self.record_mut(number, size)[..SCORE].copy_from_slice(&word.to_le_bytes());
    }

    /// Makes room for a record behind the last one.
    fn grow_to(&mut self, number: u32, size: usize) {
        let (page, at) = place(number);
        if page == self.pages.len() {
            let records = if page == 0 { PAGE_MIN } else { PAGE };
            self.pages.push(vec![0; records * size].into());
        } else if at * size == self.pages[page].len() {
            self.resize_page(page, (at * 2).min(PAGE) * size);
        }
    }

    /// Takes the last record away, which is not in use, and the room that is too much then.
    fn drop_last(&mut self, size: usize) {
        self.used -= 1;
        let (page, at) = place(self.used);
        if at == 0 {
            self.pages.pop();
            if self.pages.len() * 4 < self.pages.capacity() {
                self.pages.shrink_to(self.pages.len() * 2);
            }
        } else if page == 0 && (at * 4).max(PAGE_MIN) * size < self.pages[0].len() {
            self.resize_page(0, (at * 2).max(PAGE_MIN) * size);
        }
    }

    fn resize_page(&mut self, page: usize, bytes: usize) {
        let mut fresh = vec![0; bytes];
        let old = &self.pages[page];
        let kept = old.len().min(bytes);
        fresh[..kept].copy_from_slice(&old[..kept]);
        self.pages[page] = fresh.into();
    }

    /// Bytes of pages and directory. All pages but the first one have the same size.
    fn bytes(&self) -> usize {
        let pages = match self.pages.as_slice() {
            [] => 0,
            [first] => page_bytes(first),
            [first, .., last] => page_bytes(first) + (self.pages.len() - 1) * page_bytes(last),
        };
        pages + vec_bytes(&self.pages)
    }
}

#[inline]
fn parts(handle: u32) -> (usize, u32) {
    ((handle >> NUMBER_BITS) as usize, handle & NUMBER_MAX)
}

#[inline]
fn handle(class: usize, number: u32) -> u32 {
    (class as u32) << NUMBER_BITS | number
}

#[inline]
fn place(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / PAGE, number % PAGE)
}

fn clone_vec<T: Clone>(items: &Vec<T>) -> Vec<T> {
    let mut clone = Vec::with_capacity(items.capacity());
    clone.extend_from_slice(items);
    clone
}

fn vec_bytes<T>(items: &Vec<T>) -> usize {
    match items.capacity() {
        0 => 0,
        capacity => good_size(capacity * size_of::<T>()),
    }
}

fn page_bytes(page: &Arc<[u8]>) -> usize {
    good_size(COUNTS + page.len())
}

fn apart_page_bytes(page: &Arc<Apart>) -> usize {
    good_size(COUNTS + size_of::<Apart>()) + vec_bytes(&page.0)
}

fn boxed_bytes(bytes: &[u8]) -> usize {
    match bytes.len() {
        0 => 0,
        length => good_size(length),
    }
}

/// One hasher for all sets: what it keeps secret is the process's, and a set would grow by 72 bytes.
#[inline]
fn member_hash(member: &[u8]) -> u64 {
    static HASHER: LazyLock<KeyHasher> = LazyLock::new(KeyHasher::random);
    HASHER.hash(member)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::seeded;
    use super::*;

    fn counted_bytes(members: &Members) -> usize {
        let mut bytes = members.index.allocated_bytes() + vec_bytes(&members.apart);
        for class in &members.classes {
            bytes += vec_bytes(&class.pages);
            bytes += class.pages.iter().map(page_bytes).sum::<usize>();
        }
        for page in &members.apart {
            bytes += apart_page_bytes(page);
            bytes += page
                .0
                .iter()
                .map(|member| boxed_bytes(member))
                .sum::<usize>();
        }
        bytes
    }

    #[test]
    fn a_member_takes_the_smallest_record_that_holds_it() {
        for (length, class) in [(0, 0), (3, 0), (4, 1), (16, 4), (36, 7), (119, 13)] {
            assert_eq!(CLASS_OF[length], class, "{length}");
        }
        for size in SIZES {
            assert!(good_size(COUNTS + PAGE * size) < (PAGE + 2) * size + COUNTS);
        }
    }

    /// Aim: whatever was added and removed, and whatever is asked for, it reads nothing that is not there.
    #[test]
    fn what_is_warmed_stays_as_it_is() {
        let mut rng = seeded();
        let mut members = Members::new();
        let names: Vec<Vec<u8>> = (0..2 * WARM_MIN)
            .map(|number| format!("{number:0>0$}", rng.usize(4..140)).into_bytes())
            .collect();
        for (number, name) in names.iter().enumerate() {
            members.insert(name, number as f64);
        }
        let handles: Vec<u32> = (0..500).filter_map(|at| members.find(&names[at])).collect();
        for handle in handles.into_iter().rev() {
            members.remove(handle);
        }
        let before = members.len();
        assert!(before >= WARM_MIN);
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        names
            .chunks(WARMED + 8)
            .for_each(|names| members.warm(names));
        Members::new().warm(&names);
        assert_eq!(members.len(), before);
        for (number, name) in names.iter().enumerate().skip(500) {
            let handle = members.find(name).expect("it was not removed");
            assert_eq!(members.score(handle), number as f64);
        }
    }

    #[test]
    fn random_changes_agree_with_a_map() {
        let mut rng = seeded();
        for universe in [30, 3_000, 10_000u32] {
            let mut members = Members::new();
            let mut model: HashMap<Vec<u8>, (u32, f64)> = HashMap::new();
            let mut by_handle: HashMap<u32, Vec<u8>> = HashMap::new();
            for step in 0..30_000 {
                let grow = step / 7_500 % 2 == 0;
                let mut member = rng.u32(0..universe).to_string().into_bytes();
                // The length follows from the number, so that the same member comes again.
                let length = match member[0] {
                    b'1' => 0,
                    b'2' => 130,
                    digit => usize::from(digit - b'0') * 4,
                };
                member.resize(member.len().max(length), b'.');
                let found = members.find(&member);
                assert_eq!(found, model.get(&member).map(|known| known.0));
                match found {
                    Some(handle) if !grow || rng.u8(..) < 80 => {
                        members.remove(handle);
                        model.remove(&member);
                        by_handle.remove(&handle);
                        for _ in 0..2 {
                            let Some(moved) = members.compact(handle) else {
                                continue;
                            };
                            assert!(moved.to < moved.from);
                            let member = by_handle.remove(&moved.from).unwrap();
                            model.get_mut(&member).unwrap().0 = moved.to;
                            by_handle.insert(moved.to, member);
                        }
                    }
                    Some(handle) => {
                        members.set_score(handle, f64::from(step));
                        model.get_mut(&member).unwrap().1 = f64::from(step);
                    }
                    None if grow || rng.u8(..) < 80 => {
                        let handle = members.insert(&member, f64::from(step)).unwrap();
                        model.insert(member.clone(), (handle, f64::from(step)));
                        by_handle.insert(handle, member);
                    }
                    None => {}
                }
                assert_eq!(members.len(), model.len());
                if step % 2500 == 0 {
                    for (member, &(handle, score)) in &model {
                        assert_eq!(members.member(handle), member.as_slice());
                        assert_eq!(members.score(handle), score);
                    }
                    assert_eq!(members.allocated_bytes(), counted_bytes(&members));
                    let mut seen = 0;
                    let mut cursor = 0;
                    loop {
                        cursor = members.scan(cursor, 10, |handle| {
                            assert!(by_handle.contains_key(&handle));
                            seen += 1;
                        });
                        if cursor == 0 {
                            break;
                        }
                    }
                    assert_eq!(seen, model.len());
                }
            }
        }
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut members = Members::new();
        let text = |number: u32| {
            format!(
                "{:1$}",
                number,
                if number.is_multiple_of(3) { 150 } else { 9 }
            )
        };
        for number in 0..3_000 {
            members.insert(text(number).as_bytes(), f64::from(number));
        }
        let clone = members.clone();
        for number in 0..2_000 {
            let handle = members.find(text(number).as_bytes()).unwrap();
            members.remove(handle);
            members.compact(handle);
            members.compact(handle);
        }
        for number in 2_000..3_000 {
            let handle = members.find(text(number).as_bytes()).unwrap();
            members.set_score(handle, -1.0);
        }
        for members in [&members, &clone] {
            assert_eq!(members.allocated_bytes(), counted_bytes(members));
        }
        assert_eq!((members.len(), clone.len()), (1_000, 3_000));
        for number in 0..3_000 {
            let handle = clone.find(text(number).as_bytes()).unwrap();
            assert_eq!(clone.score(handle), f64::from(number));
        }
    }

    #[test]
    fn a_scan_meets_what_stays_while_others_go() {
        let mut rng = seeded();
        let mut members = Members::new();
        for number in 0..5_000u32 {
            members.insert(number.to_string().as_bytes(), 0.0).unwrap();
        }
        let mut met = vec![false; 5_000];
        let mut cursor = 0;
        loop {
            cursor = members.scan(cursor, 10, |handle| {
                let text = std::str::from_utf8(members.member(handle)).unwrap();
                met[text.parse::<usize>().unwrap()] = true;
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..20 {
                let number = rng.u32(0..5_000);
                if !number.is_multiple_of(10)
                    && let Some(handle) = members.find(number.to_string().as_bytes())
                {
                    members.remove(handle);
                    members.compact(handle);
                    members.compact(handle);
                }
            }
        }
        assert!(members.len() < 2_000, "{}", members.len());
        assert!((0..5_000).step_by(10).all(|number| met[number]));
    }

    #[test]
    fn what_is_removed_gives_its_memory_back() {
        let mut members = Members::new();
        let full = |members: &mut Members| {
            for number in 0..20_000u32 {
                let length = if number % 2 == 0 { 12 } else { 140 };
                let member = format!("{number:0length$}");
                members.insert(member.as_bytes(), 0.0).unwrap();
            }
        };
        full(&mut members);
        for number in 0..20_000u32 {
            let length = if number % 2 == 0 { 12 } else { 140 };
            let handle = members
                .find(format!("{number:0length$}").as_bytes())
                .unwrap();
            members.remove(handle);
            members.compact(handle);
            members.compact(handle);
        }
        assert!(members.is_empty());
        assert!(
            members.allocated_bytes() < 4_000,
            "{}",
            members.allocated_bytes()
        );
        assert_eq!(members.allocated_bytes(), counted_bytes(&members));
        full(&mut members);
        let mut remains = Remains::default();
        members.move_to(&mut remains);
        let mut pieces = 1;
        while !remains.free(1_000) {
            pieces += 1;
        }
        assert!(pieces > 5, "{pieces}");
    }
}
