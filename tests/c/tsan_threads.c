/* For ThreadSanitizer only: C11's threads, as librdkafka uses them, by way of the pthread functions that the tool watches. The C
 * library's own ones go past it, and a thread that it does not know ends the program. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <threads.h>

struct start {
    thrd_start_t function;
    void *argument;
};

static void *run(void *data) {
    const struct start start = *(struct start *)data;
    free(data);
    return (void *)(long)start.function(start.argument);
}

static int answer(int error) { return error == 0 ? thrd_success : thrd_error; }

int thrd_create(thrd_t *thread, thrd_start_t function, void *argument) {
    struct start *start = malloc(sizeof *start);
    if (start == NULL) {
        return thrd_nomem;
    }
    start->function = function;
    start->argument = argument;
    const int error = pthread_create(thread, NULL, run, start);
    if (error != 0) {
        free(start);
    }
    return answer(error);
}

int thrd_join(thrd_t thread, int *result) {
    void *value = NULL;
    const int error = pthread_join(thread, &value);
    if (result != NULL) {
        *result = (int)(long)value;
    }
    return answer(error);
}

int thrd_detach(thrd_t thread) { return answer(pthread_detach(thread)); }

/* The C library's mtx_t and cnd_t are its pthread types under another name, and these functions its own, word for word. */
#define MUTEX ((pthread_mutex_t *)mutex)
#define CONDITION ((pthread_cond_t *)condition)

int mtx_init(mtx_t *mutex, int type) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
    const int error = pthread_mutex_init(MUTEX, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return answer(error);
}

void mtx_destroy(mtx_t *mutex) { pthread_mutex_destroy(MUTEX); }

int mtx_lock(mtx_t *mutex) { return answer(pthread_mutex_lock(MUTEX)); }

int mtx_unlock(mtx_t *mutex) { return answer(pthread_mutex_unlock(MUTEX)); }

int mtx_trylock(mtx_t *mutex) {
    const int error = pthread_mutex_trylock(MUTEX);
    return error == EBUSY ? thrd_busy : answer(error);
}

int cnd_init(cnd_t *condition) { return answer(pthread_cond_init(CONDITION, NULL)); }

void cnd_destroy(cnd_t *condition) { pthread_cond_destroy(CONDITION); }

int cnd_signal(cnd_t *condition) { return answer(pthread_cond_signal(CONDITION)); }

int cnd_broadcast(cnd_t *condition) { return answer(pthread_cond_broadcast(CONDITION)); }

int cnd_wait(cnd_t *condition, mtx_t *mutex) { return answer(pthread_cond_wait(CONDITION, MUTEX)); }

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    const int error = pthread_cond_timedwait(CONDITION, MUTEX, until);
    return error == ETIMEDOUT ? thrd_timedout : answer(error);
}
