//! [`headwater_fuzz::core`], driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::core(data));
