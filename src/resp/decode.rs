//! Temporary stand-in.

use bytes::Bytes;

/// Stand-in.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    all: &'a [Vec<u8>],
}

impl<'a> Arguments<'a> {
    /// Stand-in.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.all.len()
    }
    /// Stand-in.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.all.get(index).map(Vec::as_slice)
    }
    /// Stand-in.
    pub fn large(&self, _index: usize) -> Option<&'a Bytes> {
        None
    }
    /// Stand-in.
    pub fn tail(&self, index: usize) -> Arguments<'a> {
        Arguments {
            all: &self.all[index.min(self.all.len())..],
        }
    }
    /// Stand-in.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all.iter().map(Vec::as_slice)
    }
}

/// Stand-in.
pub struct OwnedArguments(Vec<Vec<u8>>);

impl OwnedArguments {
    /// Stand-in.
    pub fn as_arguments(&self) -> Arguments<'_> {
        Arguments { all: &self.0 }
    }
}

impl<P: AsRef<[u8]>> From<&[P]> for OwnedArguments {
    fn from(parts: &[P]) -> Self {
        OwnedArguments(parts.iter().map(|part| part.as_ref().to_vec()).collect())
    }
}
