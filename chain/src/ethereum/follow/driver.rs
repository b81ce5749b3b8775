//! The task that follows: when to look, whom to ask, what to do when it fails.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, error, info, warn};

use super::{
    Shared,
    audit::{Audits, left_out},
    happened::Happened,
    history::{DEPTH, Header, Plan, Step, Walk},
    range::Range,
    reader::{announced, block_at, block_of, events_from, events_of, latest},
};
use crate::{
    LedgerError,
    ethereum::rpc::{CallError, News, Pinned},
};

/// An endpoint this many blocks behind another is not worth asking.
const LAG: u64 = 3;
/// Blocks whose events are asked for at a time.
const AT_ONCE: usize = 8;

pub(super) struct Driver {
    shared: Arc<Shared>,
    range: Range,
    audits: Audits,
    news: Option<Subscription>,
    /// Whether it has said something since the endpoints were last compared.
    heard: bool,
    compare: Interval,
}

struct Subscription {
    from: Pinned,
    news: mpsc::Receiver<News>,
}

/// Why an endpoint was of no use for a look.
enum Useless {
    /// It counts against its health already.
    Failed(CallError),
    /// Its newest block is older than what is settled.
    Behind,
    /// The chain it has parts from what is settled too early.
    Apart,
}

impl From<CallError> for Useless {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut compare = interval(shared.manner.silence);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shared,
            range: Range::new(),
            audits: Audits::new(),
            news: None,
            heard: false,
            compare,
        }
    }

    /// Follows until the chain parts from what is settled by more than can be taken back.
    pub(super) async fn run(mut self) {
        let mut told = None;
        loop {
            let done = match self.look(told).await {
                Ok(done) => done,
                Err(error) => {
                    error!(%error, "the chain is followed no more");
                    self.shared.change(|journal| journal.failed = Some(error));
                    return;
                }
            };
            if self.news.is_none() && self.subscribe().await {
                // What came before is not announced.
                told = None;
            } else if self.news.is_some() && done {
                told = self.wait().await;
            } else {
                sleep(self.shared.manner.poll).await;
                self.compare_in_time().await;
                told = None;
            }
        }
    }

    /// Waits for a reason to look: a block that was announced, or time.
    async fn wait(&mut self) -> Option<(Pinned, Header)> {
        let Subscription { from, news } = self.news.as_mut()?;
        tokio::select! {
            told = news.recv() => {
                match told {
                    Some(Ok(news)) => {
                        self.heard = true;
                        return announced(from, &news).map(|head| (from.clone(), head));
                    }
                    Some(Err(wrong)) => drop(from.garbage(&wrong)),
                    None => debug!(endpoint = from.name(), "the subscription has ended"),
                }
                self.news = None;
            }
            _ = self.compare.tick() => {
                if !std::mem::take(&mut self.heard) {
                    self.drop_silent().await;
                }
                self.compare_heads().await;
            }
        }
        None
    }

    /// Compares the endpoints when it is time to.
    async fn compare_in_time(&mut self) {
        if self.compare.tick().now_or_never().is_some() {
            self.compare_heads().await;
        }
    }

    /// Ends a subscription that says nothing although there are new blocks.
    async fn drop_silent(&mut self) {
        let Some(Subscription { from, .. }) = &self.news else {
            return;
        };
        let tip = self.shared.journal().tip();
        let settled = |head: Header| {
            head.block
                .number
                .saturating_sub(self.shared.manner.confirmations)
        };
        match latest(from).await {
            Ok(head) if settled(head) <= tip => return,
            Ok(_) => from.fault("its subscription is silent although there are new blocks"),
            Err(_) => {}
        }
        self.news = None;
    }

    /// Asks for new blocks to be announced; false when nobody does that.
    async fn subscribe(&mut self) -> bool {
        for endpoint in self.shared.endpoints.in_order() {
            match endpoint.subscribe().await {
                Some(Ok(news)) => {
                    info!(endpoint = endpoint.name(), "new blocks are announced by");
                    let from = endpoint;
                    self.news = Some(Subscription { from, news });
                    self.heard = true;
                    return true;
                }
                Some(Err(error)) => debug!(%error, "no subscription"),
                None => {}
            }
        }
        false
    }

    /// Asks every endpoint how far it is.
    async fn compare_heads(&self) {
        let endpoints = self.shared.endpoints.in_order();
        if endpoints.len() < 2 {
            return;
        }
        let asking = endpoints.iter().map(|endpoint| async move {
            if let Ok(head) = latest(endpoint).await {
                endpoint.note_head(head.block.number);
            }
        });
        join_all(asking).await;
    }

    /// Settles what can be settled, by the first endpoint that is of use; false when none
    /// is.
    async fn look(&mut self, told: Option<(Pinned, Header)>) -> Result<bool, LedgerError> {
        let mut endpoints = self.shared.endpoints.in_order();
        if let Some((from, _)) = &told {
            endpoints.sort_by_key(|endpoint| endpoint.index() != from.index());
        }
        let mut behind = Vec::new();
        let (mut apart, mut agrees) = (false, false);
        for endpoint in endpoints {
            let head = match &told {
                Some((from, head)) if from.index() == endpoint.index() => Ok(*head),
                Some(_) | None => latest(&endpoint).await,
            };
            let Ok(head) = head else { continue };
            let number = head.block.number;
            let newest = self.shared.endpoints.newest_but(&endpoint);
            endpoint.note_head(number);
            if let Some(newest) = newest.filter(|newest| number.saturating_add(LAG) < *newest) {
                endpoint.fault(&format!(
                    "its newest block is {number}, another has {newest}"
                ));
                behind.push((endpoint, head));
                continue;
            }
            match self.settle(&endpoint, head).await {
                Ok(()) => return Ok(true),
                Err(Useless::Failed(error)) => debug!(%error, "the next endpoint is asked"),
                Err(Useless::Behind) => {
                    let tip = self.shared.journal().tip();
                    debug!(
                        endpoint = endpoint.name(),
                        number, tip, "an older block than before"
                    );
                    endpoint.fault(&format!("its newest block went back to {number}"));
                    agrees = true;
                }
                Err(Useless::Apart) => {
                    endpoint.fault("its chain is not the one that was followed");
                    apart = true;
                }
            }
        }
        // Better an old block than none.
        for (endpoint, head) in behind {
            match self.settle(&endpoint, head).await {
                Ok(()) => return Ok(true),
                Err(Useless::Apart) => apart = true,
                Err(Useless::Failed(_)) => {}
                Err(Useless::Behind) => agrees = true,
            }
        }
        if apart && !agrees {
            return Err(LedgerError::TooDeep {
                seen: self.shared.journal().tip(),
                limit: DEPTH,
            });
        }
        Ok(false)
    }

    /// Settles what an endpoint's head makes settled.
    async fn settle(&mut self, of: &Pinned, head: Header) -> Result<(), Useless> {
        loop {
            let plan = self.shared.journal().history.plan(head.block.number);
            match plan {
                Plan::Behind => return Err(self.behind(of, head).await?),
                Plan::Walk(walk) => match self.walk(of, walk, Some(head)).await? {
                    // A single endpoint may be right; what was settled stays until it has
                    // other blocks instead.
                    Some(older) if older && self.shared.endpoints.status().len() > 1 => {
                        return Err(Useless::Behind);
                    }
                    Some(_) | None => {
                        self.shared.change(|journal| journal.synced = true);
                        return Ok(());
                    }
                },
                Plan::Scan { from, to } => {
                    self.shared.change(|journal| journal.synced = false);
                    let walk = self.shared.journal().history.recheck();
                    if self.walk(of, walk, None).await?.is_some() {
                        self.scan(of, from, to).await?;
                    }
                }
            }
        }
    }

    /// Whether an endpoint whose newest block is older than all that can be compared is only
    /// late, or has another chain.
    async fn behind(&self, of: &Pinned, head: Header) -> Result<Useless, CallError> {
        let start = self.shared.start;
        let same =
            head.block.number < start.number || block_at(of, start.number).await?.block == start;
        Ok(if same {
            Useless::Behind
        } else {
            Useless::Apart
        })
    }

    /// Walks down to a settled block and settles what was found on the way. Gives `None`
    /// when that was something, otherwise whether the walk began at an older block.
    async fn walk(
        &self,
        of: &Pinned,
        mut walk: Walk,
        head: Option<Header>,
    ) -> Result<Option<bool>, Useless> {
        loop {
            let step = walk.step(&self.shared.journal().history);
            let header = match step {
                Step::AskNumber(number) => match head.filter(|head| head.block.number == number) {
                    Some(head) => head,
                    None => block_at(of, number).await?,
                },
                Step::AskHash(block) => block_of(of, block).await?,
                Step::Known { older } => return Ok(Some(older)),
                Step::TooDeep => return Err(Useless::Apart),
                Step::Done(advance) => {
                    let happened: Vec<_> = stream::iter(advance.blocks.clone())
                        .map(|header| self.events_of(of, header))
                        .buffered(AT_ONCE)
                        .try_collect()
                        .await?;
                    self.check_jobs(of, happened.iter().flatten())?;
                    let (tip, onto) = (self.shared.journal().tip(), advance.onto.number);
                    if onto < tip {
                        let blocks = tip - onto;
                        warn!(blocks, onto, "the chain took blocks back");
                    }
                    let doubts = self
                        .shared
                        .change(|journal| journal.settle(&advance, &happened));
                    tell(&doubts);
                    return Ok(None);
                }
            };
            if walk.answer(header).is_err() {
                return Err(of.garbage("another block than asked for").into());
            }
        }
    }

    /// What happened in a block, unless the endpoint leaves it out.
    async fn events_of(&self, of: &Pinned, header: Header) -> Result<Vec<Happened>, CallError> {
        let Shared {
            endpoints,
            contract,
            ..
        } = &*self.shared;
        let happened = events_of(of, *contract, header.block).await?;
        let audit = self
            .audits
            .check(of, endpoints, *contract, header, happened.len());
        audit.await?;
        Ok(happened)
    }

    /// Checks that no job is left out.
    fn check_jobs<'a>(
        &self,
        of: &Pinned,
        happened: impl Iterator<Item = &'a Happened>,
    ) -> Result<(), CallError> {
        let next = self.shared.journal().state.next_job();
        match left_out(next, happened) {
            Some(job) => Err(of.garbage(&format!("it leaves out that job {job} was created"))),
            None => Ok(()),
        }
    }

    /// Settles old blocks many at a time.
    async fn scan(&mut self, of: &Pinned, mut from: u64, to: u64) -> Result<(), Useless> {
        let contract = self.shared.contract;
        while from <= to {
            let (end, events) = events_from(of, contract, &mut self.range, from, to).await?;
            self.check_jobs(of, events.iter().flat_map(|(_, happened)| happened))?;
            let (number, block) = (end.block.number, end.block);
            debug!(from, to = number, "old blocks read");
            let doubts = self.shared.change(|journal| journal.skip(events, block));
            tell(&doubts);
            from = number + 1;
        }
        Ok(())
    }
}

/// What the contract did and its rule does not explain: a fault of one of the two, or of
/// an endpoint.
fn tell(doubts: &[String]) {
    for doubt in doubts {
        warn!(%doubt, "the chain's events do not fit together");
    }
}
