/* The baseline of the producers: what a C program gets from librdkafka with a plain loop over rd_kafka_producev() and the allocator of
 * the C library.
 *
 * One thread sends and polls for the delivery reports, which are counted. It is linked with the very librdkafka.a cargo builds for
 * Tidegate, and with no other allocator: benches/runner/build.py checks that.
 *
 * usage: producer_loop BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]
 * NAME=VALUE are librdkafka properties. Prints one line of JSON; the clocks run from the first record to the last report.
 */
#include "bench.h"

#include "rdkafka.h"

/* All of it must be delivered in so long. */
#define FLUSH_MS 300000

static int64_t delivered, failed;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk;
        (void)opaque;
        if (message->err)
                failed++;
        else
                delivered++;
}

int main(int argc, char **argv) {
        if (argc < 4)
                fail("usage", "producer_loop BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        const char *topic   = argv[2];
        const int64_t count = strtoll(argv[3], NULL, 10);
        char problem[512];

        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        if (rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], problem, sizeof(problem)) != RD_KAFKA_CONF_OK)
                fail("bootstrap.servers", problem);
        for (int i = 4; i < argc; i++) {
                const char *value = cut(argv[i]);
                if (rd_kafka_conf_set(conf, argv[i], value, problem, sizeof(problem)) != RD_KAFKA_CONF_OK)
                        fail(argv[i], problem);
        }
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, problem, sizeof(problem));
        if (!rk)
                fail("rd_kafka_new", problem);

        const uint8_t *bytes = values();
        const double wall = wall_seconds(), cpu = cpu_seconds();
        for (int64_t i = 0; i < count; i++) {
                const uint8_t *value = bytes + (size_t)(i % DISTINCT_VALUES) * VALUE_BYTES;
                rd_kafka_resp_err_t err;
                while ((err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_VALUE((void *)value, VALUE_BYTES),
                                                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) ==
                       RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        rd_kafka_poll(rk, 100);
                if (err)
                        fail("producev", rd_kafka_err2str(err));
                rd_kafka_poll(rk, 0);
        }
        if (rd_kafka_flush(rk, FLUSH_MS) || failed)
                fail("flush", "not everything was delivered");
        report(delivered, wall_seconds() - wall, cpu_seconds() - cpu, delivered * VALUE_BYTES, 0);
        rd_kafka_destroy(rk);
        return 0;
}
