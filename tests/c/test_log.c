/* Log lines to a callback of the program's. */
#include "world.h"

struct lines {
    atomic_int count, of_librdkafka, wrong, freed;
};

static void line(tg_log_level level, const char *target, const char *message, void *user_data) {
    struct lines *lines = (struct lines *)user_data;
    atomic_fetch_add(&lines->count, 1);
    if (strcmp(target, "librdkafka") == 0) {
        atomic_fetch_add(&lines->of_librdkafka, 1);
    } else if (strcmp(target, "tidegate") != 0) {
        atomic_fetch_add(&lines->wrong, 1);
    }
    if (level < TG_LOG_ERROR || level > TG_LOG_TRACE || message[0] == '\0' || message[strlen(message) - 1] == '\n') {
        atomic_fetch_add(&lines->wrong, 1);
    }
}

static void ended(void *user_data) { atomic_fetch_add(&((struct lines *)user_data)->freed, 1); }

/* A client that has something to complain about. */
static void complain(const struct lines *lines, int expected) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", "127.0.0.1:1"));
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    CHECK_OK(tg_config_free(config));
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (atomic_load(&lines->count) < expected && now_ms() < deadline) {
        usleep(1000);
    }
    CHECK_OK(tg_producer_free(producer));
}

static void lines_come_until_the_callback_is_replaced(void) {
    struct lines first, second;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    CHECK_OK(tg_set_log_callback(TG_LOG_DEBUG, line, &first, ended));
    complain(&first, 1);
    CHECK(atomic_load(&first.count) > 0);
    CHECK(atomic_load(&first.of_librdkafka) > 0);
    CHECK_EQUAL(atomic_load(&first.wrong), 0);
    CHECK_EQUAL(atomic_load(&first.freed), 0);

    CHECK_OK(tg_set_log_callback(TG_LOG_TRACE, line, &second, ended));
    CHECK_EQUAL(atomic_load(&first.freed), 1);
    const int before = atomic_load(&first.count);
    complain(&second, 1);
    CHECK(atomic_load(&second.count) > 0);
    CHECK_EQUAL(atomic_load(&first.count), before);

    CHECK_OK(tg_set_log_callback(0, NULL, NULL, NULL));
    CHECK_EQUAL(atomic_load(&second.freed), 1);
}

static void a_wrong_level_is_told_and_changes_nothing(void) {
    struct lines lines;
    memset(&lines, 0, sizeof lines);
    CHECK_STATUS(tg_set_log_callback(9, line, &lines, ended), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("level");
    CHECK_EQUAL(atomic_load(&lines.freed), 0);
}

int main(void) {
    RUN(lines_come_until_the_callback_is_replaced);
    RUN(a_wrong_level_is_told_and_changes_nothing);
    return finish();
}
