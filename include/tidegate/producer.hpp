/// The producer: records in, delivery reports out.
#ifndef TIDEGATE_PRODUCER_HPP
#define TIDEGATE_PRODUCER_HPP

#include "batch.hpp"
#include "config.hpp"

#include <functional>
#include <mutex>

namespace tidegate {
inline namespace TIDEGATE_FACE {

/// A record to send. It is copied during the call, so that views into anything will do.
struct ProducerRecord {
    const char* topic = nullptr;                     ///< NUL-terminated.
    std::optional<std::string_view> key{};           ///< Nothing for no key; empty is not nothing.
    std::optional<std::string_view> value{};         ///< Nothing for a tombstone.
    std::int32_t partition = TG_PARTITION_ANY;       ///< By key, else any, unless it is given.
    std::vector<Header> headers{};                   ///< Names are UTF-8.
    std::int64_t timestamp_ms = TG_TIMESTAMP_NOW;    ///< Milliseconds since 1970.
};

/// What became of a record that was accepted. A view: it ends with the callback, or with the next call of Producer::next_report().
class DeliveryReport {
public:
    explicit DeliveryReport(const tg_delivery_report& report) noexcept : report_(report) {}

    bool is_delivered() const noexcept { return report_.status == TG_OK; }
    tg_status status() const noexcept { return report_.status; }
    /// Empty when the producer ended before it was known.
    std::string_view topic() const noexcept { return detail::view(report_.topic.data, report_.topic.length); }
    /// -1 when the record failed before it had one.
    std::int32_t partition() const noexcept { return report_.partition; }
    /// -1 when it was not delivered, and with `acks=0`.
    std::int64_t offset() const noexcept { return report_.offset; }
    std::int64_t timestamp_ms() const noexcept { return report_.timestamp_ms; }
    /// Microseconds from the call to the report.
    std::uint64_t latency_us() const noexcept { return report_.latency_us; }
    /// Why it was not delivered.
    std::optional<Error> error() const { return report_.error == nullptr ? std::nullopt : std::optional<Error>(Error(*report_.error)); }
    /// What the send was given.
    void* opaque() const noexcept { return report_.opaque; }

private:
    tg_delivery_report report_;
};

/// What became of a send of many.
struct SendOutcome {
    std::size_t accepted = 0;
    std::optional<Error> error;           ///< That of the first row that was refused.
    std::vector<std::int32_t> statuses;   ///< Each row's tg_status.

    bool is_complete() const noexcept { return !error; }
};

/// Sends records. Everything may be called by any thread, also at once. Its end closes it, with five seconds for the records in flight.
/// Callbacks run on a thread of the library's; what one throws comes out of the next flush() or close().
class Producer {
public:
    /// It connects in the background: a broker that is away is no error here.
    static Returned<Producer> create(const Config& config) {
        return detail::make_client<Producer, tg_producer>(config, tg_producer_new);
    }
#if TIDEGATE_THROWS
    explicit Producer(const Config& config) : Producer(create(config)) {}
#endif
    /// Takes over a producer of C's.
    explicit Producer(tg_producer* producer) noexcept : producer_(producer) {}

    /// Sends a record; waits up to `tidegate.queue.full.timeout.ms` when the queue is full. What becomes of it is counted, and a failure
    /// is logged.
    Returned<void> send(const ProducerRecord& record) { return sent(tg_producer_send, record, nullptr); }
    /// As send(), and calls `on_delivery(const DeliveryReport&)` once, on the delivery thread, under no lock. It may send and close, but
    /// not flush. If the record was not accepted, it is not called.
    template <class OnDelivery, class = std::enable_if_t<std::is_invocable_v<OnDelivery&, const DeliveryReport&>>>
    Returned<void> send(const ProducerRecord& record, OnDelivery on_delivery) {
        return sent_with(tg_producer_send, record, std::move(on_delivery));
    }
    /// As send(), but never waits.
    Returned<void> try_send(const ProducerRecord& record) { return sent(tg_producer_try_send, record, nullptr); }
    template <class OnDelivery, class = std::enable_if_t<std::is_invocable_v<OnDelivery&, const DeliveryReport&>>>
    Returned<void> try_send(const ProducerRecord& record, OnDelivery on_delivery) {
        return sent_with(tg_producer_try_send, record, std::move(on_delivery));
    }
    /// As send(), its report to be read with next_report(), with `opaque` in it.
    Returned<void> send_polled(const ProducerRecord& record, void* opaque) {
        const tg_on_delivery target = {nullptr, opaque};
        return sent(tg_producer_send, record, &target);
    }
    /// The next report of a record sent with send_polled(); nothing when the time is over, and when the producer was closed and all were
    /// read.
    Returned<std::optional<DeliveryReport>> next_report(std::chrono::milliseconds timeout = forever) {
        tg_delivery_report report;
        const tg_status status = tg_producer_next_report(producer_.get(), timeout.count(), &report);
        if (detail::failed(status)) {
            return detail::fail<std::optional<DeliveryReport>>(status);
        }
        return status == TG_OK ? std::optional<DeliveryReport>(DeliveryReport(report)) : std::nullopt;
    }

    /// Sends rows of columns, in their order, as send() does without a report. A row that is refused is told in the outcome; an error is
    /// only what kept every row from being sent.
    Returned<SendOutcome> send_columns(const char* topic, const tg_producer_columns& columns, std::int32_t partition = TG_PARTITION_ANY) {
        return sent_many(columns.count, [&](std::int32_t* statuses, std::size_t* accepted) {
            return tg_producer_send_columns(producer_.get(), topic, partition, &columns, statuses, accepted);
        });
    }
    /// Sends the rows of a run of a batch on, keys and values, without a copy on this side.
    Returned<SendOutcome> send_run(const char* topic, const Columns& batch, const tg_run& run, std::int32_t partition = TG_PARTITION_ANY) {
        const tg_columns& all = batch.raw();
        return send_columns(topic,
                            {run.count, run.arena, all.key_starts + run.first, all.key_lengths + run.first, all.value_starts + run.first,
                             all.value_lengths + run.first, nullptr, nullptr, nullptr, nullptr},
                            partition);
    }
    /// Sends whole records, each to its topic and partition, with its headers and its timestamp.
    Returned<SendOutcome> send_records(const std::vector<ProducerRecord>& records) {
        std::vector<std::vector<tg_header>> headers;
        headers.reserve(records.size());
        std::vector<tg_producer_record> rows;
        rows.reserve(records.size());
        for (const ProducerRecord& record : records) {
            headers.push_back(header_rows(record));
            rows.push_back(row_of(record, headers.back()));
        }
        return sent_many(rows.size(), [&](std::int32_t* statuses, std::size_t* accepted) {
            return tg_producer_send_records(producer_.get(), rows.data(), rows.size(), statuses, accepted);
        });
    }
    /// Sends values that lie anywhere, with keys or, when `keys` is empty, without.
    Returned<SendOutcome> send_batch(const char* topic, const std::vector<std::optional<std::string_view>>& values,
                                     const std::vector<std::optional<std::string_view>>& keys = {},
                                     std::int32_t partition = TG_PARTITION_ANY) {
        if (!keys.empty() && keys.size() != values.size()) {
            return detail::fail<SendOutcome>(Error(TG_ERROR_ARGUMENT, "keys", "keys: there are not as many as values; give each value a key, or none"));
        }
        const std::vector<tg_bytes> value_rows = rows(values);
        const std::vector<tg_bytes> key_rows = rows(keys);
        return sent_many(values.size(), [&](std::int32_t* statuses, std::size_t* accepted) {
            return tg_producer_send_batch(producer_.get(), topic, partition, keys.empty() ? nullptr : key_rows.data(), value_rows.data(),
                                          values.size(), statuses, accepted);
        });
    }

    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    Returned<void> set_sasl_credentials(const std::string& username, const std::string& password) {
        return detail::done(tg_producer_set_sasl_credentials(producer_.get(), username.c_str(), password.c_str()));
    }
    /// Waits until every record sent so far has its report and its callback has run.
    Returned<void> flush(std::chrono::milliseconds timeout) {
        const tg_status status = tg_producer_flush(producer_.get(), timeout.count());
        rethrow();
        return detail::done(status);
    }
    /// How many records were accepted and have no report yet.
    std::size_t in_flight() const { return tg_producer_in_flight(producer_.get()); }
    /// Gives up every record in flight: each is reported as failed.
    Returned<void> purge() { return detail::done(tg_producer_purge(producer_.get())); }
    /// The numbers so far as one JSON object; also of a closed producer.
    Returned<std::string> stats_json() const {
        tg_text* text = nullptr;
        if (const tg_status status = tg_producer_stats_json(producer_.get(), &text); detail::failed(status)) {
            return detail::fail<std::string>(status);
        }
        return detail::text(text);
    }
    /// Stops accepting, waits for what is in flight, gives up the rest. Closing twice is fine.
    Returned<void> close(std::chrono::milliseconds timeout) {
        const tg_status status = tg_producer_close(producer_.get(), timeout.count());
        rethrow();
        return detail::done(status);
    }

    tg_producer* get() const noexcept { return producer_.get(); }

private:
    /// What callbacks have thrown and nobody was told.
    struct Thrown {
        std::mutex lock;
        std::exception_ptr first;
    };

    static tg_bytes bytes(const std::optional<std::string_view>& text) noexcept {
        if (!text) {
            return {nullptr, 0};
        }
        // An empty view may have no data, and is not null all the same.
        const char* data = text->data() == nullptr ? "" : text->data();
        return {reinterpret_cast<const std::uint8_t*>(data), text->size()};
    }
    static std::vector<tg_bytes> rows(const std::vector<std::optional<std::string_view>>& texts) {
        std::vector<tg_bytes> rows;
        rows.reserve(texts.size());
        for (const auto& text : texts) {
            rows.push_back(bytes(text));
        }
        return rows;
    }

    using Send = tg_status (*)(tg_producer*, const tg_producer_record*, const tg_on_delivery*);

    static std::vector<tg_header> header_rows(const ProducerRecord& record) {
        std::vector<tg_header> headers;
        headers.reserve(record.headers.size());
        for (const Header& header : record.headers) {
            headers.push_back({bytes(header.name), bytes(header.value)});
        }
        return headers;
    }
    static tg_producer_record row_of(const ProducerRecord& record, const std::vector<tg_header>& headers) noexcept {
        return {record.topic,   record.partition, bytes(record.key),  bytes(record.value),
                headers.data(), headers.size(),   record.timestamp_ms};
    }

    Returned<void> sent(Send function, const ProducerRecord& record, const tg_on_delivery* target) {
        const std::vector<tg_header> headers = header_rows(record);
        const tg_producer_record raw = row_of(record, headers);
        return detail::done(function(producer_.get(), &raw, target));
    }

    template <class OnDelivery>
    Returned<void> sent_with(Send function, const ProducerRecord& record, OnDelivery on_delivery) {
        struct Call {
            OnDelivery on_delivery;
            std::shared_ptr<Thrown> thrown;
        };
        auto call = std::make_unique<Call>(Call{std::move(on_delivery), thrown_});
        const auto tell = [](const tg_delivery_report* report, void* user_data) noexcept {
            const std::unique_ptr<Call> owner(static_cast<Call*>(user_data));
            static_cast<void>(detail::contain([&] { return detail::call(owner->on_delivery, DeliveryReport(*report)); }));
            keep_thrown(*owner->thrown);
        };
        const tg_on_delivery target = {tell, call.get()};
#if TIDEGATE_THROWS
        sent(function, record, &target);
        static_cast<void>(call.release());
#else
        Result<void> result = sent(function, record, &target);
        if (result) {
            static_cast<void>(call.release());
        }
        return result;
#endif
    }

    template <class Call>
    Returned<SendOutcome> sent_many(std::size_t count, Call call) {
        SendOutcome outcome;
        outcome.statuses.resize(count, TG_OK);
        const tg_status status = call(outcome.statuses.data(), &outcome.accepted);
        if (detail::failed(status)) {
            const bool is_some_rows = std::any_of(outcome.statuses.begin(), outcome.statuses.end(), [](std::int32_t row) { return row != TG_OK; });
            if (!is_some_rows) {
                return detail::fail<SendOutcome>(status);
            }
            outcome.error = Error::last(status);
        }
        return outcome;
    }

    static void keep_thrown([[maybe_unused]] Thrown& thrown) noexcept {
#if TIDEGATE_THROWS
        if (auto exception = std::exchange(detail::thrown(), nullptr)) {
            const std::lock_guard<std::mutex> guard(thrown.lock);
            if (!thrown.first) {
                thrown.first = std::move(exception);
            }
        }
#endif
    }
    void rethrow() {
#if TIDEGATE_THROWS
        std::exception_ptr first;
        {
            const std::lock_guard<std::mutex> guard(thrown_->lock);
            first = std::exchange(thrown_->first, nullptr);
        }
        if (first) {
            std::rethrow_exception(first);
        }
#endif
    }

    detail::Handle<tg_producer, tg_producer_free> producer_;
    std::shared_ptr<Thrown> thrown_ = std::make_shared<Thrown>();
};

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif
