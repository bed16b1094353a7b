// Handlers run by the library, in C++: callables that get records or tasks, what they throw, and tasks that move.
#include "world.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>

void process_returning_face();  // cpp_process_returning.cpp

namespace {

static_assert(!std::is_copy_constructible_v<tidegate::Task> && std::is_nothrow_move_constructible_v<tidegate::Task>);
static_assert(!std::is_copy_constructible_v<tidegate::Processing> && std::is_nothrow_move_constructible_v<tidegate::Processing>);
static_assert(std::is_copy_constructible_v<tidegate::HandlerError> && std::is_copy_constructible_v<tidegate::ProcessOptions>);

constexpr std::size_t count = 50;

// A topic with records "0", "1", ... with the keys "a", "b", "c" in turn.
std::string keyed() {
    std::string made = topic(1);
    tidegate::Producer producer(cluster());
    for (std::size_t i = 0; i < count; ++i) {
        const std::string key(1, static_cast<char>('a' + i % 3)), value = std::to_string(i);
        producer.send({made.c_str(), key, value, 0});
    }
    producer.flush(patience);
    return made;
}

tidegate::Consumer reader(const std::string& topic) {
    tidegate::Consumer consumer(cluster().with("group.id", name()));
    consumer.assign({{topic, 0, 0}});
    return consumer;
}

std::int64_t committed(tidegate::Consumer& consumer, const std::string& topic) {
    return consumer.committed({{topic, 0, 0}}, patience).at(0).offset;
}

void await(const tidegate::Processing& processing, std::uint64_t settled) {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const tg_ledger ledger = processing.progress().ledger;
        if (ledger.done + ledger.dead_lettered >= settled) {
            return;
        }
        CHECK(std::chrono::steady_clock::now() < until);
        std::this_thread::sleep_for(1ms);
    }
}

void a_record_is_done_when_its_handler_returns() {
    const std::string topic = keyed();
    tidegate::Consumer consumer = reader(topic);
    auto held = std::make_shared<std::atomic<std::size_t>>(0);
    tidegate::ProcessOptions options;
    options.workers = 4;
    tidegate::Processing processing =
        tidegate::process(consumer.ref(), options, [held](const tidegate::Record& record) { *held += record.value()->empty() ? 0 : 1; });
    await(processing, count);
    const tg_process_report report = processing.stop(patience);
    CHECK_EQUAL(report.ledger.done, count);
    CHECK_EQUAL(static_cast<int>(report.end), static_cast<int>(TG_PROCESS_STOPPED));
    CHECK_EQUAL(held->load(), count);
    // The callable ended with its last thread.
    CHECK_EQUAL(held.use_count(), 1);
    CHECK_EQUAL(committed(consumer, topic), static_cast<std::int64_t>(count));
    CHECK(processing.wait(0ms));
}

void tasks_move_to_other_threads() {
    const std::string topic = keyed();
    tidegate::Consumer consumer = reader(topic);
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<tidegate::Task> tasks;
    bool ended = false;
    std::thread answering([&] {
        for (;;) {
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return ended || !tasks.empty(); });
            if (tasks.empty()) {
                return;
            }
            tidegate::Task task = std::move(tasks.back());
            tasks.pop_back();
            lock.unlock();
            CHECK(!task.record().value()->empty());
            CHECK_EQUAL(task.attempt(), 1u);
            CHECK(!task.is_stale());
            task.done();
            CHECK(!task);
        }
    });
    tidegate::ProcessOptions options;
    options.workers = 1;
    options.max_in_flight = 20;
    options.order = TG_ORDER_NONE;
    tidegate::Processing processing = tidegate::process(consumer.ref(), options, [&](tidegate::Task task) {
        const std::lock_guard lock(mutex);
        tasks.push_back(std::move(task));
        changed.notify_one();
    });
    await(processing, count);
    CHECK_EQUAL(processing.stop(patience).ledger.done, count);
    {
        const std::lock_guard lock(mutex);
        ended = true;
        changed.notify_one();
    }
    answering.join();
    CHECK_EQUAL(committed(consumer, topic), static_cast<std::int64_t>(count));
}

// The dead letters' kinds and texts, by value.
std::vector<std::string> letters(const std::string& dead, std::size_t wanted) {
    tidegate::Consumer consumer(cluster());
    consumer.assign({{dead, 0, 0}});
    std::vector<std::string> found;
    const auto batch = consumer.fill_batch(patience, wanted);
    for (const tidegate::Record& record : *batch) {
        std::string told(*record.value());
        for (const tidegate::Header& header : record.headers()) {
            for (const char* name : {"tidegate.dlq.exception", "tidegate.dlq.text", "tidegate.dlq.attempts"}) {
                if (header.name == name) {
                    told += "|" + std::string(header.value.value_or(""));
                }
            }
        }
        found.push_back(std::move(told));
    }
    std::sort(found.begin(), found.end());
    return found;
}

void what_a_handler_throws_is_a_failed_attempt() {
    const std::string topic = keyed(), dead = ::topic(1);
    tidegate::Consumer consumer = reader(topic);
    tidegate::ProcessOptions options;
    options.dead_letter_topic = dead;
    options.max_attempts = 2;
    options.backoff = 1ms;
    options.workers = 4;
    tidegate::Processing processing = tidegate::process(consumer.ref(), options, [](tidegate::Task& task) {
        switch (task.record().offset()) {
        case 0: throw std::runtime_error("broken");
        case 1: throw 42;
        case 2: throw tidegate::HandlerError::terminal("never").kind("BadOrder");
        case 3: task.fail(tidegate::HandlerError::terminal("by hand").kind("Hand")); return;
        case 4: return;  // without an answer
        case 5: {
            const tidegate::Task dropped = std::move(task);
            return;
        }
        case 6: task.retry(1ms, "again"); return;
        default: task.done();
        }
    });
    await(processing, count);
    CHECK_EQUAL(processing.stop(patience).ledger.dead_lettered, 7u);
    const std::vector<std::string> told = letters(dead, 7);
    CHECK_EQUAL(told.size(), 7u);
    CHECK_EQUAL(told[0], "0|std::exception|broken|2");
    CHECK_EQUAL(told[1], "1||the handler has thrown something that is no std::exception|2");
    CHECK_EQUAL(told[2], "2|BadOrder|never|1");
    CHECK_EQUAL(told[3], "3|Hand|by hand|1");
    CHECK_EQUAL(told[4], "4|Unanswered|dropped without an answer|2");
    CHECK_EQUAL(told[5], "5|Unanswered|dropped without an answer|2");
    CHECK_EQUAL(told[6], "6||again|2");
    CHECK_EQUAL(committed(consumer, topic), static_cast<std::int64_t>(count));
}

void batches_are_vectors_of_tasks() {
    const std::string topic = keyed(), dead = ::topic(1);
    tidegate::Consumer consumer = reader(topic);
    tidegate::ProcessOptions options;
    options.batch_size = 10;
    options.workers = 2;
    options.dead_letter_topic = dead;
    // Shared, and not the stack's: a tool that does not see the library's locks would think that a handler still writes there.
    struct Seen {
        std::atomic<std::size_t> largest{0};
        std::atomic<bool> thrown{false};
    };
    const auto seen = std::make_shared<Seen>();
    tidegate::Processing processing = tidegate::process_batches(consumer.ref(), options, [seen](std::vector<tidegate::Task>& tasks) {
        seen->largest = std::max(seen->largest.load(), tasks.size());
        tasks.front().done();
        if (!seen->thrown.exchange(true)) {
            throw tidegate::HandlerError::terminal("the others").kind("Whole");
        }
        for (tidegate::Task& task : tasks) {
            if (task) {
                task.done();
            }
        }
    });
    await(processing, count);
    const tg_ledger ledger = processing.stop(patience).ledger;
    CHECK_EQUAL(seen->largest.load(), 10u);
    CHECK(ledger.dead_lettered >= 1 && ledger.dead_lettered <= 9);
    CHECK_EQUAL(ledger.done + ledger.dead_lettered, count);
}

void errors_are_exceptions() {
    const std::string topic = keyed();
    tidegate::Consumer consumer = reader(topic);
    tidegate::ProcessOptions options;
    options.max_in_flight = 0;
    const auto nothing = [](const tidegate::Record&) {};
    try {
        tidegate::process(consumer.ref(), options, nothing);
        CHECK(false);
    } catch (const tidegate::Error& error) {
        CHECK_EQUAL(static_cast<int>(error.status()), static_cast<int>(TG_ERROR_ARGUMENT));
        CHECK_EQUAL(error.argument(), "max_in_flight");
    }
    tidegate::Processing processing = tidegate::process(
        consumer.ref(), {}, [](const tidegate::Record& record) { throw tidegate::HandlerError::terminal("bad " + std::string(*record.value())); });
    try {
        processing.wait(patience);
        CHECK(false);
    } catch (const tidegate::Error& error) {
        CHECK_EQUAL(static_cast<int>(error.status()), static_cast<int>(TG_ERROR_CALLBACK));
        CHECK(std::string(error.message()).find("bad ") != std::string::npos);
    }
    CHECK_EQUAL(static_cast<int>(processing.progress().end), static_cast<int>(TG_PROCESS_FAILED));
    tidegate::Task answered(nullptr);
    CHECK(!answered);
    try {
        answered.done();
        CHECK(false);
    } catch (const tidegate::Error& error) {
        CHECK_EQUAL(error.argument(), "task");
    }
}

}  // namespace

int main() {
    RUN(a_record_is_done_when_its_handler_returns);
    RUN(tasks_move_to_other_threads);
    RUN(what_a_handler_throws_is_a_failed_attempt);
    RUN(batches_are_vectors_of_tasks);
    RUN(errors_are_exceptions);
    RUN(process_returning_face);
    return finish();
}
