//! The C interface of the shim, made safe: the only `unsafe` of the crate.
//!
//! What is declared in `raw.rs` is what `shim/seam.h` has. What each block relies on, said once:
//! the shim copies what it is given before it returns, calls a sink only while the call lasts,
//! writes whole structures, never throws, and may be called from any thread. Who calls has to know
//! that Core is running where `seam.h` asks for it; `core.rs` sees to that.

use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use crate::error::Error;
use crate::hash::{BlockHash, Txid, Wtxid};
use crate::template::TemplateTransaction;

mod raw;

use self::raw::*;
pub(crate) use self::raw::{RawBlock, RawStatus, RawTemplate, RawTemplateOptions, RawTip};

const OK: c_int = 0;
const NOTHING: c_int = 1;
const INTERRUPTED: c_int = 2;
const REJECTED: c_int = 3;
const MALFORMED: c_int = 4;
const BAD_OPTION: c_int = 6;
const LOCKED: c_int = 7;

/// What became of a submitted block, as `seam_block_result`.
pub(crate) struct RawVerdict {
    pub(crate) result: c_int,
    pub(crate) reason: String,
}

/// A template that lives on the C++ side until this is dropped.
pub(crate) struct Handle(NonNull<Opaque>);

// SAFETY: the template is never changed after it was made, Core locks what its methods share, and
// it may be freed on any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed here only, once.
        unsafe { seam_template_free(self.0.as_ptr()) }
    }
}

pub(crate) fn start(arguments: &[CString]) -> Result<(), Error> {
    let pointers: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
    let mut error = Vec::new();
    // SAFETY: the pointers are NUL-terminated strings that outlive the call; see the module.
    let code = unsafe { seam_start(pointers.as_ptr(), pointers.len(), log, sink(&mut error)) };
    let message = text(error);
    match code {
        OK => Ok(()),
        INTERRUPTED => Err(Error::Stopping),
        BAD_OPTION => Err(Error::BadOption(message)),
        LOCKED => Err(Error::DataDirectory(message)),
        _ => Err(Error::Start(message)),
    }
}

pub(crate) fn request_stop() {
    // SAFETY: may be called at any time.
    unsafe { seam_request_stop() }
}

/// The error that Core stops for, empty if there is none; `None` when it goes on.
pub(crate) fn wait_shutdown(timeout: Duration) -> Result<Option<String>, Error> {
    let mut reason = Vec::new();
    // SAFETY: may be called at any time; see the module for the sink.
    let code = unsafe { seam_wait_shutdown(milliseconds(timeout), sink(&mut reason)) };
    let reason = text(reason);
    found(code, &reason, "").map(|found| found.then_some(reason))
}

pub(crate) fn stop() -> Result<(), Error> {
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_stop(sink(&mut error)) };
    found(code, &text(error), "").map(drop)
}

pub(crate) fn status() -> Result<RawStatus, Error> {
    let mut out = RawStatus::default();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_status(&mut out, sink(&mut error)) };
    found(code, &text(error), "").map(|_| out)
}

pub(crate) fn wait_tip(known: &BlockHash, timeout: Duration) -> Result<Option<RawTip>, Error> {
    let mut out = RawTip::default();
    let mut error = Vec::new();
    let milliseconds = milliseconds(timeout);
    // SAFETY: see the module.
    let code = unsafe { seam_wait_tip(known.0.as_ptr(), milliseconds, &mut out, sink(&mut error)) };
    found(code, &text(error), "").map(|found| found.then_some(out))
}

pub(crate) fn template_new(options: &RawTemplateOptions) -> Result<Handle, Error> {
    let mut out = ptr::null_mut();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_template_new(options, &mut out, sink(&mut error)) };
    found(code, &text(error), "")?;
    NonNull::new(out).map(Handle).ok_or_else(|| Error::Failed("no template was made".to_owned()))
}

pub(crate) fn template_wait(
    current: &Handle,
    fee_threshold: Option<u64>,
    timeout: Duration,
) -> Result<Option<Handle>, Error> {
    let fees = fee_threshold.map_or(-1, |fees| i64::try_from(fees).unwrap_or(i64::MAX));
    let milliseconds = milliseconds(timeout);
    let mut out = ptr::null_mut();
    let mut error = Vec::new();
    // SAFETY: the handle holds a live template; see the module.
    let code = unsafe {
        seam_template_wait(current.0.as_ptr(), fees, milliseconds, &mut out, sink(&mut error))
    };
    found(code, &text(error), "").map(|_| NonNull::new(out).map(Handle))
}

/// A template's fixed parts, and its lists as the shim writes them.
#[derive(Default)]
pub(crate) struct TemplateParts {
    pub(crate) fixed: RawTemplate,
    /// 32 bytes a hash.
    pub(crate) merkle_branch: Vec<u8>,
    pub(crate) script_prefix: Vec<u8>,
    /// Serialized outputs, one after the other.
    pub(crate) outputs: Vec<u8>,
}

pub(crate) fn template_read(current: &Handle) -> Result<TemplateParts, Error> {
    let mut parts = TemplateParts::default();
    let mut error = Vec::new();
    // SAFETY: the handle holds a live template; see the module.
    let code = unsafe {
        seam_template_read(
            current.0.as_ptr(),
            &mut parts.fixed,
            sink(&mut parts.merkle_branch),
            sink(&mut parts.script_prefix),
            sink(&mut parts.outputs),
            sink(&mut error),
        )
    };
    found(code, &text(error), "").map(|_| parts)
}

pub(crate) fn template_transactions(current: &Handle) -> Result<Vec<TemplateTransaction>, Error> {
    extern "C" fn each(
        context: *mut c_void,
        data: *const u8,
        size: usize,
        txid: *const [u8; 32],
        wtxid: *const [u8; 32],
        fee: i64,
        sigops: i64,
    ) {
        // SAFETY: the context is the vector below, which nothing else touches during the call; the
        // hashes are 32 readable bytes and the data is `size` of them.
        let (list, data, txid, wtxid) = unsafe {
            (&mut *context.cast::<Vec<TemplateTransaction>>(), bytes(data, size), *txid, *wtxid)
        };
        list.push(TemplateTransaction {
            data: data.into(),
            txid: Txid(txid),
            wtxid: Wtxid(wtxid),
            fee: fee.unsigned_abs(),
            sigops: sigops.unsigned_abs(),
        });
    }

    let mut list: Vec<TemplateTransaction> = Vec::new();
    let mut error = Vec::new();
    let context = ptr::from_mut(&mut list).cast();
    // SAFETY: the handle holds a live template, the context is what `each` takes it for.
    let code =
        unsafe { seam_template_transactions(current.0.as_ptr(), context, each, sink(&mut error)) };
    found(code, &text(error), "").map(|_| list)
}

/// 32 bytes a hash, in the order of the block.
pub(crate) fn template_wtxids(current: &Handle) -> Result<Vec<u8>, Error> {
    let mut wtxids = Vec::new();
    let mut error = Vec::new();
    // SAFETY: the handle holds a live template; see the module.
    let code =
        unsafe { seam_template_wtxids(current.0.as_ptr(), sink(&mut wtxids), sink(&mut error)) };
    found(code, &text(error), "").map(|_| wtxids)
}

/// As [`check_block`].
pub(crate) fn template_check(current: &Handle) -> Result<bool, Error> {
    let mut reason = Vec::new();
    // SAFETY: the handle holds a live template; see the module.
    let code = unsafe { seam_template_check(current.0.as_ptr(), sink(&mut reason)) };
    found(code, &text(reason), "")
}

pub(crate) fn template_submit(
    current: &Handle,
    version: i32,
    time: u32,
    nonce: u32,
    coinbase: &[u8],
) -> Result<RawVerdict, Error> {
    let mut result = 0;
    let mut reason = Vec::new();
    // SAFETY: the handle holds a live template; see the module.
    let code = unsafe {
        seam_template_submit(
            current.0.as_ptr(),
            version,
            time,
            nonce,
            coinbase.as_ptr(),
            coinbase.len(),
            &mut result,
            sink(&mut reason),
        )
    };
    let reason = text(reason);
    found(code, &reason, "coinbase transaction").map(|_| RawVerdict { result, reason })
}

pub(crate) fn submit_block(block: &[u8]) -> Result<RawVerdict, Error> {
    let mut result = 0;
    let mut reason = Vec::new();
    // SAFETY: see the module.
    let code =
        unsafe { seam_submit_block(block.as_ptr(), block.len(), &mut result, sink(&mut reason)) };
    let reason = text(reason);
    found(code, &reason, "block").map(|_| RawVerdict { result, reason })
}

/// Whether it is valid; false if it does not build on the tip, so that nobody knows.
pub(crate) fn check_block(
    block: &[u8],
    check_pow: bool,
    check_merkle_root: bool,
) -> Result<bool, Error> {
    let mut reason = Vec::new();
    let (pow, root) = (u8::from(check_pow), u8::from(check_merkle_root));
    // SAFETY: see the module.
    let code =
        unsafe { seam_check_block(block.as_ptr(), block.len(), pow, root, sink(&mut reason)) };
    found(code, &text(reason), "block")
}

pub(crate) fn block(hash: &BlockHash) -> Result<Option<RawBlock>, Error> {
    let mut out = RawBlock::default();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_block(hash.0.as_ptr(), &mut out, sink(&mut error)) };
    found(code, &text(error), "").map(|found| found.then_some(out))
}

pub(crate) fn block_at(height: u32) -> Result<Option<BlockHash>, Error> {
    let Ok(height) = i32::try_from(height) else { return Ok(None) };
    let mut hash = [0; 32];
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_block_at(height, hash.as_mut_ptr(), sink(&mut error)) };
    found(code, &text(error), "").map(|found| found.then_some(BlockHash(hash)))
}

pub(crate) fn block_read(hash: &BlockHash) -> Result<Option<Vec<u8>>, Error> {
    let mut block = Vec::new();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_block_read(hash.0.as_ptr(), sink(&mut block), sink(&mut error)) };
    found(code, &text(error), "").map(|found| found.then_some(block))
}

pub(crate) fn stored_tip() -> Result<Option<BlockHash>, Error> {
    let mut hash = [0; 32];
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_stored_tip(hash.as_mut_ptr(), sink(&mut error)) };
    found(code, &text(error), "").map(|found| found.then_some(BlockHash(hash)))
}

pub(crate) fn store() -> Result<(), Error> {
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe { seam_store(sink(&mut error)) };
    found(code, &text(error), "").map(drop)
}

pub(crate) fn transaction_by_wtxid(wtxid: &Wtxid) -> Result<Option<Vec<u8>>, Error> {
    let mut transaction = Vec::new();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe {
        seam_transaction_by_wtxid(wtxid.0.as_ptr(), sink(&mut transaction), sink(&mut error))
    };
    found(code, &text(error), "").map(|found| found.then_some(transaction))
}

pub(crate) fn transaction_submit(transaction: &[u8], max_fee: u64) -> Result<Txid, Error> {
    let max_fee = i64::try_from(max_fee).unwrap_or(i64::MAX);
    let mut txid = [0; 32];
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe {
        seam_transaction_submit(
            transaction.as_ptr(),
            transaction.len(),
            max_fee,
            txid.as_mut_ptr(),
            sink(&mut error),
        )
    };
    found(code, &text(error), "transaction").map(|_| Txid(txid))
}

pub(crate) fn address_script(address: &str) -> Result<Vec<u8>, Error> {
    let mut script = Vec::new();
    let mut error = Vec::new();
    // SAFETY: see the module.
    let code = unsafe {
        seam_address_script(address.as_ptr(), address.len(), sink(&mut script), sink(&mut error))
    };
    found(code, &text(error), "address").map(|_| script)
}

/// Whether there was what was asked for; `what` names the bytes that were passed in.
fn found(code: c_int, message: &str, what: &'static str) -> Result<bool, Error> {
    match code {
        OK => Ok(true),
        NOTHING => Ok(false),
        INTERRUPTED => Err(Error::Stopping),
        REJECTED => Err(Error::Rejected(message.to_owned())),
        MALFORMED => Err(Error::Malformed(what)),
        _ => Err(Error::Failed(message.to_owned())),
    }
}

/// For the length of one call: the caller keeps the buffer alive and does not touch it.
fn sink(buffer: &mut Vec<u8>) -> Sink {
    extern "C" fn append(context: *mut c_void, data: *const u8, size: usize) {
        // SAFETY: the context is the buffer that `sink` was given, in use by this call only.
        let (buffer, data) = unsafe { (&mut *context.cast::<Vec<u8>>(), bytes(data, size)) };
        buffer.extend_from_slice(data);
    }

    Sink { context: ptr::from_mut(buffer).cast(), append }
}

/// Called by Core on any of its threads, with its logger locked.
extern "C" fn log(line: *const u8, size: usize) {
    // SAFETY: the shim passes a string that lives as long as the call.
    let line = unsafe { bytes(line, size) };
    // A panic of a subscriber would otherwise unwind into C++. There is nobody to report it to.
    let _ = catch_unwind(|| crate::log::forward(&String::from_utf8_lossy(line)));
}

/// # Safety
/// `data` is readable for `size` bytes for the lifetime that the caller gives the result.
unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    // C++ gives null for the data of an empty container; Rust must not.
    if size == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, size) }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Rounded up, so that a short wait is a wait.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
