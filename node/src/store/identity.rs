//! The node's key: 64 hex digits in a file that only its owner can read.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use headwater_proto::SigningKey;
use zeroize::Zeroizing;

use super::error::{StoreError, io};

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
    match load(path)? {
        Some(key) => {
            warn_if_shared(path);
            Ok(key)
        }
        None => create(path),
    }
}

/// A key that was restored from a copy may have lost its permissions on the way.
fn warn_if_shared(path: &Path) {
    let mode = path.metadata().map(|about| about.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(
            path = %path.display(),
            "others on this machine can read this node's key; chmod 600 it"
        );
    }
}

/// The key, if there is one.
pub(super) fn load(path: &Path) -> Result<Option<SigningKey>, StoreError> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => parse(text.trim()).map(Some).ok_or_else(|| StoreError::Key {
            path: path.display().to_string(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(StoreError::Key {
            path: path.display().to_string(),
        }),
        Err(error) => Err(io(path, &error)),
    }
}

fn parse(text: &str) -> Option<SigningKey> {
    let mut secret = Zeroizing::new([0; 32]);
    if text.len() != 2 * secret.len() {
        return None;
    }
    HEXLOWER_PERMISSIVE
        .decode_mut(text.as_bytes(), &mut *secret)
        .ok()?;
    Some(SigningKey::from_bytes(&secret))
}

fn create(path: &Path) -> Result<SigningKey, StoreError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(|reason| io(path, &reason))?;
    let text = Zeroizing::new(HEXLOWER.encode(&*secret));
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
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path))
        // Before this the new name may be gone after a power cut, and the id with it.
        .and_then(|()| sync_dir(path.parent().unwrap_or(Path::new("."))))
        .map_err(|reason| io(path, &reason))?;
    Ok(SigningKey::from_bytes(&secret))
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hex_digits_and_nothing_else() {
        let good = "0f".repeat(32);
        assert!(parse(&good).is_some());
        assert!(parse(&good.to_uppercase()).is_some());
        for bad in [
            "+f".repeat(32),
            "-1".repeat(32),
            " f".repeat(32),
            "0f".repeat(31),
            "0f".repeat(33),
            "é".repeat(32),
            String::new(),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_is_not_text_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        std::fs::write(&path, [0xff; 64]).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, StoreError::Key { .. }), "{error}");
    }
}
