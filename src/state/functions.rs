//! The libraries of functions.
//!
//! What is there is one value that is replaced as a whole: FCALL reads it without a lock, FUNCTION LOAD and its kin make
//! the next one under a mutex. A machine loads a library when it first runs one of its functions.
//!
//! The nodes of a ring are all asked to change their libraries; a node that was not there, or was asked in another order, is
//! brought to what the others have by comparing, name by name, what became of a library last ([`Change::merge`]). For that
//! the time of each library's last change is kept, also of those that were deleted, as far as [`DELETED_MAX`] goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::base::clock::Millis;
use crate::cluster::ask::LibraryState;
use crate::script::header::{FunctionSpec, LibraryText};

/// Deleted libraries whose end is remembered; the oldest are forgotten first. A node that has one of those still, because it
/// was away, brings it back.
const DELETED_MAX: usize = 1024;

/// A library.
pub struct Library {
    /// Its name and its text.
    pub text: LibraryText,
    /// Its functions.
    pub functions: Vec<FunctionSpec>,
    /// Whether one of them has reached for keys that it did not declare. A hint, so relaxed.
    pub strays: AtomicBool,
}

/// All libraries, and which of them has a function.
#[derive(Clone, Default)]
pub struct Libraries {
    /// By their names.
    pub by_name: BTreeMap<String, Arc<Library>>,
    functions: HashMap<String, Arc<Library>>,
    /// When each was loaded or deleted.
    ages: BTreeMap<String, Millis>,
}

impl Libraries {
    /// The library that has a function, and what the function is.
    pub fn find(&self, function: &str) -> Option<(&Arc<Library>, &FunctionSpec)> {
        let library = self.functions.get(function)?;
        let spec = library.functions.iter().find(|spec| spec.name == function);
        Some((library, spec?))
    }

    /// Adds a library, whose name and whose functions' names nobody has.
    ///
    /// # Errors
    /// The name of the library or the function that somebody has.
    pub fn add(&mut self, library: Arc<Library>) -> Result<(), Taken> {
        let name = &library.text.name;
        if self.by_name.contains_key(name) {
            return Err(Taken::Library(name.clone()));
        }
        let mut names = library.functions.iter().map(|spec| &spec.name);
        if let Some(taken) = names.find(|name| self.functions.contains_key(*name)) {
            return Err(Taken::Function(taken.clone()));
        }
        for spec in &library.functions {
            self.functions
                .insert(spec.name.clone(), Arc::clone(&library));
        }
        self.by_name.insert(name.clone(), library);
        Ok(())
    }

    /// Removes a library. Returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(library) = self.by_name.remove(name) else {
            return false;
        };
        for spec in &library.functions {
            self.functions.remove(&spec.name);
        }
        true
    }

    /// How many functions there are.
    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// Whether there never was any.
    pub fn is_untouched(&self) -> bool {
        self.ages.is_empty()
    }

    /// A hash of all texts.
    pub fn digest(&self) -> u128 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for library in self.by_name.values() {
            let text = &library.text.text;
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        hasher.digest128()
    }

    /// What became of each.
    pub fn states(&self) -> Vec<LibraryState> {
        let state = |(name, since): (&String, &Millis)| LibraryState {
            name: name.clone(),
            since_ms: since.0,
            text: self
                .by_name
                .get(name)
                .map(|library| library.text.text.to_vec()),
        };
        self.ages.iter().map(state).collect()
    }

    /// Which of another node's libraries are news: changed later than here, and to something else.
    pub fn news(&self, states: Vec<LibraryState>) -> Vec<LibraryState> {
        let is_news = |state: &LibraryState| {
            let here = self.by_name.get(&state.name);
            let is_same = here.map(|library| &library.text.text[..]) == state.text.as_deref();
            let age = self.ages.get(&state.name);
            let is_later = age.is_none_or(|age| {
                // Of two changes of one moment the same one has to win everywhere.
                let here = here.map(|library| &library.text.text[..]);
                (age.0, here) < (state.since_ms, state.text.as_deref())
            });
            !is_same && is_later
        };
        states.into_iter().filter(is_news).collect()
    }

    /// Bytes of the texts.
    pub fn text_bytes(&self) -> usize {
        let libraries = self.by_name.values();
        libraries.map(|library| library.text.text.len()).sum()
    }
}

/// A name that somebody has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A library.
    Library(String),
    /// A function.
    Function(String),
}

/// The libraries of a server.
#[derive(Default)]
pub struct Functions {
    current: ArcSwap<Libraries>,
    /// Held by who changes them.
    changes: Mutex<()>,
}

/// A change under way: nobody else makes one.
pub struct Change<'f> {
    functions: &'f Functions,
    /// What will be there.
    pub next: Libraries,
    _changes: MutexGuard<'f, ()>,
}

impl Functions {
    /// What is there.
    pub fn current(&self) -> Arc<Libraries> {
        self.current.load_full()
    }

    /// Begins a change; nothing happens unless it is put in force.
    pub fn change(&self) -> Change<'_> {
        let changes = self.changes.lock();
        Change {
            functions: self,
            next: Libraries::clone(&self.current.load()),
            _changes: changes,
        }
    }
}

impl Change<'_> {
    /// Puts the change in force.
    pub fn commit(mut self, now: Millis) {
        let current = self.functions.current();
        let mut ages = current.ages.clone();
        let names = current.by_name.keys().chain(self.next.by_name.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let text = |libraries: &Libraries| {
                let library = libraries.by_name.get(name);
                library.map(|library| library.text.text.clone())
            };
            if text(&current) != text(&self.next) {
                // Later than the one before, whatever the clock says.
                let age = ages.entry(name.clone()).or_default();
                *age = Millis(now.0.max(age.0 + 1));
            }
        }
        self.next.ages = ages;
        self.store();
    }

    /// Takes over what another node knows better, as [`Libraries::news`] has found; `load` makes a library of its text.
    /// What cannot be loaded, or has a function whose name is taken, is left out.
    ///
    /// # Errors
    /// The libraries that were left out, by their names.
    pub fn merge(
        mut self,
        news: Vec<LibraryState>,
        load: impl Fn(&[u8]) -> Option<Arc<Library>>,
    ) -> Result<(), Vec<String>> {
        let mut left_out = Vec::new();
        for state in self.next.news(news) {
            let library = match &state.text {
                None => None,
                Some(text) => match load(text) {
                    Some(library) if library.text.name == state.name => Some(library),
                    _ => {
                        left_out.push(state.name);
                        continue;
                    }
                },
            };
            let before = self.next.by_name.get(&state.name).cloned();
            self.next.remove(&state.name);
            if let Some(library) = library
                && self.next.add(library).is_err()
            {
                if let Some(before) = before {
                    // It was there a moment ago, and nothing has come since.
                    let _ = self.next.add(before);
                }
                left_out.push(state.name);
                continue;
            }
            self.next.ages.insert(state.name, Millis(state.since_ms));
        }
        self.store();
        match left_out.is_empty() {
            true => Ok(()),
            false => Err(left_out),
        }
    }

    fn store(mut self) {
        let next = &mut self.next;
        let deleted = |next: &Libraries, name: &String| !next.by_name.contains_key(name);
        let mut gone: Vec<(Millis, String)> = next
            .ages
            .iter()
            .filter(|(name, _)| deleted(next, name))
            .map(|(name, age)| (*age, name.clone()))
            .collect();
        let excess = gone.len().saturating_sub(DELETED_MAX);
        gone.sort();
        for (_, name) in &gone[..excess] {
            next.ages.remove(name);
        }
        self.functions.current.store(Arc::new(self.next));
    }
}

#[cfg(test)]
mod tests;
