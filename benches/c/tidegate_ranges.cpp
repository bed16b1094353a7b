/* As tidegate_batches.c, through tidegate.hpp: every record's offset and length from its range.
 *
 * usage: tidegate_ranges BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 */
#include <chrono>
#include <string>

#include <unistd.h>

#include "bench.h"

#include "tidegate.hpp"

int main(int argc, char **argv) try {
        if (argc < 4)
                fail("usage", "tidegate_ranges BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        const std::int64_t count = std::strtoll(argv[3], nullptr, 10);
        tidegate::Config config;
        config.set("bootstrap.servers", argv[1]);
        config.set("group.id", "bench-cpp-" + std::to_string(getpid()) + "-" + std::to_string(std::time(nullptr)));
        for (int i = 4; i < argc; i++) {
                const char *value = cut(argv[i]);
                config.set(argv[i], value);
        }
        tidegate::Consumer consumer(config);
        consumer.subscribe({argv[2]});

        std::int64_t records = 0, bytes = 0, offsets = 0;
        double wall = 0, cpu = 0;
        while (records < count) {
                const auto batch = consumer.next_batch(std::chrono::minutes(1));
                if (!batch)
                        fail("next_batch", "no record for a minute");
                if (records == 0) {
                        wall = wall_seconds();
                        cpu  = cpu_seconds();
                }
                records += static_cast<std::int64_t>(batch->size());
                for (const tidegate::Record &record : *batch) {
                        bytes += static_cast<std::int64_t>(record.value()->size());
                        offsets += record.offset();
                }
        }
        report(records, wall_seconds() - wall, cpu_seconds() - cpu, bytes, offsets);
        consumer.close(std::chrono::seconds(10));
        return 0;
} catch (const std::exception &error) {
        fail("tidegate_ranges", error.what());
}
