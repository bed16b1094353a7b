/* Sends through the C ABI: one record with each call, or `loop.batch` records from columns.
 *
 * usage: tidegate_send BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 * NAME=VALUE are properties, and loop.batch (0: one by one). Prints one line of JSON; the clocks run from the first record to the last
 * report.
 */
#include "bench.h"

#include "tidegate.h"

/* All of it must be delivered in so long. */
#define FLUSH_MS 300000
#define MOST_ROWS 10000

static void check(tg_status status, const char *what) {
        if (status != TG_OK)
                fail(what, tg_last_error()->message);
}

static void send_each(tg_producer *producer, const char *topic, int64_t count, const uint8_t *bytes) {
        tg_producer_record record = {.topic = topic, .partition = TG_PARTITION_ANY, .timestamp_ms = TG_TIMESTAMP_NOW};
        for (int64_t i = 0; i < count; i++) {
                record.value = (tg_bytes){bytes + (size_t)(i % DISTINCT_VALUES) * VALUE_BYTES, VALUE_BYTES};
                check(tg_producer_send(producer, &record, NULL), "send");
        }
}

static void send_columns(tg_producer *producer, const char *topic, int64_t count, const uint8_t *bytes, size_t batch) {
        static uint32_t starts[MOST_ROWS];
        static int32_t lengths[MOST_ROWS];
        for (size_t row = 0; row < batch; row++) {
                starts[row]  = (uint32_t)(row % DISTINCT_VALUES) * VALUE_BYTES;
                lengths[row] = VALUE_BYTES;
        }
        tg_producer_columns columns = {
            .arena = {bytes, DISTINCT_VALUES * VALUE_BYTES}, .value_starts = starts, .value_lengths = lengths};
        for (int64_t sent = 0; sent < count; sent += (int64_t)columns.count) {
                columns.count = count - sent < (int64_t)batch ? (size_t)(count - sent) : batch;
                check(tg_producer_send_columns(producer, topic, TG_PARTITION_ANY, &columns, NULL, NULL), "send_columns");
        }
}

/* What follows `name` in the statistics. */
static int64_t number_in(const char *json, const char *name) {
        const char *found = strstr(json, name);
        return found ? strtoll(found + strlen(name), NULL, 10) : -1;
}

int main(int argc, char **argv) {
        if (argc < 4)
                fail("usage", "tidegate_send BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        const int64_t count = strtoll(argv[3], NULL, 10);
        size_t batch        = 0;
        tg_config *config   = NULL;
        check(tg_config_new(&config), "config");
        check(tg_config_set(config, "bootstrap.servers", argv[1]), "bootstrap.servers");
        for (int i = 4; i < argc; i++) {
                const char *value = cut(argv[i]);
                if (!strcmp(argv[i], "loop.batch"))
                        batch = strtoul(value, NULL, 10);
                else
                        check(tg_config_set(config, argv[i], value), argv[i]);
        }
        if (batch > MOST_ROWS)
                fail("loop.batch", "too many");
        tg_producer *producer = NULL;
        check(tg_producer_new(config, &producer), "producer");

        const uint8_t *bytes = values();
        const double wall = wall_seconds(), cpu = cpu_seconds();
        if (batch)
                send_columns(producer, argv[2], count, bytes, batch);
        else
                send_each(producer, argv[2], count, bytes);
        check(tg_producer_flush(producer, FLUSH_MS), "flush");
        const double took = wall_seconds() - wall, used = cpu_seconds() - cpu;
        tg_text *json     = NULL;
        check(tg_producer_stats_json(producer, &json), "stats");
        const int64_t delivered = number_in((const char *)tg_text_data(json).data, "\"records_delivered\":");
        report(delivered, took, used, delivered * VALUE_BYTES, 0);
        tg_text_free(json);
        check(tg_producer_free(producer), "free");
        tg_config_free(config);
        return 0;
}
