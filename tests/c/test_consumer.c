/* Consuming: records, batches, columns, leases, commits, offsets. On the embedded broker, and on a real Kafka where there is one. */
#include "world.h"

enum { RECORDS = 300 };

/* The Arrow C data interface, as its specification defines it. */
struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* A topic of two partitions with RECORDS records in each; made once. */
static const char *filled(void) {
    static char topic[64];
    if (topic[0] == '\0') {
        world_topic(topic, 2);
        world_fill(topic, 0, RECORDS);
        world_fill(topic, 1, RECORDS);
    }
    return topic;
}

static tg_batch *next(tg_consumer *consumer, size_t max_records) {
    tg_batch *batch = NULL;
    CHECK_OK(tg_consumer_next_batch(consumer, PATIENCE_MS, max_records, &batch));
    return batch;
}

static void records_come_one_by_one(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_reader(topic, 1, TG_OFFSET_BEGINNING);
    tg_record record;
    for (int i = 0; i < RECORDS; ++i) {
        CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        CHECK_BYTES(record.topic, topic);
        CHECK_EQUAL(record.partition, 1);
        CHECK_EQUAL(record.offset, i);
        CHECK_BYTES(record.value, value);
        CHECK_BYTES(record.key, i % 3 == 0 ? NULL : "key");
        CHECK_EQUAL(record.headers.length, 0);
        CHECK(record.timestamp_ms > 1500000000000);
        CHECK_EQUAL(record.timestamp_type, TG_TIMESTAMP_CREATE_TIME);
    }
    CHECK_STATUS(tg_consumer_poll(consumer, 0, &record), TG_NOTHING);
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_polled_record_can_be_kept(void) {
    tg_consumer *consumer = world_reader(filled(), 0, 7);
    tg_batch *kept;
    CHECK_STATUS(tg_consumer_keep_polled(consumer, &kept), TG_ERROR_ARGUMENT);
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_OK(tg_consumer_keep_polled(consumer, &kept));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 8);
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_EQUAL(tg_batch_count(kept), 1);
    CHECK_OK(tg_batch_record(kept, 0, &record));
    CHECK_EQUAL(record.offset, 7);
    CHECK_BYTES(record.value, "7");
    CHECK_OK(tg_batch_free(kept));
}

static void columns_say_what_the_records_say(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_consumer(NULL);
    const tg_topic_partition starts[] = {{topic, 0, 0}, {topic, 1, 0}};
    CHECK_OK(tg_consumer_assign(consumer, starts, 2));
    size_t records = 0;
    int64_t expected[2] = {0, 0};
    while (records < 2 * RECORDS) {
        tg_batch *batch = next(consumer, 0);
        tg_columns columns;
        CHECK_OK(tg_batch_columns(batch, &columns));
        CHECK_EQUAL(columns.count, tg_batch_count(batch));
        CHECK(columns.count > 0 && tg_batch_size_bytes(batch) > 0);
        size_t row = 0;
        for (size_t r = 0; r < columns.run_count; ++r) {
            const tg_run *run = &columns.runs[r];
            CHECK_EQUAL(run->first, row);
            CHECK(run->count > 0);
            CHECK_BYTES(run->topic, topic);
            for (; row < run->first + run->count; ++row) {
                tg_record record;
                CHECK_OK(tg_batch_record(batch, row, &record));
                CHECK_EQUAL(columns.partitions[row], run->partition);
                CHECK_EQUAL(record.partition, run->partition);
                CHECK_EQUAL(columns.offsets[row], expected[run->partition]++);
                CHECK_EQUAL(record.offset, columns.offsets[row]);
                CHECK_EQUAL(record.timestamp_ms, columns.timestamps_ms[row]);
                CHECK_EQUAL(record.timestamp_type, run->timestamp_type);
                CHECK_EQUAL(record.leader_epoch, run->leader_epoch);
                CHECK_EQUAL(record.generation, run->generation);
                CHECK_EQUAL(record.value.length, columns.value_lengths[row]);
                CHECK(record.value.data == run->arena.data + columns.value_starts[row]);
                CHECK(columns.value_starts[row] + record.value.length <= run->arena.length);
                CHECK_EQUAL(columns.key_lengths[row], record.key.data == NULL ? -1 : (long long)record.key.length);
                CHECK(record.key.data == NULL || record.key.data == run->arena.data + columns.key_starts[row]);
            }
        }
        CHECK_EQUAL(row, columns.count);
        records += columns.count;
        CHECK_OK(tg_batch_free(batch));
    }
    CHECK_OK(tg_consumer_free(consumer));
}

static void batches_keep_their_limits(void) {
    tg_consumer *consumer = world_reader(filled(), 0, TG_OFFSET_BEGINNING);
    tg_batch *batch = next(consumer, 10);
    CHECK(tg_batch_count(batch) <= 10);
    const size_t first = tg_batch_count(batch);
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, 100, &batch));
    CHECK_EQUAL(tg_batch_count(batch), 100);
    tg_columns columns;
    CHECK_OK(tg_batch_columns(batch, &columns));
    CHECK_EQUAL(columns.offsets[0], first);
    CHECK_OK(tg_batch_free(batch));
    /* More than there is: what there is, when the time is over. */
    CHECK_OK(tg_consumer_fill_batch(consumer, 200, 10 * RECORDS, &batch));
    CHECK_EQUAL(tg_batch_count(batch), RECORDS - 100 - first);
    CHECK_OK(tg_batch_free(batch));
    batch = (tg_batch *)1;
    CHECK_STATUS(tg_consumer_fill_batch(consumer, 0, 1, &batch), TG_NOTHING);
    CHECK(batch == NULL);
    CHECK_STATUS(tg_consumer_fill_batch(consumer, 10, 0, &batch), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_next_batch(consumer, -7, 0, &batch), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("timeout_ms");
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_batch_outlives_its_consumer(void) {
    tg_consumer *consumer = world_reader(filled(), 1, TG_OFFSET_BEGINNING);
    tg_batch *batch;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, RECORDS, &batch));
    tg_columns columns;
    CHECK_OK(tg_batch_columns(batch, &columns));
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_EQUAL(tg_batch_count(batch), RECORDS);
    for (size_t row = 0; row < columns.count; ++row) {
        char value[16];
        const int length = snprintf(value, sizeof value, "%zu", row);
        CHECK_EQUAL(columns.value_lengths[row], length);
        CHECK(memcmp(columns.runs[0].arena.data + columns.value_starts[row], value, (size_t)length) == 0 || columns.run_count > 1);
    }
    /* Its rows belong to nobody any more. */
    CHECK_STATUS(tg_batch_acknowledge(batch, 0, columns.count + 1), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_batch_free(batch));
    CHECK_STATUS(tg_batch_free(batch), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_batch_count(batch), 0);
    CHECK(tg_batch_is_stale(batch, 0));
    CHECK_STATUS(tg_batch_columns(batch, &columns), TG_ERROR_ARGUMENT);
}

static void slices_share_the_memory_and_end_alone(void) {
    tg_consumer *consumer = world_reader(filled(), 0, TG_OFFSET_BEGINNING);
    tg_batch *batch, *slice, *all;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, RECORDS, &batch));
    CHECK_OK(tg_batch_slice(batch, 100, 50, &slice));
    CHECK_OK(tg_batch_slice(batch, 0, 0, &all));
    CHECK_EQUAL(tg_batch_count(all), 0);
    CHECK_OK(tg_batch_free(all));
    CHECK_STATUS(tg_batch_slice(batch, RECORDS, 1, &all), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_batch_slice(batch, SIZE_MAX, 2, &all), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("count");
    tg_record whole, part;
    CHECK_OK(tg_batch_record(batch, 120, &whole));
    CHECK_OK(tg_batch_record(slice, 20, &part));
    CHECK(whole.value.data == part.value.data);
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_batch_record(slice, 20, &part));
    CHECK_BYTES(part.value, "120");
    CHECK_STATUS(tg_batch_record(slice, 50, &part), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("row");
    CHECK_OK(tg_batch_free(slice));
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_batch_goes_to_arrow_and_outlives_itself(void) {
    tg_consumer *consumer = world_reader(filled(), 0, 0);
    tg_batch *batch;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, RECORDS, &batch));
    struct ArrowArray array;
    struct ArrowSchema schema;
    CHECK_OK(tg_batch_export_arrow(batch, &array, &schema));
    CHECK_STATUS(tg_batch_export_arrow(batch, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_TEXT(schema.format, "+s");
    CHECK_EQUAL(array.length, RECORDS);
    CHECK_EQUAL(array.n_children, schema.n_children);
    bool is_found = false;
    for (int64_t i = 0; i < schema.n_children; ++i) {
        if (strcmp(schema.children[i]->name, "offset") == 0) {
            CHECK_TEXT(schema.children[i]->format, "l");
            const int64_t *offsets = (const int64_t *)array.children[i]->buffers[1] + array.children[i]->offset;
            for (int64_t row = 0; row < array.length; ++row) {
                CHECK_EQUAL(offsets[row], row);
            }
            is_found = true;
        }
    }
    CHECK(is_found);
    schema.release(&schema);
    array.release(&array);
    CHECK(array.release == NULL && schema.release == NULL);
}

static void headers_nulls_and_empty_texts_arrive(void) {
    char topic[64];
    world_topic(topic, 1);
    tg_producer *producer = world_producer(NULL);
    const tg_header headers[] = {{bytes_of("trace"), bytes_of("1")}, {bytes_of("trace"), bytes_of("")}, {bytes_of("none"), bytes_of(NULL)}};
    tg_producer_record record = record_of(topic, 0, "", NULL);
    record.headers = headers;
    record.header_count = 3;
    record.timestamp_ms = 1700000000123;
    CHECK_OK(tg_producer_send(producer, &record, NULL));
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(producer));

    tg_consumer *consumer = world_reader(topic, 0, 0);
    tg_record found;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &found));
    CHECK_BYTES(found.key, "");
    CHECK_BYTES(found.value, NULL);
    CHECK_EQUAL(found.timestamp_ms, 1700000000123);
    tg_bytes left = found.headers;
    tg_header header;
    CHECK(tg_header_next(&left, &header));
    CHECK_BYTES(header.name, "trace");
    CHECK_BYTES(header.value, "1");
    CHECK(tg_header_next(&left, &header));
    CHECK_BYTES(header.value, "");
    CHECK(tg_header_next(&left, &header));
    CHECK_BYTES(header.name, "none");
    CHECK_BYTES(header.value, NULL);
    CHECK(!tg_header_next(&left, &header));
    CHECK_OK(tg_consumer_free(consumer));
}

static int64_t committed(tg_consumer *consumer, const char *topic, int partition) {
    const tg_topic_partition wanted = {topic, partition, TG_OFFSET_NONE};
    tg_partitions *list;
    CHECK_OK(tg_consumer_committed(consumer, &wanted, 1, PATIENCE_MS, &list));
    CHECK_EQUAL(tg_partitions_count(list), 1);
    const tg_topic_partition *rows = tg_partitions_data(list);
    CHECK_TEXT(rows[0].topic, topic);
    CHECK_EQUAL(rows[0].partition, partition);
    const int64_t offset = rows[0].offset;
    CHECK_OK(tg_partitions_free(list));
    CHECK_STATUS(tg_partitions_free(list), TG_ERROR_ARGUMENT);
    return offset;
}

static void a_restart_goes_on_behind_what_was_committed(void) {
    char topic[64], group[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 20);
    world_name(group);
    const char *const *settings = SETTINGS("group.id", group, "auto.offset.reset", "earliest", "session.timeout.ms", "6000");
    const char *topics[] = {topic};

    tg_consumer *consumer = world_consumer(settings);
    CHECK_OK(tg_consumer_subscribe(consumer, topics, 1, NULL));
    tg_record record;
    for (int i = 0; i < 5; ++i) {
        CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    }
    tg_partitions *list;
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, &list));
    CHECK_EQUAL(tg_partitions_count(list), 1);
    CHECK_EQUAL(tg_partitions_data(list)[0].offset, 5);
    CHECK_OK(tg_partitions_free(list));
    CHECK_EQUAL(committed(consumer, topic, 0), 5);
    /* Handed out and not finished: not committed by close. */
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_OK(tg_consumer_free(consumer));

    consumer = world_consumer(settings);
    CHECK_OK(tg_consumer_subscribe(consumer, topics, 1, NULL));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 6);
    CHECK_OK(tg_consumer_finish_in_hand(consumer));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_OK(tg_consumer_free(consumer));

    tg_consumer *reader = world_consumer(settings);
    CHECK_EQUAL(committed(reader, topic, 0), 7);
    CHECK_OK(tg_consumer_free(reader));
}

static void leased_records_are_finished_by_acknowledging(void) {
    char topic[64], group[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 20);
    world_name(group);
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
    const tg_topic_partition start = {topic, 0, 0};
    CHECK_OK(tg_consumer_assign(consumer, &start, 1));
    size_t leased = 0;
    tg_batch *batches[20];
    size_t count = 0;
    while (leased < 20) {
        CHECK_OK(tg_consumer_lease_batch(consumer, PATIENCE_MS, 10, &batches[count]));
        leased += tg_batch_count(batches[count++]);
    }
    /* Nothing is finished by asking for more: at most the start is committed. */
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, NULL));
    CHECK(committed(consumer, topic, 0) <= 0);
    /* Out of order: the first one holds up the rest. */
    CHECK_OK(tg_batch_acknowledge(batches[0], 1, tg_batch_count(batches[0]) - 1));
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, NULL));
    CHECK(committed(consumer, topic, 0) <= 0);
    CHECK_OK(tg_batch_acknowledge(batches[0], 0, 1));
    CHECK_OK(tg_batch_acknowledge(batches[0], 0, 1));
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, NULL));
    CHECK_EQUAL(committed(consumer, topic, 0), tg_batch_count(batches[0]));
    /* After a seek they are somebody else's. */
    CHECK(!tg_batch_is_stale(batches[count - 1], 0));
    CHECK_OK(tg_consumer_seek(consumer, topic, 0, 3));
    CHECK(tg_batch_is_stale(batches[count - 1], 0));
    CHECK_STATUS(tg_batch_acknowledge(batches[count - 1], 0, 1), TG_ERROR_STALE);
    for (size_t i = 0; i < count; ++i) {
        CHECK_OK(tg_batch_free(batches[i]));
    }
    CHECK_OK(tg_consumer_free(consumer));
}

static void offsets_can_be_committed_by_hand(void) {
    char group[64];
    world_name(group);
    const char *topic = filled();
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group));
    const tg_topic_partition offsets[] = {{topic, 0, 17}, {topic, 1, 4}};
    CHECK_OK(tg_consumer_commit_offsets(consumer, offsets, 2, PATIENCE_MS));
    CHECK_EQUAL(committed(consumer, topic, 0), 17);
    CHECK_EQUAL(committed(consumer, topic, 1), 4);
    CHECK_STATUS(tg_consumer_commit_offsets(consumer, offsets, 0, PATIENCE_MS), TG_ERROR_ARGUMENT);
    const tg_topic_partition negative = {topic, 0, -5};
    CHECK_STATUS(tg_consumer_commit_offsets(consumer, &negative, 1, PATIENCE_MS), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_consumer_commit_async(consumer));
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_seek_goes_there(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_reader(topic, 0, 100);
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 100);
    CHECK_OK(tg_consumer_seek(consumer, topic, 0, 5));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 5);
    CHECK_OK(tg_consumer_seek(consumer, topic, 0, TG_OFFSET_TAIL_BASE - 2));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, RECORDS - 2);
    CHECK_STATUS(tg_consumer_seek(consumer, topic, 1, 5), TG_ERROR_NOT_ASSIGNED);
    CHECK_STATUS(tg_consumer_seek(consumer, topic, 0, -7), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("offset");
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_paused_partition_gives_nothing(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_consumer(NULL);
    const tg_topic_partition starts[] = {{topic, 0, 0}, {topic, 1, 0}};
    CHECK_OK(tg_consumer_assign(consumer, starts, 2));
    CHECK_OK(tg_consumer_pause(consumer, starts, 1));
    tg_partitions *list;
    CHECK_OK(tg_consumer_paused(consumer, &list));
    CHECK_EQUAL(tg_partitions_count(list), 1);
    CHECK_EQUAL(tg_partitions_data(list)[0].partition, 0);
    CHECK_OK(tg_partitions_free(list));
    for (size_t records = 0; records < RECORDS;) {
        tg_batch *batch = next(consumer, 0);
        tg_columns columns;
        CHECK_OK(tg_batch_columns(batch, &columns));
        for (size_t row = 0; row < columns.count; ++row) {
            CHECK_EQUAL(columns.partitions[row], 1);
        }
        records += columns.count;
        CHECK_OK(tg_batch_free(batch));
    }
    CHECK_OK(tg_consumer_resume(consumer, starts, 1));
    CHECK_EQUAL(world_drain(consumer, RECORDS), RECORDS);
    CHECK_OK(tg_consumer_paused(consumer, &list));
    CHECK_EQUAL(tg_partitions_count(list), 0);
    CHECK(tg_partitions_data(list) == NULL);
    CHECK_OK(tg_partitions_free(list));
    const tg_topic_partition stranger = {"elsewhere", 0, 0};
    CHECK_STATUS(tg_consumer_pause(consumer, &stranger, 1), TG_ERROR_NOT_ASSIGNED);
    CHECK_OK(tg_consumer_free(consumer));
}

static void position_watermarks_and_lag_agree(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_reader(topic, 0, 50);
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    int64_t offset, low, high, lag;
    CHECK_OK(tg_consumer_position(consumer, topic, 0, &offset));
    CHECK_EQUAL(offset, 51);
    CHECK_OK(tg_consumer_watermarks(consumer, topic, 0, PATIENCE_MS, &low, &high));
    CHECK_EQUAL(low, 0);
    CHECK_EQUAL(high, RECORDS);
    CHECK_OK(tg_consumer_lag(consumer, topic, 0, &lag));
    CHECK_EQUAL(lag, RECORDS - 51);
    /* What fetches have told, without asking anybody. */
    CHECK_OK(tg_consumer_watermarks(consumer, topic, 0, 0, &low, &high));
    CHECK_EQUAL(high, RECORDS);
    CHECK_STATUS(tg_consumer_watermarks(consumer, topic, 1, 0, &low, &high), TG_NOTHING);
    CHECK_STATUS(tg_consumer_position(consumer, topic, 1, &offset), TG_ERROR_NOT_ASSIGNED);
    CHECK_STATUS(tg_consumer_lag(consumer, topic, 1, &lag), TG_ERROR_NOT_ASSIGNED);

    tg_partitions *list;
    CHECK_OK(tg_consumer_assignment(consumer, &list));
    CHECK_EQUAL(tg_partitions_count(list), 1);
    CHECK_TEXT(tg_partitions_data(list)[0].topic, topic);
    CHECK_OK(tg_partitions_free(list));
    CHECK_OK(tg_consumer_free(consumer));
}

static void offsets_are_found_by_time(void) {
    const char *topic = filled();
    tg_consumer *consumer = world_reader(topic, 0, 0);
    const tg_topic_partition times[] = {{topic, 0, 1000}, {topic, 1, 4102444800000}};
    tg_partitions *list;
    CHECK_OK(tg_consumer_offsets_for_times(consumer, times, 2, PATIENCE_MS, &list));
    CHECK_EQUAL(tg_partitions_count(list), 2);
    if (world.broker == NULL) { /* the embedded broker looks at no times */
        CHECK_EQUAL(tg_partitions_data(list)[0].offset, 0);
        CHECK_EQUAL(tg_partitions_data(list)[1].offset, TG_OFFSET_END);
    }
    CHECK_OK(tg_partitions_free(list));
    CHECK_OK(tg_consumer_free(consumer));
}

static void the_numbers_are_json(void) {
    tg_consumer *consumer = world_reader(filled(), 0, 0);
    CHECK_EQUAL(world_drain(consumer, RECORDS), RECORDS);
    tg_text *text;
    CHECK_OK(tg_consumer_stats_json(consumer, &text));
    const tg_bytes json = tg_text_data(text);
    CHECK(json.length > 2 && json.data[0] == '{' && json.data[json.length - 1] == '}');
    CHECK_EQUAL(json.data[json.length], 0);
    CHECK(strstr((const char *)json.data, "\"records") != NULL);
    CHECK_OK(tg_text_free(text));
    CHECK(tg_text_data(text).data == NULL);
    CHECK_STATUS(tg_text_free(text), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_OK(tg_consumer_stats_json(consumer, &text));
    CHECK_OK(tg_text_free(text));
    CHECK_OK(tg_consumer_free(consumer));
}

static void wrong_arguments_are_told(void) {
    tg_consumer *consumer = world_consumer(NULL);
    const char *none[] = {NULL};
    const char *empty[] = {""};
    const char *good[] = {"topic"};
    CHECK_STATUS(tg_consumer_subscribe(consumer, none, 1, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_subscribe(consumer, NULL, 1, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_subscribe(consumer, empty, 1, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_subscribe(consumer, NULL, 0, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_subscribe(consumer, good, 1, NULL), TG_ERROR_ARGUMENT); /* no group.id */
    const tg_topic_partition negative = {"topic", -4, 0};
    CHECK_STATUS(tg_consumer_assign(consumer, &negative, 1), TG_ERROR_ARGUMENT);
    const tg_topic_partition nameless = {NULL, 0, 0};
    CHECK_STATUS(tg_consumer_assign(consumer, &nameless, 1), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("topic");
    CHECK_STATUS(tg_consumer_assign(consumer, NULL, 3), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_assign(consumer, &nameless, SIZE_MAX), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_consumer_assign(consumer, NULL, 0));
    CHECK_STATUS(tg_consumer_commit(consumer, PATIENCE_MS, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_close(consumer, -1), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_consumer_free(consumer));
}

int main(void) {
    world_begin();
    RUN(records_come_one_by_one);
    RUN(a_polled_record_can_be_kept);
    RUN(columns_say_what_the_records_say);
    RUN(batches_keep_their_limits);
    RUN(a_batch_outlives_its_consumer);
    RUN(slices_share_the_memory_and_end_alone);
    RUN(a_batch_goes_to_arrow_and_outlives_itself);
    RUN(headers_nulls_and_empty_texts_arrive);
    RUN(a_restart_goes_on_behind_what_was_committed);
    RUN(leased_records_are_finished_by_acknowledging);
    RUN(offsets_can_be_committed_by_hand);
    RUN(a_seek_goes_there);
    RUN(a_paused_partition_gives_nothing);
    RUN(position_watermarks_and_lag_agree);
    RUN(offsets_are_found_by_time);
    RUN(the_numbers_are_json);
    RUN(wrong_arguments_are_told);
    world_end();
    return finish();
}
