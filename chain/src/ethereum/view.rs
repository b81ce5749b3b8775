//! What the contract says of accounts, jobs and claims, as of the newest block.

use ethers_contract::EthCall;
use ethers_core::abi::AbiDecode;
use serde_json::json;

use super::{
    action::Rules,
    contract,
    sender::{Failure, TransactionError, Wire, ask, bytes},
};
use crate::types::{Address, JobId, Wei};

/// Reads a contract.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) wire: &'a dyn Wire,
    pub(super) contract: Address,
}

impl View<'_> {
    async fn read<R: AbiDecode>(self, call: impl EthCall) -> Result<R, TransactionError> {
        let request = json!({"to": self.contract.to_string(), "data": bytes(&call.encode())});
        let params = json!([request, "latest"]);
        let returned: ethers_core::types::Bytes = ask(self.wire, "eth_call", params).await?;
        let read = R::decode(&returned);
        // Where there is no contract, there is no answer either.
        read.map_err(|error| Failure::Lost(format!("nonsense from the contract: {error}")).into())
    }

    pub(super) async fn rules(self) -> Result<Rules, TransactionError> {
        let set: contract::Settings = self.read(contract::SettingsCall).await?;
        Ok(set.into())
    }

    pub(super) async fn balance(self, account: Address) -> Result<Wei, TransactionError> {
        let call = contract::BalanceOfCall {
            account: account.0.into(),
        };
        let balance: ethers_core::types::U256 = self.read(call).await?;
        Ok(Wei(u128::try_from(balance).unwrap_or(u128::MAX)))
    }

    pub(super) async fn transcoder(
        self,
        account: Address,
    ) -> Result<contract::Transcoder, TransactionError> {
        let account = account.0.into();
        self.read(contract::TranscoderOfCall { account }).await
    }

    pub(super) async fn job(self, id: JobId) -> Result<contract::Job, TransactionError> {
        let job_id = id.0.into();
        self.read(contract::JobOfCall { job_id }).await
    }

    pub(super) async fn excluded(
        self,
        id: JobId,
    ) -> Result<Vec<ethers_core::types::Address>, TransactionError> {
        let job_id = id.0.into();
        self.read(contract::ExcludedOfCall { job_id }).await
    }

    /// The job of a stream of an account that has not ended.
    pub(super) async fn live_job(
        self,
        broadcaster: Address,
        stream: &str,
    ) -> Result<Option<JobId>, TransactionError> {
        let call = contract::LiveJobOfCall {
            broadcaster: broadcaster.0.into(),
            stream_id: stream.to_owned(),
        };
        let live: ethers_core::types::U256 = self.read(call).await?;
        let live = u64::try_from(live).unwrap_or(0);
        Ok((live != 0).then_some(JobId(live)))
    }

    pub(super) async fn holding(
        self,
        id: JobId,
        account: Address,
    ) -> Result<contract::Holding, TransactionError> {
        let call = contract::HoldingOfCall {
            job_id: id.0.into(),
            account: account.0.into(),
        };
        self.read(call).await
    }

    pub(super) async fn claim(self, claim: u64) -> Result<contract::Claim, TransactionError> {
        let claim_id = claim.into();
        self.read(contract::ClaimOfCall { claim_id }).await
    }

    /// Whether anyone could be elected for a job by a block that is not mined yet.
    pub(super) async fn has_candidates(
        self,
        job: &contract::Job,
        excluded: Vec<ethers_core::types::Address>,
    ) -> Result<bool, TransactionError> {
        let call = contract::ElectCall {
            seed: [0; 32],
            round: job.round,
            max_price: job.max_price,
            seed_block: u64::MAX.into(),
            excluded,
        };
        let (winner, _): (ethers_core::types::Address, u128) = self.read(call).await?;
        Ok(!winner.is_zero())
    }
}
