//! A watch: finds the place of a cursor in the journal and sends what comes after it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Shared,
    cursor::Place,
    history::{Block, DEPTH},
    journal::Entry,
    range::Range,
    reader::{block_at, events_from},
    state::State,
};
use crate::{Batch, Cursor, Event, LedgerError, Watch};

/// Batches a watch may lag behind before it makes the others wait for nothing: it only
/// holds up itself.
const LAG: usize = 64;

/// Watches what is settled after a cursor.
pub(in crate::ethereum) fn watch(shared: Arc<Shared>, from: Option<Cursor>) -> Watch {
    let (to, batches) = mpsc::channel(LAG);
    tokio::spawn(async move {
        let mut task = Task {
            shared,
            seen: None,
            to,
        };
        if let Err(Ended::Failed(error)) = task.run(from).await {
            // Nobody watches any more when this fails.
            drop(task.to.send(Err(error)).await);
        }
    });
    Watch { batches }
}

struct Task {
    shared: Arc<Shared>,
    /// The place after the last batch that was sent.
    seen: Option<Place>,
    to: mpsc::Sender<Result<Batch, LedgerError>>,
}

/// Why a watch is over.
enum Ended {
    Failed(LedgerError),
    NobodyWatches,
}

impl From<LedgerError> for Ended {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl Task {
    async fn run(&mut self, from: Option<Cursor>) -> Result<(), Ended> {
        self.seen = from.as_ref().map(Place::read).transpose()?;
        loop {
            self.when(|journal| journal.synced).await?;
            let next = self.find().await?;
            if let Some(next) = next {
                self.follow(next).await?;
            } else {
                self.catch_up().await?;
            }
        }
    }

    /// Sends batches from a number on, until they are not kept any more.
    async fn follow(&mut self, mut next: u64) -> Result<(), Ended> {
        loop {
            let entries = {
                let journal = self.shared.journal();
                // What is read now may be of a past that is over.
                if journal.synced {
                    journal.from(next)
                } else {
                    Some(Vec::new())
                }
            };
            let Some(entries) = entries else {
                return Ok(());
            };
            if entries.is_empty() {
                let more = move |journal: &super::Journal| {
                    journal.synced && journal.from(next).is_none_or(|entries| !entries.is_empty())
                };
                self.when(more).await?;
            }
            for entry in entries {
                self.send(entry).await?;
                next += 1;
            }
        }
    }

    /// The number of the batch after what was seen; `None` when it is too old for that.
    async fn find(&mut self) -> Result<Option<u64>, Ended> {
        let Some(place) = self.seen else {
            let (begin, first) = self.shared.journal().beginning();
            return Ok((begin == self.shared.start).then_some(first));
        };
        if let Some(next) = self.shared.journal().after_seen(place.block) {
            return Ok(Some(next));
        }
        for (block, back) in [(place.block, false), (place.anchor, true)] {
            if !self.stands(block).await? {
                continue;
            }
            if back {
                let (from, to) = (place.block.number, block.number);
                warn!(from, to, "the chain took blocks back while nobody watched");
                let place = Place::fixed(block);
                let events = vec![Event::RolledBack(place.cursor())];
                self.send(Entry { place, events }).await?;
            }
            return Ok(self.shared.journal().after_number(block.number));
        }
        Err(Ended::Failed(LedgerError::TooDeep {
            seen: place.block.number,
            limit: DEPTH,
        }))
    }

    /// Whether a block is of the chain that is followed.
    async fn stands(&self, block: Block) -> Result<bool, Ended> {
        let number = block.number;
        let tip = self.shared.journal().tip();
        if number > tip {
            info!(
                seen = number,
                tip, "waiting for the chain to reach what was seen"
            );
            self.when(|journal| journal.synced && journal.tip() >= number)
                .await?;
        }
        if let Some(hash) = self.shared.journal().history.hash_at(number) {
            return Ok(hash == block.hash);
        }
        let mut last = None;
        for endpoint in self.shared.endpoints.in_order() {
            match block_at(&endpoint, number).await {
                Ok(header) => return Ok(header.block == block),
                Err(error) => {
                    last.get_or_insert(error);
                }
            }
        }
        let error = last.expect("there is at least one endpoint");
        Err(Ended::Failed(LedgerError::Unreachable(error.to_string())))
    }

    /// Reads the chain from its beginning up to what the journal still has, and sends what
    /// was not seen.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        let seen = self.seen.map_or(0, |place| place.block.number);
        let (until, _) = self.shared.journal().beginning();
        let (mut state, mut range) = (State::default(), Range::new());
        let mut from = self.shared.start.number + 1;
        info!(from, to = until.number, "reading old blocks again");
        while from <= until.number {
            let mut read = None;
            for endpoint in self.shared.endpoints.in_order() {
                let contract = self.shared.contract;
                match events_from(&endpoint, contract, &mut range, from, until.number).await {
                    Ok(some) => {
                        read = Some(Ok(some));
                        break;
                    }
                    Err(error) => {
                        read.get_or_insert(Err(error));
                    }
                }
            }
            let (end, blocks) = read
                .expect("there is at least one endpoint")
                .map_err(|error| LedgerError::Unreachable(error.to_string()))?;
            for (block, happened) in blocks {
                let events = state.apply(block.number, &happened).events;
                if block.number > seen {
                    let place = Place::fixed(block);
                    self.send(Entry { place, events }).await?;
                }
            }
            from = end.block.number + 1;
            if from > until.number {
                let place = Place::fixed(end.block);
                let events = Vec::new();
                self.send(Entry { place, events }).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, entry: Entry) -> Result<(), Ended> {
        self.seen = Some(entry.place);
        let sent = self.to.send(Ok(entry.batch())).await;
        sent.map_err(|_| Ended::NobodyWatches)
    }

    /// Waits for something that shows in the journal, while somebody watches.
    async fn when(&self, until: impl Fn(&super::Journal) -> bool) -> Result<(), Ended> {
        tokio::select! {
            shown = self.shared.when(until) => Ok(shown?),
            () = self.to.closed() => Err(Ended::NobodyWatches),
        }
    }
}
