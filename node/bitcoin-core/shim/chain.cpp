// What Bitcoin Core knows: its state, its blocks, its transactions, its addresses.

#include "compat.h"
#include "internal.h"

#include <chain.h>
#include <common/messages.h>
#include <consensus/validation.h>
#include <key_io.h>
#include <net.h>
#include <node/blockstorage.h>
#include <node/types.h>
#include <primitives/block.h>
#include <primitives/transaction.h>
#include <txdb.h>
#include <txmempool.h>
#include <util/translation.h>
#include <validation.h>

#include <string>

namespace seam {

CTransactionRef FromTemplates(const Wtxid& wtxid);

namespace {

//! A transaction without inputs reads as one with a witness, hence the two tries of DecodeHexTx.
bool DecodeTransaction(const uint8_t* data, size_t size, CMutableTransaction& transaction)
{
    for (const TransactionSerParams& format : {TX_WITH_WITNESS, TX_NO_WITNESS}) {
        try {
            DataStream stream{std::span{data, size}};
            stream >> format(transaction);
            if (stream.empty()) return true;
        } catch (const std::exception&) {
            // The other format is tried; if both fail the caller hears of it.
        }
    }
    return false;
}

} // namespace
} // namespace seam

using namespace seam;

int seam_status(seam_status_out* out, seam_sink error)
{
    return Guarded(error, [&] {
        const node::NodeContext& node{Node()};
        {
            LOCK(cs_main);
            const ChainstateManager& chainman{*node.chainman};
            const CBlockIndex* const tip{chainman.ActiveChain().Tip()};
            if (!tip) {
                Put(error, std::string_view{"no chain is loaded"});
                return SEAM_FAILED;
            }
            WriteHash(tip->GetBlockHash(), out->tip);
            out->height = tip->nHeight;
            out->tip_time = tip->GetBlockTime();
            out->median_time_past = tip->GetMedianTimePast();
            const CBlockIndex* const header{chainman.m_best_header ? chainman.m_best_header : tip};
            out->headers_height = header->nHeight;
            out->headers_time = header->GetBlockTime();
            out->verification_progress = chainman.GuessVerificationProgress(tip);
            out->initial_block_download = chainman.IsInitialBlockDownload();
        }
        if (node.connman) {
            out->peers_inbound = node.connman->GetNodeCount(ConnectionDirection::In);
            out->peers_outbound = node.connman->GetNodeCount(ConnectionDirection::Out);
        }
        if (node.mempool) {
            LOCK(node.mempool->cs);
            out->mempool_transactions = node.mempool->size();
            out->mempool_bytes = node.mempool->GetTotalTxSize();
        }
        return SEAM_OK;
    });
}

int seam_block(const uint8_t hash[32], seam_block_out* out, seam_sink error)
{
    return Guarded(error, [&] {
        LOCK(cs_main);
        const ChainstateManager& chainman{*Node().chainman};
        const CBlockIndex* const index{chainman.m_blockman.LookupBlockIndex(ReadHash(hash))};
        if (!index) return SEAM_NOTHING;
        out->height = index->nHeight;
        out->time = index->GetBlockTime();
        out->median_time_past = index->GetMedianTimePast();
        out->has_data = (index->nStatus & BLOCK_HAVE_DATA) != 0;
        out->failed = (index->nStatus & BLOCK_FAILED_VALID) != 0;
        out->confirmations = compat::Contains(chainman.ActiveChain(), *index) ? chainman.ActiveChain().Height() - index->nHeight + 1 : 0;
        WriteHash(index->pprev ? index->pprev->GetBlockHash() : uint256::ZERO, out->previous);
        return SEAM_OK;
    });
}

int seam_block_at(int32_t height, uint8_t hash[32], seam_sink error)
{
    return Guarded(error, [&] {
        LOCK(cs_main);
        const CBlockIndex* const index{Node().chainman->ActiveChain()[height]};
        if (!index) return SEAM_NOTHING;
        WriteHash(index->GetBlockHash(), hash);
        return SEAM_OK;
    });
}

int seam_block_read(const uint8_t hash[32], seam_sink out, seam_sink error)
{
    return Guarded(error, [&] {
        const node::BlockManager& blockman{Node().chainman->m_blockman};
        const CBlockIndex* index;
        {
            LOCK(cs_main);
            index = blockman.LookupBlockIndex(ReadHash(hash));
            if (!index || !(index->nStatus & BLOCK_HAVE_DATA)) return SEAM_NOTHING;
        }
        CBlock block;
        // Pruning may have removed it since.
        if (!blockman.ReadBlock(block, *index)) return SEAM_NOTHING;
        PutSerialized(out, TX_WITH_WITNESS(block));
        return SEAM_OK;
    });
}

int seam_stored_tip(uint8_t hash[32], seam_sink error)
{
    return Guarded(error, [&] {
        LOCK(cs_main);
        // The block index is written before the outputs that this is the state of.
        const uint256 best{Node().chainman->ActiveChainstate().CoinsDB().GetBestBlock()};
        if (best.IsNull()) return SEAM_NOTHING;
        WriteHash(best, hash);
        return SEAM_OK;
    });
}

int seam_store(seam_sink error)
{
    return Guarded(error, [&] {
        LOCK(cs_main);
        compat::Store(Node().chainman->ActiveChainstate());
        return SEAM_OK;
    });
}

int seam_transaction_by_wtxid(const uint8_t hash[32], seam_sink out, seam_sink error)
{
    return Guarded(error, [&] {
        const Wtxid wtxid{Wtxid::FromUint256(ReadHash(hash))};
        CTransactionRef transaction;
        if (Node().mempool) transaction = Node().mempool->info(wtxid).tx;
        if (!transaction) transaction = FromTemplates(wtxid);
        if (!transaction) return SEAM_NOTHING;
        PutSerialized(out, TX_WITH_WITNESS(*transaction));
        return SEAM_OK;
    });
}

int seam_transaction_submit(const uint8_t* data, size_t size, int64_t max_fee, uint8_t txid[32],
                            seam_sink error)
{
    return Guarded(error, [&] {
        CMutableTransaction decoded;
        if (!DecodeTransaction(data, size, decoded)) return SEAM_MALFORMED;
        const CTransactionRef transaction{MakeTransactionRef(std::move(decoded))};
        std::string details;
        const auto result{Interface().broadcastTransaction(transaction, max_fee, details)};
        if (result == node::TransactionError::OK) {
            WriteHash(transaction->GetHash().ToUint256(), txid);
            return SEAM_OK;
        }
        Put(error, std::string_view{details.empty() ? common::TransactionErrorString(result).original : details});
        return SEAM_REJECTED;
    });
}

int seam_address_script(const uint8_t* address, size_t size, seam_sink script, seam_sink error)
{
    return Guarded(error, [&] {
        std::string problem;
        const CTxDestination destination{DecodeDestination(std::string{address, address + size}, problem)};
        if (!IsValidDestination(destination)) {
            Put(error, std::string_view{problem});
            return SEAM_REJECTED;
        }
        const CScript bytes{GetScriptForDestination(destination)};
        Put(script, std::span<const unsigned char>{bytes.data(), bytes.size()});
        return SEAM_OK;
    });
}
