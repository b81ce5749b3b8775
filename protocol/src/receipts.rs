//! How often receipts are given out.
//!
//! A list of receipts is long, and who has passed the request for it on can repeat the
//! request, which its transcoder has signed. So the limit is on the transcoder and job that
//! the request names: nobody else's receipts wait for it.

use std::{collections::BTreeMap, time::Duration};

use headwater_proto::{JobId, NoRouteReason, NodeId, ReceiptList, Signed};

use crate::{links::Rate, output::Failure, requests::Outcome, time::Time};

/// Lists for one transcoder and job in a second: as many segments as half an hour has.
const MOST: u32 = 16;
/// Transcoders and jobs that are remembered. More than a broadcaster feeds.
const MAX_KNOWN: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    sent: BTreeMap<(NodeId, JobId), Rate>,
}

impl Receipts {
    /// What is answered with a list that the driver has made.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        name: (NodeId, JobId),
        list: Signed<ReceiptList>,
    ) -> Outcome {
        if self.may_send(now, name) {
            Outcome::Receipts(list)
        } else {
            Outcome::Failed(Failure::NoRoute(NoRouteReason::Overloaded))
        }
    }

    fn may_send(&mut self, now: Time, name: (NodeId, JobId)) -> bool {
        if self.sent.len() >= MAX_KNOWN && !self.sent.contains_key(&name) {
            let recent = |rate: &Rate| now.since(rate.since()) < Duration::from_secs(1);
            self.sent.retain(|_, rate| recent(rate));
            if self.sent.len() >= MAX_KNOWN {
                return false;
            }
        }
        self.sent.entry(name).or_default().count(now) <= MOST
    }
}
