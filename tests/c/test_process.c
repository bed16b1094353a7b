/* Handlers run by the library: answers at once and later, by other threads, twice and never; retries, dead letters, ends. */
#include "world.h"

#include <sys/wait.h>

enum { KEYS = 5, MOST_TASKS = 512 };

/* What a handler does, and what it has seen. */
struct plan {
    tg_process *process;
    tg_consumer *consumer;
    /* What becomes of a task; NULL: done. */
    void (*answer)(struct plan *plan, tg_task *task, const tg_record *record);
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tg_task *kept[MOST_TASKS];
    size_t kept_count, most_kept;
    int64_t last_of_key[KEYS];
    int seen, most_at_once, at_once, freed, attempts;
    bool is_out_of_order;
    int64_t first_ms, second_ms;
    tg_status told[4];
    tg_process_report report;
};

static void plan_free(void *user_data) {
    struct plan *plan = (struct plan *)user_data;
    pthread_mutex_lock(&plan->lock);
    plan->freed += 1;
    pthread_cond_broadcast(&plan->changed);
    pthread_mutex_unlock(&plan->lock);
}

static void plan_begin(struct plan *plan) {
    memset(plan, 0, sizeof *plan);
    pthread_mutex_init(&plan->lock, NULL);
    pthread_cond_init(&plan->changed, NULL);
    for (int key = 0; key < KEYS; ++key) {
        plan->last_of_key[key] = -1;
    }
}

static void plan_end(struct plan *plan) {
    pthread_cond_destroy(&plan->changed);
    pthread_mutex_destroy(&plan->lock);
}

/* Waits until a number has reached another one. */
static void plan_await(struct plan *plan, const int *number, int wanted) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&plan->lock);
    while (*number < wanted && pthread_cond_timedwait(&plan->changed, &plan->lock, &until) == 0) {
    }
    const int found = *number;
    pthread_mutex_unlock(&plan->lock);
    CHECK_EQUAL(found >= wanted, true);
}

static void handle(tg_task *task, const tg_record *record, void *user_data) {
    struct plan *plan = (struct plan *)user_data;
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)record->value.length, (const char *)record->value.data);
    const int64_t value = strtoll(text, NULL, 10);
    pthread_mutex_lock(&plan->lock);
    plan->at_once += 1;
    plan->most_at_once = plan->at_once > plan->most_at_once ? plan->at_once : plan->most_at_once;
    if (record->key.length == 1 && tg_task_attempt(task) == 1) {
        int64_t *last = &plan->last_of_key[record->key.data[0] - 'a'];
        plan->is_out_of_order = plan->is_out_of_order || value <= *last;
        *last = value;
    }
    pthread_mutex_unlock(&plan->lock);
    if (plan->answer != NULL) {
        plan->answer(plan, task, record);
    } else if (tg_task_done(task) != TG_OK) {
        plan->told[0] = TG_ERROR_INTERNAL;
    }
    pthread_mutex_lock(&plan->lock);
    plan->at_once -= 1;
    plan->seen += 1;
    pthread_cond_broadcast(&plan->changed);
    pthread_mutex_unlock(&plan->lock);
}

static void keep(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    pthread_mutex_lock(&plan->lock);
    plan->kept[plan->kept_count++ % MOST_TASKS] = task;
    plan->most_kept = plan->kept_count > plan->most_kept ? plan->kept_count : plan->most_kept;
    pthread_mutex_unlock(&plan->lock);
}

/* Takes a kept task out: the last one first, so that answers come in another order than records. */
static tg_task *kept(struct plan *plan) {
    pthread_mutex_lock(&plan->lock);
    tg_task *task = plan->kept_count > 0 ? plan->kept[--plan->kept_count] : NULL;
    pthread_mutex_unlock(&plan->lock);
    return task;
}

/* A topic whose partition 0 has records "0", "1", ... with the keys "a", "b", ... in turn. */
static void keyed_topic(char topic[64], int count) {
    world_topic(topic, 1);
    tg_producer *producer = world_producer(NULL);
    for (int i = 0; i < count; ++i) {
        const char key[2] = {(char)('a' + i % KEYS), '\0'};
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        const tg_producer_record record = record_of(topic, 0, key, value);
        CHECK_OK(tg_producer_send(producer, &record, NULL));
    }
    CHECK_OK(tg_producer_flush(producer, PATIENCE_MS));
    CHECK_OK(tg_producer_free(producer));
}

/* A consumer of partition 0 that commits for a group of its own. */
static tg_consumer *reader_of(const char *topic) {
    char group[64];
    world_name(group);
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group));
    const tg_topic_partition start = {topic, 0, 0};
    CHECK_OK(tg_consumer_assign(consumer, &start, 1));
    return consumer;
}

static int64_t committed(tg_consumer *consumer, const char *topic) {
    const tg_topic_partition asked = {topic, 0, TG_OFFSET_NONE};
    tg_partitions *list;
    CHECK_OK(tg_consumer_committed(consumer, &asked, 1, PATIENCE_MS, &list));
    const int64_t offset = tg_partitions_data(list)[0].offset;
    CHECK_OK(tg_partitions_free(list));
    return offset;
}

static tg_process_options options_of(size_t workers, size_t max_in_flight) {
    tg_process_options options;
    CHECK_OK(tg_process_default_options(&options));
    options.workers = workers;
    options.max_in_flight = max_in_flight;
    options.backoff_ms = 1;
    return options;
}

static tg_process *started(struct plan *plan, tg_consumer *consumer, const tg_process_options *options) {
    plan->consumer = consumer;
    /* A handler may run before the call has returned. */
    pthread_mutex_lock(&plan->lock);
    const tg_status status = tg_process_start(consumer, options, handle, plan, plan_free, &plan->process);
    pthread_mutex_unlock(&plan->lock);
    CHECK_STATUS(status, TG_OK);
    return plan->process;
}

static tg_process_report progress(tg_process *process) {
    tg_process_report report;
    CHECK_OK(tg_process_progress(process, &report));
    CHECK_EQUAL(report.ledger.missing, 0);
    return report;
}

/* Ends everything; the handler's data is given back once. */
static void finished(struct plan *plan) {
    CHECK_OK(tg_process_free(plan->process));
    CHECK_STATUS(tg_process_free(plan->process), TG_ERROR_ARGUMENT);
    plan_await(plan, &plan->freed, 1);
    CHECK_EQUAL(plan->freed, 1);
    CHECK_OK(tg_consumer_free(plan->consumer));
    plan_end(plan);
}

static void records_are_handled_side_by_side_and_each_key_in_order(void) {
    enum { COUNT = 500 };
    char topic[64], group[64];
    keyed_topic(topic, COUNT);
    world_name(group);
    tg_consumer *consumer = world_consumer(SETTINGS("group.id", group, "auto.offset.reset", "earliest"));
    const char *names[] = {topic};
    CHECK_OK(tg_consumer_subscribe(consumer, names, 1, NULL));
    struct plan plan;
    plan_begin(&plan);
    tg_process *process = started(&plan, consumer, NULL);
    plan_await(&plan, &plan.seen, COUNT);
    CHECK_EQUAL(progress(process).end, TG_PROCESS_RUNS);
    CHECK_STATUS(tg_process_wait(process, 0), TG_NOTHING);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.received, COUNT);
    CHECK_EQUAL(report.ledger.done, COUNT);
    CHECK_EQUAL(report.handlers_running, 0);
    CHECK_EQUAL(report.is_drained, true);
    CHECK_EQUAL(report.end, TG_PROCESS_STOPPED);
    CHECK_EQUAL(report.in_flight_limit, 16);
    CHECK_OK(tg_process_wait(process, TG_FOREVER));
    CHECK_EQUAL(plan.seen, COUNT);
    CHECK_EQUAL(plan.is_out_of_order, false);
    CHECK_EQUAL(plan.told[0], TG_OK);
    CHECK_EQUAL(committed(consumer, topic), COUNT);
    finished(&plan);
}

static void *answer_kept(void *data) {
    struct plan *plan = (struct plan *)data;
    tg_task *task;
    while ((task = kept(plan)) != NULL) {
        tg_record record;
        /* The record is there as long as its task has no answer. */
        if (tg_task_record(task, &record) != TG_OK || record.value.data[0] < '0' || tg_task_done(task) != TG_OK) {
            plan->told[1] = TG_ERROR_INTERNAL;
        }
    }
    return NULL;
}

static void tasks_are_answered_later_in_any_order_by_any_thread(void) {
    enum { COUNT = 300, MOST = 40 };
    char topic[64];
    keyed_topic(topic, COUNT);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep;
    tg_process_options options = options_of(1, MOST);
    options.order = TG_ORDER_NONE;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, MOST);
    CHECK_EQUAL(progress(process).ledger.in_flight, MOST);
    /* The first record keeps the commit back, whatever is done behind it. */
    tg_task *first = plan.kept[0];
    memmove(&plan.kept[0], &plan.kept[1], sizeof plan.kept[0] * --plan.kept_count);
    while (progress(process).ledger.done < COUNT - 1) {
        pthread_t threads[2];
        for (int i = 0; i < 2; ++i) {
            CHECK_EQUAL(pthread_create(&threads[i], NULL, answer_kept, &plan), 0);
        }
        for (int i = 0; i < 2; ++i) {
            CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        }
    }
    CHECK_EQUAL(plan.told[1], TG_OK);
    CHECK_EQUAL(plan.most_kept <= MOST, true);
    tg_partitions *list;
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, &list));
    CHECK_OK(tg_partitions_free(list));
    CHECK_EQUAL(committed(consumer, topic) <= 0, true);
    CHECK_OK(tg_task_done(first));
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, NULL));
    CHECK_EQUAL(committed(consumer, topic), COUNT);
    finished(&plan);
}

static void an_answer_counts_once(void) {
    char topic[64];
    keyed_topic(topic, 2);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep;
    const tg_process_options options = options_of(1, 2);
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 2);
    tg_task *task = kept(&plan), *other = kept(&plan);
    CHECK_EQUAL(tg_task_attempt(task), 1);
    CHECK_EQUAL(tg_task_is_stale(task), false);
    /* Wrong arguments are no answer. */
    CHECK_STATUS(tg_task_retry(task, -1, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("after_ms");
    CHECK_STATUS(tg_task_charge(task, -1), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("cost");
    CHECK_STATUS(tg_task_record(task, NULL), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(progress(process).ledger.in_flight, 2);
    CHECK_OK(tg_task_done(task));
    tg_record record;
    CHECK_STATUS(tg_task_done(task), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("task");
    CHECK(strstr(tg_last_error()->message, "answered already") != NULL);
    CHECK_STATUS(tg_task_retry(task, 0, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_task_fail(task, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_task_give_back(task), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_task_charge(task, 1), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_task_record(task, &record), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(tg_task_attempt(task), 0);
    CHECK_EQUAL(tg_task_is_stale(task), true);
    /* Of many, the good ones are answered all the same. */
    tg_task *const both[] = {task, other};
    CHECK_STATUS(tg_tasks_done(both, 2), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_tasks_done(NULL, 0), TG_ERROR_ARGUMENT);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.done, 2);
    finished(&plan);
}

static void fail_until_the_third(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    const uint32_t attempt = tg_task_attempt(task);
    pthread_mutex_lock(&plan->lock);
    plan->attempts = (int)attempt;
    *(attempt == 1 ? &plan->first_ms : &plan->second_ms) = now_ms();
    pthread_mutex_unlock(&plan->lock);
    if (attempt < 3) {
        plan->told[attempt] = tg_task_retry(task, attempt == 1 ? 300 : 0, "Busy", "the service is \xff");
    } else {
        plan->told[3] = tg_task_done(task);
    }
}

static void what_fails_comes_again(void) {
    char topic[64];
    keyed_topic(topic, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = fail_until_the_third;
    tg_process_options options = options_of(2, 4);
    options.max_attempts = 3;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.attempts, 2);
    CHECK_EQUAL(plan.second_ms - plan.first_ms >= 300, true);
    plan_await(&plan, &plan.seen, 3);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(plan.attempts, 3);
    CHECK_EQUAL(report.ledger.done, 1);
    CHECK_EQUAL(committed(consumer, topic), 1);
    finished(&plan);
}

/* Offset 0 fails for good, 1 is tried three times, the others are fine. */
static void fail_two(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)plan;
    if (record->offset == 0) {
        tg_task_fail(task, "BadOrder", "no such customer");
    } else if (record->offset == 1) {
        tg_task_retry(task, 0, NULL, "still busy");
    } else {
        tg_task_done(task);
    }
}

static tg_bytes header_of(const tg_record *record, const char *name) {
    tg_bytes left = record->headers;
    tg_header header;
    while (tg_header_next(&left, &header)) {
        if (header.name.length == strlen(name) && memcmp(header.name.data, name, header.name.length) == 0) {
            return header.value;
        }
    }
    return bytes_of(NULL);
}

static void dead_letters_tell_why(tg_producer *own) {
    enum { COUNT = 10 };
    char topic[64], dead[64];
    keyed_topic(topic, COUNT);
    world_topic(dead, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = fail_two;
    tg_process_options options = options_of(2, 4);
    options.max_attempts = 3;
    options.on_failure = TG_ON_FAILURE_DEAD_LETTER;
    options.dead_letter_topic = dead;
    options.dead_letter_producer = own;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, COUNT + 2);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.dead_lettered, 2);
    CHECK_EQUAL(report.ledger.done, COUNT - 2);
    CHECK_EQUAL(committed(consumer, topic), COUNT);
    finished(&plan);

    consumer = world_reader(dead, 0, 0);
    tg_batch *batch;
    CHECK_OK(tg_consumer_fill_batch(consumer, PATIENCE_MS, 2, &batch));
    CHECK_EQUAL(tg_batch_count(batch), 2);
    for (size_t row = 0; row < 2; ++row) {
        tg_record record;
        CHECK_OK(tg_batch_record(batch, row, &record));
        const bool is_first = record.key.data[0] == 'a';
        CHECK_BYTES(record.value, is_first ? "0" : "1");
        CHECK_BYTES(header_of(&record, "tidegate.dlq.topic"), topic);
        CHECK_BYTES(header_of(&record, "tidegate.dlq.exception"), is_first ? "BadOrder" : "");
        CHECK_BYTES(header_of(&record, "tidegate.dlq.text"), is_first ? "no such customer" : "still busy");
        CHECK_BYTES(header_of(&record, "tidegate.dlq.attempts"), is_first ? "1" : "3");
    }
    CHECK_OK(tg_batch_free(batch));
    CHECK_OK(tg_consumer_free(consumer));
}

static void what_failed_for_good_goes_to_the_dead_letter_topic(void) { dead_letters_tell_why(NULL); }

static void dead_letters_go_through_a_producer_of_the_programs(void) {
    tg_producer *own = world_producer(SETTINGS("acks", "all"));
    dead_letters_tell_why(own);
    CHECK_OK(tg_producer_free(own));
}

static void a_failure_ends_it_or_is_skipped(void) {
    char topic[64];
    keyed_topic(topic, 3);
    for (int32_t way = TG_ON_FAILURE_STOP; way <= TG_ON_FAILURE_SKIP; ++way) {
        tg_consumer *consumer = reader_of(topic);
        struct plan plan;
        plan_begin(&plan);
        plan.answer = fail_two;
        tg_process_options options = options_of(1, 1);
        options.order = TG_ORDER_BY_PARTITION;
        options.on_failure = way;
        tg_process *process = started(&plan, consumer, &options);
        tg_process_report report;
        if (way == TG_ON_FAILURE_STOP) {
            CHECK_STATUS(tg_process_wait(process, TG_FOREVER), TG_ERROR_CALLBACK);
            CHECK(strstr(tg_last_error()->message, "BadOrder: no such customer") != NULL);
            CHECK_STATUS(tg_process_stop(process, PATIENCE_MS, &report), TG_ERROR_CALLBACK);
            CHECK_EQUAL(report.end, TG_PROCESS_FAILED);
            CHECK_EQUAL(report.ledger.done, 0);
            CHECK_EQUAL(committed(consumer, topic) <= 0, true);
        } else {
            plan_await(&plan, &plan.seen, 3);
            CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
            CHECK_EQUAL(report.ledger.done, 3);
            CHECK_EQUAL(committed(consumer, topic), 3);
        }
        finished(&plan);
    }
}

static void a_task_that_is_never_answered_is_never_committed(void) {
    char topic[64];
    keyed_topic(topic, 10);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep;
    tg_process_options options = options_of(2, 10);
    options.order = TG_ORDER_NONE;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 10);
    tg_task *forgotten = NULL;
    for (tg_task *task; (task = kept(&plan)) != NULL;) {
        tg_record record;
        CHECK_OK(tg_task_record(task, &record));
        if (record.offset == 4) {
            forgotten = task;
        } else {
            CHECK_OK(tg_task_done(task));
        }
    }
    tg_process_report report;
    const int64_t began = now_ms();
    CHECK_OK(tg_process_stop(process, 200, &report));
    CHECK_EQUAL(now_ms() - began < PATIENCE_MS / 2, true);
    CHECK_EQUAL(report.is_drained, false);
    CHECK_EQUAL(report.ledger.in_flight, 1);
    CHECK_EQUAL(report.ledger.done, 9);
    CHECK_EQUAL(report.handlers_running, 0);
    CHECK_EQUAL(committed(consumer, topic), 4);
    /* Its answer counts as long as the consumer is there. */
    CHECK_OK(tg_process_free(process));
    CHECK_OK(tg_task_done(forgotten));
    tg_partitions *list;
    CHECK_OK(tg_consumer_commit(consumer, PATIENCE_MS, &list));
    CHECK_OK(tg_partitions_free(list));
    CHECK_EQUAL(committed(consumer, topic), 10);
    plan_await(&plan, &plan.freed, 1);
    CHECK_OK(tg_consumer_free(consumer));
    plan_end(&plan);
}

static void tasks_outlive_the_consumer(void) {
    char topic[64];
    keyed_topic(topic, 2);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep;
    const tg_process_options options = options_of(1, 2);
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 2);
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_OK(tg_process_wait(process, TG_FOREVER));
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, 0, &report));
    CHECK_EQUAL(report.end, TG_PROCESS_CONSUMER_CLOSED);
    CHECK_OK(tg_process_free(process));
    CHECK_OK(tg_consumer_free(consumer));
    for (tg_task *task; (task = kept(&plan)) != NULL;) {
        tg_record record;
        CHECK_OK(tg_task_record(task, &record));
        CHECK_EQUAL(record.value.length, 1);
        CHECK_OK(tg_task_done(task));
    }
    plan_await(&plan, &plan.freed, 1);
    plan_end(&plan);
}

/* The first attempt of offset 0 is kept, everything else is done. */
static void keep_the_first(struct plan *plan, tg_task *task, const tg_record *record) {
    if (record->offset == 0 && tg_task_attempt(task) == 1) {
        keep(plan, task, record);
    } else {
        tg_task_done(task);
    }
}

static void an_attempt_over_its_time_has_failed(void) {
    char topic[64], dead[64];
    keyed_topic(topic, KEYS + 1); /* 0 and KEYS have one key */
    world_topic(dead, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep_the_first;
    tg_process_options options = options_of(2, 4);
    options.attempt_timeout_ms = 100;
    options.on_failure = TG_ON_FAILURE_DEAD_LETTER;
    options.dead_letter_topic = dead;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, KEYS);
    const int64_t until = now_ms() + PATIENCE_MS;
    while (progress(process).ledger.dead_lettered < 1 && now_ms() < until) {
    }
    CHECK_EQUAL(progress(process).ledger.overdue, 1);
    /* Its key waits for the answer, which is thrown away. */
    CHECK_EQUAL(plan.seen, KEYS);
    CHECK_OK(tg_task_done(kept(&plan)));
    plan_await(&plan, &plan.seen, KEYS + 1);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.dead_lettered, 1);
    CHECK_EQUAL(report.ledger.done, KEYS);
    CHECK_EQUAL(report.ledger.timed_out, 1);
    CHECK_EQUAL(report.ledger.overdue, 0);
    CHECK_EQUAL(committed(consumer, topic), KEYS + 1);
    finished(&plan);
}

static void give_back_or_do(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)plan;
    if (record->offset == 2) {
        tg_task_give_back(task);
    } else {
        tg_task_done(task);
    }
}

static void what_is_given_back_is_not_committed(void) {
    char topic[64];
    keyed_topic(topic, 5);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = give_back_or_do;
    tg_process *process = started(&plan, consumer, NULL);
    plan_await(&plan, &plan.seen, 5);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.returned, 1);
    CHECK_EQUAL(report.ledger.done, 4);
    CHECK_EQUAL(committed(consumer, topic), 2);
    finished(&plan);
}

struct batches {
    struct plan plan;
    size_t largest, records;
    bool is_mixed;
};

static void handle_many(tg_task *const *tasks, const tg_record *records, size_t count, void *user_data) {
    struct batches *batches = (struct batches *)user_data;
    pthread_mutex_lock(&batches->plan.lock);
    batches->largest = count > batches->largest ? count : batches->largest;
    batches->records += count;
    for (size_t i = 0; i < count; ++i) {
        tg_record own;
        batches->is_mixed = batches->is_mixed || tg_task_record(tasks[i], &own) != TG_OK || own.offset != records[i].offset ||
                            own.value.data != records[i].value.data;
    }
    pthread_mutex_unlock(&batches->plan.lock);
    batches->plan.told[0] = tg_tasks_done(tasks, count);
    pthread_mutex_lock(&batches->plan.lock);
    batches->plan.seen = (int)batches->records;
    pthread_cond_broadcast(&batches->plan.changed);
    pthread_mutex_unlock(&batches->plan.lock);
}

static void batches_are_handled_together(void) {
    enum { COUNT = 103 };
    char topic[64];
    keyed_topic(topic, COUNT);
    tg_consumer *consumer = reader_of(topic);
    struct batches batches;
    memset(&batches, 0, sizeof batches);
    plan_begin(&batches.plan);
    tg_process_options options = options_of(2, 100);
    options.batch_size = 10;
    options.batch_timeout_ms = 50;
    tg_process *process;
    CHECK_OK(tg_process_start_batches(consumer, &options, handle_many, &batches, plan_free, &process));
    plan_await(&batches.plan, &batches.plan.seen, COUNT);
    tg_process_report report;
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.ledger.done, COUNT);
    CHECK_EQUAL(batches.largest, 10);
    CHECK_EQUAL(batches.is_mixed, false);
    CHECK_EQUAL(batches.plan.told[0], TG_OK);
    CHECK_EQUAL(committed(consumer, topic), COUNT);
    batches.plan.process = process;
    batches.plan.consumer = consumer;
    finished(&batches.plan);
}

/* Stays until all four are here: records that may be handled side by side are. */
static void meet(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    plan_await(plan, &plan->at_once, 4);
    tg_task_done(task);
    pthread_mutex_lock(&plan->lock);
    /* The others have seen it. */
    plan->at_once += 4;
    pthread_cond_broadcast(&plan->changed);
    pthread_mutex_unlock(&plan->lock);
}

static void without_an_order_workers_handle_records_of_one_partition_at_once(void) {
    char topic[64];
    keyed_topic(topic, 4);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = meet;
    tg_process_options options = options_of(4, 4);
    options.order = TG_ORDER_NONE;
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 4);
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, NULL));
    CHECK_EQUAL(committed(consumer, topic), 4);
    finished(&plan);
}

static void cost_two(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    plan->told[1] = tg_task_charge(task, 2);
    tg_task_done(task);
}

static void a_rate_is_kept(void) {
    char topic[64];
    keyed_topic(topic, 6);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = cost_two;
    tg_process_options options = options_of(4, 4);
    options.rate_limit = 20; /* of cost per second: ten records */
    const int64_t began = now_ms();
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 6);
    CHECK_EQUAL(now_ms() - began >= 200, true);
    CHECK_EQUAL(plan.told[1], TG_OK);
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, NULL));
    finished(&plan);
}

static void stop_here(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    pthread_mutex_lock(&plan->lock); /* until it is started */
    tg_process *process = plan->process;
    pthread_mutex_unlock(&plan->lock);
    plan->told[0] = tg_task_done(task);
    plan->told[1] = tg_process_stop(process, PATIENCE_MS, &plan->report);
    plan->told[2] = tg_process_free(process);
}

static void a_handler_may_stop_and_free_it(void) {
    char topic[64];
    keyed_topic(topic, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = stop_here;
    const tg_process_options options = options_of(1, 1);
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.freed, 1);
    CHECK_EQUAL(plan.seen, 1);
    CHECK_EQUAL(plan.told[0], TG_OK);
    CHECK_EQUAL(plan.told[1], TG_OK);
    CHECK_EQUAL(plan.told[2], TG_OK);
    CHECK_EQUAL(plan.report.ledger.done, 1);
    CHECK_EQUAL(plan.report.handlers_running, 1);
    CHECK_STATUS(tg_process_wait(process, 0), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(committed(consumer, topic), 1);
    CHECK_OK(tg_consumer_free(consumer));
    plan_end(&plan);
}

static void hang(struct plan *plan, tg_task *task, const tg_record *record) {
    (void)record;
    tg_task_done(task);
    pthread_mutex_lock(&plan->lock);
    plan->attempts = 1;
    pthread_cond_broadcast(&plan->changed);
    pthread_mutex_unlock(&plan->lock);
    plan_await(plan, &plan->attempts, 2);
}

static void a_stop_is_bounded_while_a_handler_hangs(void) {
    char topic[64];
    keyed_topic(topic, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = hang;
    const tg_process_options options = options_of(1, 1);
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.attempts, 1);
    tg_process_report report;
    const int64_t began = now_ms();
    CHECK_OK(tg_process_stop(process, 100, &report));
    CHECK_EQUAL(now_ms() - began < PATIENCE_MS / 2, true);
    CHECK_EQUAL(report.handlers_running, 1);
    CHECK_EQUAL(plan.freed, 0);
    pthread_mutex_lock(&plan.lock);
    plan.attempts = 2;
    pthread_cond_broadcast(&plan.changed);
    pthread_mutex_unlock(&plan.lock);
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, &report));
    CHECK_EQUAL(report.handlers_running, 0);
    CHECK_EQUAL(report.is_drained, true);
    finished(&plan);
}

static void options_that_cannot_be_are_told(void) {
    char topic[64];
    keyed_topic(topic, 1);
    tg_consumer *consumer = reader_of(topic);
    tg_process_options good;
    CHECK_OK(tg_process_default_options(&good));
    CHECK_EQUAL(good.max_in_flight, 16);
    CHECK_EQUAL(good.max_attempts, 1);
    CHECK_EQUAL(good.backoff_ms, 100);
    CHECK_EQUAL(good.dead_letter_limit == TG_NO_LIMIT, true);
    struct plan plan;
    plan_begin(&plan);
#define REFUSED(field, value, told)                                                                                     \
    do {                                                                                                                \
        tg_process_options wrong = good;                                                                                \
        wrong.field = (value);                                                                                          \
        CHECK_STATUS(tg_process_start(consumer, &wrong, handle, &plan, plan_free, &plan.process), TG_ERROR_ARGUMENT);   \
        CHECK_ARGUMENT(told);                                                                                           \
    } while (0)
    REFUSED(workers, 1025, "workers");
    REFUSED(max_in_flight, 0, "max_in_flight");
    REFUSED(max_in_flight, SIZE_MAX, "max_in_flight");
    REFUSED(min_in_flight, 17, "min_in_flight");
    REFUSED(max_queued, 0, "max_queued");
    REFUSED(max_bytes, 0, "max_bytes");
    REFUSED(order, 3, "order");
    REFUSED(on_failure, 3, "on_failure");
    REFUSED(on_failure, TG_ON_FAILURE_DEAD_LETTER, "dead_letter_topic");
    REFUSED(dead_letter_topic, topic, "dead_letter_topic");
    REFUSED(on_limit, -1, "on_limit");
    REFUSED(backoff_ms, -1, "backoff_ms");
    REFUSED(backoff_ms, 60000, "backoff");
    REFUSED(max_backoff_ms, -5, "max_backoff_ms");
    REFUSED(attempt_timeout_ms, -1, "attempt_timeout_ms");
    REFUSED(rate_limit, -1, "rate_limit");
    REFUSED(batch_size, 0, "batch_size");
    REFUSED(batch_size, 2, "batch_size");
    REFUSED(batch_timeout_ms, -1, "batch_timeout_ms");
    REFUSED(offset_map_bytes, 1 << 20, "offset_map_bytes");
    REFUSED(park_retries, true, "park_retries");
    good.on_failure = TG_ON_FAILURE_DEAD_LETTER;
    REFUSED(dead_letter_topic, topic, "dead_letter_topic"); /* it is consumed */
    REFUSED(dead_letter_topic, "", "topic");
    good.dead_letter_topic = "elsewhere";
    REFUSED(dead_letter_producer, (tg_producer *)(uintptr_t)1, "producer");
    CHECK_STATUS(tg_process_start(consumer, NULL, NULL, NULL, NULL, &plan.process), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("handler");
    CHECK_STATUS(tg_process_start(consumer, NULL, handle, NULL, NULL, NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("process");
    /* One processing per consumer, one after the other. */
    started(&plan, consumer, NULL);
    tg_process *second;
    CHECK_STATUS(tg_process_start(consumer, NULL, handle, &plan, plan_free, &second), TG_ERROR_CONCURRENT_USE);
    plan_await(&plan, &plan.seen, 1);
    CHECK_STATUS(tg_process_stop(plan.process, -1, NULL), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("drain_ms");
    CHECK_STATUS(tg_process_wait(plan.process, -2), TG_ERROR_ARGUMENT);
    CHECK_STATUS(tg_process_progress(plan.process, NULL), TG_ERROR_ARGUMENT);
    CHECK_OK(tg_process_stop(plan.process, PATIENCE_MS, NULL));
    plan_await(&plan, &plan.freed, 1); /* by the one that was started */
    CHECK_OK(tg_process_start(consumer, NULL, handle, &plan, NULL, &second));
    CHECK_OK(tg_process_free(second));
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_STATUS(tg_process_start(consumer, NULL, handle, &plan, plan_free, &second), TG_ERROR_CLOSED);
    finished(&plan);
}

static int in_child(struct plan *plan, tg_task *task) {
    tg_process_report report;
    tg_record record;
    alarm(60);
    if (tg_task_done(task) != TG_ERROR_FORKED) return 1;
    if (tg_task_record(task, &record) != TG_ERROR_FORKED) return 2;
    if (tg_process_progress(plan->process, &report) != TG_ERROR_FORKED) return 3;
    if (tg_process_stop(plan->process, PATIENCE_MS, NULL) != TG_ERROR_FORKED) return 4;
    if (tg_process_wait(plan->process, TG_FOREVER) != TG_ERROR_FORKED) return 5;
    if (tg_process_free(plan->process) != TG_OK) return 6;
    if (tg_process_start(plan->consumer, NULL, handle, NULL, NULL, &plan->process) != TG_ERROR_FORKED) return 7;
    return 0;
}

static void a_forked_child_is_told_and_the_parent_goes_on(void) {
    char topic[64];
    keyed_topic(topic, 1);
    tg_consumer *consumer = reader_of(topic);
    struct plan plan;
    plan_begin(&plan);
    plan.answer = keep;
    const tg_process_options options = options_of(1, 1);
    tg_process *process = started(&plan, consumer, &options);
    plan_await(&plan, &plan.seen, 1);
    tg_task *task = kept(&plan);
    int answer[2], status, found = -1;
    CHECK_EQUAL(pipe(answer), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        const int told = in_child(&plan, task);
        /* A tool that looks for leaks may complain of the parent's memory, and choose the exit code. */
        _exit(write(answer[1], &told, sizeof told) != (ssize_t)sizeof told);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(WIFEXITED(status), true);
    CHECK_EQUAL(read(answer[0], &found, sizeof found), sizeof found);
    CHECK_EQUAL(found, 0);
    close(answer[0]);
    close(answer[1]);
    CHECK_OK(tg_task_done(task));
    CHECK_OK(tg_process_stop(process, PATIENCE_MS, NULL));
    CHECK_EQUAL(committed(consumer, topic), 1);
    finished(&plan);
}

int main(void) {
    world_begin();
    RUN(records_are_handled_side_by_side_and_each_key_in_order);
    RUN(tasks_are_answered_later_in_any_order_by_any_thread);
    RUN(an_answer_counts_once);
    RUN(what_fails_comes_again);
    RUN(what_failed_for_good_goes_to_the_dead_letter_topic);
    RUN(dead_letters_go_through_a_producer_of_the_programs);
    RUN(a_failure_ends_it_or_is_skipped);
    RUN(a_task_that_is_never_answered_is_never_committed);
    RUN(tasks_outlive_the_consumer);
    RUN(an_attempt_over_its_time_has_failed);
    RUN(what_is_given_back_is_not_committed);
    RUN(batches_are_handled_together);
    RUN(without_an_order_workers_handle_records_of_one_partition_at_once);
    RUN(a_rate_is_kept);
    RUN(a_handler_may_stop_and_free_it);
    RUN(a_stop_is_bounded_while_a_handler_hangs);
    RUN(options_that_cannot_be_are_told);
    RUN(a_forked_child_is_told_and_the_parent_goes_on);
    world_end();
    return finish();
}
