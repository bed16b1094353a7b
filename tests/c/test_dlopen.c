/* The library as a plugin has it: opened and closed by name. Closing does not take it away from clients that still live. */
#include "check.h"

#include <dlfcn.h>

/* This program is not linked with the library; the macros' two functions stand here instead. */
const tg_error *tg_last_error(void) { return NULL; }
const char *tg_status_name(int32_t status) { return status == TG_OK ? "OK" : "an error"; }

static struct {
    void *library;
    tg_status (*broker_new)(int32_t, tg_broker **);
    tg_status (*broker_free)(tg_broker *);
    const char *(*bootstrap_servers)(const tg_broker *);
    tg_status (*config_new)(tg_config **);
    tg_status (*config_set)(tg_config *, const char *, const char *);
    tg_status (*config_free)(tg_config *);
    tg_status (*producer_new)(const tg_config *, tg_producer **);
    tg_status (*producer_send)(tg_producer *, const tg_producer_record *, const tg_on_delivery *);
    tg_status (*producer_flush)(tg_producer *, int64_t);
    tg_status (*producer_free)(tg_producer *);
} plugin;

/* A function of the library, as POSIX converts it. */
static void find(const char *name, void *function) {
    void *found = dlsym(plugin.library, name);
    CHECK(found != NULL);
    memcpy(function, &found, sizeof found);
}

static void open_plugin(void) {
    plugin.library = dlopen("libtidegate.so.0", RTLD_NOW | RTLD_LOCAL);
    if (plugin.library == NULL) {
        fail_at(__FILE__, __LINE__, "%s", dlerror());
    }
    find("tg_broker_new", &plugin.broker_new);
    find("tg_broker_free", &plugin.broker_free);
    find("tg_broker_bootstrap_servers", &plugin.bootstrap_servers);
    find("tg_config_new", &plugin.config_new);
    find("tg_config_set", &plugin.config_set);
    find("tg_config_free", &plugin.config_free);
    find("tg_producer_new", &plugin.producer_new);
    find("tg_producer_send", &plugin.producer_send);
    find("tg_producer_flush", &plugin.producer_flush);
    find("tg_producer_free", &plugin.producer_free);
}

/* The first test: nothing of the library was called, so nothing but its own wish (DF_1_NODELETE) keeps it. */
static void the_library_stays_when_it_is_closed(void) {
    void *library = dlopen("libtidegate.so.0", RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    CHECK_EQUAL(dlclose(library), 0);
    void *still_there = dlopen("libtidegate.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    CHECK(still_there != NULL);
    CHECK_EQUAL(dlclose(still_there), 0);
}

static void clients_live_on_when_the_library_is_closed(void) {
    for (int round = 0; round < 3; ++round) {
        open_plugin();
        tg_broker *broker;
        tg_config *config;
        tg_producer *producer;
        CHECK_OK(plugin.broker_new(1, &broker));
        CHECK_OK(plugin.config_new(&config));
        CHECK_OK(plugin.config_set(config, "bootstrap.servers", plugin.bootstrap_servers(broker)));
        CHECK_OK(plugin.producer_new(config, &producer));
        /* Threads of both are at work. */
        CHECK_EQUAL(dlclose(plugin.library), 0);
        const tg_producer_record record = {"t", 0, {NULL, 0}, {(const uint8_t *)"x", 1}, NULL, 0, TG_TIMESTAMP_NOW};
        for (int i = 0; i < 100; ++i) {
            CHECK_OK(plugin.producer_send(producer, &record, NULL));
        }
        CHECK_OK(plugin.producer_flush(producer, 60000));
        CHECK_OK(plugin.producer_free(producer));
        CHECK_OK(plugin.config_free(config));
        CHECK_OK(plugin.broker_free(broker));
    }
}

int main(void) {
    RUN(the_library_stays_when_it_is_closed);
    RUN(clients_live_on_when_the_library_is_closed);
    return finish();
}
