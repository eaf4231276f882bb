//! The id of an entry: a time in milliseconds and a number within it, ordered as a whole.

/// An id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Usually the Unix time in milliseconds.
    pub ms: u64,
    /// Tells entries of the same millisecond apart.
    pub seq: u64,
}

impl Id {
    /// Before every entry; no entry has it.
    pub const ZERO: Id = Id { ms: 0, seq: 0 };
    /// The last id that an entry can have.
    pub const MAX: Id = Id {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// An id of its two parts.
    pub const fn new(ms: u64, seq: u64) -> Id {
        Id { ms, seq }
    }

    /// The id that follows; none follows the last.
    pub fn next(self) -> Option<Id> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Id { seq, ..self }),
            None => Some(Id::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id before; none is before 0-0.
    pub fn previous(self) -> Option<Id> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Id { seq, ..self }),
            None => Some(Id::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// As text: `ms-seq`.
    #[inline]
    pub fn text(self) -> IdText {
        let mut bytes = [0; IdText::LONGEST];
        let mut buffer = itoa::Buffer::new();
        let ms = buffer.format(self.ms).as_bytes();
        let dash = ms.len();
        bytes[..dash].copy_from_slice(ms);
        bytes[dash] = b'-';
        let seq = buffer.format(self.seq).as_bytes();
        let len = dash + 1 + seq.len();
        bytes[dash + 1..len].copy_from_slice(seq);
        IdText { bytes, len }
    }

    /// The sixteen bytes that sort as ids do.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }
}

/// The text of an id.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    bytes: [u8; IdText::LONGEST],
    len: usize,
}

impl IdText {
    const LONGEST: usize = 41;
}

impl std::ops::Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_printed() {
        assert_eq!(&*Id::ZERO.text(), b"0-0");
        assert_eq!(&*Id::new(12, 34).text(), b"12-34");
        assert_eq!(
            &*Id::MAX.text(),
            b"18446744073709551615-18446744073709551615"
        );
    }

    #[test]
    fn ids_have_neighbours() {
        let edge = Id::new(5, u64::MAX);
        assert_eq!(edge.next(), Some(Id::new(6, 0)));
        assert_eq!(Id::new(6, 0).previous(), Some(edge));
        assert_eq!((Id::MAX.next(), Id::ZERO.previous()), (None, None));
        assert!(Id::new(1, 9) < Id::new(2, 0));
        assert!(Id::new(1, 9).to_bytes() < Id::new(2, 0).to_bytes());
    }
}
