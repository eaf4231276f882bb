//! The generator behind math.random: the 48-bit linear congruence of lrand48, so that a seed gives the numbers it gives in
//! Redis, on every machine.

/// The state of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

const MULTIPLIER: u64 = 0x5DEE_CE66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
const LARGEST: u64 = i32::MAX as u64;

impl Default for Random {
    /// As Redis has it before the first seed.
    fn default() -> Self {
        Random(0x1234_ABCD_330E)
    }
}

impl Random {
    /// The state that `seed` begins.
    pub fn seeded(seed: i32) -> Random {
        Random(u64::from(seed as u32) << 16 | 0x330E)
    }

    /// The next number, at least 0 and less than 1.
    pub fn next(&mut self) -> f64 {
        self.0 = (self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)) & MASK;
        ((self.0 >> 17) % LARGEST) as f64 / LARGEST as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_redis_numbers() {
        let mut random = Random::seeded(42);
        assert_eq!(format!("{:.14}", random.next()), "0.74452500033403");
        assert_eq!((random.next() * 1000.0).floor() + 1.0, 343.0);
        assert_eq!((random.next() * 1000.0).floor() + 1.0, 112.0);
        assert_eq!((Random::seeded(-1).next() * 1e6).floor() + 1.0, 300_026.0);
        assert_eq!(
            (Random::seeded(i32::MIN).next() * 1e6).floor() + 1.0,
            670_829.0
        );
    }
}
