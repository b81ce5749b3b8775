//! The node's key: 64 hex digits in a file that only its owner can read.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use headwater_proto::SigningKey;
use zeroize::Zeroizing;

use super::{StoreError, io};

pub(super) fn create_private_dir(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|reason| io(path, &reason))
}

pub(super) fn load_or_create(path: &Path) -> Result<SigningKey, StoreError> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => parse(text.trim()).ok_or_else(|| StoreError::Key {
            path: path.display().to_string(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => create(path),
        Err(error) => Err(io(path, &error)),
    }
}

fn parse(text: &str) -> Option<SigningKey> {
    let mut secret = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(SigningKey::from_bytes(&secret))
}

fn create(path: &Path) -> Result<SigningKey, StoreError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(|reason| io(path, &reason))?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = Zeroizing::new(format!("{digits}\n"));
    // Written beside and renamed, so that a crash leaves either no key or a whole one.
    let beside = path.with_extension("key.new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|reason| io(path, &reason))?;
    Ok(SigningKey::from_bytes(&secret))
}
