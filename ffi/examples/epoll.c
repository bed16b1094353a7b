/* A consumer in an event loop: epoll tells when a poll would give something. (Linux.)
 *
 *     cc epoll.c $(pkg-config --cflags --libs tidegate) -o epoll */
#include "example.h"

#include <sys/epoll.h>
#include <unistd.h>

int main(int argc, char **argv) {
    tg_broker *broker = argc < 3 ? orders() : NULL;
    const char *servers = broker != NULL ? tg_broker_bootstrap_servers(broker) : argv[1];
    const char *topic = broker != NULL ? "orders" : argv[2];

    tg_config *config = configure_consumer(servers, "example-epoll");
    tg_consumer *consumer;
    check(tg_consumer_new(config, &consumer));
    tg_config_free(config);
    check(tg_consumer_subscribe(consumer, &topic, 1, NULL));

    const int loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, (int)tg_consumer_ready_fd(consumer), &event) != 0) {
        perror("epoll");
        return EXIT_FAILURE;
    }

    size_t records = 0;
    int wakes = 0;
    while (records < EXAMPLE_RECORDS) {
        if (epoll_wait(loop, &event, 1, 30000) <= 0) {
            fprintf(stderr, "nothing came\n");
            return EXIT_FAILURE;
        }
        wakes += 1;
        /* Poll until there is nothing: that makes the descriptor unreadable again. */
        tg_batch *batch;
        while (check(tg_consumer_next_batch(consumer, 0, 0, &batch)) == TG_OK) {
            records += tg_batch_count(batch);
            check(tg_batch_free(batch));
        }
    }
    close(loop);
    check(tg_consumer_close(consumer, 10000));
    tg_consumer_free(consumer);
    tg_broker_free(broker);
    printf("%zu records, woken %s\n", records, wakes > 0 ? "by epoll" : "never");
    return EXIT_SUCCESS;
}
