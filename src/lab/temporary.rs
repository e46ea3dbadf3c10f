//! A directory that is removed with its owner, even after a panic.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Attempt, LabError};

/// A directory under [`std::env::temp_dir`], readable by its owner only.
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
}

static CREATED: AtomicU64 = AtomicU64::new(0);

impl TemporaryDirectory {
    /// # Errors
    /// The directory cannot be created.
    pub fn create() -> Result<Self, LabError> {
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("lvs-tund-{}-{:x}-{number}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        let created = fs::DirBuilder::new().mode(0o700).create(&path);
        created.attempt(|| format!("cannot create {}", path.display()))?;
        Ok(TemporaryDirectory { path })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and returns its path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.path.join(name);
        fs::write(&path, text).attempt(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
