// The C++ wrapper with exceptions: ranges, ownership, callbacks that throw. On the embedded broker, and on a real Kafka where there is one.
#include "world.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>

using namespace std::chrono_literals;

void returning_face();  // cpp_returning.cpp

namespace {

constexpr int records_filled = 100;

static_assert(!std::is_copy_constructible_v<tidegate::Consumer> && std::is_nothrow_move_constructible_v<tidegate::Consumer>);
static_assert(!std::is_copy_constructible_v<tidegate::Batch> && std::is_nothrow_move_assignable_v<tidegate::Batch>);
static_assert(!std::is_copy_constructible_v<tidegate::Producer> && std::is_move_constructible_v<tidegate::Producer>);
static_assert(std::is_copy_constructible_v<tidegate::Config> && std::is_trivially_copyable_v<tidegate::Record>);

// A topic with records "0", "1", ... in partition 0, made once.
const std::string& filled() {
    static const std::string made = [] {
        std::string name = topic(2);
        tidegate::Producer producer(cluster());
        for (int i = 0; i < records_filled; ++i) {
            producer.send({name.c_str(), i % 3 == 0 ? std::nullopt : std::optional<std::string_view>("key"), std::to_string(i), 0,
                           {{"number", std::to_string(i)}}});
        }
        producer.flush(patience);
        return name;
    }();
    return made;
}

tidegate::Consumer reader(std::int64_t offset = 0) {
    tidegate::Consumer consumer(cluster());
    consumer.assign({{filled(), 0, offset}});
    return consumer;
}

tidegate::Config group() { return cluster().with("group.id", name()).with("auto.offset.reset", "earliest"); }

template <class Call>
tidegate::Error error_of(Call call) {
    try {
        call();
    } catch (const tidegate::Error& error) {
        return error;
    }
    check::fail(__FILE__, __LINE__, "no error");
}

void batches_are_ranges_of_records() {
    tidegate::Consumer consumer = reader();
    int expected = 0;
    while (expected < records_filled) {
        std::optional<tidegate::Batch> batch = consumer.next_batch(patience);
        CHECK(batch.has_value());
        CHECK(!batch->empty() && batch->size_bytes() > 0);
        const tidegate::Columns columns = batch->columns();
        std::size_t row = 0;
        for (const tidegate::Record& record : *batch) {
            const std::string number = std::to_string(expected);
            CHECK_EQUAL(record.topic(), filled());
            CHECK_EQUAL(record.partition(), 0);
            CHECK_EQUAL(record.offset(), expected);
            CHECK_EQUAL(record.value().value(), number);
            CHECK(record.key() == (expected % 3 == 0 ? std::nullopt : std::optional<std::string_view>("key")));
            CHECK(record.timestamp_ms() > 0);
            CHECK_EQUAL(record.headers().last("number")->value.value(), number);
            CHECK(!record.headers().last("other"));
            CHECK_EQUAL(std::distance(record.headers().begin(), record.headers().end()), 1);
            CHECK_EQUAL((*batch)[row].offset(), record.offset());
            CHECK_EQUAL(columns.offsets()[row], record.offset());
            CHECK_EQUAL(columns.value_lengths()[row], static_cast<std::int32_t>(number.size()));
            ++row;
            ++expected;
        }
        CHECK_EQUAL(row, batch->size());
        CHECK_EQUAL(std::distance(batch->begin(), batch->end()), static_cast<std::ptrdiff_t>(row));
        CHECK_EQUAL(std::accumulate(columns.runs().begin(), columns.runs().end(), std::size_t(0),
                                    [](std::size_t sum, const tg_run& run) { return sum + run.count; }),
                    row);
    }
    CHECK(!consumer.poll(0ms));
    CHECK(tidegate::Batch().begin() == tidegate::Batch().end());
}

void records_of_several_runs_have_their_own_topics() {
    const std::string other = topic(1);
    tidegate::Producer producer(cluster());
    for (int i = 0; i < 20; ++i) {
        producer.send({other.c_str(), "k", "other", 0});
    }
    producer.flush(patience);
    tidegate::Consumer consumer(cluster());
    consumer.assign({{filled(), 0, 0}, {other, 0, 0}});
    std::size_t here = 0, there = 0;
    std::vector<tidegate::Batch> kept;
    while (here + there < records_filled + 20) {
        std::optional<tidegate::Batch> batch = consumer.fill_batch(patience, records_filled + 20 - here - there);
        CHECK(batch.has_value());
        for (std::size_t row = 0; row < batch->size(); ++row) {
            ((*batch)[row].topic() == other ? there : here) += 1;
        }
        std::size_t again = 0;
        for (const tidegate::Record& record : *batch) {
            again += record.topic() == other ? record.value() == "other" : record.value() == std::to_string(record.offset());
        }
        CHECK_EQUAL(again, batch->size());
        kept.push_back(std::move(*batch));
    }
    CHECK_EQUAL(there, 20u);
}

void batches_move_and_outlive_their_consumer() {
    std::optional<tidegate::Batch> first;
    std::vector<tidegate::Record> records;
    {
        tidegate::Consumer consumer = reader();
        first = consumer.fill_batch(patience, records_filled);
    }
    std::copy(first->begin(), first->end(), std::back_inserter(records));
    tidegate::Batch moved = std::move(*first);
    CHECK(first->empty());
    first.reset();
    CHECK_EQUAL(moved.size(), records.size());
    for (std::size_t i = 0; i < records.size(); ++i) {
        CHECK_EQUAL(*records[i].value(), std::to_string(i));
        CHECK_EQUAL(*records[i].headers().last("number")->value, std::to_string(i));
    }
    tidegate::Batch slice = moved.slice(10, 5);
    moved = tidegate::Batch();
    CHECK_EQUAL(slice[4].offset(), 14);
    CHECK_EQUAL(error_of([&] { slice.slice(3, 9); }).argument(), "count");
    CHECK_EQUAL(error_of([&] { moved.acknowledge(); }).status(), TG_ERROR_ARGUMENT);
}

void errors_carry_everything() {
    const tidegate::Error error = error_of([] { tidegate::Consumer(cluster().with("max.poll.recrods", 5).with("session.timeout.ms", "soon")); });
    CHECK_EQUAL(error.status(), TG_ERROR_CONFIG);
    CHECK_EQUAL(std::string(error.status_name()), "CONFIG");
    CHECK_EQUAL(error.problems().size(), 2u);
    CHECK_EQUAL(error.problems()[0].property, "max.poll.recrods");
    CHECK(error.problems()[0].is_error && !error.problems()[0].remedy.empty());
    CHECK_EQUAL(error.message(), error.what());
    CHECK_EQUAL(tidegate::Config{}.check(TG_CLIENT_CONSUMER).empty(), false);
    CHECK_EQUAL(error_of([] { tidegate::Config{{"a", std::string("x\0y", 3)}}.check(TG_CLIENT_ADMIN); }).argument(), "value");
    tidegate::Consumer consumer = reader();
    CHECK_EQUAL(error_of([&] { consumer.seek("elsewhere", 0, 1); }).status(), TG_ERROR_NOT_ASSIGNED);
    CHECK_EQUAL(error_of([&] { consumer.seek(std::string("t\0t", 3), 0, 1); }).argument(), "topic");
    CHECK_EQUAL(error_of([&] { consumer.subscribe({std::string("t\0t", 3)}); }).argument(), "topics");
    consumer.close(patience);
    consumer.close(patience);
    CHECK_EQUAL(error_of([&] { consumer.poll(); }).status(), TG_ERROR_CLOSED);
    const tidegate::ConsumerRef ref = consumer.ref();
    consumer = reader();
    CHECK_EQUAL(error_of([&] { static_cast<void>(ref.assignment()); }).status(), TG_ERROR_ARGUMENT);
    tidegate::Consumer gone = std::move(consumer);
    CHECK_EQUAL(error_of([&] { consumer.poll(); }).status(), TG_ERROR_ARGUMENT);
}

void offsets_are_asked_and_set() {
    tidegate::Consumer consumer(group());
    consumer.assign({{filled(), 0, 40}, {filled(), 1, 0}});
    CHECK(consumer.poll(patience).has_value());
    CHECK_EQUAL(consumer.position(filled(), 0).value(), 41);
    CHECK_EQUAL(consumer.watermarks(filled(), 0, patience)->second, records_filled);
    CHECK_EQUAL(consumer.lag(filled(), 0).value(), records_filled - 41);
    CHECK_EQUAL(consumer.assignment().size(), 2u);
    consumer.pause({{filled(), 1}});
    CHECK_EQUAL(consumer.paused().at(0).partition, 1);
    consumer.resume({{filled(), 1}});
    CHECK(consumer.paused().empty());
    consumer.commit_offsets({{filled(), 0, 17}}, patience);
    CHECK_EQUAL(consumer.committed({{filled(), 0}}, patience).at(0).offset, 17);
    consumer.seek(filled(), 0, 90);
    CHECK_EQUAL(consumer.poll(patience)->offset(), 90);
    const tidegate::Batch kept = consumer.keep_polled();
    CHECK_EQUAL(consumer.poll(patience)->offset(), 91);
    CHECK_EQUAL(kept[0].offset(), 90);
    CHECK_EQUAL(consumer.offsets_for_times({{filled(), 0, 0}}, patience).size(), 1u);
    CHECK(consumer.stats_json().front() == '{');
    CHECK(consumer.ready_fd() >= 0);
}

void leases_are_acknowledged_by_other_threads() {
    tidegate::Consumer consumer(group().with("enable.auto.commit", false));
    consumer.assign({{filled(), 0, 0}});
    std::vector<std::thread> threads;
    std::size_t leased = 0;
    while (leased < records_filled) {
        std::optional<tidegate::Batch> batch = consumer.lease_batch(patience, 10);
        leased += batch->size();
        threads.emplace_back([batch = std::move(*batch)] { batch.acknowledge(); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK_EQUAL(consumer.commit(patience).at(0).offset, records_filled);
}

void what_a_callback_throws_comes_out_of_the_poll() {
    tidegate::RebalanceCallbacks callbacks;
    auto alive = std::make_shared<int>(0);
    callbacks.on_assign = [alive](tidegate::ConsumerRef& consumer, const std::vector<tidegate::TopicPartition>& partitions) {
        CHECK_EQUAL(consumer.assignment().size(), partitions.size());
        if (++*alive == 1) {
            throw std::runtime_error("no thanks");
        }
    };
    callbacks.on_revoke = [](tidegate::ConsumerRef, const std::vector<tidegate::TopicPartition>&) { throw std::logic_error("not now"); };
    tidegate::Consumer consumer(group());
    consumer.subscribe({filled()}, std::move(callbacks));
    CHECK_EQUAL(alive.use_count(), 2);
    std::string thrown;
    try {
        consumer.poll(patience);
    } catch (const std::runtime_error& error) {
        thrown = error.what();
    }
    CHECK_EQUAL(thrown, "no thanks");
    CHECK_EQUAL(consumer.poll(patience)->offset(), 0);
    // The last revoke is answered in close.
    thrown.clear();
    try {
        consumer.close(patience);
    } catch (const std::logic_error& error) {
        thrown = error.what();
    }
    CHECK_EQUAL(thrown, "not now");
    consumer = tidegate::Consumer(nullptr);
    CHECK_EQUAL(alive.use_count(), 1);
}

void refused_callbacks_end_here() {
    auto alive = std::make_shared<int>(0);
    tidegate::RebalanceCallbacks callbacks;
    callbacks.on_lost = [alive](tidegate::ConsumerRef, const auto&) {};
    tidegate::Consumer consumer(cluster());
    CHECK_EQUAL(error_of([&] { consumer.subscribe({"t"}, std::move(callbacks)); }).status(), TG_ERROR_ARGUMENT);
    callbacks = {};
    CHECK_EQUAL(alive.use_count(), 1);
}

void handlers_run_until_woken() {
    tidegate::Consumer consumer = reader();
    int handled = 0;
    bool thrown = false;
    const auto handler = [&](const tidegate::Record& record) {
        if (handled == 7 && !thrown) {
            thrown = true;
            throw std::runtime_error("again");
        }
        CHECK_EQUAL(record.offset(), handled);
        if (++handled == records_filled) {
            consumer.wake();
        }
    };
    try {
        consumer.run(handler);
        CHECK(false);
    } catch (const std::runtime_error&) {
    }
    consumer.run(handler);
    CHECK_EQUAL(handled, records_filled);
    consumer.seek(filled(), 0, 0);
    std::vector<tidegate::Batch> kept;
    consumer.run_batches([&](const tidegate::Batch& batch) {
        kept.push_back(batch.slice(0, batch.size()));
        handled -= static_cast<int>(batch.size());
        if (handled == 0) {
            consumer.wake();
        }
    });
    CHECK_EQUAL(handled, 0);
    CHECK_EQUAL(*kept[0][0].value(), "0");
}

void batches_as_a_range_end_with_a_wake() {
    tidegate::Consumer consumer = reader();
    std::size_t records = 0;
    for (tidegate::Batch& batch : consumer.batches()) {
        records += batch.size();
        if (records == records_filled) {
            consumer.wake();
        }
    }
    CHECK_EQUAL(records, static_cast<std::size_t>(records_filled));
}

void producers_tell_what_became_of_records() {
    const std::string to = topic(1);
    tidegate::Producer producer(cluster());
    std::atomic<int> delivered{0};
    for (int i = 0; i < 50; ++i) {
        producer.send({to.c_str(), std::nullopt, "value"}, [&](const tidegate::DeliveryReport& report) {
            CHECK_EQUAL(report.topic(), to);
            delivered += report.is_delivered() && !report.error();
        });
    }
    producer.flush(patience);
    CHECK_EQUAL(delivered.load(), 50);
    CHECK_EQUAL(producer.in_flight(), 0u);

    int mark = 0;
    producer.send_polled({to.c_str(), "", std::nullopt}, &mark);
    const std::optional<tidegate::DeliveryReport> report = producer.next_report(patience);
    CHECK(report->opaque() == &mark);
    CHECK_EQUAL(report->offset(), 50);

    CHECK_EQUAL(producer.send_batch(to.c_str(), {"a", std::nullopt, ""}, {"k", "k", std::nullopt}).accepted, 3u);
    CHECK_EQUAL(error_of([&] { producer.send_batch(to.c_str(), {"a", "b"}, {"k"}); }).argument(), "keys");
    CHECK_EQUAL(error_of([&] { producer.send({to.c_str(), std::nullopt, "x", -8}); }).status(), TG_ERROR_ARGUMENT);
    producer.flush(patience);

    // Runs of a batch go on as they are.
    tidegate::Consumer consumer(cluster());
    consumer.assign({{to, 0, 0}});
    const std::optional<tidegate::Batch> batch = consumer.fill_batch(patience, 54);
    CHECK_EQUAL((*batch)[50].key().value(), "");
    CHECK(!(*batch)[50].value());
    for (const tg_run& run : batch->columns().runs()) {
        const tidegate::SendOutcome outcome = producer.send_run(to.c_str(), batch->columns(), run);
        CHECK(outcome.is_complete());
        CHECK_EQUAL(outcome.accepted, run.count);
    }
    producer.flush(patience);
    CHECK_EQUAL(consumer.fill_batch(patience, 54)->size(), 54u);
    producer.close(patience);
    CHECK_EQUAL(error_of([&] { producer.send({to.c_str(), std::nullopt, "x"}); }).status(), TG_ERROR_CLOSED);
}

void what_a_delivery_callback_throws_comes_out_of_the_flush() {
    const std::string to = topic(1);
    auto alive = std::make_shared<int>(0);
    tidegate::Producer producer(cluster());
    producer.send({to.c_str(), std::nullopt, "x"}, [alive](const tidegate::DeliveryReport&) { throw std::runtime_error("unwanted"); });
    std::string thrown;
    try {
        producer.flush(patience);
    } catch (const std::runtime_error& error) {
        thrown = error.what();
    }
    CHECK_EQUAL(thrown, "unwanted");
    producer.flush(patience);
    // A refused one is not called, and ends here.
    error_of([&] { producer.send({"", std::nullopt, "x"}, [alive](const tidegate::DeliveryReport&) {}); });
    producer.close(patience);
    CHECK_EQUAL(alive.use_count(), 1);
}

void rows_that_are_refused_are_told() {
    tidegate::Producer producer(cluster().with("message.max.bytes", 2000));
    const std::string large(5000, 'x');
    const tidegate::SendOutcome outcome = producer.send_batch(filled().c_str(), {"a", large, "b"}, {}, 1);
    CHECK_EQUAL(outcome.accepted, 2u);
    CHECK_EQUAL(outcome.error->kafka_code(), 10);
    CHECK_EQUAL(outcome.statuses.at(1), TG_ERROR_KAFKA);
    CHECK_EQUAL(outcome.statuses.at(2), TG_OK);
    producer.flush(patience);
}

void log_lines_come_to_a_callable() {
    auto lines = std::make_shared<std::atomic<int>>(0);
    tidegate::set_log_callback(TG_LOG_DEBUG, [lines](tg_log_level, const char* target, const char* message) {
        *lines += std::strlen(target) > 0 && std::strlen(message) > 0;
        throw std::runtime_error("nobody hears this");
    });
    {
        tidegate::Producer producer({{"bootstrap.servers", "127.0.0.1:1"}});
        for (const auto deadline = std::chrono::steady_clock::now() + patience; *lines == 0 && std::chrono::steady_clock::now() < deadline;) {
            std::this_thread::yield();
        }
    }
    tidegate::clear_log_callback();
    CHECK(*lines > 0);
    CHECK_EQUAL(lines.use_count(), 1);
}

void tokens_come_from_a_callable() {
    auto asked = std::make_shared<std::atomic<int>>(0);
    {
        tidegate::Config config{{"bootstrap.servers", "127.0.0.1:1"}, {"security.protocol", "sasl_plaintext"}, {"sasl.mechanism", "OAUTHBEARER"}};
        CHECK_EQUAL(config.check(TG_CLIENT_PRODUCER).size(), 1u);
        config.token_provider([asked](std::string_view) -> std::optional<tidegate::Token> {
            switch ((*asked)++) {
                case 0:
                    throw std::runtime_error("not yet");
                case 1:
                    return std::nullopt;
                default:
                    return tidegate::Token{"a.b.", (static_cast<std::int64_t>(std::time(nullptr)) + 3600) * 1000, "me", {{"traceId", "a b"}}};
            }
        });
        CHECK(config.check(TG_CLIENT_PRODUCER).empty());
        tidegate::Producer producer(config);
        for (const auto deadline = std::chrono::steady_clock::now() + patience; *asked < 3 && std::chrono::steady_clock::now() < deadline;) {
            std::this_thread::yield();
        }
        producer.set_sasl_credentials("me", "secret");
    }
    CHECK_EQUAL(asked->load(), 3);
    for (const auto deadline = std::chrono::steady_clock::now() + patience; asked.use_count() > 1 && std::chrono::steady_clock::now() < deadline;) {
        std::this_thread::yield();
    }
    CHECK_EQUAL(asked.use_count(), 1);
}

void topics_are_listed() {
    filled();
    tidegate::Admin admin(cluster());
    const std::vector<tidegate::Topic> topics = admin.topics(patience);
    const auto found = std::find_if(topics.begin(), topics.end(), [](const tidegate::Topic& topic) { return topic.name == filled(); });
    CHECK(found != topics.end());
    CHECK_EQUAL(found->partitions, 2);
    if (!broker) {
        const tidegate::TopicsOutcome outcome = admin.create_topics({{filled(), 1}}, patience);
        CHECK_EQUAL(outcome.kafka_codes.at(0), 36);
        CHECK_EQUAL(outcome.error->kafka_code(), 36);
    }
}

}  // namespace

int main() {
    RUN(batches_are_ranges_of_records);
    RUN(records_of_several_runs_have_their_own_topics);
    RUN(batches_move_and_outlive_their_consumer);
    RUN(errors_carry_everything);
    RUN(offsets_are_asked_and_set);
    RUN(leases_are_acknowledged_by_other_threads);
    RUN(what_a_callback_throws_comes_out_of_the_poll);
    RUN(refused_callbacks_end_here);
    RUN(handlers_run_until_woken);
    RUN(batches_as_a_range_end_with_a_wake);
    RUN(producers_tell_what_became_of_records);
    RUN(what_a_delivery_callback_throws_comes_out_of_the_flush);
    RUN(rows_that_are_refused_are_told);
    RUN(log_lines_come_to_a_callable);
    RUN(tokens_come_from_a_callable);
    RUN(topics_are_listed);
    RUN(returning_face);
    return finish();
}
