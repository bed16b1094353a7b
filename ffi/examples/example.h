/* What the examples share: errors end them, and without arguments they bring a cluster and records of their own. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidegate.h>

/* How many records an example reads; it writes as many when it has brought its own cluster. */
enum { EXAMPLE_RECORDS = 1000 };

/* Ends the program when a call has failed. */
static inline tg_status check(tg_status status) {
    if (status >= TG_ERROR_CONFIG) {
        const tg_error *error = tg_last_error();
        fprintf(stderr, "%s: %s\n", tg_status_name(status), error != NULL ? error->message : "no text");
        exit(EXIT_FAILURE);
    }
    return status;
}

/* A configuration with the cluster's address. */
static inline tg_config *configure(const char *bootstrap_servers) {
    tg_config *config;
    check(tg_config_new(&config));
    check(tg_config_set(config, "bootstrap.servers", bootstrap_servers));
    return config;
}

/* A configuration for a consumer that begins at the first record. */
static inline tg_config *configure_consumer(const char *bootstrap_servers, const char *group) {
    tg_config *config = configure(bootstrap_servers);
    check(tg_config_set(config, "group.id", group));
    check(tg_config_set(config, "auto.offset.reset", "earliest"));
    return config;
}

/* A cluster inside of this process with `EXAMPLE_RECORDS` records "order 0", "order 1", ... in the topic "orders". */
static inline tg_broker *orders(void) {
    tg_broker *broker;
    check(tg_broker_new(1, &broker));
    check(tg_broker_create_topic(broker, "orders", 4));
    tg_config *config = configure(tg_broker_bootstrap_servers(broker));
    tg_producer *producer;
    check(tg_producer_new(config, &producer));
    for (int i = 0; i < EXAMPLE_RECORDS; ++i) {
        char value[32];
        const int length = snprintf(value, sizeof value, "order %d", i);
        tg_producer_record record = {.topic = "orders", .partition = TG_PARTITION_ANY, .timestamp_ms = TG_TIMESTAMP_NOW};
        record.value.data = (const uint8_t *)value;
        record.value.length = (size_t)length;
        check(tg_producer_send(producer, &record, NULL));
    }
    check(tg_producer_flush(producer, 10000));
    tg_producer_free(producer);
    tg_config_free(config);
    return broker;
}

#endif
