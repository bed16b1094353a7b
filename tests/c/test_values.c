/* What needs no cluster: versions, errors, configurations, handles, bad input. */
#include "check.h"

static void versions_are_those_of_the_header(void) {
    CHECK_EQUAL(tg_abi_version(), TG_ABI_VERSION);
    CHECK_EQUAL(tg_abi, TG_ABI_VERSION);
    CHECK(strchr(tg_version(), '.') != NULL);
    CHECK(strchr(tg_librdkafka_version(), '.') != NULL);
    CHECK(tg_version() == tg_version());
}

static void a_status_has_a_name(void) {
    CHECK_TEXT(tg_status_name(TG_OK), "OK");
    CHECK_TEXT(tg_status_name(TG_ERROR_QUEUE_FULL), "QUEUE_FULL");
    CHECK_TEXT(tg_status_name(-5), "UNKNOWN");
}

static void an_error_is_readable_after_the_call_that_failed(void) {
    tg_clear_error();
    CHECK(tg_last_error() == NULL);
    CHECK_STATUS(tg_config_set(NULL, "a", "b"), TG_ERROR_ARGUMENT);
    const tg_error *error = tg_last_error();
    CHECK(error != NULL);
    CHECK_EQUAL(error->status, TG_ERROR_ARGUMENT);
    CHECK_TEXT(error->argument, "config");
    CHECK(strstr(error->message, "NULL") != NULL);
    CHECK(!error->is_fatal && !error->is_retriable);
    CHECK_EQUAL(error->kafka_code, 0);
    CHECK_EQUAL(error->problem_count, 0);
    /* A call that succeeds leaves it alone. */
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK(tg_last_error() == error);
    CHECK_TEXT(tg_last_error()->argument, "config");
    CHECK_OK(tg_config_free(config));
    tg_clear_error();
    CHECK(tg_last_error() == NULL);
}

static void *fail_and_look(void *unused) {
    (void)unused;
    CHECK(tg_last_error() == NULL);
    CHECK_STATUS(tg_config_new(NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("config");
    return NULL;
}

static void errors_are_each_threads_own(void) {
    CHECK_STATUS(tg_config_set(NULL, "a", "b"), TG_ERROR_ARGUMENT);
    const char *before = tg_last_error()->message;
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, fail_and_look, NULL), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(tg_last_error()->message == before);
}

static tg_config *config_with_problems(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", "localhost:1"));
    CHECK_OK(tg_config_set(config, "group.id", "g"));
    CHECK_OK(tg_config_set(config, "max.poll.recrods", "5"));
    CHECK_OK(tg_config_set(config, "session.timeout.ms", "soon"));
    return config;
}

static void a_report_tells_every_problem(void) {
    tg_config *config = config_with_problems();
    tg_config_report *report;
    CHECK_OK(tg_config_check(config, TG_CLIENT_CONSUMER, &report));
    CHECK_EQUAL(tg_config_report_count(report), 2);
    const tg_config_problem *problems = tg_config_report_data(report);
    CHECK_TEXT(problems[0].property, "max.poll.recrods");
    CHECK_TEXT(problems[0].value, "5");
    CHECK(strstr(problems[0].remedy, "max.poll.records") != NULL);
    CHECK(problems[0].is_error && problems[1].is_error);
    CHECK_TEXT(problems[1].property, "session.timeout.ms");
    CHECK_TEXT(problems[1].value, "soon");
    CHECK(problems[1].reason[0] != '\0');
    CHECK_OK(tg_config_report_free(report));
    CHECK_EQUAL(tg_config_report_count(report), 0);
    CHECK(tg_config_report_data(report) == NULL);
    CHECK_STATUS(tg_config_report_free(report), TG_ERROR_ARGUMENT);

    CHECK_STATUS(tg_config_check(config, 77, &report), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("client");
    CHECK_OK(tg_config_free(config));
}

static void a_good_configuration_has_an_empty_report(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", "localhost:1"));
    tg_config_report *report;
    CHECK_OK(tg_config_check(config, TG_CLIENT_ADMIN, &report));
    CHECK_EQUAL(tg_config_report_count(report), 0);
    CHECK(tg_config_report_data(report) == NULL);
    CHECK_OK(tg_config_report_free(report));
    CHECK_OK(tg_config_free(config));
}

static void a_client_refuses_the_same_problems(void) {
    tg_config *config = config_with_problems();
    tg_consumer *consumer = (tg_consumer *)1;
    CHECK_STATUS(tg_consumer_new(config, &consumer), TG_ERROR_CONFIG);
    const tg_error *error = tg_last_error();
    CHECK_EQUAL(error->problem_count, 2);
    CHECK_TEXT(error->argument, "max.poll.recrods");
    CHECK_TEXT(error->problems[1].property, "session.timeout.ms");
    CHECK(strstr(error->message, "session.timeout.ms") != NULL);
    tg_producer *producer;
    CHECK_STATUS(tg_producer_new(config, &producer), TG_ERROR_CONFIG);
    tg_admin *admin;
    CHECK_STATUS(tg_admin_new(config, &admin), TG_ERROR_CONFIG);
    CHECK_OK(tg_config_free(config));
}

static void a_text_must_be_utf8(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_STATUS(tg_config_set(config, "group.id", "\xff\xfe"), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("value");
    CHECK_STATUS(tg_config_set(config, "\xc3", "x"), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("name");
    CHECK_STATUS(tg_config_set(config, "name", NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("value");
    CHECK_OK(tg_config_free(config));
}

static void a_freed_handle_is_told(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_free(config));
    CHECK_STATUS(tg_config_set(config, "a", "b"), TG_ERROR_ARGUMENT);
    CHECK(strstr(tg_last_error()->message, "freed") != NULL);
    CHECK_STATUS(tg_config_free(config), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_config_free(NULL));
    tg_consumer *consumer;
    CHECK_STATUS(tg_consumer_new(config, &consumer), TG_ERROR_ARGUMENT);
}

static void a_handle_of_another_kind_is_told(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    void *handle = config;
    CHECK_STATUS(tg_consumer_unsubscribe((tg_consumer *)handle), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_batch_free((tg_batch *)handle), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_free((tg_consumer *)handle), TG_ERROR_ARGUMENT);
    /* The address of the handle instead of the handle, and nonsense. */
    handle = &config;
    CHECK_STATUS(tg_config_set((tg_config *)handle, "a", "b"), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_config_set((tg_config *)(uintptr_t)UINTPTR_MAX, "a", "b"), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_config_free((tg_config *)(uintptr_t)2), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_config_free(config));
}

static void an_unaligned_place_is_told(void) {
    char buffer[2 * sizeof(void *)] = {0};
    void *odd = buffer + ((uintptr_t)buffer % 2 == 0 ? 1 : 0);
    CHECK_STATUS(tg_config_new((tg_config **)odd), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("config");
}

struct race {
    tg_config *config;
    pthread_barrier_t begin;
    atomic_int freed;
};

static void *free_once(void *data) {
    struct race *race = (struct race *)data;
    pthread_barrier_wait(&race->begin);
    if (tg_config_free(race->config) == TG_OK) {
        atomic_fetch_add(&race->freed, 1);
    }
    return NULL;
}

static void of_two_threads_that_free_one_handle_one_is_told(void) {
    for (int i = 0; i < 100; ++i) {
        struct race race;
        atomic_init(&race.freed, 0);
        CHECK_OK(tg_config_new(&race.config));
        CHECK_EQUAL(pthread_barrier_init(&race.begin, NULL, 2), 0);
        pthread_t threads[2];
        for (int t = 0; t < 2; ++t) {
            CHECK_EQUAL(pthread_create(&threads[t], NULL, free_once, &race), 0);
        }
        for (int t = 0; t < 2; ++t) {
            pthread_join(threads[t], NULL);
        }
        pthread_barrier_destroy(&race.begin);
        CHECK_EQUAL(atomic_load(&race.freed), 1);
    }
}

static void headers_without_a_block_are_none(void) {
    tg_header header;
    tg_bytes none = {NULL, 0};
    CHECK(!tg_header_next(&none, &header));
    CHECK(!tg_header_next(NULL, &header));
    CHECK(!tg_header_next(&none, NULL));
    /* A block cut short ends early, and nothing behind it is read. */
    const uint8_t cut[] = {200, 1, 'x'};
    tg_bytes block = {cut, sizeof cut};
    while (tg_header_next(&block, &header)) {
        CHECK(header.name.length <= sizeof cut);
    }
}

int main(void) {
    RUN(versions_are_those_of_the_header);
    RUN(a_status_has_a_name);
    RUN(an_error_is_readable_after_the_call_that_failed);
    RUN(errors_are_each_threads_own);
    RUN(a_report_tells_every_problem);
    RUN(a_good_configuration_has_an_empty_report);
    RUN(a_client_refuses_the_same_problems);
    RUN(a_text_must_be_utf8);
    RUN(a_freed_handle_is_told);
    RUN(a_handle_of_another_kind_is_told);
    RUN(an_unaligned_place_is_told);
    RUN(of_two_threads_that_free_one_handle_one_is_told);
    RUN(headers_without_a_block_are_none);
    return finish();
}
