/* The descriptor of an event loop: readable while a poll would give something, and no wake-up is lost. */
#include "world.h"

#include <sys/epoll.h>

static int loop_on(tg_consumer *consumer) {
    const intptr_t descriptor = tg_consumer_ready_fd(consumer);
    CHECK(descriptor >= 0);
    CHECK_EQUAL(tg_consumer_ready_fd(consumer), descriptor);
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop >= 0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_EQUAL(epoll_ctl(loop, EPOLL_CTL_ADD, (int)descriptor, &event), 0);
    return loop;
}

static bool is_ready(int loop, int timeout_ms) {
    struct epoll_event event;
    const int ready = epoll_wait(loop, &event, 1, timeout_ms);
    CHECK(ready >= 0);
    return ready == 1;
}

/* Polls until there is nothing; how many records came. */
static size_t poll_all(tg_consumer *consumer) {
    size_t records = 0;
    for (;;) {
        tg_batch *batch;
        const tg_status status = tg_consumer_next_batch(consumer, 0, 0, &batch);
        if (status != TG_OK) {
            CHECK_STATUS(status, TG_NOTHING);
            return records;
        }
        records += tg_batch_count(batch);
        CHECK_OK(tg_batch_free(batch));
    }
}

static void it_is_readable_while_records_wait(void) {
    char topic[64];
    world_topic(topic, 1);
    tg_consumer *consumer = world_reader(topic, 0, 0);
    const int loop = loop_on(consumer);
    CHECK_EQUAL(poll_all(consumer), 0);
    CHECK(!is_ready(loop, 0));
    world_fill(topic, 0, 10);
    CHECK(is_ready(loop, PATIENCE_MS));
    /* Level-triggered: still, when asked again. */
    CHECK(is_ready(loop, 0));
    /* A part of the records is taken: the rest still waits. */
    size_t records = 0;
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, 0, &record));
    records += 1;
    CHECK(is_ready(loop, PATIENCE_MS));
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (records < 10 && now_ms() < deadline) {
        if (is_ready(loop, PATIENCE_MS)) {
            records += poll_all(consumer);
        }
    }
    CHECK_EQUAL(records, 10);
    CHECK(!is_ready(loop, 0));
    close(loop);
    CHECK_OK(tg_consumer_free(consumer));
}

static void it_is_readable_at_once_when_records_wait_already(void) {
    char topic[64];
    world_topic(topic, 1);
    world_fill(topic, 0, 10);
    tg_consumer *consumer = world_reader(topic, 0, 0);
    tg_record record;
    CHECK_OK(tg_consumer_poll(consumer, PATIENCE_MS, &record));
    const int loop = loop_on(consumer);
    CHECK(is_ready(loop, PATIENCE_MS));
    close(loop);
    CHECK_OK(tg_consumer_free(consumer));
}

static void wake_and_close_make_it_readable(void) {
    char topic[64];
    world_topic(topic, 1);
    tg_consumer *consumer = world_reader(topic, 0, 0);
    const int loop = loop_on(consumer);
    CHECK_EQUAL(poll_all(consumer), 0);
    CHECK(!is_ready(loop, 0));
    CHECK_OK(tg_consumer_wake(consumer));
    CHECK(is_ready(loop, PATIENCE_MS));
    CHECK_EQUAL(poll_all(consumer), 0);
    CHECK_EQUAL(poll_all(consumer), 0);
    CHECK(!is_ready(loop, 0));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK(is_ready(loop, PATIENCE_MS));
    close(loop);
    CHECK_OK(tg_consumer_free(consumer));
}

enum { STRESS_RECORDS = 2000 };

struct stress {
    char topic[64];
    atomic_int go;
};

/* Sends records one by one, each as soon as the one before was delivered: the consumer runs dry all the time. */
static void *send_slowly(void *data) {
    struct stress *stress = (struct stress *)data;
    tg_producer *producer = world_producer(SETTINGS("linger.ms", "0"));
    const tg_on_delivery polled = {NULL, NULL};
    for (int i = 0; i < STRESS_RECORDS; ++i) {
        const tg_producer_record record = record_of(stress->topic, i % 2, NULL, "value");
        CHECK_OK(tg_producer_send(producer, &record, &polled));
        if (i % 3 == 0) {
            tg_delivery_report report;
            CHECK_OK(tg_producer_next_report(producer, PATIENCE_MS, &report));
        }
    }
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(producer));
    return NULL;
}

static void no_wake_up_is_lost(void) {
    struct stress stress;
    memset(&stress, 0, sizeof stress);
    world_topic(stress.topic, 2);
    tg_consumer *consumer = world_consumer(SETTINGS("fetch.wait.max.ms", "5"));
    const tg_topic_partition starts[] = {{stress.topic, 0, 0}, {stress.topic, 1, 0}};
    CHECK_OK(tg_consumer_assign(consumer, starts, 2));
    const int loop = loop_on(consumer);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, send_slowly, &stress), 0);
    size_t records = 0;
    while (records < STRESS_RECORDS) {
        /* A wake-up that is lost shows as a wait without end. */
        CHECK(is_ready(loop, PATIENCE_MS));
        records += poll_all(consumer);
    }
    CHECK_EQUAL(records, STRESS_RECORDS);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    close(loop);
    CHECK_OK(tg_consumer_free(consumer));
}

int main(void) {
    world_begin();
    RUN(it_is_readable_while_records_wait);
    RUN(it_is_readable_at_once_when_records_wait_already);
    RUN(wake_and_close_make_it_readable);
    RUN(no_wake_up_is_lost);
    world_end();
    return finish();
}
