//! A real directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::direct::DirectFile;
use super::{DirectoryLock, Disk, DiskFile};
use crate::engine::base::BASE_FILE;

/// The file whose lock stands for the directory.
const LOCK_FILE: &str = "lock";

/// A directory of the file system: made with mode 0700 if missing, its files with 0600. Symbolic
/// links in place of its files are refused.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Uses the directory at `path`, making it and its parents if they are missing.
    ///
    /// # Errors
    /// `NotADirectory` if something else is there; anything the file system reports.
    pub fn at(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            make_directory(path)?;
        }
        // Also if an earlier opening made the directory and was cut short.
        if cfg!(unix) && !path.join(BASE_FILE).exists() {
            sync_parents(path)?;
        }
        Ok(Directory {
            path: path.to_owned(),
        })
    }

    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        let path = self.path.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is a symbolic link or not a regular file"),
            ));
        }
        private(options).read(true).write(true).open(path)
    }
}

impl Disk for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_with(name, &mut OpenOptions::new())?;
        Ok(Arc::new(RealFile(file)))
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        use std::os::unix::fs::OpenOptionsExt;
        let cached = RealFile(self.open_with(name, &mut OpenOptions::new())?);
        let mut options = OpenOptions::new();
        private(&mut options).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECT);
        // Not every file system has it.
        match options.write(true).open(self.path.join(name)) {
            Ok(direct) => Ok(Arc::new(DirectFile::of(cached, direct)?)),
            Err(_) => Ok(Arc::new(cached)),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_with(name, OpenOptions::new().create_new(true))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not one of the store's.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        if cfg!(unix) {
            File::open(&self.path)?.sync_all()
        } else {
            Ok(())
        }
    }

    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        let file = self.open_with(LOCK_FILE, OpenOptions::new().create(true).truncate(false))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(LockedFile(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct LockedFile(File);

impl DirectoryLock for LockedFile {}

impl Drop for LockedFile {
    /// Unlocks, rather than only closing the file: a child process may still hold a copy of it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[derive(Debug)]
pub(super) struct RealFile(pub(super) File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.0, out, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    out = &mut out[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Makes the directory and its missing parents, private.
fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes the entries of a directory and of its parents durable, each in its own parent.
fn sync_parents(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    for parent in path.ancestors().skip(1) {
        match File::open(parent).and_then(|directory| directory.sync_all()) {
            // One that we may not read we did not make; not all file systems sync directories.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::Unsupported
                ) => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directory_and_files_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/store");
        let disk = Directory::at(&path).unwrap();
        disk.create("file").unwrap();
        let _lock = disk.lock().unwrap().unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("file")), 0o600);
        assert_eq!(mode(&path.join(LOCK_FILE)), 0o600);
    }

    #[test]
    fn symbolic_links_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let disk = Directory::at(temp.path()).unwrap();
        let target = temp.path().join("target");
        fs::write(&target, "keep").unwrap();
        for name in ["base", LOCK_FILE] {
            std::os::unix::fs::symlink(&target, temp.path().join(name)).unwrap();
        }
        assert!(disk.open("base").is_err());
        assert!(disk.create("base").is_err());
        assert!(disk.lock().is_err());
        assert_eq!(fs::read(&target).unwrap(), b"keep");
    }

    #[test]
    fn a_directory_is_locked_once() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (
            Directory::at(temp.path()).unwrap(),
            Directory::at(temp.path()).unwrap(),
        );
        let lock = one.lock().unwrap();
        assert!(lock.is_some());
        assert!(two.lock().unwrap().is_none());
        drop(lock);
        assert!(two.lock().unwrap().is_some());
    }
}
