/// Handlers run by the library, many records at once: callables, and tasks that are answered once, now or later.
#ifndef TIDEGATE_PROCESS_HPP
#define TIDEGATE_PROCESS_HPP

#include "consumer.hpp"
#include "producer.hpp"

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>

namespace tidegate {
inline namespace TIDEGATE_FACE {

/// Why a handler could not handle a record. A handler throws it, or gives it to Task::fail(); without exceptions it returns it.
class HandlerError : public std::runtime_error {
public:
    /// Worth another attempt, but not before `after`.
    static HandlerError retriable(const std::string& reason, std::chrono::milliseconds after = {}) { return HandlerError(reason, true, after); }
    /// Another attempt is pointless: the record has failed for good.
    static HandlerError terminal(const std::string& reason) { return HandlerError(reason, false, {}); }

    /// The kind of error, for logs and dead letters.
    HandlerError kind(std::string kind) const {
        HandlerError copy = *this;
        copy.kind_ = std::make_shared<const std::string>(std::move(kind));
        return copy;
    }
    const std::string& kind() const noexcept { return *kind_; }
    bool is_retriable() const noexcept { return is_retriable_; }
    std::chrono::milliseconds after() const noexcept { return after_; }

private:
    HandlerError(const std::string& reason, bool is_retriable, std::chrono::milliseconds after)
        : std::runtime_error(reason), kind_(std::make_shared<const std::string>()), is_retriable_(is_retriable), after_(after) {}

    std::shared_ptr<const std::string> kind_;
    bool is_retriable_;
    std::chrono::milliseconds after_;
};

namespace detail {

/// Texts up to their first NUL.
inline tg_status answer(tg_task* task, const HandlerError& error) noexcept {
    return error.is_retriable() ? tg_task_retry(task, std::max<std::int64_t>(error.after().count(), 0), error.kind().c_str(), error.what())
                                : tg_task_fail(task, error.kind().c_str(), error.what());
}

}  // namespace detail

/// A record that a handler has got, to be answered once, in the handler or later, on any thread. Moves and is not copied. One that ends
/// without an answer is a failed attempt, so that nothing is lost and nothing hangs.
class Task {
public:
    explicit Task(tg_task* task) noexcept : task_(task) {}
    Task(Task&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            drop("dropped without an answer");
            task_ = std::exchange(other.task_, nullptr);
        }
        return *this;
    }
    ~Task() { drop("dropped without an answer"); }

    /// The record, as long as there is no answer.
    Returned<Record> record() const {
        tg_record record;
        if (const tg_status status = tg_task_record(task_, &record); detail::failed(status)) {
            return detail::fail<Record>(status);
        }
        return Record(record);
    }
    /// 1 for the first; 0 after the answer.
    std::uint32_t attempt() const noexcept { return tg_task_attempt(task_); }
    /// The partition is somebody else's by now: the answer, which is still due, changes nothing.
    bool is_stale() const noexcept { return tg_task_is_stale(task_); }
    /// What the record costs, for ProcessOptions::rate_limit.
    Returned<void> charge(double cost) { return detail::done(tg_task_charge(task_, cost)); }

    /// It is handled. This and the other answers are errors (TG_ERROR_ARGUMENT) after the first.
    Returned<void> done() { return detail::done(tg_task_done(release())); }
    /// It failed.
    Returned<void> fail(const HandlerError& error) { return detail::done(detail::answer(release(), error)); }
    /// Another attempt, not before `after`.
    Returned<void> retry(std::chrono::milliseconds after = {}, const std::string& reason = {}) {
        return fail(HandlerError::retriable(reason, after));
    }
    /// Neither done nor failed: it comes again after a restart.
    Returned<void> give_back() { return detail::done(tg_task_give_back(release())); }

    /// Not answered, and not moved away.
    explicit operator bool() const noexcept { return task_ != nullptr; }
    tg_task* get() const noexcept { return task_; }
    /// For C, which answers it from here on.
    tg_task* release() noexcept { return std::exchange(task_, nullptr); }

private:
    void drop(const char* reason) noexcept {
        if (task_ != nullptr) {
            tg_task_retry(release(), 0, "Unanswered", reason);
        }
    }

    tg_task* task_;
};

/// How records are handled; tg_process_options tells each field.
struct ProcessOptions {
    std::size_t workers = 0;
    std::size_t max_in_flight = defaults().max_in_flight;
    std::size_t min_in_flight = defaults().min_in_flight;
    std::size_t max_queued = defaults().max_queued;
    std::size_t max_bytes = defaults().max_bytes;
    tg_order order = TG_ORDER_BY_KEY;
    tg_on_failure on_failure = TG_ON_FAILURE_STOP;
    /// Where failed records go, empty for nowhere; `on_failure` is TG_ON_FAILURE_DEAD_LETTER then.
    std::string dead_letter_topic{};
    /// Who sends them, nullptr for a producer of its own.
    Producer* dead_letter_producer = nullptr;
    std::uint64_t dead_letter_limit = TG_NO_LIMIT;
    tg_on_limit on_limit = TG_ON_LIMIT_STOP;
    /// 0: until it succeeds.
    std::uint32_t max_attempts = defaults().max_attempts;
    std::chrono::milliseconds backoff{defaults().backoff_ms};
    std::chrono::milliseconds max_backoff{defaults().max_backoff_ms};
    /// 0: any time.
    std::chrono::milliseconds attempt_timeout{0};
    /// Per second; 0: no limit.
    double rate_limit = 0;
    std::size_t batch_size = defaults().batch_size;
    std::chrono::milliseconds batch_timeout{defaults().batch_timeout_ms};
    std::size_t offset_map_bytes = defaults().offset_map_bytes;
    bool batch_of_one_partition = false;
    bool park_retries = false;
    bool retry_after_holds_all = false;

    /// As C wants it; points into this.
    tg_process_options raw() const noexcept {
        tg_process_options raw = defaults();
        raw.workers = workers;
        raw.max_in_flight = max_in_flight;
        raw.min_in_flight = min_in_flight;
        raw.max_queued = max_queued;
        raw.max_bytes = max_bytes;
        raw.order = order;
        raw.on_failure = !dead_letter_topic.empty() && on_failure == TG_ON_FAILURE_STOP ? TG_ON_FAILURE_DEAD_LETTER : on_failure;
        raw.dead_letter_topic = dead_letter_topic.empty() ? nullptr : dead_letter_topic.c_str();
        raw.dead_letter_producer = dead_letter_producer != nullptr ? dead_letter_producer->get() : nullptr;
        raw.dead_letter_limit = dead_letter_limit;
        raw.on_limit = on_limit;
        raw.max_attempts = max_attempts;
        raw.backoff_ms = backoff.count();
        raw.max_backoff_ms = max_backoff.count();
        raw.attempt_timeout_ms = attempt_timeout.count();
        raw.rate_limit = rate_limit;
        raw.batch_size = batch_size;
        raw.batch_timeout_ms = batch_timeout.count();
        raw.offset_map_bytes = offset_map_bytes;
        raw.batch_of_one_partition = batch_of_one_partition;
        raw.park_retries = park_retries;
        raw.retry_after_holds_all = retry_after_holds_all;
        return raw;
    }

private:
    static const tg_process_options& defaults() noexcept {
        static const tg_process_options made = [] {
            tg_process_options options;
            tg_process_default_options(&options);
            return options;
        }();
        return made;
    }
};

namespace detail {

/// Runs a handler's body for one task; what is wrong becomes the task's answer. Nothing leaves this.
template <class Body>
void answering(Task& task, Body&& body) noexcept {
#if TIDEGATE_THROWS
    try {
        body();
        return;
    } catch (const HandlerError& error) {
        if (task) {
            answer(task.release(), error);
        }
    } catch (const std::exception& error) {
        if (task) {
            tg_task_retry(task.release(), 0, "std::exception", error.what());
        }
    } catch (...) {
        if (task) {
            tg_task_retry(task.release(), 0, "", "the handler has thrown something that is no std::exception");
        }
    }
#else
    static_cast<void>(task);
    body();
#endif
}

template <class Handler>
void handle(Handler& handler, Task task) noexcept {
    answering(task, [&] {
        if constexpr (std::is_invocable_v<Handler&, Task&>) {
            handler(task);
        } else if constexpr (std::is_invocable_v<Handler&, Task&&>) {
            handler(std::move(task));
        } else {
            static_assert(std::is_invocable_v<Handler&, const Record&>, "a handler takes a Task, or a const Record&");
            tg_record raw;
            if (failed(tg_task_record(task.get(), &raw))) {
                return;
            }
            const Record record(raw);
            using Answer = std::invoke_result_t<Handler&, const Record&>;
            if constexpr (std::is_void_v<Answer>) {
                handler(record);
                tg_task_done(task.release());
            } else {
                // std::optional<HandlerError>: nothing when it is done.
                if (const std::optional<HandlerError> error = handler(record)) {
                    answer(task.release(), *error);
                } else {
                    tg_task_done(task.release());
                }
            }
        }
    });
}

}  // namespace detail

/// Records of a consumer being handled; made by process() and process_batches(). Its end stops it, for at most five seconds; tasks without an
/// answer stay good.
class Processing {
public:
    explicit Processing(tg_process* process) noexcept : process_(process) {}

    /// How it does.
    Returned<tg_process_report> progress() const {
        tg_process_report report;
        if (const tg_status status = tg_process_progress(process_.get(), &report); detail::failed(status)) {
            return detail::fail<tg_process_report>(status);
        }
        return report;
    }
    /// Waits until it is over; false when the time is. What ended it, if that was an error.
    Returned<bool> wait(std::chrono::milliseconds timeout = forever) {
        const tg_status status = tg_process_wait(process_.get(), timeout.count());
        if (detail::failed(status)) {
            return detail::fail<bool>(status);
        }
        return status == TG_OK;
    }
    /// Begins no other record, waits for those in flight, and commits what is done. What had ended it before, if that was an error.
    Returned<tg_process_report> stop(std::chrono::milliseconds drain) {
        tg_process_report report;
        if (const tg_status status = tg_process_stop(process_.get(), drain.count(), &report); detail::failed(status)) {
            return detail::fail<tg_process_report>(status);
        }
        return report;
    }
    tg_process* get() const noexcept { return process_.get(); }

private:
    detail::Handle<tg_process, tg_process_free> process_;
};

namespace detail {

template <class Handler, class Raw>
Returned<Processing> start(ConsumerRef consumer, const ProcessOptions& options, Handler handler, Raw call,
                           tg_status (*begin)(tg_consumer*, const tg_process_options*, Raw, void*, tg_free_callback, tg_process**)) {
    const tg_process_options raw = options.raw();
    auto kept = std::make_unique<Handler>(std::move(handler));
    tg_process* process = nullptr;
    const tg_status status =
        begin(consumer.get(), &raw, call, kept.get(), [](void* user_data) { delete static_cast<Handler*>(user_data); }, &process);
    if (failed(status)) {
        return fail<Processing>(status);
    }
    // From here on the library ends it.
    static_cast<void>(kept.release());
    return Processing(process);
}

}  // namespace detail

/// Handles the consumer's records on threads of the library, by several at once, until it is stopped. `handler` takes
///
/// - a `const Record&`: the record is done when it returns nothing (or an empty std::optional<HandlerError>), and has failed when it throws;
/// - or a `Task&`, or a `Task`, which it answers, or moves away to be answered later.
template <class Handler>
Returned<Processing> process(ConsumerRef consumer, const ProcessOptions& options, Handler handler) {
    const tg_task_handler call = [](tg_task* task, const tg_record*, void* user_data) noexcept {
        detail::handle(*static_cast<Handler*>(user_data), Task(task));
    };
    return detail::start(consumer, options, std::move(handler), call, tg_process_start);
}

/// As process(), with `handler(std::vector<Task>)` or `handler(std::vector<Task>&)` for ProcessOptions::batch_size records together. Those that
/// it leaves without an answer are failed attempts.
template <class Handler>
Returned<Processing> process_batches(ConsumerRef consumer, const ProcessOptions& options, Handler handler) {
    const tg_tasks_handler call = [](tg_task* const* raw, const tg_record*, std::size_t count, void* user_data) noexcept {
        std::vector<Task> tasks;
        tasks.reserve(count);
        for (std::size_t i = 0; i < count; ++i) {
            tasks.emplace_back(raw[i]);
        }
        Handler& handle = *static_cast<Handler*>(user_data);
        const auto body = [&] {
            if constexpr (std::is_invocable_v<Handler&, std::vector<Task>&>) {
                handle(tasks);
            } else {
                handle(std::move(tasks));
            }
        };
#if TIDEGATE_THROWS
        const auto all = [&tasks](const HandlerError& error) {
            for (Task& task : tasks) {
                if (task) {
                    detail::answer(task.release(), error);
                }
            }
        };
        try {
            body();
        } catch (const HandlerError& error) {
            all(error);
        } catch (const std::exception& error) {
            all(HandlerError::retriable(error.what()).kind("std::exception"));
        } catch (...) {
            all(HandlerError::retriable("the handler has thrown something that is no std::exception"));
        }
#else
        body();
#endif
    };
    return detail::start(consumer, options, std::move(handler), call, tg_process_start_batches);
}

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
