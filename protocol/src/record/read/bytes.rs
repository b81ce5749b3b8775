//! Numbers and byte strings, read.

use bytes::{Buf, Bytes};

/// What is read is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recording is damaged")]
pub struct Damaged;

/// Reads.
pub(in crate::record) trait Get {
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
