//! Tells what some nodes are given and do, line by line, for people who look for a fault.

use headwater_protocol::{Command, Delivery, Input, Output, Time};

use crate::{host::HostIx, scenario::Selection, wire::brief};

/// Lines that are kept; the oldest go first.
const KEPT: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub struct Narrator {
    nodes: Selection,
    lines: std::collections::VecDeque<String>,
}

impl Narrator {
    /// Tells of these nodes.
    #[must_use]
    pub const fn new(nodes: Selection) -> Self {
        Self {
            nodes,
            lines: std::collections::VecDeque::new(),
        }
    }

    /// A node is given something; `who` names a neighbour.
    pub fn input(
        &mut self,
        host: HostIx,
        now: Time,
        input: &Input,
        who: impl Fn(&headwater_proto::NodeId) -> String,
    ) {
        let text = match input {
            Input::Received { from, message } => format!("{} -> {}", who(from), brief(message)),
            Input::Command { command, .. } => match command {
                Command::Append { header, .. } => format!("append {:?}", header.value().slot),
                Command::Publish { .. }
                | Command::Finish { .. }
                | Command::Unpublish { .. }
                | Command::SetMaster { .. }
                | Command::Subscribe { .. }
                | Command::Unsubscribe { .. }
                | Command::FollowMaster { .. }
                | Command::UnfollowMaster { .. }
                | Command::RequestStatus { .. }
                | Command::Probe { .. }
                | Command::StartJob { .. }
                | Command::StopJob { .. }
                | Command::RevokeClaim { .. }
                | Command::Respond { .. }
                | Command::GetReceipts { .. } => format!("{command:?}"),
            },
            Input::Connected { peer, .. } => format!("connected to {}", who(peer)),
            Input::Disconnected { peer } => format!("disconnected from {}", who(peer)),
            Input::Violation { from, violation } => format!("{} breaks {violation}", who(from)),
            Input::DialFailed { .. } | Input::Answer { .. } | Input::Timeout => {
                format!("{input:?}")
            }
            Input::Writable { .. } | Input::Addresses { .. } => return,
        };
        self.tell(host, now, &text);
    }

    /// A node wants something.
    pub fn output(
        &mut self,
        host: HostIx,
        now: Time,
        output: &Output,
        who: impl Fn(&headwater_proto::NodeId) -> String,
    ) {
        let text = match output {
            Output::Send { to, message, .. } => format!("    -> {} {}", who(to), brief(message)),
            Output::Dial { peer, .. } => format!("    dial {}", who(peer)),
            Output::Disconnect { peer, reason } => format!("    close {} {reason:?}", who(peer)),
            Output::Deliver { delivery, .. } => match delivery {
                Delivery::Init { .. } => "    deliver init".to_owned(),
                Delivery::Part { position, .. } => format!("    deliver {position:?}"),
                Delivery::Gap { .. } | Delivery::Finished | Delivery::Waiting(_) => {
                    format!("    deliver {delivery:?}")
                }
            },
            Output::Observe(_)
            | Output::Ask { .. }
            | Output::Reply { .. }
            | Output::Master { .. }
            | Output::MasterMissing { .. } => format!("    {output:?}"),
        };
        self.tell(host, now, &text);
    }

    /// What was told, in order.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn tell(&mut self, host: HostIx, now: Time, text: &str) {
        if !self.nodes.contains(host.at()) {
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        let (ms, us) = (now.as_micros() / 1000, now.as_micros() % 1000);
        let line = format!("{ms:>8}.{us:03} host {} {text}", host.0);
        self.lines.push_back(line);
    }
}
