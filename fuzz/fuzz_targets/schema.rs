#![no_main]
//! See `drive.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| trivium_fuzz::schema(data));
