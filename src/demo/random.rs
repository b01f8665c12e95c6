//! Chance that repeats itself: the same seed gives the same home, the same day and the same faults.

/// The splitmix64 generator: one addition and three multiplications a number, and any seed is a good seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Crockford's base 32, in which ULIDs are written.
const ULID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The length of a ULID, and so of a context id.
pub const ULID_CHARS: usize = 26;

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one thing among many, such as one entity's n-th past value.
    #[must_use]
    pub fn of(seed: u64, part: u64) -> Self {
        let mut random = Self(seed ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.draw();
        random
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number from 0 to `end - 1`.
    pub fn below(&mut self, end: u32) -> u32 {
        // The high half of the product of 32 random bits and `end` is below `end`, without a division.
        let wide = (self.draw() >> 32) * u64::from(end);
        u32::try_from(wide >> 32).expect("the high half of a product of two 32-bit numbers has 32 bits")
    }

    /// From 0 to just below 1.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let count = u32::try_from(list.len()).expect("lists in this module are short");
        list[self.below(count) as usize]
    }

    /// Thirty-two hexadecimal digits, as registries identify devices and entities.
    pub fn hex(&mut self) -> String {
        format!("{:016x}{:016x}", self.draw(), self.draw())
    }

    /// A ULID: ten digits of time in milliseconds, sixteen of chance.
    pub fn ulid(&mut self, unix_millis: u64) -> String {
        let mut digits = [0; ULID_CHARS];
        self.write_ulid(unix_millis, &mut digits);
        digits.iter().map(|digit| char::from(*digit)).collect()
    }

    /// As [`Random::ulid`], over text that is already there.
    pub fn write_ulid(&mut self, unix_millis: u64, digits: &mut [u8; ULID_CHARS]) {
        let parts = [(unix_millis, 0..10), (self.draw(), 10..18), (self.draw(), 18..26)];
        for (mut bits, places) in parts {
            for digit in digits[places].iter_mut().rev() {
                *digit = ULID_DIGITS[(bits & 31) as usize];
                bits >>= 5;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_repeats_itself_and_another_does_not() {
        let of = |seed| (0..9).map(|_| Random::new(seed).draw()).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_ulid_begins_with_its_time() {
        // The first ten digits of a context id that Home Assistant 2025.4.4 made at this time.
        let ulid = Random::new(1).ulid(1_795_448_982_498);
        assert_eq!((ulid.len(), &ulid[..10]), (26, "01M84HJJZ2"));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(3);
        for _ in 0..10_000 {
            assert!(random.below(7) < 7);
            let number = random.between(-1.0, 2.0);
            assert!((-1.0..=2.0).contains(&number));
        }
    }
}
