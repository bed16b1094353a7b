/* Reads whole batches, column by column, in place: the fastest way. Rows are told apart by runs, which lie in one arena each.
 *
 *     cc columns.c $(pkg-config --cflags --libs tidegate) -o columns */
#include "example.h"

/* The longest value of a batch, and how many bytes of values there are. */
static size_t longest(const tg_columns *columns, size_t *bytes) {
    size_t most = 0;
    for (size_t r = 0; r < columns->run_count; ++r) {
        const tg_run *run = &columns->runs[r];
        for (size_t row = run->first; row < run->first + run->count; ++row) {
            if (columns->value_lengths[row] < 0) {
                continue; /* a tombstone */
            }
            const uint8_t *value = run->arena.data + columns->value_starts[row];
            const size_t length = (size_t)columns->value_lengths[row];
            if (length > 0 && value[0] == 'o') {
                most = length > most ? length : most;
                *bytes += length;
            }
        }
    }
    return most;
}

int main(int argc, char **argv) {
    tg_broker *broker = argc < 3 ? orders() : NULL;
    const char *servers = broker != NULL ? tg_broker_bootstrap_servers(broker) : argv[1];
    const char *topic = broker != NULL ? "orders" : argv[2];

    tg_config *config = configure_consumer(servers, "example-columns");
    tg_consumer *consumer;
    check(tg_consumer_new(config, &consumer));
    tg_config_free(config);
    check(tg_consumer_subscribe(consumer, &topic, 1, NULL));

    size_t records = 0, batches = 0, bytes = 0, most = 0;
    tg_batch *batch;
    while (records < EXAMPLE_RECORDS && check(tg_consumer_next_batch(consumer, 30000, 0, &batch)) == TG_OK) {
        tg_columns columns;
        check(tg_batch_columns(batch, &columns));
        const size_t of_batch = longest(&columns, &bytes);
        most = of_batch > most ? of_batch : most;
        records += columns.count;
        batches += 1;
        /* The memory goes; the records are finished when the next batch is asked for, or by a commit. */
        check(tg_batch_free(batch));
    }
    check(tg_consumer_commit(consumer, 10000, NULL));
    tg_consumer_free(consumer);
    tg_broker_free(broker);
    printf("%zu records in %zu batches, %zu bytes, the longest %zu\n", records, batches, bytes, most);
    return records >= EXAMPLE_RECORDS ? EXIT_SUCCESS : EXIT_FAILURE;
}
