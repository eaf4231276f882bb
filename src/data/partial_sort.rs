//! A quicksort that puts only the first ranks in order: what COUNT of a search needs.
//!
//! Which of several equal elements come first is seen by clients, and Redis leaves it to its sort. So this is that sort,
//! Bentley and McIlroy's ("Engineering a sort function", 1993), which goes into those partitions only that hold wanted
//! ranks. Against input made to make it quadratic there is a limit of rounds; beyond it a part is sorted otherwise, and equal
//! elements of it keep their order.

use std::cmp::Ordering;

/// Elements that are sorted by insertion.
const INSERTION_MAX: usize = 6;
/// Elements from which the pivot is the middle of nine rather than of three.
const NINE_MIN: usize = 41;

/// Puts the elements of the ranks below `wanted` in their places. `compare` must be a total order.
pub fn sort_first<T>(items: &mut [T], wanted: usize, compare: impl Fn(&T, &T) -> Ordering) {
    // Of n elements a fair share of rounds is 2 log n; twice that is met by bad luck hardly ever.
    let rounds = 4 * (usize::BITS - items.len().leading_zeros()) as usize;
    sort_part(items, wanted, &compare, rounds);
}

/// Of `items` the ranks below `wanted` are to be in order.
fn sort_part<T>(
    mut items: &mut [T],
    mut wanted: usize,
    compare: &impl Fn(&T, &T) -> Ordering,
    mut rounds: usize,
) {
    loop {
        if items.len() <= INSERTION_MAX {
            return sort_by_insertion(items, compare);
        }
        if rounds == 0 {
            return items.sort_by(compare);
        }
        rounds -= 1;
        let (less, greater) = partition(items, compare);
        let split = items.len() - greater;
        let (front, back) = items.split_at_mut(split);
        if less > 1 {
            sort_part(&mut front[..less], wanted, compare, rounds);
        }
        // Behind those that equal the pivot begins another part; it is looked into only for ranks that are in it.
        if greater <= 1 || wanted <= split {
            return;
        }
        items = back;
        wanted -= split;
    }
}

fn sort_by_insertion<T>(items: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) {
    for next in 1..items.len() {
        let mut at = next;
        while at > 0 && compare(&items[at - 1], &items[at]).is_gt() {
            items.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// Parts the elements into those less than a pivot, those equal to it, and those greater; how many the first and the last
/// are.
fn partition<T>(items: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) -> (usize, usize) {
    let pivot = choose_pivot(items, compare);
    items.swap(0, pivot);
    // Equal | less | not seen | greater | equal, the pivot in front.
    let (mut equal_front, mut low) = (1, 1);
    let (mut high, mut equal_back) = (items.len(), items.len());
    loop {
        while low < high {
            match compare(&items[low], &items[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    items.swap(equal_front, low);
                    equal_front += 1;
                }
                Ordering::Less => {}
            }
            low += 1;
        }
        while low < high {
            match compare(&items[high - 1], &items[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    items.swap(high - 1, equal_back - 1);
                    equal_back -= 1;
                }
                Ordering::Greater => {}
            }
            high -= 1;
        }
        if low >= high {
            break;
        }
        items.swap(low, high - 1);
        low += 1;
        high -= 1;
    }
    let less = low - equal_front;
    let greater = equal_back - high;
    swap_ends(items, 0, low, equal_front.min(less));
    let end = items.len();
    swap_ends(items, low, end, greater.min(end - equal_back));
    (less, greater)
}

/// Swaps the first `count` elements from `start` on with the last before `end`.
fn swap_ends<T>(items: &mut [T], start: usize, end: usize, count: usize) {
    for index in 0..count {
        items.swap(start + index, end - count + index);
    }
}

fn choose_pivot<T>(items: &[T], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let length = items.len();
    let (mut first, mut middle, mut last) = (0, length / 2, length - 1);
    if length <= INSERTION_MAX + 1 {
        return middle;
    }
    let median = |a: usize, b: usize, c: usize| median(items, [a, b, c], compare);
    if length >= NINE_MIN {
        let step = length / 8;
        first = median(first, first + step, first + 2 * step);
        middle = median(middle - step, middle, middle + step);
        last = median(last - 2 * step, last - step, last);
    }
    median(first, middle, last)
}

/// The one of three places whose element is between the others.
fn median<T>(items: &[T], [a, b, c]: [usize; 3], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let is_less = |left: usize, right: usize| compare(&items[left], &items[right]).is_lt();
    let is_greater = |left: usize, right: usize| compare(&items[left], &items[right]).is_gt();
    if is_less(a, b) {
        match () {
            () if is_less(b, c) => b,
            () if is_less(a, c) => c,
            () => a,
        }
    } else {
        match () {
            () if is_greater(b, c) => b,
            () if is_less(a, c) => a,
            () => c,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wanted ranks are those of a full sort, nothing is lost, whatever the input.
    #[test]
    fn first_ranks() {
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..3000 {
            let length = rng.usize(0..300);
            let kinds = [1, 3, 20, 10_000][round % 4];
            let mut items: Vec<(u32, usize)> = (0..length)
                .map(|place| (rng.u32(0..kinds), place))
                .collect();
            match round % 7 {
                0 => items.sort(),
                1 => items.sort_by(|a, b| b.cmp(a)),
                _ => {}
            }
            let wanted = rng.usize(0..=length);
            let mut sorted: Vec<u32> = items.iter().map(|item| item.0).collect();
            sorted.sort_unstable();
            sort_first(&mut items, wanted, |a, b| a.0.cmp(&b.0));
            let first: Vec<u32> = items[..wanted].iter().map(|item| item.0).collect();
            assert_eq!(first, sorted[..wanted], "round {round}");
            let mut places: Vec<usize> = items.iter().map(|item| item.1).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..length));
        }
    }

    /// An order that answers so that each pivot is nearly the least (McIlroy, "A killer adversary for quicksort") ends soon.
    #[test]
    fn no_input_is_quadratic() {
        use std::cell::{Cell, RefCell};
        const LENGTH: usize = 50_000;
        let gas = LENGTH;
        let values = RefCell::new(vec![gas; LENGTH]);
        let (solid, candidate, compared) = (Cell::new(0), Cell::new(0), Cell::new(0u64));
        let mut items: Vec<usize> = (0..LENGTH).collect();
        sort_first(&mut items, LENGTH, |&a, &b| {
            compared.set(compared.get() + 1);
            let mut values = values.borrow_mut();
            if values[a] == gas && values[b] == gas {
                let frozen = if a == candidate.get() { a } else { b };
                values[frozen] = solid.get();
                solid.set(solid.get() + 1);
            }
            if values[a] == gas {
                candidate.set(a);
            } else if values[b] == gas {
                candidate.set(b);
            }
            values[a].cmp(&values[b])
        });
        assert!(compared.get() < 100 * LENGTH as u64, "{}", compared.get());
    }
}
