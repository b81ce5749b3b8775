//! Numbers and byte strings, written and read.

use bytes::{Buf, Bytes};

/// What is read is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recording is damaged")]
pub struct Damaged;

/// Writes.
pub(super) trait Put {
    fn u8(&mut self, value: u8);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    /// Without a length.
    fn bytes(&mut self, bytes: &[u8]);
    /// With a length.
    fn blob(&mut self, bytes: &[u8]);
    fn flag(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }
}

impl Put for Vec<u8> {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes(bytes);
    }
}

/// Reads.
pub(super) trait Get {
    fn get_byte(&mut self) -> Result<u8, Damaged>;
    fn get_word(&mut self) -> Result<u32, Damaged>;
    fn get_long(&mut self) -> Result<u64, Damaged>;
    fn get_array<const N: usize>(&mut self) -> Result<[u8; N], Damaged>;
    fn get_blob(&mut self) -> Result<Bytes, Damaged>;
    fn get_flag(&mut self) -> Result<bool, Damaged> {
        match self.get_byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }
    fn get_size(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.get_long()?).map_err(|_| Damaged)
    }
}

impl Get for Bytes {
    fn get_byte(&mut self) -> Result<u8, Damaged> {
        self.try_get_u8().map_err(|_| Damaged)
    }

    fn get_word(&mut self) -> Result<u32, Damaged> {
        self.try_get_u32_le().map_err(|_| Damaged)
    }

    fn get_long(&mut self) -> Result<u64, Damaged> {
        self.try_get_u64_le().map_err(|_| Damaged)
    }

    fn get_array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut array = [0; N];
        self.try_copy_to_slice(&mut array).map_err(|_| Damaged)?;
        Ok(array)
    }

    fn get_blob(&mut self) -> Result<Bytes, Damaged> {
        let len = usize::try_from(self.get_word()?).map_err(|_| Damaged)?;
        if len > self.len() {
            return Err(Damaged);
        }
        Ok(self.split_to(len))
    }
}
