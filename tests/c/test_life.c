/* Ends: close and free at every wrong moment, by other threads, in forked children, and with a broker that went away. */
#include "world.h"

#include <signal.h>
#include <sys/wait.h>

static const char *filled(void) {
    static char topic[64];
    if (topic[0] == '\0') {
        world_topic(topic, 1);
        world_fill(topic, 0, 100);
    }
    return topic;
}

/* A consumer that could join a group and reads by hand. */
static tg_consumer *with_a_group(const char *topic) {
    char group[64];
    world_name(group);
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group));
    const tg_topic_partition start = {topic, 0, 0};
    CHECK_OK(tg_consumer_assign(consumer, &start, 1));
    return consumer;
}

/* A consumer with nothing to read, whose polls wait. */
static tg_consumer *idle(void) {
    static char topic[64];
    if (topic[0] == '\0') {
        world_topic(topic, 1);
    }
    return world_reader(topic, 0, 0);
}

static void after_close_every_call_says_so(void) {
    const char *topic = filled();
    tg_consumer *consumer = with_a_group(topic);
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    /* What was polled last is still there. */
    CHECK_BYTES(record.value, "0");
    tg_batch *batch;
    tg_partitions *list;
    const tg_topic_partition start = {topic, 0, 0};
    CHECK_STATUS(tg_consumer_poll(consumer, PATIENCE_MS, &record), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_next_batch(consumer, TG_FOREVER, 0, &batch), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_lease_batch(consumer, TG_FOREVER, 0, &batch), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_fill_batch(consumer, PATIENCE_MS, 1, &batch), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_assign(consumer, &start, 1), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_seek(consumer, topic, 0, 0), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_subscribe(consumer, &topic, 1, NULL), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_pause(consumer, &start, 1), TG_ERROR_CLOSED);
    CHECK_STATUS(tg_consumer_commit(consumer, 0, &list), TG_ERROR_CLOSED);
    CHECK(tg_last_error()->message[0] != '\0');
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_STATUS(tg_consumer_free(consumer), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_poll(consumer, PATIENCE_MS, &record), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_consumer_close(consumer, PATIENCE_MS), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_consumer_ready_fd(consumer), -1);
}

struct waiter {
    tg_consumer *consumer;
    pthread_t thread;
    tg_status status;
};

static void *wait_for_a_batch(void *data) {
    struct waiter *waiter = (struct waiter *)data;
    tg_batch *batch = NULL;
    /* The other thread tries whether this one waits already: then it may be in the way. */
    do {
        waiter->status = tg_consumer_next_batch(waiter->consumer, TG_FOREVER, 0, &batch);
    } while (waiter->status == TG_ERROR_CONCURRENT_USE);
    return NULL;
}

static void wait_begins(struct waiter *waiter) {
    waiter->consumer = idle();
    waiter->status = TG_OK;
    CHECK_EQUAL(pthread_create(&waiter->thread, NULL, wait_for_a_batch, waiter), 0);
    /* It waits when a second poll is refused. */
    tg_batch *batch;
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (tg_consumer_next_batch(waiter->consumer, 0, 0, &batch) != TG_ERROR_CONCURRENT_USE) {
        CHECK(now_ms() < deadline);
    }
}

static void wait_ends(struct waiter *waiter) {
    CHECK_EQUAL(pthread_join(waiter->thread, NULL), 0);
    CHECK_EQUAL(waiter->status, TG_NOTHING);
}

static void close_ends_a_wait_of_another_thread(void) {
    struct waiter waiter;
    wait_begins(&waiter);
    CHECK_OK(tg_consumer_close(waiter.consumer, PATIENCE_MS));
    wait_ends(&waiter);
    CHECK_OK(tg_consumer_free(waiter.consumer));
}

static void free_ends_a_wait_of_another_thread(void) {
    struct waiter waiter;
    wait_begins(&waiter);
    CHECK_OK(tg_consumer_free(waiter.consumer));
    wait_ends(&waiter);
}

static void wake_ends_a_wait_and_nothing_else(void) {
    struct waiter waiter;
    wait_begins(&waiter);
    CHECK_OK(tg_consumer_wake(waiter.consumer));
    wait_ends(&waiter);
    tg_record record;
    CHECK_STATUS(tg_consumer_poll(waiter.consumer, 0, &record), TG_NOTHING);
    CHECK_OK(tg_consumer_free(waiter.consumer));
}

struct race {
    tg_consumer *consumer;
    tg_batch *batch;
    pthread_barrier_t begin;
    atomic_int freed;
};

static void *end_both(void *data) {
    struct race *race = (struct race *)data;
    pthread_barrier_wait(&race->begin);
    if (tg_batch_free(race->batch) == TG_OK) {
        atomic_fetch_add(&race->freed, 1);
    }
    if (tg_consumer_free(race->consumer) == TG_OK) {
        atomic_fetch_add(&race->freed, 100);
    }
    return NULL;
}

static void of_two_threads_that_free_one_each_is_told(void) {
    struct race race;
    memset(&race, 0, sizeof race);
    race.consumer = world_reader(filled(), 0, 0);
    CHECK_OK(tg_consumer_next_batch(race.consumer, PATIENCE_MS, 0, &race.batch));
    CHECK_EQUAL(pthread_barrier_init(&race.begin, NULL, 2), 0);
    pthread_t threads[2];
    for (int t = 0; t < 2; ++t) {
        CHECK_EQUAL(pthread_create(&threads[t], NULL, end_both, &race), 0);
    }
    for (int t = 0; t < 2; ++t) {
        pthread_join(threads[t], NULL);
    }
    pthread_barrier_destroy(&race.begin);
    CHECK_EQUAL(atomic_load(&race.freed), 101);
}

struct reading {
    tg_batch *batch;
    pthread_barrier_t begin;
    atomic_size_t bytes;
};

static void *read_it(void *data) {
    struct reading *reading = (struct reading *)data;
    pthread_barrier_wait(&reading->begin);
    size_t bytes = 0;
    tg_record record;
    for (size_t row = 0; tg_batch_record(reading->batch, row, &record) == TG_OK; ++row) {
        bytes += record.value.length;
    }
    CHECK_OK(tg_batch_acknowledge(reading->batch, 0, tg_batch_count(reading->batch)));
    atomic_fetch_add(&reading->bytes, bytes);
    return NULL;
}

static void many_threads_read_one_batch(void) {
    tg_consumer *consumer = world_reader(filled(), 0, 0);
    struct reading reading;
    memset(&reading, 0, sizeof reading);
    CHECK_OK(tg_consumer_lease_batch(consumer, PATIENCE_MS, 0, &reading.batch));
    tg_columns columns;
    CHECK_OK(tg_batch_columns(reading.batch, &columns));
    size_t bytes = 0;
    for (size_t row = 0; row < columns.count; ++row) {
        bytes += (size_t)columns.value_lengths[row];
    }
    CHECK_EQUAL(pthread_barrier_init(&reading.begin, NULL, 4), 0);
    pthread_t threads[4];
    for (int t = 0; t < 4; ++t) {
        CHECK_EQUAL(pthread_create(&threads[t], NULL, read_it, &reading), 0);
    }
    for (int t = 0; t < 4; ++t) {
        pthread_join(threads[t], NULL);
    }
    pthread_barrier_destroy(&reading.begin);
    CHECK_EQUAL(atomic_load(&reading.bytes), 4 * bytes);
    CHECK_OK(tg_batch_free(reading.batch));
    CHECK_OK(tg_consumer_free(consumer));
}

/* What a forked child finds; 0 when everything is as it should be, else the number of what was not. */
static int child(tg_consumer *consumer, tg_producer *producer, tg_batch *batch, const char *topic) {
    tg_record record;
    const tg_producer_record sent = record_of(topic, 0, NULL, "child");
    const char *topics[] = {topic};
    if (tg_consumer_poll(consumer, TG_FOREVER, &record) != TG_ERROR_FORKED) return 1;
    if (tg_consumer_subscribe(consumer, topics, 1, NULL) != TG_ERROR_FORKED) return 2;
    if (tg_consumer_close(consumer, 1000) != TG_ERROR_FORKED) return 3;
    if (tg_producer_send(producer, &sent, NULL) != TG_ERROR_FORKED) return 4;
    if (tg_producer_flush(producer, 1000) != TG_ERROR_FORKED) return 5;
    if (tg_last_error() == NULL || tg_last_error()->status != TG_ERROR_FORKED) return 6;
    /* Memory is memory: a batch can be read and freed, and handles can be freed. */
    if (tg_batch_record(batch, 0, &record) != TG_OK || record.offset != 0) return 7;
    if (tg_batch_free(batch) != TG_OK) return 8;
    if (tg_consumer_free(consumer) != TG_OK) return 9;
    if (tg_producer_free(producer) != TG_OK) return 10;
    if (world.broker != NULL && tg_broker_create_topic(world.broker, "child", 1) != TG_ERROR_FORKED) return 11;
    return 0;
}

static void a_forked_child_is_told_and_ends(void) {
    const char *topic = filled();
    tg_consumer *consumer = with_a_group(topic);
    tg_producer *producer = world_producer(NULL);
    tg_batch *batch;
    CHECK_OK(tg_consumer_next_batch(consumer, PATIENCE_MS, 0, &batch));
    int answer[2];
    CHECK_EQUAL(pipe(answer), 0);
    fflush(stdout);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(PATIENCE_MS / 1000);
        const int found = child(consumer, producer, batch, topic);
        if (write(answer[1], &found, sizeof found) != (ssize_t)sizeof found) {
            abort();
        }
        /* As a program ends that does not know of all this: exit handlers run. A tool that looks for leaks may then complain of the
         * parent's memory, and choose the exit code. */
        exit(EXIT_SUCCESS);
    }
    int status = -1, found = -1;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(read(answer[0], &found, sizeof found), sizeof found);
    CHECK_EQUAL(found, 0);
    close(answer[0]);
    close(answer[1]);
    /* The parent goes on as if nothing had been. */
    tg_record record;
    CHECK_OK(tg_batch_record(batch, 0, &record));
    const tg_producer_record sent = record_of(topic, 0, NULL, "parent");
    CHECK_OK(tg_producer_send(producer, &sent, NULL));
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_seek(consumer, topic, 0, 100));
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    CHECK_BYTES(record.value, "parent");
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_consumer_free(consumer));
}

static void a_broker_that_goes_away_kills_nobody(void) {
    /* As it is when nobody asked for anything else: a write to a closed connection would end the process. */
    signal(SIGPIPE, SIG_DFL);
    tg_broker *broker;
    CHECK_OK(tg_broker_new(1, &broker));
    CHECK_OK(tg_broker_create_topic(broker, "t", 1));
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", tg_broker_bootstrap_servers(broker)));
    CHECK_OK(tg_config_set(config, "delivery.timeout.ms", "1000"));
    CHECK_OK(tg_config_set(config, "linger.ms", "0"));
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    const tg_producer_record record = record_of("t", 0, NULL, "value");
    const tg_on_delivery polled = {NULL, NULL};
    CHECK_OK(tg_producer_send(producer, &record, &polled));
    tg_delivery_report report;
    CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
    CHECK_EQUAL(report.status, TG_OK);
    /* Connections are dropped while records are written to them. */
    int delivered = 0, failed = 0;
    for (int round = 0; round < 5; ++round) {
        for (int i = 0; i < 50; ++i) {
            CHECK_OK(tg_producer_send(producer, &record, &polled));
            if (i == 25) {
                CHECK_OK(tg_broker_down(broker, TG_ALL_BROKERS));
            }
        }
        CHECK_OK(tg_broker_up(broker, TG_ALL_BROKERS));
    }
    for (int i = 0; i < 5 * 50; ++i) {
        CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
        delivered += report.status == TG_OK;
        failed += report.status != TG_OK;
        CHECK((report.error == NULL) == (report.status == TG_OK));
    }
    CHECK_EQUAL(delivered + failed, 250);
    CHECK_OK(tg_broker_free(broker));
    CHECK_OK(tg_producer_send(producer, &record, &polled));
    CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
    CHECK(report.status != TG_OK && report.error != NULL && report.error->message[0] != '\0');
    CHECK_OK(tg_producer_close(producer, 1000));
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_config_free(config));
}

int main(void) {
    world_begin();
    RUN(after_close_every_call_says_so);
    RUN(close_ends_a_wait_of_another_thread);
    RUN(free_ends_a_wait_of_another_thread);
    RUN(wake_ends_a_wait_and_nothing_else);
    RUN(of_two_threads_that_free_one_each_is_told);
    RUN(many_threads_read_one_batch);
    RUN(a_forked_child_is_told_and_ends);
    RUN(a_broker_that_goes_away_kills_nobody);
    world_end();
    return finish();
}
