//! Outputs, as fingerprints: a replay makes the outputs themselves.

use crate::{CommandError, Delivery, Event, Output, Question, Reply};

use super::{
    bytes::Put,
    input::{put_claim, put_master, put_message, put_position, put_stream},
};

/// The kind of an output and the first eight bytes of the BLAKE3 of its content.
pub(super) fn digest(output: &Output) -> (u8, [u8; 8]) {
    let mut out = Vec::new();
    let kind = put(&mut out, output);
    let hash = blake3::hash(&out);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (kind, first)
}

fn put(out: &mut Vec<u8>, output: &Output) -> u8 {
    match output {
        Output::Send {
            to,
            message,
            priority,
        } => {
            out.bytes(to.public_key());
            out.u8(*priority as u8);
            put_message(out, message);
            0
        }
        Output::Dial {
            dial,
            peer,
            addresses,
        } => {
            out.u64(dial.0);
            out.bytes(peer.public_key());
            for address in addresses {
                out.blob(address.as_str().as_bytes());
            }
            1
        }
        Output::Disconnect { peer, reason } => {
            out.bytes(peer.public_key());
            out.u8(*reason as u8);
            2
        }
        Output::Deliver { stream, delivery } => {
            put_stream(out, stream);
            put_delivery(out, delivery);
            3
        }
        Output::Master { body } => {
            put_master(out, body);
            4
        }
        Output::MasterMissing { manifest, failure } => {
            super::input::put_manifest(out, manifest);
            text(out, failure);
            5
        }
        Output::Ask { ask, question } => {
            out.u64(ask.0);
            put_question(out, question);
            6
        }
        Output::Reply { id, result } => {
            out.u64(id.0);
            put_result(out, result);
            7
        }
        Output::Observe(event) => {
            put_event(out, event);
            8
        }
    }
}

fn put_delivery(out: &mut Vec<u8>, delivery: &Delivery) {
    match delivery {
        Delivery::Init { index, chunks } => {
            out.u8(0);
            out.u32(*index);
            chunks.iter().for_each(|chunk| out.blob(chunk));
        }
        Delivery::Part {
            position,
            media,
            chunks,
        } => {
            out.u8(1);
            put_position(out, Some(*position));
            text(out, media);
            chunks.iter().for_each(|chunk| out.blob(chunk));
        }
        Delivery::Gap { from, to } => {
            out.u8(2);
            put_position(out, Some(*from));
            put_position(out, Some(*to));
        }
        Delivery::Finished => out.u8(3),
        Delivery::Waiting(failure) => {
            out.u8(4);
            text(out, failure);
        }
    }
}

fn put_question(out: &mut Vec<u8>, question: &Question) {
    match question {
        Question::CheckClaim { claim, signature } => {
            out.u8(0);
            put_claim(out, claim, signature);
        }
        Question::CheckResult { body } => {
            out.u8(1);
            out.blob(body.bytes());
            out.bytes(body.signature());
        }
        Question::Receipts { body } => {
            out.u8(3);
            out.blob(body.bytes());
            out.bytes(body.signature());
        }
        Question::Claim { .. }
        | Question::Status
        | Question::Probe { .. }
        | Question::Lookup { .. } => {
            out.u8(2);
            text(out, question);
        }
    }
}

fn put_result(out: &mut Vec<u8>, result: &Result<Reply, CommandError>) {
    match result {
        Ok(Reply::Status(body)) => {
            out.u8(0);
            out.blob(body.bytes());
            out.bytes(body.signature());
        }
        Ok(Reply::Receipts(body)) => {
            out.u8(2);
            out.blob(body.bytes());
            out.bytes(body.signature());
        }
        Ok(Reply::Done | Reply::Probe { .. }) | Err(_) => {
            out.u8(1);
            text(out, result);
        }
    }
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    text(out, event);
}

/// Small values by their debug text, which has all of them.
fn text(out: &mut Vec<u8>, value: &impl std::fmt::Debug) {
    out.blob(format!("{value:?}").as_bytes());
}
