//! Real processes, real encoders, a real browser.
