/// The log lines of the library and of librdkafka.
#ifndef TIDEGATE_LOG_HPP
#define TIDEGATE_LOG_HPP

#include "error.hpp"

#include <functional>

namespace tidegate {
inline namespace TIDEGATE_FACE {

/// Called with the level, "tidegate" or "librdkafka", and the line; on whichever thread logs, also on several at once. There is nobody
/// to whom an exception could go: it is dropped.
using LogCallback = std::function<void(tg_log_level, const char* target, const char* message)>;

/// Sends the log lines of the whole process, from `level` up, to a callback; one that was set before is replaced.
inline Returned<void> set_log_callback(tg_log_level level, LogCallback callback) {
    auto kept = std::make_unique<LogCallback>(std::move(callback));
    const auto line = [](tg_log_level of_line, const char* target, const char* message, void* user_data) noexcept {
#if TIDEGATE_THROWS
        try {
            (*static_cast<const LogCallback*>(user_data))(of_line, target, message);
        } catch (...) {
        }
#else
        (*static_cast<const LogCallback*>(user_data))(of_line, target, message);
#endif
    };
    const auto end = [](void* user_data) { delete static_cast<LogCallback*>(user_data); };
    const tg_status status = tg_set_log_callback(level, line, kept.get(), end);
    static_cast<void>(detail::failed(status) ? nullptr : kept.release());
    return detail::done(status);
}

/// Log lines go nowhere from now on.
inline void clear_log_callback() { tg_set_log_callback(TG_LOG_ERROR, nullptr, nullptr, nullptr); }

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
