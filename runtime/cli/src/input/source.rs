//! A file or standard input, with the bytes read so far counted for the progress bar.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::failure::Failure;

/// Where input comes from.
pub(crate) struct Source {
    input: Input,
    read: Arc<AtomicU64>,
    bytes: Option<u64>,
}

enum Input {
    File(File),
    Stdin(io::Stdin),
}

impl Source {
    /// Opens `path`; `-` or none is standard input.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let read = Arc::new(AtomicU64::new(0));
        let path = match path {
            None => return Ok(Self { input: Input::Stdin(io::stdin()), read, bytes: None }),
            Some(path) if path == Path::new("-") => {
                return Ok(Self { input: Input::Stdin(io::stdin()), read, bytes: None });
            }
            Some(path) => path,
        };
        let fault = |error: io::Error| Failure::file("read", path, &error);
        let file = File::open(path).map_err(fault)?;
        let about = file.metadata().map_err(fault)?;
        if about.is_dir() {
            return Err(Failure::new(format!("cannot read {}: it is a folder", path.display())));
        }
        // Pipes and devices have no size.
        let bytes = about.is_file().then_some(about.len());
        Ok(Self { input: Input::File(file), read, bytes })
    }

    /// Size of the file, where it has one.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Bytes read so far, readable while the input is read elsewhere.
    pub(crate) fn meter(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.input {
            Input::File(file) => file.read(buffer)?,
            Input::Stdin(stdin) => stdin.read(buffer)?,
        };
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
