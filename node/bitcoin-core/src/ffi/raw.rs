//! `shim/seam.h`, word for word.

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;

#[repr(C)]
pub(super) struct Sink {
    pub(super) context: *mut c_void,
    pub(super) append: extern "C" fn(*mut c_void, *const u8, usize),
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RawStatus {
    pub(crate) tip: [u8; 32],
    pub(crate) tip_time: i64,
    pub(crate) median_time_past: i64,
    pub(crate) headers_time: i64,
    pub(crate) verification_progress: f64,
    pub(crate) mempool_transactions: u64,
    pub(crate) mempool_bytes: u64,
    pub(crate) peers_inbound: u32,
    pub(crate) peers_outbound: u32,
    pub(crate) height: i32,
    pub(crate) headers_height: i32,
    pub(crate) initial_block_download: u8,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RawTip {
    pub(crate) hash: [u8; 32],
    pub(crate) time: i64,
    pub(crate) median_time_past: i64,
    pub(crate) height: i32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RawTemplateOptions {
    pub(crate) reserved_weight: u64,
    pub(crate) max_weight: u64,
    pub(crate) reserved_sigops: u64,
    pub(crate) use_mempool: u8,
    pub(crate) check: u8,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RawTemplate {
    pub(crate) previous: [u8; 32],
    pub(crate) time: i64,
    pub(crate) min_time: i64,
    pub(crate) median_time_past: i64,
    pub(crate) reward: i64,
    pub(crate) fees: i64,
    pub(crate) transactions: u64,
    pub(crate) version: i32,
    pub(crate) bits: u32,
    pub(crate) height: i32,
    pub(crate) coinbase_version: u32,
    pub(crate) coinbase_sequence: u32,
    pub(crate) coinbase_lock_time: u32,
    pub(crate) witness_reserved: [u8; 32],
    pub(crate) has_witness_reserved: u8,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RawBlock {
    pub(crate) time: i64,
    pub(crate) median_time_past: i64,
    pub(crate) height: i32,
    pub(crate) confirmations: i32,
    pub(crate) has_data: u8,
    pub(crate) failed: u8,
    pub(crate) previous: [u8; 32],
}

// The same numbers stand in shim/mining.cpp: a field added on one side only does not compile.
const _: () = {
    assert!(size_of::<RawStatus>() == 104);
    assert!(size_of::<RawTip>() == 56);
    assert!(size_of::<RawTemplateOptions>() == 32);
    assert!(size_of::<RawTemplate>() == 144);
    assert!(size_of::<RawBlock>() == 64);
};

/// The C++ side of a template.
#[repr(C)]
pub(super) struct Opaque {
    _private: [u8; 0],
}

/// Gets data, size, txid, wtxid, fee and signature operations of a transaction.
pub(super) type Each =
    extern "C" fn(*mut c_void, *const u8, usize, *const [u8; 32], *const [u8; 32], i64, i64);

unsafe extern "C" {
    pub(super) fn seam_start(
        arguments: *const *const c_char,
        count: usize,
        log: extern "C" fn(*const u8, usize),
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_request_stop();
    pub(super) fn seam_wait_shutdown(timeout_ms: u64, reason: Sink) -> c_int;
    pub(super) fn seam_stop(error: Sink) -> c_int;
    pub(super) fn seam_status(out: *mut RawStatus, error: Sink) -> c_int;
    pub(super) fn seam_wait_tip(
        known: *const u8,
        timeout_ms: u64,
        out: *mut RawTip,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_template_new(
        options: *const RawTemplateOptions,
        out: *mut *mut Opaque,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_template_wait(
        current: *const Opaque,
        fee_threshold: i64,
        timeout_ms: u64,
        out: *mut *mut Opaque,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_template_read(
        current: *const Opaque,
        out: *mut RawTemplate,
        merkle_branch: Sink,
        script_prefix: Sink,
        outputs: Sink,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_template_transactions(
        current: *const Opaque,
        context: *mut c_void,
        each: Each,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_template_wtxids(current: *const Opaque, wtxids: Sink, error: Sink) -> c_int;
    pub(super) fn seam_template_check(current: *const Opaque, reason: Sink) -> c_int;
    pub(super) fn seam_template_submit(
        current: *const Opaque,
        version: i32,
        time: u32,
        nonce: u32,
        coinbase: *const u8,
        size: usize,
        result: *mut c_int,
        reason: Sink,
    ) -> c_int;
    pub(super) fn seam_template_free(current: *mut Opaque);
    pub(super) fn seam_submit_block(
        block: *const u8,
        size: usize,
        result: *mut c_int,
        reason: Sink,
    ) -> c_int;
    pub(super) fn seam_check_block(
        block: *const u8,
        size: usize,
        check_pow: u8,
        check_merkle_root: u8,
        reason: Sink,
    ) -> c_int;
    pub(super) fn seam_block(hash: *const u8, out: *mut RawBlock, error: Sink) -> c_int;
    pub(super) fn seam_block_at(height: i32, hash: *mut u8, error: Sink) -> c_int;
    pub(super) fn seam_block_read(hash: *const u8, block: Sink, error: Sink) -> c_int;
    pub(super) fn seam_stored_tip(hash: *mut u8, error: Sink) -> c_int;
    pub(super) fn seam_store(error: Sink) -> c_int;
    pub(super) fn seam_transaction_by_wtxid(
        wtxid: *const u8,
        transaction: Sink,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_transaction_submit(
        transaction: *const u8,
        size: usize,
        max_fee: i64,
        txid: *mut u8,
        error: Sink,
    ) -> c_int;
    pub(super) fn seam_address_script(
        address: *const u8,
        size: usize,
        script: Sink,
        error: Sink,
    ) -> c_int;
}
