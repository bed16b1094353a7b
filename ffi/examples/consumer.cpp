// Reads batches as ranges of records, in C++. Errors are exceptions; everything ends with its scope.
//
//     c++ -std=c++17 consumer.cpp $(pkg-config --cflags --libs tidegate) -o consumer
#include <tidegate.hpp>

#include <iostream>

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
    tidegate::Config config{{"group.id", "example-cpp"}, {"auto.offset.reset", "earliest"}};
    config.set("bootstrap.servers", broker ? broker->bootstrap_servers() : argv[1]).set("max.poll.records", 500);

    tidegate::Consumer consumer(config);
    tidegate::RebalanceCallbacks callbacks;
    callbacks.on_assign = [](tidegate::ConsumerRef, const std::vector<tidegate::TopicPartition>& partitions) {
        std::cout << partitions.size() << " partitions assigned\n";
    };
    consumer.subscribe({broker ? "orders" : argv[2]}, std::move(callbacks));

    std::size_t records = 0, bytes = 0;
    for (const tidegate::Batch& batch : consumer.batches(30s)) {
        for (const tidegate::Record& record : batch) {
            bytes += record.value().value_or("").size();
        }
        records += batch.size();
        if (records >= records_wanted) {
            break;
        }
    }
    consumer.commit(10s);
    consumer.close(10s);
    std::cout << records << " records, " << bytes << " bytes\n";
    return records >= records_wanted ? 0 : 1;
} catch (const tidegate::Error& error) {
    std::cerr << error.status_name() << ": " << error.message() << '\n';
    return 1;
}
