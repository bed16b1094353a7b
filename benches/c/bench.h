/* What the C contenders share: clocks, arguments, and the values that are sent. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* As benches/runner/load.py has them. */
#define VALUE_BYTES 100
#define DISTINCT_VALUES 1000

static inline double wall_seconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline double cpu_seconds(void) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline void fail(const char *what, const char *why) {
        fprintf(stderr, "%s: %s\n", what, why);
        exit(1);
}

/* Cuts NAME=VALUE in two; returns the value. */
static inline char *cut(char *argument) {
        char *equals = strchr(argument, '=');
        if (!equals)
                fail(argument, "not NAME=VALUE");
        *equals = '\0';
        return equals + 1;
}

/* DISTINCT_VALUES values of VALUE_BYTES, one behind the other, that do not compress. */
static inline const uint8_t *values(void) {
        static uint8_t bytes[DISTINCT_VALUES * VALUE_BYTES];
        uint64_t state = 1;
        for (size_t i = 0; i < sizeof(bytes); i++) {
                state    = state * 6364136223846793005u + 1442695040888963407u;
                bytes[i] = (uint8_t)(state >> 56);
        }
        return bytes;
}

static inline void report(int64_t records, double wall, double cpu, int64_t bytes, int64_t offsets) {
        printf("{\"records\": %lld, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes\": %lld, \"offset_sum\": %lld}\n",
               (long long)records, wall, cpu, (long long)bytes, (long long)offsets);
        fflush(stdout);
}

#endif
