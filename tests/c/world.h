/* The cluster of a test program: the embedded broker, or the real Kafka of TIDEGATE_TEST_BOOTSTRAP. Topics and groups have names of
 * their own, so that programs may run at the same time. */
#ifndef WORLD_H
#define WORLD_H

#include "check.h"

#include <unistd.h>

/* Longer than anything takes on a busy machine, also under valgrind. */
enum { PATIENCE_MS = 60000 };

static struct {
    tg_broker *broker; /* NULL on a real Kafka */
    char servers[256];
    int names;
} world;

static inline void world_begin(void) {
    const char *real = getenv("TIDEGATE_TEST_BOOTSTRAP");
    if (real != NULL && real[0] != '\0') {
        snprintf(world.servers, sizeof world.servers, "%s", real);
        return;
    }
    if (tg_broker_new(1, &world.broker) != TG_OK) {
        printf("no embedded broker: %s\n", tg_last_error()->message);
        exit(EXIT_FAILURE);
    }
    snprintf(world.servers, sizeof world.servers, "%s", tg_broker_bootstrap_servers(world.broker));
}

static inline void world_end(void) {
    tg_broker_free(world.broker);
    world.broker = NULL;
}

/* A name that nobody else has. */
static inline void world_name(char name[64]) {
    world.names += 1;
    snprintf(name, 64, "c-%ld-%lld-%d", (long)getpid(), (long long)time(NULL), world.names);
}

/* A configuration with the cluster's address and `settings`: names and values in turn, with NULL at the end. */
static inline tg_config *world_config(const char *const *settings) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", world.servers));
    for (; settings != NULL && settings[0] != NULL; settings += 2) {
        CHECK_OK(tg_config_set(config, settings[0], settings[1]));
    }
    return config;
}
#define SETTINGS(...) ((const char *const[]){__VA_ARGS__, NULL, NULL})

static inline void world_topic(char topic[64], int partitions) {
    world_name(topic);
    if (world.broker != NULL) {
        CHECK_OK(tg_broker_create_topic(world.broker, topic, partitions));
        return;
    }
    tg_config *config = world_config(NULL);
    tg_admin *admin;
    CHECK_OK(tg_admin_new(config, &admin));
    tg_config_free(config);
    const tg_new_topic wanted = {topic, partitions, TG_REPLICATION_DEFAULT, NULL, 0};
    CHECK_OK(tg_admin_create_topics(admin, &wanted, 1, PATIENCE_MS, NULL));
    CHECK_OK(tg_admin_free(admin));
}

static inline tg_consumer *world_consumer(const char *const *settings) {
    tg_config *config = world_config(settings);
    tg_consumer *consumer;
    CHECK_OK(tg_consumer_new(config, &consumer));
    CHECK_OK(tg_config_free(config));
    return consumer;
}

/* A consumer that reads one partition from an offset, without a group. */
static inline tg_consumer *world_reader(const char *topic, int partition, int64_t offset) {
    tg_consumer *consumer = world_consumer(SETTINGS("auto.offset.reset", "earliest"));
    const tg_topic_partition start = {topic, partition, offset};
    CHECK_OK(tg_consumer_assign(consumer, &start, 1));
    return consumer;
}

static inline tg_producer *world_producer(const char *const *settings) {
    tg_config *config = world_config(settings);
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    CHECK_OK(tg_config_free(config));
    return producer;
}

static inline tg_bytes bytes_of(const char *text) {
    const tg_bytes bytes = {(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
    return bytes;
}

static inline tg_producer_record record_of(const char *topic, int partition, const char *key, const char *value) {
    const tg_producer_record record = {topic, partition, bytes_of(key), bytes_of(value), NULL, 0, TG_TIMESTAMP_NOW};
    return record;
}

/* Writes records to one partition: the values are "0", "1", ...; every third key is null, the others "key". */
static inline void world_fill(const char *topic, int partition, int count) {
    tg_producer *producer = world_producer(NULL);
    for (int i = 0; i < count; ++i) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        const tg_producer_record record = record_of(topic, partition, i % 3 == 0 ? NULL : "key", value);
        CHECK_OK(tg_producer_send(producer, &record, NULL));
    }
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_close(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(producer));
}

/* Reads and frees batches until `count` records have come; their number. */
static inline size_t world_drain(tg_consumer *consumer, size_t count) {
    size_t records = 0;
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (records < count && now_ms() < deadline) {
        tg_batch *batch;
        const tg_status status = tg_consumer_next_batch(consumer, 1000, 0, &batch);
        if (status == TG_OK) {
            records += tg_batch_count(batch);
            CHECK_OK(tg_batch_free(batch));
        } else {
            CHECK_STATUS(status, TG_NOTHING);
        }
    }
    return records;
}

#endif
