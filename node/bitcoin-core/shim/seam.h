/* The C interface between Rust and Bitcoin Core: what src/ffi.rs declares, and nothing else.
 *
 * Rules: only C types cross it; memory never changes owner across it, except a seam_template,
 * which Rust frees with seam_template_free; bytes go out through a sink that copies them; no
 * function throws. Hashes are 32 bytes in internal order (as hashed, the reverse of what is
 * printed). Every function but seam_start, seam_request_stop and seam_wait_shutdown needs a
 * seam_start that returned SEAM_OK, and no seam_stop yet. */
#ifndef SEAM_H
#define SEAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum seam_result {
    SEAM_OK = 0,
    SEAM_NOTHING = 1,     /* a timeout passed, or what was asked for is not known */
    SEAM_INTERRUPTED = 2, /* Core was asked to stop */
    SEAM_REJECTED = 3,    /* Core's rules refuse it; the sink has the reason */
    SEAM_MALFORMED = 4,   /* the bytes do not decode */
    SEAM_FAILED = 5,      /* anything else; the sink has the message */
    SEAM_BAD_OPTION = 6,  /* seam_start: an option or the configuration file */
    SEAM_LOCKED = 7,      /* seam_start: a directory is in use or not writable */
};

enum seam_block_result {
    SEAM_BLOCK_ACCEPTED = 0,
    SEAM_BLOCK_DUPLICATE = 1,
    SEAM_BLOCK_INCONCLUSIVE = 2,
    SEAM_BLOCK_REJECTED = 3,
};

/* Receives bytes; may be called more than once, each call appends. */
typedef struct {
    void* context;
    void (*append)(void* context, const uint8_t* data, size_t size);
} seam_sink;

typedef struct {
    uint8_t tip[32];
    int64_t tip_time;
    int64_t median_time_past;
    int64_t headers_time;
    double verification_progress;
    uint64_t mempool_transactions;
    uint64_t mempool_bytes;
    uint32_t peers_inbound;
    uint32_t peers_outbound;
    int32_t height;
    int32_t headers_height;
    uint8_t initial_block_download;
} seam_status_out;

typedef struct {
    uint8_t hash[32];
    int64_t time;
    int64_t median_time_past;
    int32_t height;
} seam_tip_out;

typedef struct {
    uint64_t reserved_weight; /* 0: Core's own default */
    uint64_t max_weight;      /* 0: Core's own default */
    uint64_t reserved_sigops;
    uint8_t use_mempool;
    uint8_t check;
} seam_template_options;

typedef struct {
    uint8_t previous[32];
    int64_t time;
    int64_t min_time;
    int64_t median_time_past;
    int64_t reward;
    int64_t fees;
    uint64_t transactions;
    int32_t version;
    uint32_t bits;
    int32_t height;
    uint32_t coinbase_version;
    uint32_t coinbase_sequence;
    uint32_t coinbase_lock_time;
    uint8_t witness_reserved[32];
    uint8_t has_witness_reserved;
} seam_template_out;

typedef struct {
    int64_t time;
    int64_t median_time_past;
    int32_t height;
    int32_t confirmations; /* 0: not in the active chain */
    uint8_t has_data;
    uint8_t failed;
    uint8_t previous[32];
} seam_block_out;

typedef struct seam_template seam_template;

/* Core's log, one line a call, as it would stand in debug.log. */
typedef void (*seam_log)(const uint8_t* line, size_t size);

int seam_start(const char* const* arguments, size_t count, seam_log log, seam_sink error);
/* May be called at any time, from any thread, also before and during seam_start. */
void seam_request_stop(void);
/* Waits until Core wants to stop, for whatever reason; the sink has Core's error, if there was one. */
int seam_wait_shutdown(uint64_t timeout_ms, seam_sink reason);
int seam_stop(seam_sink error);

int seam_status(seam_status_out* out, seam_sink error);
int seam_wait_tip(const uint8_t known[32], uint64_t timeout_ms, seam_tip_out* out, seam_sink error);

int seam_template_new(const seam_template_options* options, seam_template** out, seam_sink error);
/* fee_threshold < 0: only a new tip ends the wait. */
int seam_template_wait(const seam_template* current, int64_t fee_threshold, uint64_t timeout_ms,
                       seam_template** out, seam_sink error);
int seam_template_read(const seam_template* current, seam_template_out* out, seam_sink merkle_branch,
                       seam_sink script_prefix, seam_sink outputs, seam_sink error);
typedef void (*seam_transaction)(void* context, const uint8_t* data, size_t size, const uint8_t txid[32],
                                 const uint8_t wtxid[32], int64_t fee, int64_t sigops);
int seam_template_transactions(const seam_template* current, void* context, seam_transaction each,
                               seam_sink error);
/* 32 bytes each, in the order of the block. */
int seam_template_wtxids(const seam_template* current, seam_sink wtxids, seam_sink error);
/* SEAM_NOTHING if it does not build on the present tip, as with seam_check_block. */
int seam_template_check(const seam_template* current, seam_sink reason);
int seam_template_submit(const seam_template* current, int32_t version, uint32_t time, uint32_t nonce,
                         const uint8_t* coinbase, size_t size, int* result, seam_sink reason);
void seam_template_free(seam_template* current);

int seam_submit_block(const uint8_t* block, size_t size, int* result, seam_sink reason);
int seam_check_block(const uint8_t* block, size_t size, uint8_t check_pow, uint8_t check_merkle_root,
                     seam_sink reason);

int seam_block(const uint8_t hash[32], seam_block_out* out, seam_sink error);
int seam_block_at(int32_t height, uint8_t hash[32], seam_sink error);
int seam_block_read(const uint8_t hash[32], seam_sink block, seam_sink error);
/* The block up to which the chain is on disk; SEAM_NOTHING if none is. */
int seam_stored_tip(uint8_t hash[32], seam_sink error);
int seam_store(seam_sink error);

int seam_transaction_by_wtxid(const uint8_t wtxid[32], seam_sink transaction, seam_sink error);
int seam_transaction_submit(const uint8_t* transaction, size_t size, int64_t max_fee, uint8_t txid[32],
                            seam_sink error);
int seam_address_script(const uint8_t* address, size_t size, seam_sink script, seam_sink error);

#ifdef __cplusplus
}
#endif

#endif
