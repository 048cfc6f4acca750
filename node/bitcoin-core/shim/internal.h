// What the parts of the shim share: the one node, and how its exceptions become results.
#ifndef SEAM_INTERNAL_H
#define SEAM_INTERNAL_H

#include <bitcoin-build-config.h> // IWYU pragma: keep

#include "seam.h"

#include <interfaces/mining.h>
#include <interfaces/node.h>
#include <node/context.h>
#include <streams.h>
#include <uint256.h>

#include <cstring>
#include <exception>
#include <span>
#include <string_view>

namespace seam {

//! The only node of this process. Never destroyed: Core's threads may outlive main.
node::NodeContext& Node();
//! Valid from a successful seam_start on.
interfaces::Mining& Mining();
interfaces::Node& Interface();

inline void Put(const seam_sink& sink, std::string_view text)
{
    sink.append(sink.context, reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

inline void Put(const seam_sink& sink, std::span<const unsigned char> bytes)
{
    sink.append(sink.context, bytes.data(), bytes.size());
}

template <typename T>
void PutSerialized(const seam_sink& sink, const T& object)
{
    DataStream stream{};
    stream << object;
    sink.append(sink.context, reinterpret_cast<const uint8_t*>(stream.data()), stream.size());
}

inline uint256 ReadHash(const uint8_t hash[32]) { return uint256{std::span<const unsigned char>{hash, 32}}; }
inline void WriteHash(const uint256& hash, uint8_t out[32]) { std::memcpy(out, hash.begin(), 32); }

//! Runs one call. Nothing may leave the shim as an exception: it would unwind into Rust.
template <typename Call>
int Guarded(const seam_sink& error, Call call) noexcept
{
    try {
        return call();
    } catch (const std::exception& e) {
        Put(error, std::string_view{e.what()});
    } catch (...) {
        Put(error, std::string_view{"unknown exception"});
    }
    return SEAM_FAILED;
}

} // namespace seam

#endif // SEAM_INTERNAL_H
