/// The consumer: configuration in, batches and records out.
#ifndef TIDEGATE_CONSUMER_HPP
#define TIDEGATE_CONSUMER_HPP

#include "batch.hpp"
#include "config.hpp"

#include <functional>

namespace tidegate {
inline namespace TIDEGATE_FACE {

class ConsumerRef;

/// A rebalance callback: any callable that takes the consumer and the partitions. What it throws, or a result other than 0, comes out of
/// the polling call that it runs in; the rebalance goes on.
class PartitionsCallback {
public:
    PartitionsCallback() = default;
    template <class Callable, class = std::enable_if_t<!std::is_same_v<std::decay_t<Callable>, PartitionsCallback>>>
    PartitionsCallback(Callable callable)
        : call_([callable = std::move(callable)](ConsumerRef& consumer, const std::vector<TopicPartition>& partitions) mutable {
              return detail::call(callable, consumer, partitions);
          }) {}

    explicit operator bool() const noexcept { return static_cast<bool>(call_); }
    int operator()(ConsumerRef& consumer, const std::vector<TopicPartition>& partitions) const;

private:
    std::function<int(ConsumerRef&, const std::vector<TopicPartition>&)> call_;
};

/// What to call at rebalances, on the thread that polls or closes; each may be left out. They may call the consumer, but not poll.
struct RebalanceCallbacks {
    PartitionsCallback on_assign;         ///< Partitions were added; a seek in here takes effect before any of their records.
    PartitionsCallback on_revoke;         ///< Partitions are about to be taken away; commits for them still work.
    PartitionsCallback on_lost;           ///< Partitions are gone; commits for them fail.
    PartitionsCallback on_partition_eof;  ///< The end was fetched (only with `enable.partition.eof`); one partition with the next offset.

    bool empty() const noexcept { return !on_assign && !on_revoke && !on_lost && !on_partition_eof; }
};

/// A consumer of somebody else's: every call, but not its end. For callbacks and other threads; a call after the consumer's end is an
/// error (TG_ERROR_ARGUMENT) and harmless. The polling calls (poll, next_batch, fill_batch, lease_batch) may be made by one thread at a
/// time, everything else by any thread, also meanwhile. Waits are in milliseconds; `forever` waits until the consumer is closed.
class ConsumerRef {
public:
    explicit ConsumerRef(tg_consumer* consumer) noexcept : raw_(consumer) {}

    /// Joins the group for these topics; a name that begins with '^' is a regular expression.
    Returned<void> subscribe(const std::vector<std::string>& topics, RebalanceCallbacks callbacks = {}) {
        std::vector<const char*> names;
        names.reserve(topics.size());
        for (const std::string& topic : topics) {
            if (auto error = detail::refuse_nul("topics", topic)) {
                return detail::fail<void>(*error);
            }
            names.push_back(topic.c_str());
        }
        if (callbacks.empty()) {
            return detail::done(tg_consumer_subscribe(raw_, names.data(), names.size(), nullptr));
        }
        auto kept = std::make_unique<RebalanceCallbacks>(std::move(callbacks));
        const tg_rebalance_callbacks table = {
            kept->on_assign ? tell<&RebalanceCallbacks::on_assign> : nullptr,
            kept->on_revoke ? tell<&RebalanceCallbacks::on_revoke> : nullptr,
            kept->on_lost ? tell<&RebalanceCallbacks::on_lost> : nullptr,
            kept->on_partition_eof ? tell<&RebalanceCallbacks::on_partition_eof> : nullptr,
            kept.get(),
            [](void* user_data) { delete static_cast<RebalanceCallbacks*>(user_data); },
        };
        const tg_status status = tg_consumer_subscribe(raw_, names.data(), names.size(), &table);
        // From here on the library ends them, unless it has refused them.
        static_cast<void>(detail::failed(status) ? nullptr : kept.release());
        return detail::done(status);
    }
    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    Returned<void> set_sasl_credentials(const std::string& username, const std::string& password) {
        return detail::done(tg_consumer_set_sasl_credentials(raw_, username.c_str(), password.c_str()));
    }
    /// Leaves the group and stops reading. What is finished is committed first.
    Returned<void> unsubscribe() { return detail::done(tg_consumer_unsubscribe(raw_)); }

    /// The next record, nothing when the time is over or the consumer was woken or closed. Asking for it finishes the one before. It is
    /// valid until the next polling call.
    Returned<std::optional<Record>> poll(std::chrono::milliseconds timeout = forever) {
        tg_record record;
        const tg_status status = tg_consumer_poll(raw_, timeout.count(), &record);
        if (detail::failed(status)) {
            return detail::fail<std::optional<Record>>(status);
        }
        return status == TG_OK ? std::optional<Record>(Record(record)) : std::nullopt;
    }
    /// The record that poll() gave last, to be kept beyond the next call, as a batch of one.
    Returned<Batch> keep_polled() {
        tg_batch* kept = nullptr;
        if (const tg_status status = tg_consumer_keep_polled(raw_, &kept); detail::failed(status)) {
            return detail::fail<Batch>(status);
        }
        return Batch(kept);
    }
    /// The next batch, as soon as there are records; nothing as for poll(). Asking for it finishes the batch before.
    Returned<std::optional<Batch>> next_batch(std::chrono::milliseconds timeout = forever, std::size_t max_records = 0) {
        tg_batch* batch = nullptr;
        return given(tg_consumer_next_batch(raw_, timeout.count(), max_records, &batch), batch);
    }
    /// As next_batch(), but waits until there are so many records or the time is over.
    Returned<std::optional<Batch>> fill_batch(std::chrono::milliseconds timeout, std::size_t records) {
        tg_batch* batch = nullptr;
        return given(tg_consumer_fill_batch(raw_, timeout.count(), records, &batch), batch);
    }
    /// As next_batch(), but the records are finished by Batch::acknowledge() only.
    Returned<std::optional<Batch>> lease_batch(std::chrono::milliseconds timeout = forever, std::size_t max_records = 0) {
        tg_batch* batch = nullptr;
        return given(tg_consumer_lease_batch(raw_, timeout.count(), max_records, &batch), batch);
    }
    class Batches;
    /// The batches to come, as a range for one loop: `for (const Batch& batch : consumer.batches())`. It ends when no batch came in time,
    /// and when the consumer is woken or closed. Without exceptions it also ends at an error, which goes to `error`.
    Batches batches(std::chrono::milliseconds timeout = forever, std::optional<Error>* error = nullptr);

    /// Calls `handler(const Record&)` with one record after the other, on this thread, until the consumer is woken or closed. A record is
    /// finished when the handler has returned (nothing, or 0) and the next one is asked for; after an exception or another number it is
    /// handed out again.
    template <class Handler>
    Returned<void> run(Handler&& handler) {
        const auto call = [](const tg_record* record, void* user_data) noexcept {
            auto& handle = *static_cast<std::remove_reference_t<Handler>*>(user_data);
            return detail::contain([&] { return detail::call(handle, Record(*record)); });
        };
        return detail::done(tg_consumer_run(raw_, call, detail::address(handler)));
    }
    /// As run(), with `handler(const Batch&)`. The batch ends with the call; Batch::slice() keeps rows of it.
    template <class Handler>
    Returned<void> run_batches(Handler&& handler, std::size_t max_records = 0) {
        const auto call = [](const tg_batch* batch, void* user_data) noexcept {
            auto& handle = *static_cast<std::remove_reference_t<Handler>*>(user_data);
            // The library's, and only lent.
            Batch lent(const_cast<tg_batch*>(batch));
            const int code = detail::contain([&] { return detail::call(handle, std::as_const(lent)); });
            lent.release_handle();
            return code;
        };
        return detail::done(tg_consumer_run_batches(raw_, max_records, call, detail::address(handler)));
    }

    /// Everything handed out and not leased counts as finished, without asking for more.
    Returned<void> finish_in_hand() { return detail::done(tg_consumer_finish_in_hand(raw_)); }
    /// Makes a waiting polling call, or the next one, return nothing at once.
    Returned<void> wake() { return detail::done(tg_consumer_wake(raw_)); }
    /// What an event loop waits for: readable while a polling call with a timeout of 0 would give something. Poll until nothing comes;
    /// never read from it or close it.
    Returned<std::intptr_t> ready_fd() {
        const auto descriptor = tg_consumer_ready_fd(raw_);
        if (descriptor == -1) {
            const tg_error* told = tg_last_error();
            return detail::fail<std::intptr_t>(told == nullptr ? TG_ERROR_INTERNAL : told->status);
        }
        return descriptor;
    }

    /// Reads these partitions from their offsets without joining a group; replaces what was assigned.
    Returned<void> assign(const std::vector<TopicPartition>& partitions) {
        return with_rows(partitions, [this](const auto& rows) { return tg_consumer_assign(raw_, rows.data(), rows.size()); });
    }
    Returned<std::vector<TopicPartition>> assignment() const {
        tg_partitions* list = nullptr;
        return listed(tg_consumer_assignment(raw_, &list), list);
    }
    /// Goes on from another place: an offset, or a TG_OFFSET_ number.
    Returned<void> seek(const std::string& topic, std::int32_t partition, std::int64_t offset) {
        return with_topic(topic, [&](const char* name) { return tg_consumer_seek(raw_, name, partition, offset); });
    }
    Returned<void> pause(const std::vector<TopicPartition>& partitions) {
        return with_rows(partitions, [this](const auto& rows) { return tg_consumer_pause(raw_, rows.data(), rows.size()); });
    }
    Returned<void> resume(const std::vector<TopicPartition>& partitions) {
        return with_rows(partitions, [this](const auto& rows) { return tg_consumer_resume(raw_, rows.data(), rows.size()); });
    }
    Returned<std::vector<TopicPartition>> paused() const {
        tg_partitions* list = nullptr;
        return listed(tg_consumer_paused(raw_, &list), list);
    }

    /// Commits everything that is finished and everything handed out and not leased; gives what was committed.
    Returned<std::vector<TopicPartition>> commit(std::chrono::milliseconds timeout) {
        tg_partitions* list = nullptr;
        return listed(tg_consumer_commit(raw_, timeout.count(), &list), list);
    }
    Returned<void> commit_async() { return detail::done(tg_consumer_commit_async(raw_)); }
    /// Commits these offsets, each that of the record to be read next, whatever is finished.
    Returned<void> commit_offsets(const std::vector<TopicPartition>& offsets, std::chrono::milliseconds timeout) {
        return with_rows(offsets, [&](const auto& rows) {
            return tg_consumer_commit_offsets(raw_, rows.data(), rows.size(), timeout.count());
        });
    }
    /// What the group has committed; TG_OFFSET_NONE for nothing.
    Returned<std::vector<TopicPartition>> committed(const std::vector<TopicPartition>& partitions, std::chrono::milliseconds timeout) const {
        tg_partitions* list = nullptr;
        const auto ask = [&](const auto& rows) {
            return tg_consumer_committed(raw_, rows.data(), rows.size(), timeout.count(), &list);
        };
        return asked(partitions, ask, list);
    }
    /// The offset of the record that is handed out next; nothing while it is not known.
    Returned<std::optional<std::int64_t>> position(const std::string& topic, std::int32_t partition) const {
        std::int64_t offset = TG_OFFSET_NONE;
        const auto ask = [&](const char* name) { return tg_consumer_position(raw_, name, partition, &offset); };
        return told<std::int64_t>(topic, ask, offset, [&] { return offset != TG_OFFSET_NONE; });
    }
    /// The offsets of the first record and of the next one to be written. A timeout of 0 asks nobody: nothing until a fetch has told.
    Returned<std::optional<std::pair<std::int64_t, std::int64_t>>> watermarks(const std::string& topic, std::int32_t partition,
                                                                              std::chrono::milliseconds timeout) const {
        std::pair<std::int64_t, std::int64_t> marks;
        const auto ask = [&](const char* name) {
            return tg_consumer_watermarks(raw_, name, partition, timeout.count(), &marks.first, &marks.second);
        };
        return told<std::pair<std::int64_t, std::int64_t>>(topic, ask, marks, [] { return true; });
    }
    /// How many records lie between the position and the high watermark; nothing while either is unknown.
    Returned<std::optional<std::int64_t>> lag(const std::string& topic, std::int32_t partition) const {
        std::int64_t records = 0;
        const auto ask = [&](const char* name) { return tg_consumer_lag(raw_, name, partition, &records); };
        return told<std::int64_t>(topic, ask, records, [] { return true; });
    }
    /// The first offset at or after each time, which is given in `offset` in milliseconds since 1970; TG_OFFSET_END where there is none.
    Returned<std::vector<TopicPartition>> offsets_for_times(const std::vector<TopicPartition>& times, std::chrono::milliseconds timeout) const {
        tg_partitions* list = nullptr;
        const auto ask = [&](const auto& rows) {
            return tg_consumer_offsets_for_times(raw_, rows.data(), rows.size(), timeout.count(), &list);
        };
        return asked(times, ask, list);
    }

    /// The numbers so far as one JSON object; also of a closed consumer.
    Returned<std::string> stats_json() const {
        tg_text* text = nullptr;
        if (const tg_status status = tg_consumer_stats_json(raw_, &text); detail::failed(status)) {
            return detail::fail<std::string>(status);
        }
        return detail::text(text);
    }
    /// Commits what is finished and leaves the group. Always returns within the time and a little; closing twice is fine.
    Returned<void> close(std::chrono::milliseconds timeout) {
        const tg_status status = tg_consumer_close(raw_, timeout.count());
        // The callbacks of the last revoke have run in here.
        detail::rethrow();
        return detail::done(status);
    }

    tg_consumer* get() const noexcept { return raw_; }

protected:
    tg_consumer* raw_;

private:
    template <PartitionsCallback RebalanceCallbacks::* Member>
    static int tell(tg_consumer* consumer, const tg_topic_partition* rows, std::size_t count, void* user_data) noexcept {
        return detail::contain([&] {
            ConsumerRef reference(consumer);
            return (static_cast<const RebalanceCallbacks*>(user_data)->*Member)(reference, detail::partitions_out(rows, count));
        });
    }

    static Returned<std::optional<Batch>> given(tg_status status, tg_batch* const& batch) {
        if (detail::failed(status)) {
            return detail::fail<std::optional<Batch>>(status);
        }
        return status == TG_OK ? std::optional<Batch>(Batch(batch)) : std::nullopt;
    }
    static Returned<std::vector<TopicPartition>> listed(tg_status status, tg_partitions* const& list) {
        if (detail::failed(status)) {
            return detail::fail<std::vector<TopicPartition>>(status);
        }
        return detail::partitions_out(list);
    }
    template <class Call>
    static Returned<void> with_rows(const std::vector<TopicPartition>& partitions, Call call) {
        if (auto error = detail::refuse_nul(partitions)) {
            return detail::fail<void>(*error);
        }
        return detail::done(call(detail::partitions_in(partitions)));
    }
    template <class Call>
    static Returned<void> with_topic(const std::string& topic, Call call) {
        if (auto error = detail::refuse_nul("topic", topic)) {
            return detail::fail<void>(*error);
        }
        return detail::done(call(topic.c_str()));
    }
    template <class Ask>
    static Returned<std::vector<TopicPartition>> asked(const std::vector<TopicPartition>& partitions, Ask ask, tg_partitions* const& list) {
        if (auto error = detail::refuse_nul(partitions)) {
            return detail::fail<std::vector<TopicPartition>>(*error);
        }
        return listed(ask(detail::partitions_in(partitions)), list);
    }
    template <class Value, class Ask, class IsKnown>
    static Returned<std::optional<Value>> told(const std::string& topic, Ask ask, const Value& value, IsKnown is_known) {
        if (auto error = detail::refuse_nul("topic", topic)) {
            return detail::fail<std::optional<Value>>(*error);
        }
        const tg_status status = ask(topic.c_str());
        if (detail::failed(status)) {
            return detail::fail<std::optional<Value>>(status);
        }
        return status == TG_OK && is_known() ? std::optional<Value>(value) : std::nullopt;
    }
};

inline int PartitionsCallback::operator()(ConsumerRef& consumer, const std::vector<TopicPartition>& partitions) const {
    return call_(consumer, partitions);
}

/// See ConsumerRef::batches(). One loop goes over it.
class ConsumerRef::Batches {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Batch;
        using difference_type = std::ptrdiff_t;
        using pointer = Batch*;
        using reference = Batch&;

        Iterator() = default;
        explicit Iterator(Batches* batches) : batches_(batches) { ++*this; }

        Batch& operator*() const noexcept { return batches_->batch_; }
        Batch* operator->() const noexcept { return &batches_->batch_; }
        Iterator& operator++() {
            if (!batches_->next()) {
                batches_ = nullptr;
            }
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.batches_ == b.batches_; }
        friend bool operator!=(const Iterator& a, const Iterator& b) noexcept { return a.batches_ != b.batches_; }

    private:
        Batches* batches_ = nullptr;
    };

    Batches(ConsumerRef consumer, std::chrono::milliseconds timeout, std::optional<Error>* error)
        : consumer_(consumer), timeout_(timeout), error_(error) {}

    Iterator begin() { return Iterator(this); }
    Iterator end() { return Iterator(); }

private:
    bool next() {
        // The memory of the last batch first: the next one is then made in it.
        batch_ = Batch();
        auto next = consumer_.next_batch(timeout_);
#if !TIDEGATE_THROWS
        if (!next) {
            if (error_ != nullptr) {
                *error_ = next.error();
            }
            return false;
        }
        std::optional<Batch>& batch = *next;
#else
        std::optional<Batch>& batch = next;
#endif
        if (!batch) {
            return false;
        }
        batch_ = std::move(*batch);
        return true;
    }

    ConsumerRef consumer_;
    std::chrono::milliseconds timeout_;
    [[maybe_unused]] std::optional<Error>* error_;
    Batch batch_;
};

inline ConsumerRef::Batches ConsumerRef::batches(std::chrono::milliseconds timeout, std::optional<Error>* error) {
    return Batches(*this, timeout, error);
}

/// Reads records of a group, or of partitions assigned by hand. Its end closes it, for at most five seconds; batches stay valid.
class Consumer : public ConsumerRef {
public:
    /// It connects in the background: a broker that is away is no error here.
    static Returned<Consumer> create(const Config& config) {
        return detail::make_client<Consumer, tg_consumer>(config, tg_consumer_new);
    }
#if TIDEGATE_THROWS
    explicit Consumer(const Config& config) : Consumer(create(config)) {}
#endif
    /// Takes over a consumer of C's.
    explicit Consumer(tg_consumer* consumer) noexcept : ConsumerRef(consumer) {}
    Consumer(Consumer&& other) noexcept : ConsumerRef(std::exchange(other.raw_, nullptr)) {}
    Consumer& operator=(Consumer&& other) noexcept {
        if (this != &other) {
            end();
            raw_ = std::exchange(other.raw_, nullptr);
        }
        return *this;
    }
    ~Consumer() { end(); }

    ConsumerRef ref() const noexcept { return *this; }

private:
    void end() noexcept {
        if (raw_ != nullptr) {
            tg_consumer_free(std::exchange(raw_, nullptr));
#if TIDEGATE_THROWS
            // A destructor cannot pass on what a callback of the last revoke has thrown.
            detail::thrown() = nullptr;
#endif
        }
    }
};

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
