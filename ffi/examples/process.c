/* Many slow handlers at once from one consumer: the library calls a handler, which passes each order on to a "service" of two threads; these
 * answer some milliseconds later, in another order. What fails is tried again, and then goes to the topic "orders-failed".
 *
 *     cc process.c $(pkg-config --cflags --libs tidegate) -lpthread -o process */
#include "example.h"

#include <pthread.h>
#include <time.h>

/* A stack of tasks that wait for the service. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tg_task *tasks[EXAMPLE_RECORDS];
    size_t count;
    bool ended;
} service = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Runs on a thread of the library, and leaves the answer to the service. */
static void handle(tg_task *task, const tg_record *record, void *user_data) {
    (void)record;
    (void)user_data;
    pthread_mutex_lock(&service.lock);
    service.tasks[service.count++] = task;
    pthread_cond_signal(&service.changed);
    pthread_mutex_unlock(&service.lock);
}

static void *serve(void *data) {
    for (;;) {
        pthread_mutex_lock(&service.lock);
        while (service.count == 0 && !service.ended) {
            pthread_cond_wait(&service.changed, &service.lock);
        }
        tg_task *task = service.count > 0 ? service.tasks[--service.count] : NULL;
        pthread_mutex_unlock(&service.lock);
        if (task == NULL) {
            return data;
        }
        const struct timespec moment = {.tv_nsec = 100000};
        nanosleep(&moment, NULL);
        /* The record is there until the answer. */
        tg_record record;
        check(tg_task_record(task, &record));
        const bool is_seventh = record.value.data[record.value.length - 1] == '7';
        if (is_seventh && tg_task_attempt(task) == 1) {
            check(tg_task_retry(task, 5, "Busy", "try again in 5 ms"));
        } else if (is_seventh) {
            check(tg_task_fail(task, "BadOrder", "there are no sevens"));
        } else {
            check(tg_task_done(task));
        }
    }
}

int main(int argc, char **argv) {
    tg_broker *broker = argc < 3 ? orders() : NULL;
    const char *servers = broker != NULL ? tg_broker_bootstrap_servers(broker) : argv[1];
    const char *topic = broker != NULL ? "orders" : argv[2];
    if (broker != NULL) {
        check(tg_broker_create_topic(broker, "orders-failed", 1));
    }

    tg_config *config = configure_consumer(servers, "example-process");
    tg_consumer *consumer;
    check(tg_consumer_new(config, &consumer));
    tg_config_free(config);
    check(tg_consumer_subscribe(consumer, &topic, 1, NULL));

    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) {
        pthread_create(&threads[i], NULL, serve, NULL);
    }
    tg_process_options options;
    check(tg_process_default_options(&options));
    options.workers = 1; /* the handler is quick */
    options.max_in_flight = 100;
    options.max_attempts = 3;
    options.on_failure = TG_ON_FAILURE_DEAD_LETTER;
    options.dead_letter_topic = "orders-failed";
    tg_process *process;
    check(tg_process_start(consumer, &options, handle, NULL, NULL, &process));

    tg_process_report report;
    do {
        /* Until it is over, which a failure would be, or a moment has passed. */
        check(tg_process_wait(process, 50));
        check(tg_process_progress(process, &report));
    } while (report.ledger.done + report.ledger.dead_lettered < EXAMPLE_RECORDS);
    check(tg_process_stop(process, 10000, &report));
    check(tg_process_free(process));

    pthread_mutex_lock(&service.lock);
    service.ended = true;
    pthread_cond_broadcast(&service.changed);
    pthread_mutex_unlock(&service.lock);
    for (int i = 0; i < 2; ++i) {
        pthread_join(threads[i], NULL);
    }
    check(tg_consumer_close(consumer, 10000));
    tg_consumer_free(consumer);
    tg_broker_free(broker);
    printf("%llu records: %llu done, %llu dead letters, %s\n", (unsigned long long)report.ledger.received,
           (unsigned long long)report.ledger.done, (unsigned long long)report.ledger.dead_lettered,
           report.is_drained ? "nothing left" : "some are left");
    return EXIT_SUCCESS;
}
