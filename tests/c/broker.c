/* An embedded broker with a topic "orders" for other programs: prints its address, and ends when its input does. */
#include <stdio.h>
#include <stdlib.h>
#include <tidegate.h>

static void check(tg_status status) {
    if (status != TG_OK) {
        fprintf(stderr, "%s\n", tg_last_error()->message);
        exit(EXIT_FAILURE);
    }
}

int main(void) {
    tg_broker *broker;
    check(tg_broker_new(1, &broker));
    check(tg_broker_create_topic(broker, "orders", 4));
    tg_config *config;
    check(tg_config_new(&config));
    check(tg_config_set(config, "bootstrap.servers", tg_broker_bootstrap_servers(broker)));
    tg_producer *producer;
    check(tg_producer_new(config, &producer));
    for (int i = 0; i < 1000; ++i) {
        const tg_bytes value = {(const uint8_t *)"12.5", 4};
        check(tg_producer_send_batch(producer, "orders", TG_PARTITION_ANY, &value, &value, 1, NULL, NULL));
    }
    check(tg_producer_flush(producer, 60000));
    printf("%s\n", tg_broker_bootstrap_servers(broker));
    fflush(stdout);
    while (getchar() != EOF) {
    }
    check(tg_producer_free(producer));
    check(tg_config_free(config));
    check(tg_broker_free(broker));
    return EXIT_SUCCESS;
}
