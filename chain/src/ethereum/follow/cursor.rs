//! A place in a chain as text: `number:hash:number:hash`, the second an older block that
//! was still known, so that a place on a branch that is gone leads back to the chain.

use super::history::Block;
use crate::{Cursor, LedgerError};

/// A place and one to fall back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: Block,
    pub(super) anchor: Block,
}

impl Place {
    /// A place that cannot be taken back.
    pub(super) fn fixed(block: Block) -> Self {
        Self {
            block,
            anchor: block,
        }
    }

    pub(super) fn cursor(self) -> Cursor {
        let text = |block: Block| {
            format!(
                "{}:{}",
                block.number,
                data_encoding::HEXLOWER.encode(&block.hash)
            )
        };
        Cursor(format!("{}:{}", text(self.block), text(self.anchor)))
    }

    /// Reads what [`Place::cursor`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn read(cursor: &Cursor) -> Result<Self, LedgerError> {
        let place = || {
            let mut parts = cursor.0.split(':');
            let mut block = || {
                let number = parts.next()?.parse().ok()?;
                let hash = data_encoding::HEXLOWER
                    .decode(parts.next()?.as_bytes())
                    .ok()?;
                let hash = hash.try_into().ok()?;
                Some(Block { number, hash })
            };
            let (block, anchor) = (block()?, block()?);
            let whole = parts.next().is_none() && anchor.number <= block.number;
            whole.then_some(Self { block, anchor })
        };
        place().ok_or_else(|| LedgerError::Cursor(cursor.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_survives_as_text(a in any::<u64>(), b in any::<u64>(), h in any::<[u8; 32]>(), i in any::<[u8; 32]>()) {
            let place = Place {
                block: Block { number: a.max(b), hash: h },
                anchor: Block { number: a.min(b), hash: i },
            };
            prop_assert_eq!(Place::read(&place.cursor()), Ok(place));
        }

        #[test]
        fn other_texts_are_no_places(text in "[0-9a-f:]{0,150}") {
            prop_assert!(Place::read(&Cursor(text)).is_err());
        }
    }
}
