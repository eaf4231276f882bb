//! Some of a number of elements, chosen by chance.

use crate::base::rng::Rng;

/// Visits `count` of the numbers below `len` in ascending order, every choice with the same chance; all of them when there
/// are no more (Knuth's algorithm S). Draws once per number passed.
pub fn ascending(count: usize, len: usize, rng: &Rng, mut visit: impl FnMut(usize)) {
    let mut wanted = count.min(len);
    for number in 0..len {
        if wanted == 0 {
            break;
        }
        let left = len - number;
        if wanted == left || rng.below(left as u64) < wanted as u64 {
            visit(number);
            wanted -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_has_the_same_chance() {
        let rng = Rng::seeded(11);
        let mut chosen = [0; 10];
        for _ in 0..10_000 {
            let mut last = None;
            ascending(3, 10, &rng, |number| {
                assert!(last < Some(number));
                last = Some(number);
                chosen[number] += 1;
            });
        }
        assert_eq!(chosen.iter().sum::<i32>(), 30_000);
        assert!(
            chosen.iter().all(|times| (2700..3300).contains(times)),
            "{chosen:?}"
        );
        let mut all = Vec::new();
        ascending(usize::MAX, 4, &rng, |number| all.push(number));
        assert_eq!(all, [0, 1, 2, 3]);
        ascending(0, 4, &rng, |_| panic!("none was asked for"));
    }
}
