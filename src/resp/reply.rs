//! Temporary stand-in.

/// Stand-in.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
}

impl<'a> Reply<'a> {
    /// Stand-in.
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Self {
        Reply { out, resp3 }
    }
    fn line(&mut self, mark: char, rest: impl std::fmt::Display) {
        self.out
            .extend_from_slice(format!("{mark}{rest}\r\n").as_bytes());
    }
    /// Stand-in.
    pub fn simple(&mut self, text: &str) {
        self.line('+', text);
    }
    /// Stand-in.
    pub fn ok(&mut self) {
        self.simple("OK");
    }
    /// Stand-in.
    pub fn error(&mut self, text: &str) {
        self.line('-', text);
    }
    /// Stand-in.
    pub fn integer(&mut self, number: i64) {
        self.line(':', number);
    }
    /// Stand-in.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.line('$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }
    /// Stand-in.
    pub fn null(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }
    /// Stand-in.
    pub fn null_array(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }
    /// Stand-in.
    pub fn array(&mut self, count: usize) {
        self.line('*', count);
    }
    /// Stand-in.
    pub fn map(&mut self, count: usize) {
        if self.resp3 {
            self.line('%', count)
        } else {
            self.line('*', count * 2)
        }
    }
    /// Stand-in.
    pub fn set(&mut self, count: usize) {
        self.line(if self.resp3 { '~' } else { '*' }, count);
    }
    /// Stand-in.
    pub fn double(&mut self, number: f64) {
        self.line(',', number);
    }
    /// Stand-in.
    pub fn boolean(&mut self, value: bool) {
        self.line('#', if value { 't' } else { 'f' });
    }
}
