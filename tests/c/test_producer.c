/* Producing: reports to callbacks and polled, columns, refusals, faults of the broker. */
#include "world.h"

struct reports {
    atomic_int delivered, failed;
    atomic_llong last_offset;
    tg_producer *producer;
    tg_status flush_status;
    const char *topic;
};

static void count(const tg_delivery_report *report, void *user_data) {
    struct reports *reports = (struct reports *)user_data;
    if (report->status == TG_OK) {
        CHECK(report->error == NULL);
        CHECK(report->opaque == user_data);
        CHECK_BYTES(report->topic, reports->topic);
        CHECK(report->timestamp_ms > 0);
        atomic_store(&reports->last_offset, report->offset);
        atomic_fetch_add(&reports->delivered, 1);
    } else {
        CHECK(report->error != NULL && report->error->status == report->status);
        atomic_fetch_add(&reports->failed, 1);
    }
}

static void each_record_has_its_report(void) {
    char topic[64];
    world_topic(topic, 1);
    struct reports reports;
    memset(&reports, 0, sizeof reports);
    reports.topic = topic;
    tg_producer *producer = world_producer(NULL);
    const tg_on_delivery on_delivery = {count, &reports};
    const tg_producer_record record = record_of(topic, 0, "key", "value");
    for (int i = 0; i < 200; ++i) {
        CHECK_OK(tg_producer_send(producer, &record, &on_delivery));
    }
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_EQUAL(atomic_load(&reports.delivered), 200);
    CHECK_EQUAL(atomic_load(&reports.last_offset), 199);
    CHECK_EQUAL(tg_producer_in_flight(producer), 0);
    tg_text *text;
    CHECK_OK(tg_producer_stats_json(producer, &text));
    CHECK(strstr((const char *)tg_text_data(text).data, "200") != NULL);
    CHECK_OK(tg_text_free(text));
    CHECK_OK(tg_producer_free(producer));
}

static void send_again(const tg_delivery_report *report, void *user_data) {
    struct reports *reports = (struct reports *)user_data;
    const tg_producer_record record = record_of(reports->topic, 0, NULL, "again");
    CHECK_EQUAL(report->status, TG_OK);
    CHECK_OK(tg_producer_send(reports->producer, &record, NULL));
    reports->flush_status = tg_producer_flush(reports->producer, 100);
    atomic_fetch_add(&reports->delivered, 1);
}

static void a_callback_may_call_the_library(void) {
    char topic[64];
    world_topic(topic, 1);
    struct reports reports;
    memset(&reports, 0, sizeof reports);
    reports.topic = topic;
    reports.producer = world_producer(NULL);
    const tg_on_delivery on_delivery = {send_again, &reports};
    const tg_producer_record record = record_of(topic, 0, NULL, "first");
    CHECK_OK(tg_producer_send(reports.producer, &record, &on_delivery));
    CHECK_OK(tg_producer_flush(reports.producer, PATIENCE_MS));
    CHECK_OK(tg_producer_flush(reports.producer, PATIENCE_MS));
    CHECK_EQUAL(atomic_load(&reports.delivered), 1);
    CHECK_EQUAL(reports.flush_status, TG_ERROR_ARGUMENT);
    CHECK_OK(tg_producer_close(reports.producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(reports.producer));
    tg_consumer *consumer = world_reader(topic, 0, 1);
    tg_record again;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &again));
    CHECK_BYTES(again.value, "again");
    CHECK_OK(tg_consumer_free(consumer));
}

static void reports_can_be_polled(void) {
    char topic[64];
    world_topic(topic, 1);
    tg_producer *producer = world_producer(NULL);
    tg_delivery_report report;
    CHECK_STATUS(tg_producer_next_report(producer, 0, &report), TG_NOTHING);
    int numbers[50];
    for (int i = 0; i < 50; ++i) {
        const tg_on_delivery polled = {NULL, &numbers[i]};
        const tg_producer_record record = record_of(topic, 0, NULL, "value");
        CHECK_OK(tg_producer_send(producer, &record, &polled));
    }
    for (int i = 0; i < 25; ++i) {
        CHECK_OK(tg_producer_next_report(producer, TG_FOREVER, &report));
        CHECK_EQUAL(report.status, TG_OK);
        CHECK(report.opaque == &numbers[report.offset]);
    }
    /* Close leaves none out. */
    CHECK_OK(tg_producer_close(producer, PATIENCE_MS));
    for (int i = 0; i < 25; ++i) {
        CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
    }
    CHECK_STATUS(tg_producer_next_report(producer, TG_FOREVER, &report), TG_NOTHING);
    CHECK_OK(tg_producer_free(producer));
}

static void columns_are_sent_as_they_are(void) {
    char topic[64], copies[64];
    world_topic(topic, 1);
    world_topic(copies, 1);
    tg_producer *producer = world_producer(NULL);
    const uint32_t key_starts[] = {0, 1, 0}, value_starts[] = {3, 0, 6};
    const int32_t key_lengths[] = {1, 2, -1}, value_lengths[] = {3, -1, 0};
    const tg_producer_columns columns = {.count = 3,
                                         .arena = bytes_of("abcdef"),
                                         .key_starts = key_starts,
                                         .key_lengths = key_lengths,
                                         .value_starts = value_starts,
                                         .value_lengths = value_lengths};
    int32_t statuses[3] = {-1, -1, -1};
    size_t accepted = 0;
    CHECK_OK(tg_producer_send_columns(producer, topic, 0, &columns, statuses, &accepted));
    CHECK_EQUAL(accepted, 3);
    CHECK_EQUAL(statuses[0] + statuses[1] + statuses[2], TG_OK);
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));

    tg_consumer *consumer = world_reader(topic, 0, 0);
    tg_batch *batch;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, 3, &batch));
    const char *keys[] = {"a", "bc", NULL}, *values[] = {"def", NULL, ""};
    for (size_t row = 0; row < 3; ++row) {
        tg_record record;
        CHECK_OK(tg_batch_record(batch, row, &record));
        CHECK_BYTES(record.key, keys[row]);
        CHECK_BYTES(record.value, values[row]);
    }
    /* A run goes on as it came. */
    tg_columns read;
    CHECK_OK(tg_batch_columns(batch, &read));
    for (size_t r = 0; r < read.run_count; ++r) {
        const tg_run *run = &read.runs[r];
        const tg_producer_columns rows = {.count = run->count,
                                          .arena = run->arena,
                                          .key_starts = read.key_starts + run->first,
                                          .key_lengths = read.key_lengths + run->first,
                                          .value_starts = read.value_starts + run->first,
                                          .value_lengths = read.value_lengths + run->first,
                                          .timestamps_ms = read.timestamps_ms + run->first};
        CHECK_OK(tg_producer_send_columns(producer, copies, 0, &rows, NULL, NULL));
    }
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    consumer = world_reader(copies, 0, 0);
    CHECK_EQUAL(world_drain(consumer, 3), 3);
    CHECK_OK(tg_consumer_free(consumer));

    const tg_bytes many[] = {bytes_of("x"), bytes_of(NULL)};
    CHECK_OK(tg_producer_send_batch(producer, topic, 0, NULL, many, 2, NULL, &accepted));
    CHECK_EQUAL(accepted, 2);
    CHECK_OK(tg_producer_send_batch(producer, topic, 0, many, many, 2, NULL, NULL));
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(producer));
}

/* Value, partition, timestamp and the first header's value of the rows of a topic, in the order of their values. */
static void check_rows(const char *topic, const char *const *values, const int32_t *partitions, const int64_t *times,
                       const char *const *headers, size_t count) {
    tg_consumer *consumer = world_consumer(SETTINGS("auto.offset.reset", "earliest"));
    const tg_topic_partition starts[] = {{topic, 0, 0}, {topic, 1, 0}};
    CHECK_OK(tg_consumer_assign(consumer, starts, 2));
    tg_batch *batch;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, count, &batch));
    CHECK_EQUAL(tg_batch_count(batch), count);
    for (size_t row = 0; row < count; ++row) {
        tg_record record;
        CHECK_OK(tg_batch_record(batch, row, &record));
        size_t sent = 0;
        while (sent + 1 < count && memcmp(record.value.data, values[sent], 1) != 0) {
            sent += 1;
        }
        CHECK_BYTES(record.value, values[sent]);
        CHECK_EQUAL(record.partition, partitions[sent]);
        CHECK_EQUAL(record.timestamp_ms, times[sent]);
        tg_header header = {{NULL, 0}, {NULL, 0}};
        tg_header_next(&record.headers, &header);
        CHECK_BYTES(header.value, headers[sent]);
    }
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_free(consumer));
}

static void rows_carry_headers_timestamps_and_partitions(void) {
    char topic[64];
    world_topic(topic, 2);
    tg_producer *producer = world_producer(NULL);
    const char *const values[] = {"a", "b", "c"};
    const int64_t times[] = {1700000000000, 1700000000001, 1700000000002};
    const int32_t partitions[] = {1, 0, 1};
    const char *const headers[] = {"first", NULL, "third"};
    /* From columns. */
    const uint32_t starts[] = {0, 1, 2}, counts[] = {1, 0, 2};
    const int32_t lengths[] = {1, 1, 1};
    const tg_header flat[] = {
        {bytes_of("h"), bytes_of("first")}, {bytes_of("h"), bytes_of("third")}, {bytes_of("i"), bytes_of(NULL)}};
    const tg_producer_columns columns = {.count = 3,
                                         .arena = bytes_of("abc"),
                                         .value_starts = starts,
                                         .value_lengths = lengths,
                                         .timestamps_ms = times,
                                         .partitions = partitions,
                                         .header_counts = counts,
                                         .headers = flat};
    size_t accepted;
    CHECK_OK(tg_producer_send_columns(producer, topic, TG_PARTITION_ANY, &columns, NULL, &accepted));
    CHECK_EQUAL(accepted, 3);
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    check_rows(topic, values, partitions, times, headers, 3);

    /* Whole ones, to another topic. */
    char other[64];
    world_topic(other, 2);
    tg_producer_record records[3];
    for (int i = 0; i < 3; ++i) {
        records[i] = record_of(other, partitions[i], NULL, values[i]);
        records[i].timestamp_ms = times[i];
        records[i].headers = &flat[i == 0 ? 0 : 1];
        records[i].header_count = i == 1 ? 0 : 1;
    }
    int32_t statuses[3] = {-1, -1, -1};
    CHECK_OK(tg_producer_send_records(producer, records, 3, statuses, &accepted));
    CHECK_EQUAL(accepted, 3);
    CHECK_EQUAL(statuses[0] + statuses[1] + statuses[2], TG_OK);
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    check_rows(other, values, partitions, times, headers, 3);

    /* One wrong row keeps all back, and is named. */
    records[2].timestamp_ms = -9;
    CHECK_STATUS(tg_producer_send_records(producer, records, 3, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("timestamp_ms");
    CHECK(strstr(tg_last_error()->message, "row 2") != NULL);
    records[2].timestamp_ms = times[2];
    records[1].topic = NULL;
    CHECK_STATUS(tg_producer_send_records(producer, records, 3, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("topic");
    CHECK(strstr(tg_last_error()->message, "row 1") != NULL);
    CHECK_STATUS(tg_producer_send_records(producer, NULL, 3, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_producer_in_flight(producer), 0);
    CHECK_OK(tg_producer_free(producer));
}

static void wrong_columns_send_nothing(void) {
    tg_producer *producer = world_producer(NULL);
    const uint32_t starts[] = {0, 4};
    const int32_t beyond[] = {1, 3}, negative[] = {1, -2};
    size_t accepted = 7;
    const tg_producer_columns one = {.count = 2, .arena = bytes_of("abcdef"), .value_starts = starts, .value_lengths = beyond};
    CHECK_STATUS(tg_producer_send_columns(producer, "t", 0, &one, NULL, &accepted), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("values");
    const tg_producer_columns two = {.count = 2, .arena = bytes_of("abcdef"), .value_starts = starts, .value_lengths = negative};
    CHECK_STATUS(tg_producer_send_columns(producer, "t", 0, &two, NULL, &accepted), TG_ERROR_ARGUMENT);
    const tg_producer_columns three = {.count = SIZE_MAX, .arena = bytes_of("abcdef"), .value_starts = starts, .value_lengths = beyond};
    CHECK_STATUS(tg_producer_send_columns(producer, "t", 0, &three, NULL, &accepted), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_producer_send_columns(producer, NULL, 0, &one, NULL, &accepted), TG_ERROR_ARGUMENT);
    const tg_bytes null_with_length = {NULL, 3};
    CHECK_STATUS(tg_producer_send_batch(producer, "t", 0, NULL, &null_with_length, 1, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_producer_in_flight(producer), 0);
    CHECK_OK(tg_producer_free(producer));
}

static void a_refused_record_has_no_report(void) {
    struct reports reports;
    memset(&reports, 0, sizeof reports);
    tg_producer *producer = world_producer(SETTINGS("message.max.bytes", "2000"));
    const tg_on_delivery on_delivery = {count, &reports};
    char large[5000];
    memset(large, 'x', sizeof large);
    tg_producer_record record = record_of("t", 0, NULL, NULL);
    record.value.data = (const uint8_t *)large;
    record.value.length = sizeof large;
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_KAFKA);
    CHECK_TEXT(tg_last_error()->kafka_name, "MSG_SIZE_TOO_LARGE");
    CHECK_EQUAL(tg_last_error()->kafka_code, 10);
    record = record_of("", 0, NULL, NULL);
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_ARGUMENT);
    record = record_of(NULL, 0, NULL, NULL);
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_ARGUMENT);
    record = record_of("t", -9, NULL, NULL);
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_ARGUMENT);
    const tg_header nameless = {bytes_of(NULL), bytes_of("x")};
    record = record_of("t", 0, NULL, NULL);
    record.headers = &nameless;
    record.header_count = 1;
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("headers");
    CHECK_OK(tg_producer_close(producer, PATIENCE_MS));
    record = record_of("t", 0, NULL, NULL);
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_CLOSED);
    CHECK_EQUAL(atomic_load(&reports.delivered) + atomic_load(&reports.failed), 0);
    CHECK_OK(tg_producer_free(producer));
    CHECK_STATUS(tg_producer_free(producer), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_producer_send(producer, &record, NULL), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_producer_in_flight(producer), 0);
}

static void a_full_queue_is_told_and_purged_records_are_reported(void) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", "127.0.0.1:1"));
    CHECK_OK(tg_config_set(config, "queue.buffering.max.messages", "10"));
    CHECK_OK(tg_config_set(config, "tidegate.queue.full.timeout.ms", "50"));
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    CHECK_OK(tg_config_free(config));
    struct reports reports;
    memset(&reports, 0, sizeof reports);
    const tg_on_delivery on_delivery = {count, &reports};
    const tg_producer_record record = record_of("t", 0, NULL, "value");
    int accepted = 0;
    while (tg_producer_try_send(producer, &record, &on_delivery) == TG_OK) {
        accepted += 1;
        CHECK(accepted < 1000);
    }
    CHECK_EQUAL(tg_last_error()->status, TG_ERROR_QUEUE_FULL);
    CHECK(tg_last_error()->is_retriable);
    const int64_t before = now_ms();
    CHECK_STATUS(tg_producer_send(producer, &record, &on_delivery), TG_ERROR_QUEUE_FULL);
    CHECK(now_ms() - before >= 50);
    CHECK_EQUAL(tg_producer_in_flight(producer), accepted);
    CHECK_STATUS(tg_producer_flush(producer, 10), TG_ERROR_TIMED_OUT);
    CHECK_OK(tg_producer_purge(producer));
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_EQUAL(atomic_load(&reports.failed), accepted);
    CHECK_OK(tg_producer_free(producer));
}

static void faults_of_the_embedded_broker(void) {
    tg_broker *broker;
    CHECK_OK(tg_broker_new(3, &broker));
    CHECK_OK(tg_broker_create_topic(broker, "t", 1));
    CHECK_STATUS(tg_broker_create_topic(broker, "t", 1), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_broker_create_topic(broker, "b@d", 1), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_broker_create_topic(broker, "u", 0), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_broker_down(broker, 4), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_broker_request_errors(broker, 99, NULL, 0), TG_ERROR_ARGUMENT);
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", tg_broker_bootstrap_servers(broker)));
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));

    /* MSG_SIZE_TOO_LARGE is not tried again. */
    const int32_t codes[] = {10};
    CHECK_OK(tg_broker_request_errors(broker, TG_REQUEST_PRODUCE, codes, 1));
    const tg_producer_record record = record_of("t", 0, NULL, "value");
    const tg_on_delivery polled = {NULL, NULL};
    CHECK_OK(tg_producer_send(producer, &record, &polled));
    tg_delivery_report report;
    CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
    CHECK_EQUAL(report.status, TG_ERROR_KAFKA);
    CHECK_EQUAL(report.error->kafka_code, 10);
    CHECK_EQUAL(report.offset, -1);

    CHECK_OK(tg_broker_request_errors(broker, TG_REQUEST_PRODUCE, codes, 1));
    CHECK_OK(tg_broker_clear_request_errors(broker, TG_REQUEST_PRODUCE));
    CHECK_OK(tg_broker_set_leader(broker, "t", 0, 2));
    CHECK_OK(tg_broker_round_trip_time(broker, TG_ALL_BROKERS, 20));
    CHECK_OK(tg_broker_set_group_coordinator(broker, "g", 3));
    CHECK_OK(tg_producer_send(producer, &record, &polled));
    CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
    CHECK_EQUAL(report.status, TG_OK);
    CHECK(report.latency_us >= 20000);

    tg_admin *admin;
    CHECK_OK(tg_admin_new(config, &admin));
    tg_topics *topics;
    CHECK_OK(tg_admin_topics(admin, PATIENCE_MS, &topics));
    CHECK_EQUAL(tg_topics_count(topics), 1);
    CHECK_TEXT(tg_topics_data(topics)[0].name, "t");
    CHECK_EQUAL(tg_topics_data(topics)[0].partitions, 1);
    CHECK_OK(tg_topics_free(topics));
    CHECK_OK(tg_producer_topics(producer, PATIENCE_MS, &topics));
    CHECK_EQUAL(tg_topics_count(topics), 1);
    CHECK_OK(tg_topics_free(topics));
    CHECK_OK(tg_admin_free(admin));

    CHECK_OK(tg_config_free(config));
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_broker_free(broker));
    CHECK(tg_broker_bootstrap_servers(broker) == NULL);
}

static void topics_are_made_and_deleted(void) {
    if (world.broker != NULL) {
        SKIP("the embedded broker knows no topic administration");
    }
    tg_config *config = world_config(NULL);
    tg_admin *admin;
    CHECK_OK(tg_admin_new(config, &admin));
    CHECK_OK(tg_config_free(config));
    char one[64], two[64];
    world_name(one);
    world_name(two);
    const tg_setting retention = {"retention.ms", "3600000"};
    const tg_new_topic topics[] = {{one, 3, 1, &retention, 1}, {two, 1, TG_REPLICATION_DEFAULT, NULL, 0}};
    int32_t codes[2] = {-1, -1};
    CHECK_OK(tg_admin_create_topics(admin, topics, 1, PATIENCE_MS, codes));
    CHECK_EQUAL(codes[0], 0);
    CHECK_STATUS(tg_admin_create_topics(admin, topics, 2, PATIENCE_MS, codes), TG_ERROR_KAFKA);
    CHECK_EQUAL(codes[0], 36);
    CHECK_EQUAL(codes[1], 0);
    CHECK_EQUAL(tg_last_error()->kafka_code, 36);
    const char *names[] = {one, two};
    CHECK_OK(tg_admin_delete_topics(admin, names, 2, PATIENCE_MS, codes));
    CHECK_OK(tg_admin_free(admin));
}

int main(void) {
    world_begin();
    RUN(each_record_has_its_report);
    RUN(a_callback_may_call_the_library);
    RUN(reports_can_be_polled);
    RUN(columns_are_sent_as_they_are);
    RUN(rows_carry_headers_timestamps_and_partitions);
    RUN(wrong_columns_send_nothing);
    RUN(a_refused_record_has_no_report);
    RUN(a_full_queue_is_told_and_purged_records_are_reported);
    RUN(faults_of_the_embedded_broker);
    RUN(topics_are_made_and_deleted);
    world_end();
    return finish();
}
