// The wrapper without exceptions: errors are values. Compiled with -fno-exceptions and linked beside the file that has them.
#include "check.hpp"

#include <tidegate.hpp>

#include <atomic>

using namespace std::chrono_literals;

static_assert(std::is_same_v<decltype(tidegate::Consumer::create(std::declval<const tidegate::Config&>())), tidegate::Result<tidegate::Consumer>>);

// Called by test_cpp.cpp; ends the program where something is wrong.
void returning_face() {
    auto broker = tidegate::Broker::create();
    CHECK(broker.has_value());
    CHECK(broker->create_topic("t", 1).has_value());
    const tidegate::Config config{{"bootstrap.servers", broker->bootstrap_servers()}};

    auto refused = tidegate::Consumer::create(config.with("no.such.property", 1));
    CHECK(!refused);
    CHECK_EQUAL(refused.error().status(), TG_ERROR_CONFIG);
    CHECK_EQUAL(refused.error().problems().size(), 1u);
    CHECK_EQUAL(refused.error().argument(), "no.such.property");
    auto problems = config.with("no.such.property", 1).check(TG_CLIENT_CONSUMER);
    CHECK_EQUAL(problems->size(), 1u);

    auto producer = tidegate::Producer::create(config);
    CHECK(producer.has_value());
    std::atomic<int> delivered{0};
    for (int i = 0; i < 10; ++i) {
        const std::string value = std::to_string(i);
        const tidegate::Result<void> sent =
            producer->send({"t", std::nullopt, value, 0}, [&](const tidegate::DeliveryReport& report) { delivered += report.is_delivered(); });
        CHECK(sent.has_value());
    }
    CHECK(!producer->send({"", std::nullopt, "x"}));
    CHECK(producer->flush(60s).has_value());
    CHECK_EQUAL(delivered.load(), 10);

    auto consumer = tidegate::Consumer::create(config.with("group.id", "returning").with("auto.offset.reset", "earliest"));
    CHECK(consumer.has_value());
    tidegate::RebalanceCallbacks callbacks;
    int calls = 0;
    callbacks.on_assign = [&](tidegate::ConsumerRef&, const std::vector<tidegate::TopicPartition>& partitions) {
        CHECK_EQUAL(partitions.size(), 1u);
        return ++calls == 1 ? 5 : 0;
    };
    CHECK(consumer->subscribe({"t"}, std::move(callbacks)).has_value());
    auto failed = consumer->poll(60s);
    CHECK(!failed);
    CHECK_EQUAL(failed.error().status(), TG_ERROR_CALLBACK);
    std::size_t records = 0;
    std::optional<tidegate::Error> error;
    for (const tidegate::Batch& batch : consumer->batches(60s, &error)) {
        for (const tidegate::Record record : batch) {
            CHECK_EQUAL(*record.value(), std::to_string(records));
            ++records;
        }
        if (records == 10) {
            break;
        }
    }
    CHECK(!error);
    CHECK_EQUAL(records, 10u);
    auto committed = consumer->commit(60s);
    CHECK_EQUAL(committed->at(0).offset, 10);
    CHECK(consumer->close(60s).has_value());
    auto closed = consumer->next_batch(1s);
    CHECK(!closed);
    CHECK_EQUAL(closed.error().status(), TG_ERROR_CLOSED);
    for ([[maybe_unused]] const tidegate::Batch& batch : consumer->batches(1s, &error)) {
        CHECK(false);
    }
    CHECK(error.has_value());
    CHECK_EQUAL(error->status(), TG_ERROR_CLOSED);
    CHECK_EQUAL(calls, 1);
}
