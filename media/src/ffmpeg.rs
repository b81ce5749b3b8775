//! The little of FFmpeg that its safe binding does not reach, and the error type of
//! everything that goes through FFmpeg.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, Once, PoisonError},
};

use ffmpeg_next as ff;

/// FFmpeg refused an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {reason}")]
pub struct FfmpegError {
    action: &'static str,
    reason: ff::Error,
}

/// Names what was being done when FFmpeg failed.
pub(crate) trait During<T> {
    fn during(self, action: &'static str) -> Result<T, FfmpegError>;
}

impl<T> During<T> for Result<T, ff::Error> {
    fn during(self, action: &'static str) -> Result<T, FfmpegError> {
        self.map_err(|reason| FfmpegError { action, reason })
    }
}

impl FfmpegError {
    pub(crate) const fn new(action: &'static str, reason: ff::Error) -> Self {
        Self { action, reason }
    }
}

/// Makes FFmpeg ready; its own log goes nowhere, since errors are returned.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        // Fails only when FFmpeg itself is broken; opening anything then says so.
        if let Err(error) = ff::init() {
            tracing::error!(%error, "FFmpeg does not start");
        }
        ff::util::log::set_level(ff::util::log::Level::Quiet);
    });
}

/// Ends the fragment that is open in a fragmenting muxer.
#[expect(unsafe_code, reason = "the binding has no call that writes no packet")]
pub(crate) fn flush_fragment(output: &mut ff::format::context::Output) -> Result<(), FfmpegError> {
    // SAFETY: the context is valid for as long as `output` is; a null packet asks the
    // muxer to flush, as avformat.h says of av_write_frame.
    let code = unsafe { ff::ffi::av_write_frame(output.as_mut_ptr(), std::ptr::null_mut()) };
    if code < 0 {
        return Err(FfmpegError::new(
            "writing a fragment",
            ff::Error::from(code),
        ));
    }
    Ok(())
}

/// What codec parameters say beyond what the binding shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) extradata: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u32,
    /// Samples per audio packet; 0 when it varies.
    pub(crate) frame_size: u32,
}

/// Reads codec parameters.
#[expect(unsafe_code, reason = "the binding does not show these fields")]
pub(crate) fn details(parameters: &ff::codec::Parameters) -> Details {
    // SAFETY: the parameters are valid for as long as the reference is, and extradata,
    // when set, has extradata_size bytes.
    unsafe {
        let raw = &*parameters.as_ptr();
        let len = usize::try_from(raw.extradata_size).unwrap_or(0);
        let extradata = if raw.extradata.is_null() {
            Vec::new()
        } else {
            std::slice::from_raw_parts(raw.extradata, len).to_vec()
        };
        Details {
            extradata,
            width: u32::try_from(raw.width).unwrap_or(0),
            height: u32::try_from(raw.height).unwrap_or(0),
            sample_rate: u32::try_from(raw.sample_rate).unwrap_or(0),
            channels: u32::try_from(raw.ch_layout.nb_channels).unwrap_or(0),
            frame_size: u32::try_from(raw.frame_size).unwrap_or(0),
        }
    }
}

/// Clears a codec tag that belongs to another container, so that the muxer picks its own.
#[expect(unsafe_code, reason = "the binding does not show the codec tag")]
pub(crate) fn clear_codec_tag(parameters: &mut ff::codec::Parameters) {
    // SAFETY: the parameters are valid and uniquely borrowed.
    unsafe {
        (*parameters.as_mut_ptr()).codec_tag = 0;
    }
}

/// Bytes that a muxer wrote and nobody has taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    /// Takes what has been written so far.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
