/* Sends records with delivery reports, and many at once from columns.
 *
 *     cc producer.c $(pkg-config --cflags --libs tidegate) -o producer */
#include "example.h"

/* Runs on the library's delivery thread; flush waits for it. */
static void delivered(const tg_delivery_report *report, void *user_data) {
    if (report->status == TG_OK) {
        *(int *)user_data += 1;
    } else {
        fprintf(stderr, "lost: %s\n", report->error->message);
    }
}

int main(int argc, char **argv) {
    tg_broker *broker = argc < 3 ? orders() : NULL;
    const char *servers = broker != NULL ? tg_broker_bootstrap_servers(broker) : argv[1];
    const char *topic = broker != NULL ? "orders" : argv[2];

    tg_config *config = configure(servers);
    check(tg_config_set(config, "enable.idempotence", "true"));
    tg_producer *producer;
    check(tg_producer_new(config, &producer));
    tg_config_free(config);

    int reports = 0;
    const tg_on_delivery on_delivery = {delivered, &reports};
    for (int i = 0; i < 100; ++i) {
        char key[32];
        const int length = snprintf(key, sizeof key, "customer-%d", i % 7);
        const tg_header header = {{(const uint8_t *)"source", 6}, {(const uint8_t *)"example", 7}};
        const tg_producer_record record = {
            topic, TG_PARTITION_ANY, {(const uint8_t *)key, (size_t)length}, {(const uint8_t *)"12.5", 4}, &header, 1, TG_TIMESTAMP_NOW,
        };
        check(tg_producer_send(producer, &record, &on_delivery));
    }

    /* Three records of one arena: "12.5", a tombstone, and "3". */
    const uint32_t starts[] = {0, 0, 4};
    const int32_t lengths[] = {4, -1, 1};
    const tg_producer_columns columns = {
        .count = 3, .arena = {(const uint8_t *)"12.53", 5}, .value_starts = starts, .value_lengths = lengths};
    size_t accepted;
    check(tg_producer_send_columns(producer, topic, TG_PARTITION_ANY, &columns, NULL, &accepted));

    check(tg_producer_flush(producer, 30000));
    check(tg_producer_close(producer, 10000));
    tg_producer_free(producer);
    tg_broker_free(broker);
    printf("%d delivered, %zu more from columns\n", reports, accepted);
    return reports == 100 && accepted == 3 ? EXIT_SUCCESS : EXIT_FAILURE;
}
