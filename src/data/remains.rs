//! What is left of a large value when it was removed: freed piece by piece, off the request's path.

use std::sync::Arc;

/// Pieces to be freed, each with the number of elements that it holds.
#[derive(Default)]
pub struct Remains(Vec<(Arc<dyn Send + Sync>, usize)>);

impl Remains {
    /// Adds a piece.
    pub fn push(&mut self, piece: Arc<dyn Send + Sync>, elements: usize) {
        self.0.push((piece, elements));
    }

    /// Hands all pieces on.
    pub fn move_to(mut self, other: &mut Remains) {
        other.0.append(&mut self.0);
    }

    /// Elements still held: a measure of the work that is left.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, elements)| elements).sum()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frees whole pieces until they held `limit` elements or more. Whether nothing is left.
    pub fn free(&mut self, limit: usize) -> bool {
        let mut freed = 0;
        while freed < limit.max(1)
            && let Some((piece, elements)) = self.0.pop()
        {
            freed += elements.max(1);
            drop(piece);
        }
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remains").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_freed_in_steps() {
        let held = Arc::new(vec![1, 2, 3]);
        let mut remains = Remains::default();
        for _ in 0..4 {
            remains.push(held.clone(), 3);
        }
        assert_eq!(remains.len(), 12);
        assert!(!remains.free(4));
        assert_eq!((remains.len(), Arc::strong_count(&held)), (6, 3));
        assert!(!remains.free(0), "a piece at least");
        assert!(remains.free(usize::MAX));
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(remains.is_empty() && remains.free(1));
    }
}
