//! What is asked of one endpoint about blocks and the contract's events, and whether the
//! answer can be true.

use std::time::Duration;

use ethers_core::types::{Bloom, Bytes, H160, H256, Log, U64};
use ethers_providers::JsonRpcClient as _;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    happened::{self, Happened},
    history::{Block, Header},
    range::Range,
};
use crate::{
    ethereum::rpc::{CallError, Pinned},
    types::Address,
};

/// How often a block is asked for that should be there: behind one address there may be
/// several servers, not all of which have the newest block.
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_millis(150);

/// A block and what happened in it.
pub(super) type Events = (Block, Vec<Happened>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHeader {
    number: U64,
    hash: H256,
    parent_hash: H256,
    logs_bloom: Option<Bloom>,
}

impl From<RawHeader> for Header {
    fn from(raw: RawHeader) -> Self {
        Self {
            block: Block {
                number: raw.number.as_u64(),
                hash: raw.hash.0,
            },
            parent: raw.parent_hash.0,
            bloom: raw.logs_bloom.unwrap_or_default(),
        }
    }
}

/// The newest block.
pub(super) async fn latest(of: &Pinned) -> Result<Header, CallError> {
    let header: RawHeader = of
        .request("eth_getBlockByNumber", json!(["latest", false]))
        .await?;
    Ok(header.into())
}

/// A block as a subscription announces it.
pub(super) fn announced(of: &Pinned, news: &RawValue) -> Option<Header> {
    let header: Result<RawHeader, _> = serde_json::from_str(news.get());
    if let Err(error) = &header {
        of.fault(&format!("it announces what is no block: {error}"));
    }
    header.ok().map(Header::from)
}

/// The block at a height.
pub(super) async fn block_at(of: &Pinned, number: u64) -> Result<Header, CallError> {
    let params = json!([U64::from(number), false]);
    let header = header(of, "eth_getBlockByNumber", params, number).await?;
    if header.block.number != number {
        return Err(of.garbage(&format!("block {} as {number}", header.block.number)));
    }
    Ok(header)
}

/// The block of a hash.
pub(super) async fn block_of(of: &Pinned, block: Block) -> Result<Header, CallError> {
    let params = json!([H256(block.hash), false]);
    header(of, "eth_getBlockByHash", params, block.number).await
}

async fn header(
    of: &Pinned,
    method: &str,
    params: serde_json::Value,
    number: u64,
) -> Result<Header, CallError> {
    for n in 0..TRIES {
        if n > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        let header: Option<RawHeader> = of.request(method, &params).await?;
        if let Some(header) = header {
            return Ok(header.into());
        }
    }
    Err(of.garbage(&format!("it has no block {number}, which should be there")))
}

/// What happened in one block.
pub(super) async fn events_of(
    of: &Pinned,
    contract: Address,
    block: Block,
) -> Result<Vec<Happened>, CallError> {
    let mut logs = None;
    for n in 0..TRIES {
        if n > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        match logs_of(of, contract, block).await {
            // Behind one address again.
            Err(CallError::Refused { .. }) if n + 1 < TRIES => {}
            settled => {
                logs = Some(settled?);
                break;
            }
        }
    }
    let by_block = read(
        of,
        contract,
        logs.unwrap_or_default(),
        block.number,
        block.number,
    )?;
    if by_block.iter().any(|(of, _)| *of != block) {
        return Err(of.garbage("events of another block"));
    }
    Ok(by_block
        .into_iter()
        .flat_map(|(_, events)| events)
        .collect())
}

/// The events of one block as they come.
async fn logs_of(of: &Pinned, contract: Address, block: Block) -> Result<Vec<Log>, CallError> {
    let filter = json!([{ "address": H160(contract.0), "blockHash": H256(block.hash) }]);
    of.request("eth_getLogs", filter).await
}

/// How many events of the contract the receipts of a block's transactions have; `None` when
/// the endpoint does not give them.
pub(super) async fn events_by_receipts(
    of: &Pinned,
    contract: Address,
    block: Block,
) -> Option<usize> {
    #[derive(Deserialize)]
    struct Receipt {
        logs: Vec<Log>,
    }
    let receipts = of.request("eth_getBlockReceipts", json!([H256(block.hash)]));
    let receipts: Option<Vec<Receipt>> = receipts.await.ok()?;
    let logs = receipts?.into_iter().flat_map(|receipt| receipt.logs);
    let tells = |log: &Log| {
        let of_block = log.block_hash == Some(H256(block.hash));
        of_block && log.address.0 == contract.0 && happened::read(log.clone()).is_ok()
    };
    Some(logs.filter(tells).count())
}

/// What happened from a block on, as far as the endpoint gives at once: up to which block,
/// and those in which something did.
pub(super) async fn events_from(
    of: &Pinned,
    contract: Address,
    range: &mut Range,
    from: u64,
    to: u64,
) -> Result<(Header, Vec<Events>), CallError> {
    loop {
        let end = range.end(from, to);
        let (first, last) = (U64::from(from), U64::from(end));
        let filter = json!([{ "address": H160(contract.0), "fromBlock": first, "toBlock": last }]);
        match of.request::<_, Vec<Log>>("eth_getLogs", filter).await {
            Ok(logs) => {
                let events = read(of, contract, logs, from, end)?;
                // An endpoint that lacks the last of them leaves events out without a word.
                let header = block_at(of, end).await?;
                range.grow();
                return Ok((header, events));
            }
            // Each provider has words of its own for "too many", and some just hang up.
            Err(error) if !range.halve() => return Err(error),
            Err(CallError::WrongChain { .. } | CallError::Unwritable(_)) => {
                return Err(of.garbage("another chain than before"));
            }
            Err(_) => {}
        }
    }
}

/// Reads events and brings them into order.
fn read(
    of: &Pinned,
    contract: Address,
    mut logs: Vec<Log>,
    from: u64,
    to: u64,
) -> Result<Vec<Events>, CallError> {
    logs.sort_by_key(|log| (log.block_number, log.log_index));
    let mut events: Vec<Events> = Vec::new();
    for log in logs {
        let place = log.block_number.zip(log.block_hash);
        let (Some((number, hash)), false) = (place, log.removed == Some(true)) else {
            return Err(of.garbage("an event that is in no block"));
        };
        let block = Block {
            number: number.as_u64(),
            hash: hash.0,
        };
        if log.address.0 != contract.0 || !(from..=to).contains(&block.number) {
            return Err(of.garbage("an event that was not asked for"));
        }
        let happened = happened::read(log).map_err(|reason| of.garbage(&reason))?;
        match events.last_mut() {
            Some((last, list)) if *last == block => list.push(happened),
            Some((last, _)) if last.number == block.number => {
                return Err(of.garbage("events of two blocks of one height"));
            }
            Some(_) | None => events.push((block, vec![happened])),
        }
    }
    Ok(events)
}

/// Whether there is code at an address, at the newest block or an older one.
pub(super) async fn has_code(
    of: &Pinned,
    contract: Address,
    at: Option<u64>,
) -> Result<bool, CallError> {
    let block = at.map_or_else(|| json!("latest"), |number| json!(U64::from(number)));
    let code: Bytes = of
        .request("eth_getCode", json!([H160(contract.0), block]))
        .await?;
    Ok(!code.is_empty())
}
