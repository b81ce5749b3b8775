//! The transcoder's side of a job: which source it takes, and its result, repeated
//! until the broadcaster has acknowledged it, and now and then after that.

use std::collections::BTreeMap;

use headwater_proto::{JobId, Position, Signed, StreamId, TranscodeResult};

use crate::{
    cx::{Cx, Retry},
    output::CommandError,
    streams::Streams,
    timers::Timer,
};

#[derive(Debug)]
struct Job {
    stream: StreamId,
    result: Option<Signed<TranscodeResult>>,
    retry: Retry,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Jobs(BTreeMap<JobId, Job>);

impl Jobs {
    pub(crate) fn start(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        id: JobId,
        stream: StreamId,
        from: Option<Position>,
    ) -> Result<(), CommandError> {
        if self.0.contains_key(&id) {
            return Ok(());
        }
        if self.0.len() >= cx.config.max_jobs {
            return Err(CommandError::TooMany("jobs"));
        }
        streams.deliver(cx, stream.clone(), from, Some(id))?;
        let retry = Retry::new(cx.config.job_retry);
        let job = Job {
            stream,
            result: None,
            retry,
        };
        self.0.insert(id, job);
        Ok(())
    }

    pub(crate) fn stop(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        id: JobId,
    ) -> Result<(), CommandError> {
        let job = self.0.remove(&id).ok_or(CommandError::UnknownJob(id))?;
        cx.timers.set(Timer::Job(id), None);
        // When its stream has ended, it is no longer delivered anyway.
        match streams.undeliver(cx, &job.stream, Some(id)) {
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes a result to be sent; returns it when it has to be sent now.
    pub(crate) fn respond(
        &mut self,
        cx: &Cx,
        body: Signed<TranscodeResult>,
    ) -> Result<Signed<TranscodeResult>, CommandError> {
        let result = body.value();
        let id = result.job;
        let job = self.0.get_mut(&id).ok_or(CommandError::UnknownJob(id))?;
        if result.stream != job.stream || result.transcoder != cx.me {
            return Err(CommandError::UnknownStream(result.stream.clone()));
        }
        job.result = Some(body.clone());
        job.retry.reset();
        Ok(body)
    }

    /// A result was acknowledged, or was not: sets when it is sent again.
    pub(crate) fn on_result(&mut self, cx: &mut Cx, id: JobId, done: bool) {
        let Some(job) = self.0.get_mut(&id) else {
            return;
        };
        let at = if done {
            job.retry.reset();
            let pause = cx.jitter(cx.config.respond_heartbeat);
            cx.now + pause
        } else {
            job.retry.schedule(cx)
        };
        cx.timers.set(Timer::Job(id), Some(at));
    }

    /// The job is fed again: its broadcaster may have forgotten the result.
    pub(crate) fn on_fed(&mut self, id: JobId) -> Option<Signed<TranscodeResult>> {
        let job = self.0.get_mut(&id)?;
        job.retry.reset();
        job.result.clone()
    }

    /// The result that is to be sent again now.
    pub(crate) fn due(&self, id: JobId) -> Option<Signed<TranscodeResult>> {
        self.0.get(&id)?.result.clone()
    }

    /// The source of a job that is held.
    pub(crate) fn stream(&self, id: JobId) -> Option<StreamId> {
        Some(self.0.get(&id)?.stream.clone())
    }

    /// How much of the room for jobs is taken: 0 to 255.
    pub(crate) fn load(&self, cx: &Cx) -> u8 {
        let share = self.0.len().saturating_mul(255) / cx.config.max_jobs.max(1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }
}
