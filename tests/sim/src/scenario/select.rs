//! Which of a list: `0-3,9`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// Numbers, as ascending ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Selection(Vec<RangeInclusive<usize>>);

/// Why a text is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no list of numbers and ranges like 0-3,9")]
pub struct SelectionError(String);

impl Selection {
    /// Selects these numbers.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        Self::merged(numbers.into_iter().map(|number| number..=number).collect())
    }

    fn merged(mut ranges: Vec<RangeInclusive<usize>>) -> Self {
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<usize>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.end().saturating_add(1) >= *range.start() => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// Whether a number is selected.
    #[must_use]
    pub fn contains(&self, number: usize) -> bool {
        let after = self.0.partition_point(|range| *range.end() < number);
        self.0
            .get(after)
            .is_some_and(|range| range.contains(&number))
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let wrong = || SelectionError(text.into());
        let mut ranges = Vec::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (from, to) = item.split_once('-').unwrap_or((item, item));
            let from: usize = from.parse().map_err(|_| wrong())?;
            let to = to.parse().map_err(|_| wrong())?;
            if from > to {
                return Err(wrong());
            }
            ranges.push(from..=to);
        }
        Ok(Self::merged(ranges))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        selection.to_string()
    }
}

impl TryFrom<String> for Selection {
    type Error = SelectionError;

    fn try_from(text: String) -> Result<Self, SelectionError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_has_exactly_its_numbers() {
        let selection = Selection::of([9, 1, 0, 2, 2]);

        assert_eq!(selection.to_string(), "0-2,9");
        for text in ["0-2,9", "9,2,0-1", "0-1,1-2,9,9"] {
            assert_eq!(text.parse(), Ok(selection.clone()), "{text}");
        }
        let chosen: Vec<_> = (0..12).filter(|n| selection.contains(*n)).collect();
        assert_eq!(chosen, [0, 1, 2, 9]);
    }

    #[test]
    fn nothing_selects_nothing_and_nonsense_is_refused() {
        assert!(!"".parse::<Selection>().unwrap().contains(0));
        for text in ["3-1", "a", "1-", "1.5"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }
}
