//! Where following begins: at the block before the contract was deployed.

use std::sync::{Arc, Mutex};

use tokio::{sync::watch as signal, task::JoinHandle};
use tracing::{debug, info, warn};

use super::{
    Manner, Shared,
    driver::Driver,
    history::Block,
    journal::Journal,
    reader::{block_at, has_code, latest},
};
use crate::{
    LedgerError,
    ethereum::rpc::{CallError, Endpoints, Pinned, of_all},
    types::Address,
};

/// Finds the chain and the contract, and starts to follow. The task ends when it is
/// aborted, or when it cannot go on.
///
/// # Errors
/// When no endpoint answers; and when all do, and none has such a contract: it is not there,
/// or none of them has got to its block yet.
pub(in crate::ethereum) async fn start(
    endpoints: Endpoints,
    contract: Address,
    deployed_at: Option<u64>,
    manner: Manner,
) -> Result<(Arc<Shared>, JoinHandle<()>), LedgerError> {
    let chain = endpoints.chain_id().await?;
    let mut errors = Vec::new();
    for endpoint in endpoints.in_order() {
        match find(&endpoint, contract, deployed_at).await {
            Ok(Some(start)) => {
                info!(%contract, chain, block = start.number, "following the contract from here");
                let shared = Arc::new(Shared {
                    endpoints,
                    contract,
                    chain,
                    start,
                    journal: Mutex::new(Journal::new(start, manner.confirmations, manner.kept)),
                    manner,
                    changed: signal::Sender::new(()),
                });
                let task = tokio::spawn(Driver::new(shared.clone()).run());
                return Ok((shared, task));
            }
            Ok(None) => {
                let endpoint = endpoint.name();
                warn!(endpoint, %contract, "it knows no such contract");
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        return Err(LedgerError::NoContract { contract, chain });
    }
    Err(of_all(&errors))
}

/// The block before the contract's first; `None` when there is no such contract.
async fn find(
    of: &Pinned,
    contract: Address,
    deployed_at: Option<u64>,
) -> Result<Option<Block>, CallError> {
    if !has_code(of, contract, None).await? {
        return Ok(None);
    }
    let first = match deployed_at {
        Some(block) => block,
        None => search(of, contract).await?,
    };
    let header = block_at(of, first.saturating_sub(1)).await?;
    Ok(Some(header.block))
}

/// The block of the deployment, by halving. Where the endpoint keeps no old states the
/// search begins nowhere and the whole chain is read, which is only slow.
async fn search(of: &Pinned, contract: Address) -> Result<u64, CallError> {
    let (mut without, mut with) = (0, latest(of).await?.block.number);
    while without + 1 < with {
        let middle = without.midpoint(with);
        match has_code(of, contract, Some(middle)).await {
            Ok(true) => with = middle,
            Ok(false) => without = middle,
            Err(CallError::Refused { error, .. }) => {
                debug!(error = %error.message, "no state of an old block");
                warn!(
                    endpoint = of.name(),
                    "the block of the contract's deployment cannot be found; \
                     set it, or all blocks are read at every start"
                );
                return Ok(0);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(with)
}
