//! A layout in a tar archive: read in place, written anew. Nothing is ever unpacked.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Component, Path, PathBuf},
};

use tar::EntryType;

use super::OciError;

const ENTRIES_MAX: usize = 20_000;
/// Of a header that holds a long name or the like.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// The files of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    /// Place and size of each, by its path.
    entries: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, OciError> {
        let failed = |cause| OciError::File { what: "read", path: path.to_owned(), cause };
        let refused = |fault| OciError::Refused { path: path.to_owned(), fault };
        let mut file = File::open(path).map_err(failed)?;
        let mut start = [0; 4];
        let read = file.read(&mut start).map_err(failed)?;
        if start.starts_with(&[0x1f, 0x8b]) || (read == 4 && start == [0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(refused("it is compressed: decompress it first".to_owned()));
        }
        rewind(&mut file).map_err(failed)?;
        check_headers(&file).map_err(refused)?;
        rewind(&mut file).map_err(failed)?;
        let entries = entries(&file).map_err(refused)?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    pub(super) fn read(&mut self, name: &str, max: u64) -> Result<Option<Vec<u8>>, OciError> {
        let Some(&(place, size)) = self.entries.get(name) else { return Ok(None) };
        if size > max {
            let fault = format!("{name} has {size} bytes, and {max} are the most that are read");
            return Err(OciError::Refused { path: self.path.clone(), fault });
        }
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(place));
        let read = read.and_then(|_| (&self.file).take(size).read_to_end(&mut bytes));
        read.map_err(|cause| OciError::File { what: "read", path: self.path.clone(), cause })?;
        match bytes.len() as u64 == size {
            true => Ok(Some(bytes)),
            false => Err(OciError::Refused { path: self.path.clone(), fault: format!("{name} is cut off") }),
        }
    }
}

/// Writes `files` and, of `old`, what is not among them. The archive is there wholly or not at all.
pub(super) fn write(
    path: &Path,
    old: Option<&mut Archive>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(), OciError> {
    let failed = |cause| OciError::File { what: "write", path: path.to_owned(), cause };
    let draft = draft(path);
    let written = File::create(&draft).and_then(|file| {
        let mut builder = tar::Builder::new(file);
        for folder in ["blobs/", "blobs/sha256/"] {
            let mut header = header(EntryType::Directory, 0o755, 0);
            builder.append_data(&mut header, folder, io::empty())?;
        }
        if let Some(old) = old {
            for (name, (place, size)) in old.entries.iter().filter(|(name, _)| !files.contains_key(*name)) {
                old.file.seek(SeekFrom::Start(*place))?;
                let mut header = header(EntryType::Regular, 0o644, *size);
                builder.append_data(&mut header, name, (&old.file).take(*size))?;
            }
        }
        for (name, bytes) in files {
            let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
            builder.append_data(&mut header, name, bytes.as_slice())?;
        }
        let mut file = builder.into_inner()?;
        file.flush()?;
        std::fs::rename(&draft, path)
    });
    written.map_err(|cause| {
        let _ = std::fs::remove_file(&draft);
        failed(cause)
    })
}

/// The same modules give the same archive.
fn header(kind: EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}

/// Where something is written before it takes its place.
pub(super) fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}

fn rewind(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0)).map(drop)
}

/// Looks at every header as it stands, before any of them is followed: a long name is read into memory whole.
fn check_headers(file: &File) -> Result<(), String> {
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries_with_seek().map_err(|error| error.to_string())?.raw(true);
    for (index, entry) in entries.enumerate() {
        if index >= ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} entries"));
        }
        let entry = entry.map_err(|error| format!("it is no tar archive, or cut off: {error}"))?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName => {
                if size > EXTENSION_BYTES_MAX {
                    return Err(format!("a header of it has {size} bytes, above {EXTENSION_BYTES_MAX}"));
                }
            }
            other => {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                return Err(format!("its entry {name:?} is neither a file nor a folder but {other:?}"));
            }
        }
    }
    Ok(())
}

fn entries(file: &File) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let mut archive = tar::Archive::new(file);
    let mut entries = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| format!("it is no tar archive, or cut off: {error}"))?;
        let path = entry.path().map_err(|error| error.to_string())?.into_owned();
        let mut name = Vec::new();
        for part in path.components() {
            match (part, part.as_os_str().to_str()) {
                (Component::CurDir, _) => {}
                (Component::Normal(_), Some(part)) => name.push(part.to_owned()),
                _ => return Err(format!("its entry {} leaves the layout", path.display())),
            }
        }
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let place = (entry.raw_file_position(), entry.size());
        if entries.insert(name.join("/"), place).is_some() {
            return Err(format!("its entry {} is there twice", path.display()));
        }
    }
    Ok(entries)
}
