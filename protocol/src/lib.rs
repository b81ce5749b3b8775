//! How a node behaves: one sans-I/O state machine.
