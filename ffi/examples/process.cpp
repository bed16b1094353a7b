// Slow handlers side by side, in C++: four threads, orders of one customer in order, failures tried again.
//
//     c++ -std=c++17 process.cpp $(pkg-config --cflags --libs tidegate) -o process
#include <tidegate.hpp>

#include <atomic>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

namespace {

constexpr std::size_t records_wanted = 1000;

void fill(const std::string& servers) {
    tidegate::Producer producer({{"bootstrap.servers", servers}});
    for (std::size_t i = 0; i < records_wanted; ++i) {
        producer.send({"orders", "customer-" + std::to_string(i % 7), "order " + std::to_string(i)});
    }
    producer.flush(10s);
}

}  // namespace

int main(int argc, char** argv) try {
    std::optional<tidegate::Broker> broker;
    if (argc < 3) {
        broker.emplace().create_topic("orders", 4);
        fill(broker->bootstrap_servers());
    }
    tidegate::Config config{{"group.id", "example-process-cpp"}, {"auto.offset.reset", "earliest"}};
    config.set("bootstrap.servers", broker ? broker->bootstrap_servers() : argv[1]);
    tidegate::Consumer consumer(config);
    consumer.subscribe({broker ? "orders" : argv[2]});

    tidegate::ProcessOptions options;
    options.workers = 4;
    options.max_attempts = 3;
    options.backoff = 1ms;
    std::atomic<std::size_t> failures{0};
    tidegate::Processing processing = tidegate::process(consumer.ref(), options, [&](tidegate::Task& task) {
        std::this_thread::sleep_for(100us);
        if (task.record().offset() % 50 == 0 && task.attempt() == 1) {
            ++failures;
            throw tidegate::HandlerError::retriable("the service is busy").kind("Busy");
        }
        task.done();  // or keep it: std::move(task), and answer later
    });
    while (processing.progress().ledger.done < records_wanted) {
        processing.wait(50ms);
    }
    const tg_process_report report = processing.stop(10s);
    consumer.close(10s);
    std::cout << report.ledger.done << " records done, " << failures << " of them at the second attempt\n";
    return 0;
} catch (const tidegate::Error& error) {
    std::cerr << error.status_name() << ": " << error.message() << '\n';
    return 1;
}
