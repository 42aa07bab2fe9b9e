#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| railhead_fuzz::agent::conflist(input));
