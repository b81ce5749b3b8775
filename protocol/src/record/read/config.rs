//! Configurations, as [`crate::record::config`] writes them.

use std::time::Duration;

use bytes::Bytes;
use headwater_proto::Roles;

use super::bytes::{Damaged, Get};
use crate::{Backoff, Config, record::config::put};

/// Bytes of every configuration.
pub(super) fn len() -> usize {
    let mut out = Vec::new();
    put(&mut out, &Config::default());
    out.len()
}

/// Fields in the order in which they are written.
pub(super) fn config(from: &mut Bytes) -> Result<Config, Damaged> {
    Ok(Config {
        roles: get_roles(from)?,
        max_peers: from.get_size()?,
        max_streams: from.get_size()?,
        max_subs_per_peer: from.get_size()?,
        max_children: from.get_size()?,
        max_requests: from.get_size()?,
        max_requests_per_peer: from.get_size()?,
        max_masters: from.get_size()?,
        max_followers: from.get_size()?,
        max_jobs: from.get_size()?,
        max_claims: from.get_size()?,
        max_asks: from.get_size()?,
        ring_segments: from.get_size()?,
        ring_bytes: from.get_size()?,
        total_ring_bytes: from.get_size()?,
        lag_bytes: from.get_size()?,
        max_dials_per_minute: from.get_size()?,
        max_feeds: from.get_size()?,
        max_dials: from.get_size()?,
        max_stream_dials_per_minute: from.get_size()?,
        max_lookups: from.get_size()?,
        lag_age: span(from)?,
        parent_silence: span(from)?,
        pending_patience: span(from)?,
        pending_ack_after: span(from)?,
        retry: backoff(from)?,
        job_retry: backoff(from)?,
        respond_heartbeat: span(from)?,
        linger: span(from)?,
        keep_finished: span(from)?,
        finish_grace: span(from)?,
        nack_after: span(from)?,
        gap_after: span(from)?,
        request_timeout: span(from)?,
        request_hop_margin: span(from)?,
        request_patience: span(from)?,
        ping_after: span(from)?,
        pong_within: span(from)?,
        violation_window: span(from)?,
        claim_interval: span(from)?,
        hedge_after: span(from)?,
        join_patience: span(from)?,
        standby_retry: backoff(from)?,
        standby_silence: span(from)?,
        stall: backoff(from)?,
        rival_window: span(from)?,
        direct_again: span(from)?,
        introduce: backoff(from)?,
        claim_refresh: backoff(from)?,
        lookup_patience: span(from)?,
        lookup_pause: span(from)?,
        negative_cache: span(from)?,
        max_violations: from.get_word()?,
        rival_chunks: from.get_word()?,
        max_requests_per_second: from.get_word()?,
        standby: from.get_flag()?,
    })
}

pub(super) fn get_roles(from: &mut Bytes) -> Result<Roles, Damaged> {
    Ok(Roles {
        broadcaster: from.get_flag()?,
        relayer: from.get_flag()?,
        transcoder: from.get_flag()?,
    })
}

/// No node was ever configured with a pause of nothing, or of more than this: it would
/// not come to rest, or never wake.
const LONGEST_US: u64 = 1 << 50;

fn span(from: &mut Bytes) -> Result<Duration, Damaged> {
    match from.get_long()? {
        micros @ 1..=LONGEST_US => Ok(Duration::from_micros(micros)),
        _ => Err(Damaged),
    }
}

fn backoff(from: &mut Bytes) -> Result<Backoff, Damaged> {
    Ok(Backoff {
        first: span(from)?,
        cap: span(from)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = Config {
            max_children: 3,
            claim_interval: Duration::from_micros(17),
            max_violations: 5,
            roles: Roles {
                relayer: true,
                ..Roles::default()
            },
            ..Config::default()
        };
        let mut out = Vec::new();
        put(&mut out, &config);
        let mut from = Bytes::from(out);

        assert_eq!(super::config(&mut from), Ok(config));
        assert!(from.is_empty());
    }
}
