//! Answers to what the core asks: what only the program can know.

use std::sync::Arc;

use headwater_proto::SigningKey;
use headwater_protocol::{Answer, Question};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::checks::Checks;
use crate::{
    driver::{Ask, Core},
    jobs::Jobs,
    ledger::Later,
    net::NetHandle,
    pipeline::Broadcasts,
    receipts::Books,
    status::{self, About},
};

/// Answers what only the program can know.
pub(super) struct Answerer {
    pub(super) about: About,
    pub(super) core: Core,
    pub(super) net: NetHandle,
    pub(super) key: SigningKey,
    /// What the node has to do with its ledger, once that is open.
    pub(super) jobs: Later<Arc<Jobs>>,
    /// Checks of claims by the same.
    pub(super) checks: Checks<Arc<Jobs>>,
    pub(super) books: Books,
    pub(super) broadcasts: Option<Arc<Broadcasts>>,
    /// It is a transcoder.
    pub(super) transcodes: bool,
}

impl Answerer {
    pub(super) async fn run(
        self,
        mut asks: mpsc::Receiver<Ask>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let this = Arc::new(self);
        loop {
            let ask = tokio::select! {
                () = stop.cancelled() => return,
                ask = asks.recv() => match ask {
                    Some(ask) => ask,
                    None => return,
                },
            };
            let this = this.clone();
            tasks.spawn(async move {
                if let Some(answer) = this.answer(&ask.question).await {
                    ask.answer(answer).await;
                }
            });
        }
    }

    async fn answer(&self, question: &Question) -> Option<Answer> {
        let jobs = self.jobs.get();
        Some(match question {
            Question::Claim { job } => {
                Answer::Claim(jobs.and_then(|jobs| jobs.claim(*job)).map(Box::new))
            }
            Question::CheckClaim { claim, signature } => {
                let check = async |jobs: &Arc<Jobs>| jobs.check_claim(claim, signature).await;
                let checked = self.checks.check(check).await;
                checked.unwrap_or_else(|| {
                    warn!(job = %claim.job, "claim refused, for it could not be checked in time");
                    Answer::ClaimRefused
                })
            }
            Question::CheckResult { body } => {
                let result = body.value();
                let serves =
                    |jobs: &Arc<Jobs>| jobs.serves(result.transcoder, result.job, &result.stream);
                let accepted = match &self.broadcasts {
                    Some(broadcasts) if jobs.is_some_and(serves) => {
                        let accepted = broadcasts.accept_result(result).await;
                        if let (true, Some(jobs)) = (accepted, jobs) {
                            jobs.worked(result.transcoder, result.job);
                        }
                        accepted
                    }
                    Some(_) | None => false,
                };
                debug!(job = %result.job, accepted, "transcoder's renditions");
                Answer::Result { accepted }
            }
            Question::Lookup { target } => {
                self.net.look_up(*target).await;
                Answer::Lookup
            }
            Question::Status => {
                let snapshot = self.core.snapshot().await.ok()?;
                Answer::Status(status::sign(&self.about, &snapshot, &self.net, &self.key))
            }
            Question::Receipts { body } => {
                let receipts = self.books.fed().and_then(|fed| fed.answer(body.value()));
                Answer::Receipts(receipts)
            }
            Question::Probe { .. } => Answer::Probe {
                available: self.transcodes && jobs.is_some(),
            },
        })
    }
}
