// The cluster of a C++ test program, as world.h for C, and what runs its tests.
#ifndef WORLD_HPP
#define WORLD_HPP

#include "check.hpp"

#include <tidegate.hpp>

#include <unistd.h>

#include <cstring>
#include <ctime>

using namespace std::chrono_literals;

constexpr auto patience = 60s;

inline std::optional<tidegate::Broker> broker;

inline const tidegate::Config& cluster() {
    static const tidegate::Config config = [] {
        const char* real = std::getenv("TIDEGATE_TEST_BOOTSTRAP");
        return tidegate::Config{{"bootstrap.servers", real != nullptr && *real != '\0' ? real : broker.emplace().bootstrap_servers()}};
    }();
    return config;
}

inline std::string name() {
    static int names = 0;
    return "cpp-" + std::to_string(getpid()) + "-" + std::to_string(std::time(nullptr)) + "-" + std::to_string(++names);
}

inline std::string topic(int partitions) {
    std::string made = name();
    cluster();
    if (broker) {
        broker->create_topic(made, partitions);
    } else {
        CHECK(tidegate::Admin(cluster()).create_topics({{made, partitions}}, patience).is_complete());
    }
    return made;
}

inline int passed = 0, failed = 0;

inline void run(const char* name, void (*test)()) {
    if (const char* only = std::getenv("ONLY"); only != nullptr && std::strstr(name, only) == nullptr) {
        return;
    }
    std::printf("test %s\n", name);
    std::fflush(stdout);
    std::string problem;
    try {
        test();
    } catch (const check::Failure& failure) {
        problem = failure.text;
    } catch (const std::exception& error) {
        problem = std::string("  an exception: ") + error.what();
    }
    (problem.empty() ? passed : failed) += 1;
    if (!problem.empty()) {
        std::printf("%s\n  FAILED: %s\n", problem.c_str(), name);
    }
    std::fflush(stdout);
}

#define RUN(test) run(#test, test)

inline int finish() {
    broker.reset();
    std::printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

#endif
