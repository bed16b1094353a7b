/// Errors, as exceptions or as values, and the handles that everything else is made of.
#ifndef TIDEGATE_ERROR_HPP
#define TIDEGATE_ERROR_HPP

#include "../tidegate.h"

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(TIDEGATE_NO_EXCEPTIONS) || !defined(__cpp_exceptions)
#define TIDEGATE_THROWS 0
#define TIDEGATE_FACE returning
#else
#define TIDEGATE_THROWS 1
#define TIDEGATE_FACE throwing
#endif

namespace tidegate {
// Files compiled with and without exceptions may be linked together: their names differ.
inline namespace TIDEGATE_FACE {

/// Waits without a limit, where a function allows that.
inline constexpr std::chrono::milliseconds forever{TG_FOREVER};

/// One problem of a configuration.
struct Problem {
    std::string property;
    std::string value;  ///< As it was written; secrets are replaced.
    std::string reason;
    std::string remedy;     ///< What to write instead.
    bool is_error = false;  ///< False for a warning.

    explicit Problem(const tg_config_problem& problem)
        : property(problem.property), value(problem.value), reason(problem.reason), remedy(problem.remedy), is_error(problem.is_error) {}
};

/// What went wrong. Cheap to copy; independent of the library once made.
class Error : public std::exception {
public:
    /// An error of this side, such as a text with a NUL in it.
    Error(tg_status status, std::string argument, std::string message) {
        auto content = std::make_shared<Content>();
        content->status = status;
        content->argument = std::move(argument);
        content->message = std::move(message);
        content_ = std::move(content);
    }

    /// A copy of an error of C's.
    explicit Error(const tg_error& told) {
        auto content = std::make_shared<Content>();
        content->status = told.status;
        content->kafka_code = told.kafka_code;
        content->is_retriable = told.is_retriable;
        content->is_fatal = told.is_fatal;
        content->kafka_name = told.kafka_name == nullptr ? "" : told.kafka_name;
        content->argument = told.argument == nullptr ? "" : told.argument;
        content->message = told.message;
        for (std::size_t i = 0; i < told.problem_count; ++i) {
            content->problems.emplace_back(told.problems[i]);
        }
        content_ = std::move(content);
    }

    /// The error of the call of this thread that has just answered `status`.
    static Error last(tg_status status) {
        const tg_error* told = tg_last_error();
        return told != nullptr && told->status == status ? Error(*told) : Error(status, "", tg_status_name(status));
    }

    /// What kind of error, and its name, such as "ARGUMENT".
    tg_status status() const noexcept { return content_->status; }
    const char* status_name() const noexcept { return tg_status_name(content_->status); }
    /// Kafka's own code as librdkafka numbers it, 0 for none, and its name, empty for none.
    std::int32_t kafka_code() const noexcept { return content_->kafka_code; }
    const std::string& kafka_name() const noexcept { return content_->kafka_name; }
    /// The same call may succeed later without a change.
    bool is_retriable() const noexcept { return content_->is_retriable; }
    /// The object is of no more use: close it and make a new one.
    bool is_fatal() const noexcept { return content_->is_fatal; }
    /// The argument that was wrong, or the first wrong property; empty for none.
    const std::string& argument() const noexcept { return content_->argument; }
    /// What went wrong and what to do instead.
    const std::string& message() const noexcept { return content_->message; }
    const char* what() const noexcept override { return content_->message.c_str(); }
    /// Every problem of a configuration.
    const std::vector<Problem>& problems() const noexcept { return content_->problems; }

private:
    struct Content {
        tg_status status = TG_ERROR_INTERNAL;
        std::int32_t kafka_code = 0;
        bool is_retriable = false;
        bool is_fatal = false;
        std::string kafka_name;
        std::string argument;
        std::string message;
        std::vector<Problem> problems;
    };

    std::shared_ptr<const Content> content_;
};

#if TIDEGATE_THROWS
/// What a function that may fail gives: the value itself, and its errors are exceptions.
template <class T>
using Returned = T;
#else
/// A value, or why there is none. Looking at the value of a failure, or at the error of a success, ends the program.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : error_(std::move(error)) {}

    bool has_value() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return value_.has_value(); }
    const Error& error() const noexcept { return error_.has_value() ? *error_ : (std::terminate(), *error_); }
    T& value() & noexcept { return value_.has_value() ? *value_ : (std::terminate(), *value_); }
    const T& value() const& noexcept { return value_.has_value() ? *value_ : (std::terminate(), *value_); }
    T value() && noexcept { return std::move(value()); }
    T& operator*() & noexcept { return value(); }
    const T& operator*() const& noexcept { return value(); }
    T operator*() && noexcept { return std::move(value()); }
    T* operator->() noexcept { return &value(); }
    const T* operator->() const noexcept { return &value(); }

private:
    std::optional<T> value_;
    std::optional<Error> error_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    bool has_value() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return !error_.has_value(); }
    const Error& error() const noexcept { return error_.has_value() ? *error_ : (std::terminate(), *error_); }

private:
    std::optional<Error> error_;
};

/// What a function that may fail gives: a value or an error.
template <class T>
using Returned = Result<T>;
#endif

namespace detail {

inline bool failed(tg_status status) noexcept { return static_cast<std::int32_t>(status) >= TG_ERROR_CONFIG; }

#if TIDEGATE_THROWS
/// What a callback threw on this thread, on its way around the library.
inline std::exception_ptr& thrown() noexcept {
    thread_local std::exception_ptr exception;
    return exception;
}

inline void rethrow() {
    if (thrown()) {
        std::rethrow_exception(std::exchange(thrown(), nullptr));
    }
}

template <class T>
[[noreturn]] T fail(Error error) {
    throw error;
}

template <class T>
[[noreturn]] T fail(tg_status status) {
    rethrow();
    throw Error::last(status);
}

inline void done(tg_status status) {
    if (failed(status)) {
        fail<void>(status);
    }
}

/// Runs a callback's body for C: an exception stops here, answers 1, and goes on when the library's function has returned.
template <class Body>
int contain(Body&& body) noexcept {
    try {
        return body();
    } catch (...) {
        if (!thrown()) {
            thrown() = std::current_exception();
        }
        return 1;
    }
}
#else
template <class T>
Result<T> fail(Error error) {
    return Result<T>(std::move(error));
}

template <class T>
Result<T> fail(tg_status status) {
    return Result<T>(Error::last(status));
}

inline Result<void> done(tg_status status) { return failed(status) ? fail<void>(status) : Result<void>(); }

inline void rethrow() noexcept {}

template <class Body>
int contain(Body&& body) noexcept {
    return body();
}
#endif

/// Calls a callback, which gives nothing (and may throw), or an int (0 for success).
template <class Callback, class... Arguments>
int call(Callback& callback, Arguments&&... arguments) {
    if constexpr (std::is_void_v<std::invoke_result_t<Callback&, Arguments...>>) {
        callback(std::forward<Arguments>(arguments)...);
        return 0;
    } else {
        return static_cast<int>(callback(std::forward<Arguments>(arguments)...));
    }
}

/// Where a callable is, for C's `void*`; the callback knows its type, const included.
template <class Callable>
void* address(Callable& callable) noexcept {
    return const_cast<void*>(static_cast<const void*>(std::addressof(callable)));
}

/// An error when a text cannot be given to C.
inline std::optional<Error> refuse_nul(const char* argument, std::string_view text) {
    if (text.find('\0') == std::string_view::npos) {
        return std::nullopt;
    }
    return Error(TG_ERROR_ARGUMENT, argument, std::string(argument) + ": the text has a NUL in it; leave it out");
}

/// An error when this program was compiled for another library than the one that runs.
inline std::optional<Error> refuse_abi() {
    if (tg_abi_version() == TG_ABI_VERSION) {
        return std::nullopt;
    }
    return Error(TG_ERROR_INTERNAL, "",
                 "this program was compiled for ABI " + std::to_string(TG_ABI_VERSION) + " of tidegate, and the library that runs has ABI " +
                     std::to_string(tg_abi_version()) + "; compile it again");
}

/// A handle with one owner.
template <class Raw, tg_status (*Free)(Raw*)>
class Handle {
public:
    Handle() = default;
    explicit Handle(Raw* raw) noexcept : raw_(raw) {}
    Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    Handle& operator=(Handle&& other) noexcept {
        if (this != &other) {
            reset();
            raw_ = std::exchange(other.raw_, nullptr);
        }
        return *this;
    }
    ~Handle() { reset(); }

    void reset() noexcept {
        if (raw_ != nullptr) {
            Free(std::exchange(raw_, nullptr));
        }
    }
    Raw* get() const noexcept { return raw_; }
    Raw* release() noexcept { return std::exchange(raw_, nullptr); }
    /// For a C function that fills it.
    Raw** place() noexcept {
        reset();
        return &raw_;
    }

private:
    Raw* raw_ = nullptr;
};

/// A text of the library, copied.
inline std::string text(tg_text* made) {
    const Handle<tg_text, tg_text_free> owner(made);
    const tg_bytes bytes = tg_text_data(made);
    return bytes.data == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(bytes.data), bytes.length);
}

}  // namespace detail
}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
