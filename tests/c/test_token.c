/* Tokens of SASL OAUTHBEARER and credentials: who is asked, how often, on which thread, and when it ends. That a broker takes the tokens is
 * proved by tests/python/test_kafka_sasl.py. Nothing listens at the address used here. */
#include "check.h"

#include <unistd.h>

enum { PATIENCE_MS = 60000 };

/* What the callback does and has seen. */
struct provider {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int asked, freed;
    bool refuse, silent;
    pthread_t caller;
    bool on_caller;
    tg_token_request *kept;
    char config[64];
};

static struct provider provider_of(void) {
    struct provider provider;
    memset(&provider, 0, sizeof provider);
    pthread_mutex_init(&provider.lock, NULL);
    pthread_cond_init(&provider.changed, NULL);
    provider.caller = pthread_self();
    return provider;
}

static int64_t in_an_hour_ms(void) { return ((int64_t)time(NULL) + 3600) * 1000; }

static void give(tg_token_request *request, const char *config, void *user_data) {
    struct provider *provider = user_data;
    const tg_token_extension extension = {"traceId", "a b"};
    if (!provider->silent) {
        CHECK_OK(provider->refuse ? tg_token_request_refuse(request, "not now")
                                  : tg_token_request_give(request, "header.payload.", in_an_hour_ms(), "me", &extension, 1));
    }
    pthread_mutex_lock(&provider->lock);
    provider->asked += 1;
    provider->kept = request;
    provider->on_caller |= pthread_equal(pthread_self(), provider->caller) != 0;
    snprintf(provider->config, sizeof provider->config, "%s", config);
    pthread_cond_broadcast(&provider->changed);
    pthread_mutex_unlock(&provider->lock);
}

static void ended(void *user_data) {
    struct provider *provider = user_data;
    pthread_mutex_lock(&provider->lock);
    provider->freed += 1;
    pthread_cond_broadcast(&provider->changed);
    pthread_mutex_unlock(&provider->lock);
}

/* Waits until one of the counters is there. */
static void await(struct provider *provider, const int *counter, int least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&provider->lock);
    int late = 0;
    while (*counter < least && late == 0) {
        late = pthread_cond_timedwait(&provider->changed, &provider->lock, &until);
    }
    const int found = *counter;
    pthread_mutex_unlock(&provider->lock);
    CHECK(found >= least);
}

/* A counter as it is now. */
static int now_at(struct provider *provider, const int *counter) {
    pthread_mutex_lock(&provider->lock);
    const int found = *counter;
    pthread_mutex_unlock(&provider->lock);
    return found;
}

static tg_config *config_of(struct provider *provider) {
    tg_config *config;
    CHECK_OK(tg_config_new(&config));
    CHECK_OK(tg_config_set(config, "bootstrap.servers", "127.0.0.1:1"));
    CHECK_OK(tg_config_set(config, "security.protocol", "sasl_plaintext"));
    CHECK_OK(tg_config_set(config, "sasl.mechanism", "OAUTHBEARER"));
    CHECK_OK(tg_config_set(config, "sasl.oauthbearer.config", "scope=all"));
    CHECK_OK(tg_config_set_token_provider(config, give, provider, ended));
    return config;
}

static void every_client_asks_on_a_thread_of_its_own(void) {
    struct provider provider = provider_of();
    tg_config *config = config_of(&provider);
    tg_consumer *consumer;
    tg_producer *producer;
    tg_admin *admin;
    CHECK_OK(tg_consumer_new(config, &consumer));
    await(&provider, &provider.asked, 1);
    CHECK_OK(tg_producer_new(config, &producer));
    await(&provider, &provider.asked, 2);
    CHECK_OK(tg_admin_new(config, &admin));
    await(&provider, &provider.asked, 3);
    CHECK(!provider.on_caller);
    CHECK_TEXT(provider.config, "scope=all");
    /* The clients keep their copy. */
    CHECK_OK(tg_config_free(config));
    CHECK_EQUAL(now_at(&provider, &provider.freed), 0);
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_admin_free(admin));
    await(&provider, &provider.freed, 1);
    usleep(1000);
    CHECK_EQUAL(now_at(&provider, &provider.freed), 1);
}

static void a_refusal_and_no_answer_are_asked_again(void) {
    struct provider provider = provider_of();
    provider.refuse = true;
    tg_config *config = config_of(&provider);
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    await(&provider, &provider.asked, 2);
    CHECK_OK(tg_producer_free(producer));
    await(&provider, &provider.asked, 2);
    provider.refuse = false;
    provider.silent = true;
    pthread_mutex_lock(&provider.lock);
    provider.asked = 0;
    pthread_mutex_unlock(&provider.lock);
    CHECK_OK(tg_producer_new(config, &producer));
    await(&provider, &provider.asked, 2);
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_config_free(config));
    await(&provider, &provider.freed, 1);
}

static void a_request_ends_with_its_callback(void) {
    struct provider provider = provider_of();
    tg_config *config = config_of(&provider);
    tg_producer *producer;
    CHECK_OK(tg_producer_new(config, &producer));
    await(&provider, &provider.asked, 1);
    /* The callback may be about to return. */
    const int64_t deadline = now_ms() + PATIENCE_MS;
    while (tg_token_request_refuse(provider.kept, "too late") == TG_OK && now_ms() < deadline) {
        usleep(100);
    }
    CHECK_STATUS(tg_token_request_give(provider.kept, "t", in_an_hour_ms(), NULL, NULL, 0), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("token_request");
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_config_free(config));
    await(&provider, &provider.freed, 1);
}

static void a_provider_that_is_replaced_ends(void) {
    struct provider first = provider_of(), second = provider_of();
    tg_config *config = config_of(&first);
    CHECK_OK(tg_config_set_token_provider(config, give, &second, ended));
    CHECK_EQUAL(first.freed, 1);
    CHECK_OK(tg_config_set_token_provider(config, NULL, NULL, NULL));
    CHECK_EQUAL(second.freed, 1);
    tg_producer *producer;
    CHECK_STATUS(tg_producer_new(config, &producer), TG_ERROR_CONFIG);
    CHECK(strstr(tg_last_error()->message, "tg_config_set_token_provider") != NULL);
    CHECK_OK(tg_config_free(config));
    CHECK_STATUS(tg_config_set_token_provider(config, give, &first, ended), TG_ERROR_ARGUMENT);
    CHECK_EQUAL(first.freed, 1);
}

static void credentials_are_checked(void) {
    struct provider provider = provider_of();
    tg_config *config = config_of(&provider);
    tg_consumer *consumer;
    tg_producer *producer;
    tg_admin *admin;
    CHECK_OK(tg_consumer_new(config, &consumer));
    CHECK_OK(tg_producer_new(config, &producer));
    CHECK_OK(tg_admin_new(config, &admin));
    CHECK_OK(tg_consumer_set_sasl_credentials(consumer, "me", "secret"));
    CHECK_OK(tg_producer_set_sasl_credentials(producer, "me", "secret"));
    CHECK_OK(tg_admin_set_sasl_credentials(admin, "me", "secret"));
    CHECK_STATUS(tg_consumer_set_sasl_credentials(consumer, NULL, "secret"), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("username");
    CHECK_STATUS(tg_producer_set_sasl_credentials(producer, "me", "\xff"), TG_ERROR_ARGUMENT);
    CHECK_ARGUMENT("password");
    CHECK(strstr(tg_last_error()->message, "secret") == NULL);
    CHECK_OK(tg_consumer_close(consumer, PATIENCE_MS));
    CHECK_STATUS(tg_consumer_set_sasl_credentials(consumer, "me", "secret"), TG_ERROR_CLOSED);
    CHECK_OK(tg_consumer_free(consumer));
    CHECK_OK(tg_producer_free(producer));
    CHECK_OK(tg_admin_free(admin));
    CHECK_OK(tg_config_free(config));
    await(&provider, &provider.freed, 1);
}

int main(void) {
    RUN(every_client_asks_on_a_thread_of_its_own);
    RUN(a_refusal_and_no_answer_are_asked_again);
    RUN(a_request_ends_with_its_callback);
    RUN(a_provider_that_is_replaced_ends);
    RUN(credentials_are_checked);
    return finish();
}
