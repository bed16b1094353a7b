/* Rebalance callbacks: what they are told, what they may call, what their answers do. Groups of one member, on either cluster. */
#include "world.h"

struct told {
    atomic_int assigned, revoked, lost, ended, freed;
    int answer;           /* of on_assign */
    int64_t seek_to;      /* -1 for none */
    tg_status poll_status; /* of a poll in on_assign */
    char topic[64];
};

static int on_assign(tg_consumer *consumer, const tg_topic_partition *partitions, size_t count, void *user_data) {
    struct told *told = (struct told *)user_data;
    atomic_fetch_add(&told->assigned, (int)count);
    if (count > 0) {
        snprintf(told->topic, sizeof told->topic, "%s", partitions[0].topic);
    }
    tg_record record;
    told->poll_status = tg_consumer_poll(consumer, 0, &record);
    for (size_t i = 0; told->seek_to >= 0 && i < count; ++i) {
        CHECK_OK(tg_consumer_seek(consumer, partitions[i].topic, partitions[i].partition, told->seek_to));
    }
    return told->answer;
}

static int on_revoke(tg_consumer *consumer, const tg_topic_partition *partitions, size_t count, void *user_data) {
    struct told *told = (struct told *)user_data;
    (void)partitions;
    atomic_fetch_add(&told->revoked, (int)count);
    /* The callback may ask and commit. */
    tg_partitions *list;
    if (tg_consumer_assignment(consumer, &list) == TG_OK) {
        tg_partitions_free(list);
    }
    tg_consumer_commit_async(consumer);
    return 0;
}

static int on_lost(tg_consumer *consumer, const tg_topic_partition *partitions, size_t count, void *user_data) {
    (void)consumer;
    (void)partitions;
    atomic_fetch_add(&((struct told *)user_data)->lost, (int)count);
    return 0;
}

static int on_partition_eof(tg_consumer *consumer, const tg_topic_partition *partitions, size_t count, void *user_data) {
    (void)consumer;
    CHECK_EQUAL(count, 1);
    CHECK(partitions[0].offset >= 0);
    atomic_fetch_add(&((struct told *)user_data)->ended, 1);
    return 0;
}

static void ended(void *user_data) { atomic_fetch_add(&((struct told *)user_data)->freed, 1); }

static tg_rebalance_callbacks table(struct told *told) {
    memset(told, 0, sizeof *told);
    told->seek_to = -1;
    const tg_rebalance_callbacks callbacks = {on_assign, on_revoke, on_lost, on_partition_eof, told, ended};
    return callbacks;
}

static tg_consumer *member(const char *topic, const tg_rebalance_callbacks *callbacks, const char *eof) {
    char group[64];
    world_name(group);
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group, "auto.offset.reset", "earliest", "enable.partition.eof", eof));
    CHECK_OK(tg_consumer_subscribe(consumer, &topic, 1, callbacks));
    return consumer;
}

static void callbacks_are_told_of_every_partition(void) {
    char topic[64];
    world_topic(topic, 3);
    world_fill(topic, 0, 10);
    struct told told;
    const tg_rebalance_callbacks callbacks = table(&told);
    tg_consumer *consumer = member(topic, &callbacks, "true");
    CHECK_EQUAL(world_drain(consumer, 10), 10);
    CHECK_EQUAL(atomic_load(&told.assigned), 3);
    CHECK_TEXT(told.topic, topic);
    /* The thread that polls is in the callback. */
    CHECK_EQUAL(told.poll_status, TG_ERROR_CONCURRENT_USE);
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (atomic_load(&told.ended) < 3 && now_ms() < deadline) {
        tg_batch *batch;
        CHECK_STATUS(tg_consumer_next_batch(consumer, 100, 0, &batch), TG_NOTHING);
    }
    CHECK(atomic_load(&told.ended) >= 3);
    CHECK_EQUAL(atomic_load(&told.freed), 0);
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_EQUAL(atomic_load(&told.revoked), 3);
    CHECK_EQUAL(atomic_load(&told.lost), 0);
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_EQUAL(atomic_load(&told.freed), 1);
}

static void a_seek_in_on_assign_comes_before_the_first_record(void) {
    char topic[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 10);
    struct told told;
    const tg_rebalance_callbacks callbacks = table(&told);
    told.seek_to = 6;
    tg_consumer *consumer = member(topic, &callbacks, "false");
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 6);
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_failing_callback_fails_the_polling_call_and_no_more(void) {
    char topic[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 10);
    struct told told;
    const tg_rebalance_callbacks callbacks = table(&told);
    told.answer = 42;
    tg_consumer *consumer = member(topic, &callbacks, "false");
    tg_record record;
    CHECK_STATUS(tg_consumer_poll(consumer, PATIENCE_MS, &record), TG_ERROR_CALLBACK);
    CHECK(strstr(tg_last_error()->message, "42") != NULL);
    /* The rebalance has gone on. */
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_EQUAL(record.offset, 0);
    CHECK_OK(tg_consumer_free(consumer));
}

static void callbacks_end_when_they_are_replaced(void) {
    char topic[64];
    world_topic(topic, 1);
    struct told first, second;
    const tg_rebalance_callbacks one = table(&first), two = table(&second);
    tg_consumer *consumer = member(topic, &one, "false");
    const char *topics[] = {topic};
    CHECK_OK(tg_consumer_subscribe(consumer, topics, 1, &two));
    CHECK_EQUAL(atomic_load(&first.freed), 1);
    CHECK_EQUAL(atomic_load(&second.freed), 0);
    /* Refused: they were never the library's. */
    struct told third;
    const tg_rebalance_callbacks three = table(&third);
    CHECK_STATUS(tg_consumer_subscribe(consumer, topics, 0, &three), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(atomic_load(&third.freed), 0);
    CHECK_EQUAL(atomic_load(&second.freed), 0);
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_EQUAL(atomic_load(&second.freed), 1);
}

static void unsubscribing_leaves(void) {
    char topic[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 10);
    tg_consumer *consumer = member(topic, NULL, "false");
    CHECK_EQUAL(world_drain(consumer, 10), 10);
    CHECK_OK(tg_consumer_unsubscribe(consumer));
    tg_partitions *list;
    const int64_t deadline = now_ms() + PATIENCE_MS;
    size_t assigned = 1;
    while (assigned > 0 && now_ms() < deadline) {
        tg_batch *batch;
        CHECK_STATUS(tg_consumer_next_batch(consumer, 10, 0, &batch), TG_NOTHING);
        CHECK_OK(tg_consumer_assignment(consumer, &list));
        assigned = tg_partitions_count(list);
        CHECK_OK(tg_partitions_free(list));
    }
    CHECK_EQUAL(assigned, 0);
    CHECK_OK(tg_consumer_free(consumer));
}

struct handled {
    tg_consumer *consumer;
    int records, fail_at;
};

static int handle(const tg_record *record, void *user_data) {
    struct handled *handled = (struct handled *)user_data;
    CHECK_EQUAL(record->offset, handled->records);
    if (handled->records == handled->fail_at) {
        handled->fail_at = -1;
        return 7;
    }
    handled->records += 1;
    if (handled->records == 10) {
        CHECK_OK(tg_consumer_wake(handled->consumer));
    }
    return 0;
}

static int handle_batch(const tg_batch *batch, void *user_data) {
    struct handled *handled = (struct handled *)user_data;
    handled->records += (int)tg_batch_count(batch);
    if (handled->records >= 10) {
        CHECK_OK(tg_consumer_wake(handled->consumer));
    }
    return 0;
}

static void handlers_are_run_until_the_consumer_is_woken(void) {
    char topic[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 10);
    struct handled handled = {world_reader(topic, 0, 0), 0, 4};
    CHECK_STATUS(tg_consumer_run(handled.consumer, NULL, NULL), TG_ERROR_ARGUMENT);
    /* What a handler has refused comes again. */
    CHECK_STATUS(tg_consumer_run(handled.consumer, handle, &handled), TG_ERROR_CALLBACK);
    CHECK(strstr(tg_last_error()->message, "7") != NULL);
    CHECK_EQUAL(handled.records, 4);
    CHECK_OK(tg_consumer_run(handled.consumer, handle, &handled));
    CHECK_EQUAL(handled.records, 10);
    CHECK_OK(tg_consumer_seek(handled.consumer, topic, 0, 0));
    handled.records = 0;
    CHECK_OK(tg_consumer_run_batches(handled.consumer, 3, handle_batch, &handled));
    CHECK_EQUAL(handled.records, 10);
    CHECK_OK(tg_consumer_close(handled.consumer, PATIENCE_MS));
    CHECK_STATUS(tg_consumer_run(handled.consumer, handle, &handled), TG_ERROR_CLOSED);
    CHECK_OK(tg_consumer_free(handled.consumer));
}

int main(void) {
    world_begin();
    RUN(callbacks_are_told_of_every_partition);
    RUN(a_seek_in_on_assign_comes_before_the_first_record);
    RUN(a_failing_callback_fails_the_polling_call_and_no_more);
    RUN(callbacks_end_when_they_are_replaced);
    RUN(unsubscribing_leaves);
    RUN(handlers_are_run_until_the_consumer_is_woken);
    world_end();
    return finish();
}
