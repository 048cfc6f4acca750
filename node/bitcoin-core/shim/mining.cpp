// Block templates, waiting for a tip, and handing blocks to Bitcoin Core.

#include "compat.h"
#include "internal.h"

#include <chain.h>
#include <consensus/consensus.h>
#include <consensus/validation.h>
#include <crypto/sha256.h>
#include <init.h>
#include <node/miner.h>
#include <primitives/block.h>
#include <primitives/transaction.h>
#include <uint256.h>
#include <validation.h>
#include <validationinterface.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

//! A template is never changed after it was made, so that several threads may read and solve it.
struct seam_template {
    std::unique_ptr<interfaces::BlockTemplate> handle;
};

namespace seam {
namespace {

//! Every template that Rust holds, oldest first: where transactions of older jobs are still found.
std::mutex g_templates_mutex;
std::vector<const seam_template*> g_templates;

int Publish(std::unique_ptr<interfaces::BlockTemplate> handle, seam_template** out, int otherwise)
{
    if (!handle) return otherwise;
    auto owned{std::make_unique<seam_template>(std::move(handle))};
    const std::lock_guard lock{g_templates_mutex};
    g_templates.push_back(owned.get());
    *out = owned.release();
    return SEAM_OK;
}

//! The coinbase's merkle branch, as getCoinbaseMerklePath() gives it: that hashes one pair at a time, this a level, which the
//! processor does several times faster. A new job waits for it.
std::vector<uint256> CoinbaseBranch(const CBlock& block)
{
    std::vector<uint256> level, branch;
    level.reserve(block.vtx.size() + 1);
    // The coinbase's own place: nothing of the branch depends on it.
    level.emplace_back();
    for (size_t i{1}; i < block.vtx.size(); ++i) level.push_back(block.vtx[i]->GetHash().ToUint256());
    while (level.size() > 1) {
        branch.push_back(level[1]);
        if (level.size() % 2) level.push_back(level.back());
        SHA256D64(level[0].begin(), level[0].begin(), level.size() / 2);
        level.resize(level.size() / 2);
    }
    return branch;
}

bool Stopping() { return ShutdownRequested(Node()); }

//! Learns what became of one block. Core tells it before ProcessNewBlock returns.
class Verdict final : public CValidationInterface
{
public:
    explicit Verdict(const uint256& hash) : m_hash{hash} {}
    bool found{false};
    BlockValidationState state;

protected:
    void BlockChecked(const std::shared_ptr<const CBlock>& block, const BlockValidationState& checked) override
    {
        if (block->GetHash() != m_hash) return;
        found = true;
        state = checked;
    }

private:
    const uint256 m_hash;
};

void PutReason(const seam_sink& sink, const BlockValidationState& state)
{
    Put(sink, std::string_view{state.GetRejectReason()});
    if (state.GetDebugMessage().empty()) return;
    Put(sink, std::string_view{": "});
    Put(sink, std::string_view{state.GetDebugMessage()});
}

//! As the submitblock RPC does, but for the witness reserved value, which is the caller's.
int Submit(const std::shared_ptr<const CBlock>& block, int* result, const seam_sink& reason)
{
    auto& signals{*Node().validation_signals};
    const auto verdict{std::make_shared<Verdict>(block->GetHash())};
    bool is_new{false};
    signals.RegisterSharedValidationInterface(verdict);
    const bool accepted{Node().chainman->ProcessNewBlock(block, /*force_processing=*/true, /*min_pow_checked=*/true, &is_new)};
    signals.UnregisterSharedValidationInterface(verdict);

    if (accepted && !is_new) {
        *result = SEAM_BLOCK_DUPLICATE;
    } else if (verdict->found && !verdict->state.IsValid()) {
        *result = SEAM_BLOCK_REJECTED;
        PutReason(reason, verdict->state);
    } else if (verdict->found) {
        *result = SEAM_BLOCK_ACCEPTED;
    } else {
        *result = SEAM_BLOCK_INCONCLUSIVE;
    }
    return SEAM_OK;
}

int Check(const CBlock& block, bool check_pow, bool check_merkle_root, const seam_sink& reason)
{
    {
        LOCK(cs_main);
        if (Node().chainman->ActiveChain().Tip()->GetBlockHash() != block.hashPrevBlock) return SEAM_NOTHING;
    }
    std::string why;
    std::string details;
    const node::BlockCheckOptions options{.check_merkle_root = check_merkle_root, .check_pow = check_pow};
    if (Mining().checkBlock(block, options, why, details)) return SEAM_OK;
    // A tip that came between the two.
    if (why == "inconclusive-not-best-prevblk") return SEAM_NOTHING;
    Put(reason, std::string_view{details.empty() ? why : why + ": " + details});
    return SEAM_REJECTED;
}

template <typename Object>
bool Decode(const uint8_t* data, size_t size, Object& object)
{
    try {
        DataStream stream{std::span{data, size}};
        stream >> TX_WITH_WITNESS(object);
        return stream.empty();
    } catch (const std::exception&) {
        return false;
    }
}

//! Core adds the timeout to a clock's nanoseconds: keep it where that cannot overflow.
MillisecondsDouble Timeout(uint64_t timeout_ms)
{
    constexpr uint64_t LONGEST{uint64_t{1000} * 60 * 60 * 24 * 365};
    return MillisecondsDouble{std::min(timeout_ms, LONGEST)};
}

} // namespace

CTransactionRef FromTemplates(const Wtxid& wtxid)
{
    const std::lock_guard lock{g_templates_mutex};
    for (auto it{g_templates.rbegin()}; it != g_templates.rend(); ++it) {
        const CBlock block{(*it)->handle->getBlock()};
        // The first is the dummy coinbase.
        for (size_t i{1}; i < block.vtx.size(); ++i) {
            if (block.vtx[i]->GetWitnessHash() == wtxid) return block.vtx[i];
        }
    }
    return nullptr;
}

} // namespace seam

using namespace seam;

// The same numbers stand in src/ffi.rs: a field added on one side only does not compile.
static_assert(sizeof(seam_status_out) == 104);
static_assert(sizeof(seam_tip_out) == 56);
static_assert(sizeof(seam_template_options) == 32);
static_assert(sizeof(seam_template_out) == 144);
static_assert(sizeof(seam_block_out) == 64);

int seam_wait_tip(const uint8_t known[32], uint64_t timeout_ms, seam_tip_out* out, seam_sink error)
{
    return Guarded(error, [&] {
        const uint256 known_hash{ReadHash(known)};
        const auto tip{Mining().waitTipChanged(known_hash, Timeout(timeout_ms))};
        if (!tip) return SEAM_INTERRUPTED;
        if (tip->hash == known_hash) return SEAM_NOTHING;
        LOCK(cs_main);
        const CBlockIndex* const index{Node().chainman->m_blockman.LookupBlockIndex(tip->hash)};
        if (!index) return SEAM_NOTHING;
        WriteHash(tip->hash, out->hash);
        out->height = index->nHeight;
        out->time = index->GetBlockTime();
        out->median_time_past = index->GetMedianTimePast();
        return SEAM_OK;
    });
}

int seam_template_new(const seam_template_options* options, seam_template** out, seam_sink error)
{
    return Guarded(error, [&] {
        node::BlockCreateOptions create;
        create.use_mempool = options->use_mempool;
        compat::SetCheck(create, options->check);
        compat::PadShortScript(Mining(), create);
        create.coinbase_output_max_additional_sigops = options->reserved_sigops;
        if (options->reserved_weight) create.block_reserved_weight = options->reserved_weight;
        if (options->max_weight) compat::SetMaxWeight(create, options->max_weight);
        return Publish(compat::CreateNewBlock(Mining(), create), out, SEAM_INTERRUPTED);
    });
}

int seam_template_wait(const seam_template* current, int64_t fee_threshold, uint64_t timeout_ms,
                       seam_template** out, seam_sink error)
{
    return Guarded(error, [&] {
        node::BlockWaitOptions wait;
        wait.timeout = Timeout(timeout_ms);
        if (fee_threshold >= 0) wait.fee_threshold = std::min(fee_threshold, MAX_MONEY);
        auto next{current->handle->waitNext(wait)};
        return Publish(std::move(next), out, Stopping() ? SEAM_INTERRUPTED : SEAM_NOTHING);
    });
}

int seam_template_read(const seam_template* current, seam_template_out* out, seam_sink merkle_branch,
                       seam_sink script_prefix, seam_sink outputs, seam_sink error)
{
    return Guarded(error, [&] {
        const CBlockHeader header{current->handle->getBlockHeader()};
        const auto coinbase{current->handle->getCoinbaseTx()};
        const auto fees{current->handle->getTxFees()};
        WriteHash(header.hashPrevBlock, out->previous);
        out->version = header.nVersion;
        out->time = header.nTime;
        out->bits = header.nBits;
        out->reward = coinbase.block_reward_remaining;
        out->transactions = fees.size();
        out->fees = 0;
        for (const CAmount fee : fees) out->fees += fee;
        out->coinbase_version = coinbase.version;
        out->coinbase_sequence = coinbase.sequence;
        out->coinbase_lock_time = coinbase.lock_time;
        out->has_witness_reserved = coinbase.witness.has_value();
        if (coinbase.witness) WriteHash(*coinbase.witness, out->witness_reserved);
        for (const uint256& hash : CoinbaseBranch(current->handle->getBlock())) {
            Put(merkle_branch, std::span<const unsigned char>{hash.begin(), 32});
        }
        Put(script_prefix, std::span<const unsigned char>{coinbase.script_sig_prefix.data(), coinbase.script_sig_prefix.size()});
        for (const CTxOut& output : coinbase.required_outputs) PutSerialized(outputs, output);
        LOCK(cs_main);
        const ChainstateManager& chainman{*Node().chainman};
        const CBlockIndex* const previous{chainman.m_blockman.LookupBlockIndex(header.hashPrevBlock)};
        if (!previous) {
            Put(error, std::string_view{"the template's previous block is unknown"});
            return SEAM_FAILED;
        }
        out->height = previous->nHeight + 1;
        out->median_time_past = previous->GetMedianTimePast();
        out->min_time = node::GetMinimumTime(previous, chainman.GetConsensus().DifficultyAdjustmentInterval());
        return SEAM_OK;
    });
}

int seam_template_transactions(const seam_template* current, void* context, seam_transaction each,
                               seam_sink error)
{
    return Guarded(error, [&] {
        const CBlock block{current->handle->getBlock()};
        const auto fees{current->handle->getTxFees()};
        const auto sigops{current->handle->getTxSigops()};
        if (block.vtx.size() != fees.size() + 1 || fees.size() != sigops.size()) {
            Put(error, std::string_view{"the template's lists differ in length"});
            return SEAM_FAILED;
        }
        DataStream stream{};
        for (size_t i{0}; i < fees.size(); ++i) {
            const CTransactionRef& tx{block.vtx[i + 1]};
            stream.clear();
            stream << TX_WITH_WITNESS(*tx);
            each(context, reinterpret_cast<const uint8_t*>(stream.data()), stream.size(),
                 tx->GetHash().ToUint256().begin(), tx->GetWitnessHash().ToUint256().begin(), fees[i], sigops[i]);
        }
        return SEAM_OK;
    });
}

int seam_template_wtxids(const seam_template* current, seam_sink wtxids, seam_sink error)
{
    return Guarded(error, [&] {
        const CBlock block{current->handle->getBlock()};
        for (size_t i{1}; i < block.vtx.size(); ++i) {
            Put(wtxids, std::span<const unsigned char>{block.vtx[i]->GetWitnessHash().ToUint256().begin(), 32});
        }
        return SEAM_OK;
    });
}

int seam_template_check(const seam_template* current, seam_sink reason)
{
    // The merkle root is the miner's to fill in, and the coinbase is Core's dummy.
    return Guarded(reason, [&] { return Check(current->handle->getBlock(), false, false, reason); });
}

int seam_template_submit(const seam_template* current, int32_t version, uint32_t time, uint32_t nonce,
                         const uint8_t* coinbase, size_t size, int* result, seam_sink reason)
{
    return Guarded(reason, [&] {
        CMutableTransaction transaction;
        if (!Decode(coinbase, size, transaction)) return int{SEAM_MALFORMED};
        // Not BlockTemplate::submitSolution: it changes the template, and keeps the verdict to itself.
        const auto block{std::make_shared<CBlock>(current->handle->getBlock())};
        node::AddMerkleRootAndCoinbase(*block, MakeTransactionRef(std::move(transaction)), version, time, nonce);
        return Submit(block, result, reason);
    });
}

void seam_template_free(seam_template* current)
{
    {
        const std::lock_guard lock{g_templates_mutex};
        std::erase(g_templates, current);
    }
    delete current;
}

int seam_submit_block(const uint8_t* data, size_t size, int* result, seam_sink reason)
{
    return Guarded(reason, [&] {
        const auto block{std::make_shared<CBlock>()};
        if (!Decode(data, size, *block)) return int{SEAM_MALFORMED};
        return Submit(block, result, reason);
    });
}

int seam_check_block(const uint8_t* data, size_t size, uint8_t check_pow, uint8_t check_merkle_root,
                     seam_sink reason)
{
    return Guarded(reason, [&] {
        CBlock block;
        if (!Decode(data, size, block)) return int{SEAM_MALFORMED};
        return Check(block, check_pow, check_merkle_root, reason);
    });
}
