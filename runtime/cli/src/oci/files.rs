//! The files of a layout, in a folder or an archive.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    OciError,
    archive::{self, Archive},
};

/// The files of a layout.
#[derive(Debug)]
pub(super) enum Files {
    Folder(PathBuf),
    Archive(Archive),
}

impl Files {
    /// What is at `path`, if there is something.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, OciError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Some(Self::Folder(path.to_owned()))),
            Ok(_) => Archive::open(path).map(|archive| Some(Self::Archive(archive))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(OciError::File { what: "read", path: path.to_owned(), cause }),
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Folder(path) => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()),
            Self::Archive(_) => false,
        }
    }

    /// The file called `name`, if there is one, and it has at most `max` bytes. Links are not followed.
    pub(super) fn read(&mut self, name: &str, max: u64) -> Result<Option<Vec<u8>>, OciError> {
        match self {
            Self::Folder(folder) => read(folder, name, max),
            Self::Archive(archive) => archive.read(name, max),
        }
    }
}

fn read(folder: &Path, name: &str, max: u64) -> Result<Option<Vec<u8>>, OciError> {
    let mut path = folder.to_owned();
    let failed = |path: &Path, cause| OciError::File { what: "read", path: path.to_owned(), cause };
    for part in name.split('/') {
        path.push(part);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(&path, cause)),
        };
        if found.is_symlink() {
            let fault = "it is a symbolic link, which may lead out of the layout".to_owned();
            return Err(OciError::Refused { path, fault });
        }
        if found.is_file() && found.len() > max {
            let fault = format!("it has {} bytes, and {max} are the most that are read", found.len());
            return Err(OciError::Refused { path, fault });
        }
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(max).read_to_end(&mut bytes));
    read.map_err(|cause| failed(&path, cause))?;
    Ok(Some(bytes))
}

/// Writes `files`, `last` behind all others: until then nobody sees them.
pub(super) fn write(
    path: &Path,
    old: Option<Files>,
    files: &BTreeMap<String, Vec<u8>>,
    last: &str,
) -> Result<(), OciError> {
    let as_archive = match &old {
        Some(old) => matches!(old, Files::Archive(_)),
        None => path.extension().is_some_and(|extension| extension == "tar"),
    };
    if as_archive {
        let mut old = match old {
            Some(Files::Archive(archive)) => Some(archive),
            _ => None,
        };
        return archive::write(path, old.as_mut(), files);
    }
    let (before, at_last): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name != last);
    for (name, bytes) in before.into_iter().chain(at_last) {
        let file = path.join(name);
        let failed = |cause| OciError::File { what: "write", path: file.clone(), cause };
        let draft = archive::draft(&file);
        let folder = file.parent().unwrap_or(path);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&draft, bytes));
        written.and_then(|()| fs::rename(&draft, &file)).map_err(failed)?;
    }
    Ok(())
}
