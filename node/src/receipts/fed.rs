//! What this broadcaster fed to transcoders, and the receipts that it signs for it.
//!
//! It keeps the hash of each segment it publishes, and from which to which segment a
//! transcoder was fed for a job. A receipt is signed when it is asked for: the same
//! segment has the same receipt, after a restart too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use headwater_chain::{
    Address, Change, Journal, JournalError,
    ethereum::{Domain, Key, Segment},
};
use headwater_proto::{
    JobId, NodeId, ReceiptList, ReceiptsWanted, SegmentReceipt, Signed, SigningKey, StreamId,
    limits::MAX_RECEIPTS,
};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::mutex::lock;

/// Segments of all streams whose hash is kept: a day and a half of one at two seconds.
const KEPT: u64 = 65_536;
/// Transcoders and jobs that are remembered.
const FEEDS: usize = 1024;
/// Times that one transcoder got one job back.
const SPANS: usize = 16;
/// Signatures that need not be made again.
const SIGNED: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Fed {
    journal: Arc<dyn Journal>,
    node: SigningKey,
    account: Key,
    domain: Domain,
    /// Held while something is read and then written.
    writing: Mutex<()>,
    /// Signatures that were made, by what was signed.
    signed: Mutex<BTreeMap<[u8; 32], [u8; 65]>>,
}

/// What one transcoder was fed for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Feed {
    stream: String,
    /// In order of time.
    spans: Vec<Span>,
}

/// Segments that were fed without a break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    /// The account that held the job.
    transcoder: Address,
    first: u64,
    /// Absent while it goes on.
    last: Option<u64>,
}

impl Fed {
    /// What is in the journal already goes on. `account` is the one that creates this
    /// node's jobs.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, node: SigningKey, account: Key, domain: Domain) -> Self {
        Self {
            journal,
            node,
            account,
            domain,
            writing: Mutex::default(),
            signed: Mutex::default(),
        }
    }

    /// A segment of a stream of this node is complete.
    ///
    /// # Errors
    /// When the journal fails: there will be no receipt for the segment.
    pub fn segment(
        &self,
        stream: &StreamId,
        number: u64,
        hash: [u8; 32],
    ) -> Result<(), JournalError> {
        let _writing = lock(&self.writing);
        let count = self.number(COUNT)?.unwrap_or(0);
        let key = segment_key(stream, number);
        let mut changes = vec![
            put(&key, &hash),
            put(&log_key(count), key.as_bytes()),
            put(COUNT, &(count + 1).to_be_bytes()),
            put(&edge_key(stream), &number.to_be_bytes()),
        ];
        if let Some(old) = count.checked_sub(KEPT) {
            let old = log_key(old);
            if let Some(forgotten) = self.journal.get(&old)? {
                let key = String::from_utf8_lossy(&forgotten).into_owned();
                changes.extend(self.forgotten_edge(&key)?);
                changes.push(Change::Remove { key });
            }
            changes.push(Change::Remove { key: old });
        }
        self.journal.apply(changes)
    }

    /// A transcoder's claim to a job has held: from now on it is owed receipts, beginning
    /// with the newest complete segment, because that is where a feed begins.
    ///
    /// # Errors
    /// When the journal fails: there will be no receipts.
    pub fn granted(
        &self,
        job: JobId,
        node: NodeId,
        transcoder: Address,
        stream: &StreamId,
    ) -> Result<(), JournalError> {
        let _writing = lock(&self.writing);
        let edge = self.number(&edge_key(stream))?;
        let mut feed = self.feed(job, node)?.unwrap_or_else(|| Feed {
            stream: stream.to_string(),
            spans: Vec::new(),
        });
        if let Some(span) = feed.spans.last_mut().filter(|span| span.last.is_none()) {
            if span.transcoder == transcoder {
                return Ok(());
            }
            span.last = Some(after(edge));
        }
        feed.spans.push(Span {
            transcoder,
            first: edge.unwrap_or(0),
            last: None,
        });
        if feed.spans.len() > SPANS {
            feed.spans.remove(0);
        }
        let mut changes = vec![put(&feed_key(job, node), &feed.to_bytes()?)];
        let known = self.journal.scan(FEED, FEED, FEEDS)?;
        if known.len() == FEEDS
            && let Some((key, _)) = known.into_iter().next()
        {
            changes.push(Change::Remove { key });
        }
        self.journal.apply(changes)
    }

    /// A job is this node's, or nobody's, and not any other's any more. For those the
    /// segment that is under way is the last.
    ///
    /// # Errors
    /// When the journal fails: a transcoder could get receipts for what it is not fed.
    pub fn held_by(&self, job: JobId, holder: Option<NodeId>) -> Result<(), JournalError> {
        let _writing = lock(&self.writing);
        let prefix = job_prefix(job);
        let holder = holder.map(|holder| feed_key(job, holder));
        let mut changes = Vec::new();
        for (key, bytes) in self.journal.scan(&prefix, &prefix, FEEDS)? {
            let mut feed = Feed::read(&key, &bytes)?;
            let span = feed.spans.last_mut().filter(|span| span.last.is_none());
            let Some(span) = span.filter(|_| holder.as_ref() != Some(&key)) else {
                continue;
            };
            let edge = match feed.stream.parse() {
                Ok(stream) => self.number(&edge_key(&stream))?,
                Err(_) => None,
            };
            span.last = Some(after(edge));
            changes.push(put(&key, &feed.to_bytes()?));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.journal.apply(changes)
    }

    /// Jobs for which somebody is fed.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn jobs(&self) -> Result<BTreeSet<JobId>, JournalError> {
        let mut jobs = BTreeSet::new();
        for (key, bytes) in self.journal.scan(FEED, FEED, FEEDS)? {
            let open = |span: &Span| span.last.is_none();
            if Feed::read(&key, &bytes)?.spans.last().is_some_and(open) {
                let number = key.strip_prefix(FEED).and_then(|rest| rest.split_once('/'));
                jobs.extend(number.and_then(|(job, _)| job.parse().ok()).map(JobId));
            }
        }
        Ok(jobs)
    }

    /// What a transcoder asks for; `None` when its claim to the job has never held.
    #[must_use]
    pub fn answer(&self, wanted: &ReceiptsWanted) -> Option<Signed<ReceiptList>> {
        match self.receipts(wanted) {
            Ok(receipts) => {
                let list = ReceiptList {
                    stream: wanted.stream.clone(),
                    job: wanted.job,
                    transcoder: wanted.transcoder,
                    from_segment: wanted.from_segment,
                    receipts: receipts?,
                };
                Some(Signed::sign(list, &self.node))
            }
            Err(error) => {
                error!(job = %wanted.job, %error, "no receipts for a transcoder");
                None
            }
        }
    }

    fn receipts(
        &self,
        wanted: &ReceiptsWanted,
    ) -> Result<Option<Vec<SegmentReceipt>>, JournalError> {
        let Some(feed) = self.feed(wanted.job, wanted.transcoder)? else {
            return Ok(None);
        };
        if feed.stream != wanted.stream.to_string() {
            return Ok(None);
        }
        let mut receipts = Vec::new();
        let mut from = wanted.from_segment;
        for span in &feed.spans {
            from = from.max(span.first);
            let room = MAX_RECEIPTS - receipts.len();
            let prefix = segment_prefix(&wanted.stream);
            let start = segment_key(&wanted.stream, from);
            for (key, hash) in self.journal.scan(&prefix, &start, room)? {
                let number = key.strip_prefix(&prefix).and_then(|n| n.parse().ok());
                let (Some(number), Ok(source)) = (number, <[u8; 32]>::try_from(hash)) else {
                    return Err(JournalError(format!("the entry {key} is damaged")));
                };
                if span.last.is_some_and(|last| number > last) {
                    break;
                }
                let segment = Segment {
                    job: headwater_chain::JobId(wanted.job.0),
                    transcoder: span.transcoder,
                    stream: feed.stream.clone(),
                    number,
                    source,
                };
                receipts.push(SegmentReceipt {
                    segment: number,
                    source_hash: source,
                    signature: self.sign(&segment),
                });
                from = number + 1;
            }
        }
        Ok(Some(receipts))
    }

    /// The edge of a stream whose newest segment is forgotten.
    fn forgotten_edge(&self, key: &str) -> Result<Option<Change>, JournalError> {
        let parts = key
            .strip_prefix("segment/")
            .and_then(|k| k.rsplit_once('/'));
        let Some((stream, number)) = parts else {
            return Ok(None);
        };
        let key = format!("segment-edge/{stream}");
        let newest = self.number(&key)?;
        let over = newest.is_some() && newest == number.parse().ok();
        Ok(over.then_some(Change::Remove { key }))
    }

    fn sign(&self, segment: &Segment) -> [u8; 65] {
        let name = segment.digest(&self.domain);
        if let Some(signature) = lock(&self.signed).get(&name) {
            return *signature;
        }
        let signature = self.account.sign_segment(&self.domain, segment);
        let mut signed = lock(&self.signed);
        while signed.len() >= SIGNED {
            signed.pop_first();
        }
        signed.insert(name, signature);
        signature
    }

    fn feed(&self, job: JobId, node: NodeId) -> Result<Option<Feed>, JournalError> {
        let key = feed_key(job, node);
        let bytes = self.journal.get(&key)?;
        bytes.map(|bytes| Feed::read(&key, &bytes)).transpose()
    }

    fn number(&self, key: &str) -> Result<Option<u64>, JournalError> {
        let bytes = self.journal.get(key)?;
        let read = |bytes: Vec<u8>| {
            let bytes = bytes.try_into();
            bytes
                .map(u64::from_be_bytes)
                .map_err(|_| JournalError(format!("the entry {key} is damaged")))
        };
        bytes.map(read).transpose()
    }
}

impl Feed {
    fn read(key: &str, bytes: &[u8]) -> Result<Self, JournalError> {
        serde_json::from_slice(bytes)
            .map_err(|reason| JournalError(format!("the entry {key} is damaged: {reason}")))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, JournalError> {
        serde_json::to_vec(self).map_err(|reason| JournalError(reason.to_string()))
    }
}

/// The segment that is under way, after the newest complete one.
fn after(edge: Option<u64>) -> u64 {
    edge.map_or(0, |edge| edge + 1)
}

const COUNT: &str = "segment-count";
const FEED: &str = "fed/";

fn segment_prefix(stream: &StreamId) -> String {
    format!("segment/{stream}/")
}

fn segment_key(stream: &StreamId, number: u64) -> String {
    format!("{}{number:020}", segment_prefix(stream))
}

/// In the order of publishing, so that the oldest can be forgotten.
fn log_key(count: u64) -> String {
    format!("segment-log/{count:020}")
}

fn edge_key(stream: &StreamId) -> String {
    format!("segment-edge/{stream}")
}

fn feed_key(job: JobId, node: NodeId) -> String {
    format!("{}{node}", job_prefix(job))
}

fn job_prefix(job: JobId) -> String {
    format!("{FEED}{:020}/", job.0)
}

fn put(key: &str, value: &[u8]) -> Change {
    Change::Put {
        key: key.to_owned(),
        value: value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use headwater_chain::MemoryJournal;
    use headwater_proto::{BroadcastId, ManifestId};

    use super::*;

    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        contract: Address([0xcc; 20]),
    };
    const JOB: JobId = JobId(3);
    const TRANSCODER: Address = Address([7; 20]);

    struct Broadcaster {
        journal: Arc<MemoryJournal>,
        account: Key,
        fed: Fed,
        stream: StreamId,
    }

    impl Broadcaster {
        fn new() -> Self {
            let journal = Arc::new(MemoryJournal::default());
            let account = Key::random();
            let node = SigningKey::from_bytes(&[1; 32]);
            let manifest = ManifestId {
                node: node.node_id(),
                broadcast: BroadcastId::from_bytes([2; 16]),
            };
            Self {
                fed: Fed::new(journal.clone(), node, account.clone(), DOMAIN),
                journal,
                account,
                stream: manifest.source(),
            }
        }

        fn restart(&mut self) {
            let node = SigningKey::from_bytes(&[1; 32]);
            self.fed = Fed::new(self.journal.clone(), node, self.account.clone(), DOMAIN);
        }

        fn publish(&self, numbers: std::ops::Range<u64>) {
            for number in numbers {
                self.fed
                    .segment(&self.stream, number, hash(number))
                    .unwrap();
            }
        }

        fn grant(&self, node: NodeId, account: Address) {
            self.fed.granted(JOB, node, account, &self.stream).unwrap();
        }

        fn ask(&self, node: NodeId, from_segment: u64) -> Option<Vec<SegmentReceipt>> {
            let wanted = ReceiptsWanted {
                stream: self.stream.clone(),
                job: JOB,
                transcoder: node,
                from_segment,
            };
            let list = self.fed.answer(&wanted)?;
            assert_eq!(list.verify(), Ok(()));
            Some(list.value().receipts.clone())
        }

        fn numbers(&self, node: NodeId, from: u64) -> Vec<u64> {
            let receipts = self.ask(node, from).unwrap();
            receipts.iter().map(|receipt| receipt.segment).collect()
        }
    }

    fn hash(number: u64) -> [u8; 32] {
        [u8::try_from(number % 251).unwrap(); 32]
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_public_key([number; 32])
    }

    #[test]
    fn a_transcoder_gets_receipts_for_what_it_was_fed_while_it_held_the_job() {
        let broadcaster = Broadcaster::new();
        broadcaster.publish(0..5);
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(5..8);
        broadcaster.fed.held_by(JOB, None).unwrap();
        broadcaster.publish(8..12);

        assert_eq!(broadcaster.numbers(node(9), 0), [4, 5, 6, 7, 8]);
        assert_eq!(broadcaster.numbers(node(9), 7), [7, 8]);
        assert_eq!(broadcaster.numbers(node(9), 9), [0; 0]);
        let receipt = broadcaster.ask(node(9), 6).unwrap()[0];
        let segment = Segment {
            job: headwater_chain::JobId(JOB.0),
            transcoder: TRANSCODER,
            stream: broadcaster.stream.to_string(),
            number: 6,
            source: hash(6),
        };
        assert_eq!(receipt.source_hash, hash(6));
        let signer = segment.signer(&DOMAIN, &receipt.signature);
        assert_eq!(signer, Some(broadcaster.account.address()));
    }

    #[test]
    fn nobody_else_gets_any() {
        let mut broadcaster = Broadcaster::new();
        broadcaster.publish(0..5);
        broadcaster.grant(node(9), TRANSCODER);

        assert_eq!(broadcaster.ask(node(8), 0), None);
        broadcaster.stream.rendition = "720p".parse().unwrap();
        assert_eq!(broadcaster.ask(node(9), 0), None, "another stream");
    }

    #[test]
    fn a_restart_changes_no_receipt() {
        let mut broadcaster = Broadcaster::new();
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(0..4);
        let before = broadcaster.ask(node(9), 0);

        broadcaster.restart();
        broadcaster.grant(node(9), TRANSCODER);
        assert_eq!(broadcaster.ask(node(9), 0), before);
        broadcaster.publish(4..6);

        assert_eq!(broadcaster.numbers(node(9), 0), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_job_that_comes_back_leaves_out_what_was_between() {
        let broadcaster = Broadcaster::new();
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(0..3);
        assert!(broadcaster.fed.jobs().unwrap().into_iter().eq([JOB]));
        broadcaster.fed.held_by(JOB, Some(node(8))).unwrap();
        assert!(broadcaster.fed.jobs().unwrap().is_empty());
        broadcaster.grant(node(8), Address([8; 20]));
        broadcaster.fed.held_by(JOB, Some(node(8))).unwrap();
        broadcaster.publish(3..7);
        for _ in 0..2 {
            broadcaster.fed.held_by(JOB, Some(node(9))).unwrap();
        }
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(7..9);

        assert_eq!(broadcaster.numbers(node(9), 0), [0, 1, 2, 3, 6, 7, 8]);
        assert_eq!(broadcaster.numbers(node(8), 0), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn many_receipts_come_in_lists_of_the_size_that_the_wire_has() {
        let broadcaster = Broadcaster::new();
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(0..150);

        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let numbers = broadcaster.numbers(node(9), from);
            assert!(numbers.len() <= MAX_RECEIPTS);
            let Some(last) = numbers.last() else {
                break;
            };
            from = last + 1;
            all.extend(numbers);
        }
        assert!(all.into_iter().eq(0..150));
    }

    #[test]
    fn the_oldest_segments_and_feeds_are_forgotten() {
        let broadcaster = Broadcaster::new();
        broadcaster.grant(node(9), TRANSCODER);
        broadcaster.publish(0..3);
        let later = KEPT.to_be_bytes();
        broadcaster.journal.apply(vec![put(COUNT, &later)]).unwrap();
        broadcaster.publish(3..5);

        assert_eq!(broadcaster.numbers(node(9), 0), [2, 3, 4]);
        let entries = |prefix: &str| broadcaster.journal.scan(prefix, "", 5000).unwrap().len();
        assert_eq!((entries("segment/"), entries("segment-log/")), (3, 3));

        for job in 10..10 + FEEDS as u64 {
            let fed = &broadcaster.fed;
            fed.granted(JobId(job), node(1), TRANSCODER, &broadcaster.stream)
                .unwrap();
        }
        assert_eq!(entries(FEED), FEEDS);
        assert_eq!(broadcaster.ask(node(9), 0), None, "the oldest job");
    }
}
