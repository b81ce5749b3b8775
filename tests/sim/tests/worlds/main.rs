//! Whole worlds, small enough for every change.

mod breaches;
mod common;
mod determinism;
mod faults;
mod hostile;
mod jobs;
mod schedules;
mod shapes;
mod spare_links;
