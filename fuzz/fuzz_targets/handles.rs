#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pocker_fuzz_targets::target("handles").run(data));
