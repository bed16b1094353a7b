/* Reads records of a group one by one and commits what was read.
 *
 *     cc consumer.c $(pkg-config --cflags --libs tidegate) -o consumer
 *     ./consumer                              a cluster inside of the process
 *     ./consumer localhost:9092 orders        your own */
#include "example.h"

int main(int argc, char **argv) {
    tg_broker *broker = argc < 3 ? orders() : NULL;
    const char *servers = broker != NULL ? tg_broker_bootstrap_servers(broker) : argv[1];
    const char *topic = broker != NULL ? "orders" : argv[2];

    tg_config *config = configure_consumer(servers, "example-consumer");
    tg_consumer *consumer;
    check(tg_consumer_new(config, &consumer));
    tg_config_free(config);
    check(tg_consumer_subscribe(consumer, &topic, 1, NULL));

    int records = 0;
    size_t bytes = 0;
    tg_record record;
    /* Asking for the next record finishes the one before it. */
    while (records < EXAMPLE_RECORDS && check(tg_consumer_poll(consumer, 30000, &record)) == TG_OK) {
        if (records < 3) {
            printf("%.*s [%d] @%lld: %.*s\n", (int)record.topic.length, (const char *)record.topic.data, (int)record.partition,
                   (long long)record.offset, (int)record.value.length, (const char *)record.value.data);
        }
        records += 1;
        bytes += record.value.length;
    }

    /* Includes the last record; the group goes on behind it at its next start. */
    check(tg_consumer_commit(consumer, 10000, NULL));
    check(tg_consumer_close(consumer, 10000));
    tg_consumer_free(consumer);
    tg_broker_free(broker);
    printf("%d records, %zu bytes\n", records, bytes);
    return records == EXAMPLE_RECORDS ? EXIT_SUCCESS : EXIT_FAILURE;
}
