//! A node's configuration. A new field of it has to be written here too: the compiler
//! says so.

use headwater_proto::Roles;

use super::bytes::Put;
use crate::Config;

pub(super) fn put(out: &mut Vec<u8>, config: &Config) {
    let Config {
        roles,
        max_peers,
        max_streams,
        max_subs_per_peer,
        max_children,
        max_requests,
        max_requests_per_peer,
        max_masters,
        max_followers,
        max_jobs,
        max_claims,
        max_asks,
        ring_segments,
        ring_bytes,
        total_ring_bytes,
        lag_bytes,
        lag_age,
        parent_silence,
        pending_patience,
        pending_ack_after,
        retry,
        job_retry,
        respond_heartbeat,
        linger,
        keep_finished,
        finish_grace,
        nack_after,
        gap_after,
        request_timeout,
        request_hop_margin,
        request_patience,
        ping_after,
        pong_within,
        max_violations,
        violation_window,
        max_dials_per_minute,
        claim_interval,
        max_feeds,
        max_dials,
        max_stream_dials_per_minute,
        max_lookups,
        hedge_after,
        join_patience,
        standby,
        standby_retry,
        standby_silence,
        stall,
        rival_window,
        rival_chunks,
        direct_again,
        introduce,
        claim_refresh,
        lookup_patience,
        lookup_pause,
        negative_cache,
        max_requests_per_second,
    } = config;
    put_roles(out, *roles);
    for size in [
        max_peers,
        max_streams,
        max_subs_per_peer,
        max_children,
        max_requests,
        max_requests_per_peer,
        max_masters,
        max_followers,
        max_jobs,
        max_claims,
        max_asks,
        ring_segments,
        ring_bytes,
        total_ring_bytes,
        lag_bytes,
        max_dials_per_minute,
        max_feeds,
        max_dials,
        max_stream_dials_per_minute,
        max_lookups,
    ] {
        out.u64(*size as u64);
    }
    for span in [
        lag_age,
        parent_silence,
        pending_patience,
        pending_ack_after,
        &retry.first,
        &retry.cap,
        &job_retry.first,
        &job_retry.cap,
        respond_heartbeat,
        linger,
        keep_finished,
        finish_grace,
        nack_after,
        gap_after,
        request_timeout,
        request_hop_margin,
        request_patience,
        ping_after,
        pong_within,
        violation_window,
        claim_interval,
        hedge_after,
        join_patience,
        &standby_retry.first,
        &standby_retry.cap,
        standby_silence,
        &stall.first,
        &stall.cap,
        rival_window,
        direct_again,
        &introduce.first,
        &introduce.cap,
        &claim_refresh.first,
        &claim_refresh.cap,
        lookup_patience,
        lookup_pause,
        negative_cache,
    ] {
        out.u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }
    out.u32(*max_violations);
    out.u32(*rival_chunks);
    out.u32(*max_requests_per_second);
    out.flag(*standby);
}

pub(super) fn put_roles(out: &mut Vec<u8>, roles: Roles) {
    let Roles {
        broadcaster,
        relayer,
        transcoder,
    } = roles;
    for role in [broadcaster, relayer, transcoder] {
        out.flag(role);
    }
}
