/* Reads through the C ABI: batch after batch, every record's offset and length from the columns.
 *
 * usage: tidegate_batches BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 * One thread, one consumer, a fresh group, the whole topic from its beginning. Prints one line of JSON; the clocks start at the first
 * record.
 */
#include <unistd.h>

#include "bench.h"

#include "tidegate.h"

/* A run that gets no record for so long has failed: say so instead of hanging. */
#define SILENCE_MS 60000

static void check(tg_status status, const char *what) {
        if (status != TG_OK)
                fail(what, status == TG_NOTHING ? "no record for a minute" : tg_last_error()->message);
}

int main(int argc, char **argv) {
        if (argc < 4)
                fail("usage", "tidegate_batches BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        const int64_t count = strtoll(argv[3], NULL, 10);
        const char *topics[] = {argv[2]};
        char group[64];
        snprintf(group, sizeof(group), "bench-tg-%ld-%ld", (long)getpid(), (long)time(NULL));
        tg_config *config = NULL;
        check(tg_config_new(&config), "config");
        check(tg_config_set(config, "bootstrap.servers", argv[1]), "bootstrap.servers");
        check(tg_config_set(config, "group.id", group), "group.id");
        for (int i = 4; i < argc; i++) {
                const char *value = cut(argv[i]);
                check(tg_config_set(config, argv[i], value), argv[i]);
        }
        tg_consumer *consumer = NULL;
        check(tg_consumer_new(config, &consumer), "consumer");
        check(tg_consumer_subscribe(consumer, topics, 1, NULL), "subscribe");

        int64_t records = 0, bytes = 0, offsets = 0;
        double wall = 0, cpu = 0;
        while (records < count) {
                tg_batch *batch = NULL;
                tg_columns columns;
                check(tg_consumer_next_batch(consumer, SILENCE_MS, 0, &batch), "next_batch");
                check(tg_batch_columns(batch, &columns), "columns");
                if (records == 0) {
                        wall = wall_seconds();
                        cpu  = cpu_seconds();
                }
                records += (int64_t)columns.count;
                for (size_t row = 0; row < columns.count; row++) {
                        bytes += columns.value_lengths[row];
                        offsets += columns.offsets[row];
                }
                tg_batch_free(batch);
        }
        report(records, wall_seconds() - wall, cpu_seconds() - cpu, bytes, offsets);
        tg_consumer_free(consumer);
        tg_config_free(config);
        return 0;
}
