//! Args: a typed cursor over the arguments of one command.
//!
//! Handlers take their arguments in order and name what they expect; the first that does not fit ends the handler with
//! Redis's error. The command's name (and its subcommand's) is already taken.

use bytes::Bytes;

use super::error::CommandError;
use crate::data::number;
use crate::resp::decode::Arguments;

/// The result of taking an argument.
pub type Taken<T> = Result<T, CommandError>;

/// A cursor over the arguments that follow the command's name.
#[derive(Clone)]
pub struct Args<'a> {
    all: Arguments<'a>,
    next: usize,
}

impl<'a> Args<'a> {
    /// The arguments of a request, from `first` on (1, or 2 after a subcommand's name).
    pub fn new(all: Arguments<'a>, first: usize) -> Self {
        Args { all, next: first }
    }

    /// How many are left.
    pub fn remaining(&self) -> usize {
        self.all.len().saturating_sub(self.next)
    }

    /// Whether all are taken.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The whole request with the command's name, for what looks at arguments by position.
    pub fn all(&self) -> Arguments<'a> {
        self.all
    }

    /// The next argument without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.all.get(self.next)
    }

    /// The argument `ahead` places after the next one, without taking it.
    pub fn peek_at(&self, ahead: usize) -> Option<&'a [u8]> {
        self.all.get(self.next + ahead)
    }

    /// Takes the next argument; a syntax error when there is none.
    pub fn bytes(&mut self) -> Taken<&'a [u8]> {
        let argument = self.peek().ok_or(CommandError::Syntax)?;
        self.next += 1;
        Ok(argument)
    }

    /// Takes the next argument, and its shared buffer when it was received apart.
    pub fn value(&mut self) -> Taken<(&'a [u8], Option<&'a Bytes>)> {
        let large = self.all.large(self.next);
        Ok((self.bytes()?, large))
    }

    /// Takes the next argument if it is this word in any case.
    pub fn keyword(&mut self, word: &str) -> bool {
        let found = self
            .peek()
            .is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()));
        self.next += usize::from(found);
        found
    }

    /// Takes a 64-bit signed integer.
    pub fn integer(&mut self) -> Taken<i64> {
        number::parse_i64(self.bytes()?).ok_or(CommandError::NotInteger)
    }

    /// Takes a double; NaN is refused.
    pub fn double(&mut self) -> Taken<f64> {
        number::parse_f64(self.bytes()?).ok_or(CommandError::NotFloat)
    }

    /// Refuses arguments that are left over.
    pub fn end(&self) -> Taken<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Syntax)
        }
    }

    /// Iterates over the rest without taking it.
    pub fn rest(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let all = self.all;
        (self.next..all.len()).map(move |index| all.get(index).unwrap_or_default())
    }
}
