// Handlers without exceptions: errors are values, and a handler returns why it failed. Compiled with -fno-exceptions.
#include "check.hpp"

#include <tidegate.hpp>

#include <atomic>
#include <thread>

using namespace std::chrono_literals;

// Called by test_cpp_process.cpp; ends the program where something is wrong.
void process_returning_face() {
    auto broker = tidegate::Broker::create();
    CHECK(broker->create_topic("t", 1).has_value());
    const tidegate::Config config{{"bootstrap.servers", broker->bootstrap_servers()}};
    auto producer = tidegate::Producer::create(config);
    for (int i = 0; i < 10; ++i) {
        CHECK(producer->send({"t", std::nullopt, std::to_string(i), 0}).has_value());
    }
    CHECK(producer->flush(60s).has_value());

    auto consumer = tidegate::Consumer::create(config.with("group.id", "returning"));
    CHECK(consumer->assign({{"t", 0, 0}}).has_value());
    tidegate::ProcessOptions options;
    options.max_attempts = 2;
    options.backoff = 1ms;
    std::atomic<int> failures{0};
    auto processing = tidegate::process(consumer->ref(), options, [&](const tidegate::Record& record) -> std::optional<tidegate::HandlerError> {
        if (record.offset() == 3 && failures++ == 0) {
            return tidegate::HandlerError::retriable("once");
        }
        return std::nullopt;
    });
    CHECK(processing.has_value());
    while (processing->progress()->ledger.done < 10) {
        std::this_thread::sleep_for(1ms);
    }
    auto second = tidegate::process(consumer->ref(), options, [](tidegate::Task& task) { CHECK(task.done().has_value()); });
    CHECK(!second);
    CHECK_EQUAL(second.error().status(), TG_ERROR_CONCURRENT_USE);
    auto report = processing->stop(60s);
    CHECK_EQUAL(report->ledger.done, 10u);
    CHECK_EQUAL(failures.load(), 2);
    CHECK(*processing->wait(0ms));
}
