//! What goes wrong, as it is asked for: `crash:25%@20s`, `freeze:3@10s+5s`,
//! `parent:1@10s/3s`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::span::{Span, SpanError};

/// What happens to the nodes or links of a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Processes die: their links are reset, and neighbours see it.
    Crash,
    /// Machines lose power: nothing comes from them any more, and nobody is told.
    Vanish,
    /// Like [`FaultKind::Crash`], of nodes that feed others when it happens.
    Parent,
    /// Processes stop and go on later with everything that came meanwhile.
    Freeze,
    /// Uplinks have a tenth of their bandwidth.
    Slow,
    /// Links between two random sets of nodes are cut, and none can be made.
    Partition,
    /// Links are reset; who wants them makes them anew.
    Cut,
    /// Like [`FaultKind::Crash`], of broadcasters, which go on with their broadcast.
    Broadcaster,
    /// Like [`FaultKind::Crash`], of transcoders, which go on with their job.
    Transcoder,
    /// Links between transcoders and the broadcaster of their job are reset.
    Direct,
    /// Broadcasters make their stream no more, and later go on with it.
    Withdraw,
    /// Jobs are taken from their transcoders, and later given back to the same.
    Revoke,
}

/// How many of those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A number.
    Count(u32),
    /// A share, in percent.
    Percent(u8),
}

impl Amount {
    /// How many that is of `all`.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(all),
            Self::Percent(percent) => all * usize::from(percent) / 100,
        }
    }
}

/// `KIND:AMOUNT@TIME[+LASTING][/EVERY]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To how many: of the links for [`FaultKind::Cut`], of the broadcasters or transcoders
    /// for the kinds that concern those, else of the nodes that are no broadcasters.
    pub amount: Amount,
    /// When.
    pub at: Span,
    /// How long; what died starts anew after it. `None`: for good.
    pub lasting: Option<Span>,
    /// It happens again each time this has passed.
    pub every: Option<Span>,
}

/// Why a text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// It has another form.
    #[error("`{0}` is not KIND:AMOUNT@TIME[+LASTING][/EVERY]")]
    Form(String),
    /// There is no such kind.
    #[error("`{0}` is none of {kinds}", kinds = kinds())]
    Kind(String),
    /// The amount is neither a number nor a percentage up to 100.
    #[error("`{0}` is neither a number nor a percentage")]
    Amount(String),
    /// A time in it.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// A kind that only makes sense for a while.
    #[error("{0} needs +LASTING")]
    Lasting(FaultKind),
    /// It would happen again without end.
    #[error("/EVERY is zero")]
    Every,
}

const KINDS: [(&str, FaultKind); 12] = [
    ("crash", FaultKind::Crash),
    ("vanish", FaultKind::Vanish),
    ("parent", FaultKind::Parent),
    ("freeze", FaultKind::Freeze),
    ("slow", FaultKind::Slow),
    ("partition", FaultKind::Partition),
    ("cut", FaultKind::Cut),
    ("broadcaster", FaultKind::Broadcaster),
    ("transcoder", FaultKind::Transcoder),
    ("direct", FaultKind::Direct),
    ("withdraw", FaultKind::Withdraw),
    ("revoke", FaultKind::Revoke),
];

fn kinds() -> String {
    KINDS.map(|(name, _)| name).join(", ")
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let form = || FaultError::Form(text.into());
        let (kind, rest) = text.split_once(':').ok_or_else(form)?;
        let (amount, rest) = rest.split_once('@').ok_or_else(form)?;
        let (rest, every) = match rest.split_once('/') {
            Some((rest, every)) => (rest, Some(every.parse::<Span>()?)),
            None => (rest, None),
        };
        let (at, lasting) = match rest.split_once('+') {
            Some((at, lasting)) => (at, Some(lasting.parse()?)),
            None => (rest, None),
        };
        let kind = KINDS
            .iter()
            .find(|(name, _)| *name == kind)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| FaultError::Kind(kind.into()))?;
        let for_a_while = matches!(kind, FaultKind::Freeze | FaultKind::Partition);
        if for_a_while && lasting.is_none() {
            return Err(FaultError::Lasting(kind));
        }
        if every.is_some_and(|every| every.millis() == 0) {
            return Err(FaultError::Every);
        }
        Ok(Self {
            kind,
            amount: amount_of(amount)?,
            at: at.parse()?,
            lasting,
            every,
        })
    }
}

fn amount_of(text: &str) -> Result<Amount, FaultError> {
    let wrong = || FaultError::Amount(text.into());
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent) if percent <= 100 => Ok(Amount::Percent(percent)),
            _ => Err(wrong()),
        },
        None => text.parse().map(Amount::Count).map_err(|_| wrong()),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        match self.amount {
            Amount::Count(count) => write!(f, "{count}")?,
            Amount::Percent(percent) => write!(f, "{percent}%")?,
        }
        write!(f, "@{}", self.at)?;
        if let Some(lasting) = self.lasting {
            write!(f, "+{lasting}")?;
        }
        if let Some(every) = self.every {
            write!(f, "/{every}")?;
        }
        Ok(())
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_back_as_they_are_written() {
        for text in [
            "crash:25%@20s",
            "freeze:3@10s+5s",
            "parent:1@10s/3s",
            "partition:50%@20s+10s",
            "cut:10%@1500ms+2s/4s",
            "broadcaster:1@5s+2s",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Fault>().unwrap_err();

        assert_eq!(refused("crash"), FaultError::Form("crash".into()));
        assert_eq!(refused("melt:1@2s"), FaultError::Kind("melt".into()));
        assert_eq!(refused("crash:101%@2s"), FaultError::Amount("101%".into()));
        assert_eq!(
            refused("freeze:1@2s"),
            FaultError::Lasting(FaultKind::Freeze)
        );
        assert_eq!(refused("crash:1@2s/0s"), FaultError::Every);
        assert!(matches!(refused("crash:1@soon"), FaultError::Span(_)));
    }

    #[test]
    fn amount_of_all_is_never_more_than_all() {
        assert_eq!(Amount::Count(9).of(4), 4);
        assert_eq!(Amount::Percent(25).of(1000), 250);
    }
}
