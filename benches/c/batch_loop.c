/* The baseline of `rust_batches`: what a C program gets from librdkafka with a plain loop over
 * rd_kafka_consume_batch_queue and the allocator of the C library.
 *
 * One thread, one consumer, a fresh group, the whole topic from its beginning. Every record's offset
 * and length is read, then the message is given back. It is linked with the very librdkafka.a cargo
 * builds for Tidegate, and with no other allocator: benches/runner/build.py checks that.
 *
 * usage: batch_loop BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 * NAME=VALUE are librdkafka properties, the same ones every contender of a run is given, and two of
 * this program's own: loop.batch (the most messages a call returns) and loop.timeout.ms.
 * Prints one line of JSON; the clocks start at the first record.
 */
#include <unistd.h>

#include "bench.h"

#include "rdkafka.h"

/* A run that gets no record for so long has failed: say so instead of hanging. */
#define SILENCE_MS 60000

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
        char problem[512];
        if (rd_kafka_conf_set(conf, name, value, problem, sizeof(problem)) != RD_KAFKA_CONF_OK)
                fail(name, problem);
}

int main(int argc, char **argv) {
        if (argc < 4)
                fail("usage", "batch_loop BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        const char *topic   = argv[2];
        const int64_t count = strtoll(argv[3], NULL, 10);
        size_t batch        = 4096;
        int timeout_ms      = 5;
        char group[64];
        char problem[512];

        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        snprintf(group, sizeof(group), "bench-c-%ld-%ld", (long)getpid(), (long)time(NULL));
        set(conf, "bootstrap.servers", argv[1]);
        set(conf, "group.id", group);
        for (int i = 4; i < argc; i++) {
                char *equals = strchr(argv[i], '=');
                if (!equals)
                        fail(argv[i], "not NAME=VALUE");
                *equals = '\0';
                if (!strcmp(argv[i], "loop.batch"))
                        batch = strtoul(equals + 1, NULL, 10);
                else if (!strcmp(argv[i], "loop.timeout.ms"))
                        timeout_ms = atoi(equals + 1);
                else
                        set(conf, argv[i], equals + 1);
        }

        rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, problem, sizeof(problem));
        if (!rk)
                fail("rd_kafka_new", problem);
        rd_kafka_poll_set_consumer(rk);
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
        rd_kafka_resp_err_t err = rd_kafka_subscribe(rk, topics);
        if (err)
                fail("subscribe", rd_kafka_err2str(err));
        rd_kafka_topic_partition_list_destroy(topics);

        rd_kafka_queue_t *queue        = rd_kafka_queue_get_consumer(rk);
        rd_kafka_message_t **messages = malloc(batch * sizeof(*messages));
        int64_t records = 0, bytes = 0, offsets = 0, calls = 0;
        double wall = 0, cpu = 0, last = wall_seconds();
        while (records < count) {
                ssize_t got = rd_kafka_consume_batch_queue(queue, timeout_ms, messages, batch);
                if (got <= 0) {
                        if (wall_seconds() - last > SILENCE_MS / 1e3)
                                fail("no record", "for a minute");
                        continue;
                }
                if (records == 0) {
                        wall = wall_seconds();
                        cpu  = cpu_seconds();
                }
                last = wall_seconds();
                calls++;
                for (ssize_t i = 0; i < got; i++) {
                        if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                                records++;
                                bytes += (int64_t)messages[i]->len;
                                offsets += messages[i]->offset;
                        }
                        rd_kafka_message_destroy(messages[i]);
                }
        }
        wall = wall_seconds() - wall;
        cpu  = cpu_seconds() - cpu;

        printf("{\"records\": %lld, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes\": %lld, "
               "\"offset_sum\": %lld, \"calls\": %lld, \"librdkafka\": \"%s\"}\n",
               (long long)records, wall, cpu, (long long)bytes, (long long)offsets,
               (long long)calls, rd_kafka_version_str());
        fflush(stdout);
        free(messages);
        rd_kafka_queue_destroy(queue);
        rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
        return 0;
}
