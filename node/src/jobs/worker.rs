//! What this transcoder does with a job that it holds: it makes renditions and says so.

use std::sync::Arc;

use headwater_chain::{Address, Job};
use headwater_proto::{JobId, StreamId};
use tracing::{error, info, warn};

use super::{acknowledgement::Acknowledgements, holding::Worker};
use crate::{pipeline::Transcoding, receipts::Books};

/// Transcodes, where the ledger pays for it.
#[derive(Debug)]
pub(super) struct Transcodes {
    pub(super) own: Address,
    pub(super) transcoding: Arc<Transcoding>,
    pub(super) books: Books,
    pub(super) acknowledgements: Acknowledgements,
}

impl Worker for Transcodes {
    /// The stream that is transcoded.
    type Task = StreamId;

    fn takes(&self, job: &Job) -> Option<StreamId> {
        let Ok(stream) = job.stream.parse() else {
            warn!(job = %job.id, "the job's stream is none");
            return None;
        };
        match self.books.work().map(|work| work.is_refused(job.id)) {
            Some(Ok(true)) => {
                info!(job = %job.id, "the job is not paid for");
                return None;
            }
            Some(Err(error)) => error!(job = %job.id, %error, "the job may not be paid for"),
            Some(Ok(false)) | None => {}
        }
        Some(stream)
    }

    fn begin(&self, job: &Job, stream: StreamId) {
        let id = JobId(job.id.0);
        self.transcoding.start(id, stream);
        let transcoding = self.transcoding.clone();
        let works = move || transcoding.stream_of(id).is_some();
        self.acknowledgements.begin(job.id, self.own, works);
    }

    fn end(&self, job: JobId) {
        self.transcoding.end(job);
    }

    fn working_on(&self) -> Vec<JobId> {
        let held = self.transcoding.list().into_iter();
        held.map(|held| held.job).collect()
    }
}
