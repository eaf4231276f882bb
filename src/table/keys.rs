//! Key specs: where the keys of a command stand among its arguments, and how each is used.
//!
//! The model is Redis 7's: a spec finds where keys begin (an index, or the argument after a keyword) and how many there
//! are (a range with a step, or a count given in an argument). See the documentation of COMMAND at redis.io, "key specs".

bitflags::bitflags! {
    /// How a command uses the keys of one spec (flags of a key spec in COMMAND INFO).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyAccess: u16 {
        /// Reads and changes the value.
        const RW = 1;
        /// Reads only.
        const RO = 1 << 1;
        /// Overwrites whatever is there.
        const OW = 1 << 2;
        /// Removes the key.
        const RM = 1 << 3;
        /// Returns or copies user data of the value.
        const ACCESS = 1 << 4;
        /// Changes the value depending on what was there.
        const UPDATE = 1 << 5;
        /// Adds data without depending on what was there.
        const INSERT = 1 << 6;
        /// Deletes content explicitly.
        const DELETE = 1 << 7;
        /// Not really a key (a channel).
        const NOT_KEY = 1 << 8;
        /// The spec may miss some keys.
        const INCOMPLETE = 1 << 9;
        /// Access depends on other arguments.
        const VARIABLE_FLAGS = 1 << 10;
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument (the command's name is argument 0).
    Index(usize),
    /// At the argument after this keyword (any case), searched from an argument (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Not expressible.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the begin; negative: from the last argument), every `step`-th, and with `limit` > 1 only
    /// the first 1/limit of what remains.
    Range {
        /// Last key, relative to the first; -1 is the last argument.
        last: i32,
        /// Distance of keys.
        step: i32,
        /// Fraction of the remaining arguments; 0 or 1 is all.
        limit: i32,
    },
    /// The argument `count_at` (relative to the begin) holds how many keys follow from `first` on.
    Count {
        /// Where the count stands, relative to the begin.
        count_at: i32,
        /// Where the first key stands, relative to the begin.
        first: i32,
        /// Distance of keys.
        step: i32,
    },
    /// Not expressible.
    Unknown,
}

/// One set of keys of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// Which arguments are keys.
    pub find: Find,
    /// How they are used.
    pub access: KeyAccess,
    /// Redis's note on the spec, empty for most.
    pub note: &'static str,
}

impl KeySpec {
    /// One key at argument `index`.
    pub const fn one(index: usize, access: KeyAccess) -> KeySpec {
        KeySpec::range(index, 0, 1, access)
    }

    /// Keys from argument `index` to `last` (negative: from the last argument), every `step`-th.
    pub const fn range(index: usize, last: i32, step: i32, access: KeyAccess) -> KeySpec {
        KeySpec { begin: Begin::Index(index), find: Find::Range { last, step, limit: 0 }, access, note: "" }
    }

    /// As many keys as argument `index` says, from the next one on.
    pub const fn counted(index: usize, access: KeyAccess) -> KeySpec {
        KeySpec { begin: Begin::Index(index), find: Find::Count { count_at: 0, first: 1, step: 1 }, access, note: "" }
    }
}
