//! The file in which a node keeps its part of the agreement: appended to, or replaced as a whole; nothing else.
//!
//! What a call wrote is on disk when it returns; a replacement is there as a whole or not at all. The memory that stands for a file in simulations answers at once.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// A longer file than this was not written by us.
const MAX_BYTES: u64 = 1 << 30;

/// Where a node keeps it.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file. It is locked as long as it is in use: two processes with one name would be two owners of each slot.
    File(PathBuf),
    /// Memory, for simulations: it outlives the node that writes it.
    Memory(Memory),
}

/// What stands for a file in simulations.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// All bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }

    /// Puts other bytes in their place, as a crash or an operator might.
    pub fn set(&self, bytes: Vec<u8>) {
        *self.0.lock() = bytes;
    }
}

/// An open file.
#[derive(Debug)]
pub struct Disk {
    place: Place,
    /// The locked file, at its end; none in memory.
    file: Option<File>,
    /// After an error nobody knows where the file ends: nothing more is written.
    broken: bool,
}

impl Disk {
    /// Opens or creates it. Returns what is in it.
    ///
    /// `WouldBlock` if another process has it open.
    pub fn open(place: Place) -> io::Result<(Disk, Vec<u8>)> {
        let (file, bytes) = match &place {
            Place::Memory(memory) => (None, memory.bytes()),
            Place::File(path) => {
                let mut file = lock(path)?;
                if file.metadata()?.len() > MAX_BYTES {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                (Some(file), bytes)
            }
        };
        let broken = false;
        Ok((
            Disk {
                place,
                file,
                broken,
            },
            bytes,
        ))
    }

    /// Whether calls may take long, so that they belong on a thread of their own.
    pub fn is_slow(&self) -> bool {
        self.file.is_some()
    }

    /// Adds to its end; on disk when this returns.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|disk| match (&disk.place, &mut disk.file) {
            (Place::Memory(memory), _) => {
                memory.0.lock().extend_from_slice(bytes);
                Ok(())
            }
            (_, Some(file)) => {
                file.write_all(bytes)?;
                file.sync_data()
            }
            (_, None) => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// Puts other contents in place of all of it, on disk when this returns.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|disk| {
            let path = match &disk.place {
                Place::Memory(memory) => {
                    memory.set(bytes.to_vec());
                    return Ok(());
                }
                Place::File(path) => path,
            };
            let next = beside(path);
            // What an earlier process left half written.
            match fs::remove_file(&next) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options()
                .read(true)
                .append(true)
                .create_new(true)
                .open(&next)?;
            // Locked before it has the name, so that there is no moment at which the name is free to take.
            file.try_lock()?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&next, path)?;
            sync_folder(path)?;
            disk.file = Some(file);
            Ok(())
        })
    }

    /// Gives the lock up.
    pub fn close(&mut self) {
        self.broken = true;
        self.file = None;
    }

    fn attempt(&mut self, write: impl FnOnce(&mut Disk) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed, or it is closed"));
        }
        let result = write(self);
        self.broken = result.is_err();
        result
    }
}

/// Opens and locks the file that has this name now.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its owner may have replaced it between the two calls: then this is the old one, which nobody holds any more.
        let (held, named) = (file.metadata()?, fs::metadata(path)?);
        if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
            return Ok(file);
        }
    }
}

/// The name of a file that is being written.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// A new name is on disk only when the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
