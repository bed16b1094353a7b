/* Test macros for C and C++. A program lists its tests in main() with RUN() and ends with `return finish();`, whose line
 * "N passed, M failed, K skipped" the runner reads.
 *
 * CHECK ends the test that it fails in; on another thread than the test's own it only notes the failure. */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tidegate.h>

static struct {
    int passed, failed, skipped;
    atomic_bool is_failing;
    bool is_skipping;
    pthread_t thread;
    jmp_buf end;
} suite;

static inline void fail_at(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("  %s:%d: ", file, line);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
    atomic_store(&suite.is_failing, true);
    if (pthread_equal(pthread_self(), suite.thread)) {
        longjmp(suite.end, 1);
    }
}

#define CHECK(condition) ((condition) ? (void)0 : fail_at(__FILE__, __LINE__, "not true: %s", #condition))

#define CHECK_EQUAL(found, expected) check_equal(__FILE__, __LINE__, #found, (long long)(found), (long long)(expected))

/* A status and, when it is another one, what the library says about it. */
#define CHECK_STATUS(call, expected) check_status(__FILE__, __LINE__, #call, (call), (expected))
#define CHECK_OK(call) CHECK_STATUS(call, TG_OK)

#define CHECK_TEXT(found, expected) check_text(__FILE__, __LINE__, #found, (found), (expected))
#define CHECK_BYTES(found, expected) check_bytes(__FILE__, __LINE__, #found, (found), (expected))
/* The thread's last error names this argument. */
#define CHECK_ARGUMENT(expected) check_text(__FILE__, __LINE__, "the error's argument", last_argument(), (expected))

#define RUN(test) run_test(#test, test)
#define SKIP(reason)                       \
    do {                                   \
        printf("  skipped: %s\n", reason); \
        suite.is_skipping = true;          \
        return;                            \
    } while (0)

static inline void check_equal(const char *file, int line, const char *what, long long found, long long expected) {
    if (found != expected) {
        fail_at(file, line, "%s is %lld, not %lld", what, found, expected);
    }
}

static inline void check_status(const char *file, int line, const char *call, tg_status found, tg_status expected) {
    if (found != expected) {
        const tg_error *error = tg_last_error();
        fail_at(file, line, "%s: %s, not %s (last error: %s)", call, tg_status_name(found), tg_status_name(expected),
                error != NULL ? error->message : "none");
    }
}

static inline void check_text(const char *file, int line, const char *what, const char *found, const char *expected) {
    if (found == NULL || strcmp(found, expected) != 0) {
        fail_at(file, line, "%s is \"%s\", not \"%s\"", what, found != NULL ? found : "(NULL)", expected);
    }
}

/* NULL stands for null. */
static inline void check_bytes(const char *file, int line, const char *what, tg_bytes found, const char *expected) {
    if (expected == NULL ? found.data != NULL
                         : found.data == NULL || found.length != strlen(expected) || memcmp(found.data, expected, found.length) != 0) {
        fail_at(file, line, "%s is \"%.*s\"%s, not \"%s\"", what, (int)found.length, found.data != NULL ? (const char *)found.data : "",
                found.data == NULL ? " (null)" : "", expected != NULL ? expected : "(null)");
    }
}

static inline const char *last_argument(void) {
    const tg_error *error = tg_last_error();
    return error == NULL ? NULL : error->argument;
}

static inline void run_test(const char *name, void (*test)(void)) {
    const char *only = getenv("ONLY");
    if (only != NULL && strstr(name, only) == NULL) {
        return;
    }
    printf("test %s\n", name);
    fflush(stdout);
    suite.thread = pthread_self();
    atomic_store(&suite.is_failing, false);
    suite.is_skipping = false;
    if (setjmp(suite.end) == 0) {
        test();
    }
    if (atomic_load(&suite.is_failing)) {
        suite.failed += 1;
        printf("  FAILED: %s\n", name);
    } else if (suite.is_skipping) {
        suite.skipped += 1;
    } else {
        suite.passed += 1;
    }
    fflush(stdout);
}

static inline int finish(void) {
    printf("%d passed, %d failed, %d skipped\n", suite.passed, suite.failed, suite.skipped);
    fflush(stdout);
    return suite.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

#endif
