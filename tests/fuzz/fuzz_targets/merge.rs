//! Fuzzes the target of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    meshnode_packets_fuzz::merge(data);
});
