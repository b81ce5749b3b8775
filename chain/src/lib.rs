//! Jobs, their assignment and the keys that sign for them.
