// Where Bitcoin Core's own interfaces differ between release 31 and the snapshot that is pinned, so
// that SEAM_BITCOIN_SOURCE can name a release. Each is a template, for `if constexpr` drops what
// does not compile only there.
#ifndef SEAM_COMPAT_H
#define SEAM_COMPAT_H

#if __has_include(<node/mining_types.h>)
#include <node/mining_types.h>
#else
#include <node/types.h>
#endif

#if __has_include(<util/btcsignals.h>)
#include <util/btcsignals.h>
#elif __has_include(<btcsignals.h>)
#include <btcsignals.h>
#else
#include <boost/signals2/connection.hpp>
#endif

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

namespace seam::compat {

//! Signals were functions with a `NAME_connect` beside them, which took a caption, too, and gave a result.
template <typename UserInterface, typename Message, typename Question, typename Progress>
void Connect(UserInterface& ui, Message message, Question question, Progress progress)
{
    const auto show{[message](const auto& text, const auto&... rest) {
        message(text, std::get<sizeof...(rest) - 1>(std::tie(rest...)));
        return false;
    }};
    const auto ask{[question](const auto&, const std::string& text, const auto&... rest) {
        question(text, std::get<sizeof...(rest) - 1>(std::tie(rest...)));
        return false;
    }};
    if constexpr (requires { ui.InitMessage.connect(progress); }) {
        ui.ThreadSafeMessageBox.connect(show);
        ui.ThreadSafeQuestion.connect(ask);
        ui.InitMessage.connect(progress);
    } else {
        ui.ThreadSafeMessageBox_connect(show);
        ui.ThreadSafeQuestion_connect(ask);
        ui.InitMessage_connect(progress);
    }
}

//! Releases check every template; the option to leave that out is younger.
template <typename Options>
void SetCheck(Options& options, bool check)
{
    if constexpr (requires { options.test_block_validity; }) options.test_block_validity = check;
}

//! The BIP 34 script of heights up to 16 is a byte short of what consensus asks of a coinbase. For a while padding it was an
//! option; else Core does it by itself.
template <typename Mining, typename Options>
void PadShortScript(Mining& mining, Options& options)
{
    if constexpr (requires { options.include_dummy_extranonce; }) {
        const auto tip{mining.getTip()};
        options.include_dummy_extranonce = tip && tip->height < 16;
    }
}

template <typename Options>
void SetMaxWeight(Options& options, uint64_t weight)
{
    if constexpr (requires { options.block_max_weight; }) {
        options.block_max_weight = weight;
    } else {
        throw std::runtime_error{"this Bitcoin Core takes the largest weight from -blockmaxweight only"};
    }
}

//! Without waiting for the initial block download to end: the caller knows whether it wants that.
template <typename Mining, typename Options>
auto CreateNewBlock(Mining& mining, const Options& options)
{
    if constexpr (requires { mining.createNewBlock(options, false); }) {
        return mining.createNewBlock(options, /*cooldown=*/false);
    } else {
        return mining.createNewBlock(options);
    }
}

//! Writes the chain state to disk; newer ones can keep the cache.
template <typename Chainstate>
void Store(Chainstate& chainstate)
{
    if constexpr (requires { chainstate.ForceFlushStateToDisk(false); }) {
        chainstate.ForceFlushStateToDisk(/*wipe_cache=*/false);
    } else {
        chainstate.ForceFlushStateToDisk();
    }
}

template <typename Chain, typename Index>
bool Contains(const Chain& chain, const Index& index)
{
    if constexpr (requires { chain.Contains(index); }) {
        return chain.Contains(index);
    } else {
        return chain.Contains(&index);
    }
}

} // namespace seam::compat

#endif // SEAM_COMPAT_H
