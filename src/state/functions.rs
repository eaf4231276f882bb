//! The libraries of functions.
//!
//! What is there is one value that is replaced as a whole: FCALL reads it without a lock, FUNCTION LOAD and its kin make
//! the next one under a mutex. A machine loads a library when it first runs one of its functions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::script::header::{FunctionSpec, LibraryText};

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
    pub fn commit(self) {
        self.functions.current.store(Arc::new(self.next));
    }
}
