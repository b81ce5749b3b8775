//! Whoever watches a ledger and keeps what it sees and the cursor, as a node does.

use std::time::Duration;

use headwater_chain::{
    Address, Batch, Cursor, Event, JobId, Ledger, LedgerError, Watch, ethereum::EthereumLedger,
};

/// All that was seen and not taken back, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) cursor: Option<Cursor>,
    /// With the number of the block.
    events: Vec<(u64, Event)>,
    /// It was killed between handling a batch and keeping its cursor: it may see that once
    /// more.
    pub(crate) killed: bool,
    pub(crate) rollbacks: usize,
}

fn number(cursor: &Cursor) -> u64 {
    cursor.0.split(':').next().unwrap().parse().unwrap()
}

pub(crate) async fn next(watch: &mut Watch) -> Option<Result<Batch, LedgerError>> {
    let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
    next.expect("the watch says nothing")
}

impl Store {
    /// Handles what a batch says.
    pub(crate) fn handle(&mut self, batch: &Batch) {
        let at = number(&batch.cursor);
        for event in &batch.events {
            if let Event::RolledBack(to) = event {
                self.rollbacks += 1;
                let to = number(to);
                self.events.retain(|(at, _)| *at <= to);
            } else {
                let new = (at, event.clone());
                let known = self.events.contains(&new);
                assert!(self.killed || !known, "seen twice: {new:?}");
                if !known {
                    self.events.push(new);
                }
            }
        }
    }

    /// Handles a batch and remembers that.
    pub(crate) fn take(&mut self, batch: &Batch) {
        self.handle(batch);
        self.cursor = Some(batch.cursor.clone());
    }

    /// Watches until a block has been seen.
    pub(crate) async fn follow(&mut self, watch: &mut Watch, to: u64) {
        while self
            .cursor
            .as_ref()
            .is_none_or(|cursor| number(cursor) < to)
        {
            let batch = next(watch).await.unwrap().unwrap();
            self.take(&batch);
        }
    }

    /// Watches until what it has seen says something.
    pub(crate) async fn follow_until(&mut self, watch: &mut Watch, seen: impl Fn(&Self) -> bool) {
        while !seen(self) {
            let batch = next(watch).await.unwrap().unwrap();
            self.take(&batch);
        }
    }

    /// What happened, without where.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.iter().map(|(_, event)| event.clone()).collect()
    }

    /// Who was last seen to hold a job.
    pub(crate) fn holder(&self, job: u64) -> Option<Address> {
        let job = JobId(job);
        let last = self.events.iter().rev().find_map(|(_, event)| match event {
            Event::JobAssigned(of) | Event::JobAcknowledged(of) if of.id == job => {
                Some(of.transcoder.as_ref().map(|holder| holder.address))
            }
            Event::JobUnassigned(of) | Event::JobEnded(of) if of.id == job => Some(None),
            Event::Registered(_)
            | Event::Unregistered(_)
            | Event::JobCreated(_)
            | Event::JobAssigned(_)
            | Event::JobUnassigned(_)
            | Event::JobAcknowledged(_)
            | Event::JobEnded(_)
            | Event::RolledBack(_) => None,
        });
        last.flatten()
    }

    /// Whether a job was seen and not taken back.
    pub(crate) fn knows(&self, job: u64) -> bool {
        let created = |event: &Event| matches!(event, Event::JobCreated(of) if of.id == JobId(job));
        self.events.iter().any(|(_, event)| created(event))
    }
}

/// Everything a watch from the beginning sees up to a block.
pub(crate) async fn all(ledger: &EthereumLedger, to: u64) -> Store {
    let mut store = Store::default();
    store.follow(&mut ledger.watch(None), to).await;
    store
}
