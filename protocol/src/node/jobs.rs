//! The transcoder's side of a job: its TranscodeSub and its results.

use headwater_proto::{
    JobId, Position, Signed, StreamId, TranscodeClaim, TranscodeResult, limits::MAX_HOPS,
};

use super::{Asked, Node, Origin, requests::What};
use crate::{
    output::{CommandError, Question},
    stream::Local,
    timers::Timer,
};

/// A job this node holds.
#[derive(Debug)]
pub(super) struct Job {
    stream: StreamId,
    /// A claim is being signed.
    asking: bool,
    result: Option<Signed<TranscodeResult>>,
    /// Results that were not answered in a row.
    failures: u32,
    /// A result is on its way.
    sending: bool,
}

impl Node {
    pub(super) fn start_job(
        &mut self,
        job: JobId,
        id: &StreamId,
        from: Option<Position>,
    ) -> Result<(), CommandError> {
        self.open(id, MAX_HOPS)?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.hops = MAX_HOPS;
        stream.jobs.insert(job);
        let local = stream.local.get_or_insert_with(Local::default);
        if local.next.is_none() {
            local.next = from.or_else(|| stream.ring.join());
            stream.from = stream.from.or(from);
        }
        self.timers.stop(&Timer::Drop(id.clone()));
        let entry = Job {
            stream: id.clone(),
            asking: false,
            result: None,
            failures: 0,
            sending: false,
        };
        self.jobs.entry(job).or_insert(entry);
        self.seek(id);
        self.flow(id);
        Ok(())
    }

    pub(super) fn stop_job(&mut self, job: JobId) -> Result<(), CommandError> {
        let entry = self
            .jobs
            .remove(&job)
            .ok_or(CommandError::UnknownJob(job))?;
        self.timers.stop(&Timer::Respond(job));
        if let Some(stream) = self.streams.get_mut(&entry.stream) {
            stream.jobs.remove(&job);
            if stream.jobs.is_empty() && stream.local.as_ref().is_some_and(|l| !l.subscribed) {
                stream.local = None;
            }
        }
        self.maybe_unwanted(&entry.stream);
        Ok(())
    }

    /// Asks for a fresh claim, with which the search goes on.
    pub(super) fn want_claim(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job)
            && !entry.asking
        {
            entry.asking = true;
            self.ask(Asked::Claim(job), Question::Claim { job });
        }
    }

    pub(super) fn claim_ready(&mut self, job: JobId, claim: Option<(TranscodeClaim, [u8; 65])>) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        entry.asking = false;
        let id = entry.stream.clone();
        let Some(claim) = claim else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.claim = Some(claim);
            self.seek(&id);
        }
    }

    pub(super) fn respond(&mut self, body: Signed<TranscodeResult>) -> Result<(), CommandError> {
        let job = body.value().job;
        let entry = self
            .jobs
            .get_mut(&job)
            .ok_or(CommandError::UnknownJob(job))?;
        entry.result = Some(body);
        entry.failures = 0;
        self.send_result(job);
        Ok(())
    }

    pub(super) fn send_result(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        let Some(body) = entry.result.clone() else {
            return;
        };
        if !entry.sending {
            entry.sending = true;
            self.request(What::Result(body), Origin::Job(job), MAX_HOPS);
        }
    }

    /// The broadcaster took the result; it is repeated as a sign of life.
    pub(super) fn result_accepted(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.sending = false;
            entry.failures = 0;
            let at = self.now + self.config.respond_interval;
            self.timers.set(Timer::Respond(job), at);
        }
    }

    pub(super) fn result_failed(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        entry.sending = false;
        let doublings = entry.failures.min(4);
        entry.failures += 1;
        let span = self.config.retry_min * 2_u32.pow(doublings + 1);
        let at = self.jittered(span);
        self.timers.set(Timer::Respond(job), at);
    }
}
