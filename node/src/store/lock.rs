//! One node at a time uses a data directory.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use super::error::{StoreError, io};

/// Takes the directory for this process, and says so in the lock's file.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = path.join("headwater.lock");
    let error = |reason: std::io::Error| io(&file, &reason);
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(error)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only to be helpful: the other process may be about to write it.
            lock.read_to_string(&mut pid).map_err(error)?;
            return Err(StoreError::InUse {
                path: path.display().to_string(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(reason)) => return Err(error(reason)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()))
        .map_err(error)?;
    Ok(lock)
}
