/* A program that has a malloc, a free and an rd_kafka_version of its own, and the static library in it. Each side uses its own:
 * the library's memory comes from the malloc inside of it, the program's and the C library's from this one. */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <tidegate.h>

static atomic_size_t used, calls;
static char heap[64 << 20];

int rd_kafka_version(void);
int rd_kafka_version(void) { return -42; }

static bool is_ours(const void *memory) { return (const char *)memory >= heap && (const char *)memory < heap + sizeof heap; }

void *malloc(size_t size) {
    /* Its size stands before each piece; nothing is ever given back. */
    const size_t whole = (size + 31) / 16 * 16;
    const size_t start = atomic_fetch_add(&used, whole);
    atomic_fetch_add(&calls, 1);
    if (size > sizeof heap || start + whole > sizeof heap) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(heap + start, &size, sizeof size);
    return heap + start + 16;
}

void free(void *memory) {
    if (memory != NULL && !is_ours(memory)) {
        static const char text[] = "free() was given memory of another malloc\n";
        fwrite(text, 1, sizeof text - 1, stderr);
        __builtin_trap();
    }
}

void *calloc(size_t count, size_t size) {
    void *memory = size != 0 && count > sizeof heap / size ? NULL : malloc(count * size);
    return memory == NULL ? NULL : memset(memory, 0, count * size);
}

void *realloc(void *memory, size_t size) {
    void *larger = malloc(size);
    if (larger != NULL && memory != NULL) {
        size_t before;
        memcpy(&before, (char *)memory - 16, sizeof before);
        memcpy(larger, memory, before < size ? before : size);
    }
    return larger;
}

static int fail(const char *what) {
    const tg_error *error = tg_last_error();
    fprintf(stderr, "%s: %s\n", what, error != NULL ? error->message : "no error");
    return 1;
}

int main(void) {
    if (rd_kafka_version() != -42 || strcmp(tg_librdkafka_version(), "-42") == 0 || strchr(tg_librdkafka_version(), '.') == NULL) {
        return fail("the versions are mixed up");
    }
    /* A round trip through all of librdkafka. */
    tg_broker *broker;
    tg_config *config;
    tg_producer *producer;
    tg_consumer *consumer;
    if (tg_broker_new(1, &broker) != TG_OK || tg_broker_create_topic(broker, "t", 1) != TG_OK || tg_config_new(&config) != TG_OK ||
        tg_config_set(config, "bootstrap.servers", tg_broker_bootstrap_servers(broker)) != TG_OK ||
        tg_producer_new(config, &producer) != TG_OK || tg_consumer_new(config, &consumer) != TG_OK) {
        return fail("start");
    }
    static char large[4096];
    const tg_bytes value = {(const uint8_t *)large, sizeof large};
    const size_t before = atomic_load(&used);
    enum { RECORDS = 1000 }; /* the embedded broker keeps 5 MiB */
    for (int i = 0; i < RECORDS; ++i) {
        if (tg_producer_send_batch(producer, "t", 0, NULL, &value, 1, NULL, NULL) != TG_OK) {
            return fail("send");
        }
    }
    const tg_topic_partition start = {"t", 0, 0};
    if (tg_producer_flush(producer, 60000) != TG_OK || tg_consumer_assign(consumer, &start, 1) != TG_OK) {
        return fail("flush");
    }
    size_t records = 0;
    while (records < RECORDS) {
        tg_batch *batch;
        if (tg_consumer_next_batch(consumer, 60000, 0, &batch) != TG_OK) {
            return fail("nothing came");
        }
        records += tg_batch_count(batch);
        tg_batch_free(batch);
    }
    if (tg_consumer_free(consumer) != TG_OK || tg_producer_free(producer) != TG_OK || tg_config_free(config) != TG_OK ||
        tg_broker_free(broker) != TG_OK) {
        return fail("end");
    }
    /* 4 MB went, twice, through the library; what came from here is what the C library itself needs. */
    const size_t taken = atomic_load(&used) - before;
    printf("%zu records; %zu bytes of the program's malloc\n", records, taken);
    return taken < 1 << 20 ? 0 : 2;
}
