#include "engine/engine.h"

#include "base/error.h"
#include "engine/engine_backend.h"

void engine_facts_clear(struct engine_facts *facts) {
    g_clear_pointer(&facts->version, g_free);
    g_clear_pointer(&facts->text, g_free);
}

void engine_container_free(struct engine_container *container) {
    if (!container)
        return;
    g_free(container->id);
    g_free(container->error);
    g_clear_pointer(&container->labels, g_hash_table_unref);
    g_free(container);
}

bool engine_is_away(const GError *error) {
    return g_error_matches(error, KR_ERROR, KR_ERROR_UNREACHABLE) ||
           g_error_matches(error, KR_ERROR, KR_ERROR_TIMEOUT) || g_error_matches(error, KR_ERROR, KR_ERROR_IO);
}

void engine_free(struct engine *engine) {
    if (engine)
        engine->ops->free(engine);
}

void engine_call_cancel(struct engine_call *call) {
    if (call)
        call->engine->ops->cancel(call);
}

struct engine_call *engine_probe(struct engine *engine, engine_probe_cb *on_done, void *user) {
    return engine->ops->probe(engine, on_done, user);
}

struct engine_call *engine_pull(struct engine *engine, const char *image, engine_done_cb *on_done, void *user) {
    return engine->ops->pull(engine, image, on_done, user);
}

struct engine_call *engine_create(struct engine *engine, const struct engine_config *config, engine_create_cb *on_done,
                                  void *user) {
    return engine->ops->create(engine, config, on_done, user);
}

struct engine_call *engine_start(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return engine->ops->start(engine, id, on_done, user);
}

struct engine_call *engine_wait(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return engine->ops->wait(engine, id, on_done, user);
}

struct engine_call *engine_inspect(struct engine *engine, const char *id, engine_inspect_cb *on_done, void *user) {
    return engine->ops->inspect(engine, id, on_done, user);
}

struct engine_call *engine_logs(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                const struct engine_log_sink *sink, void *user) {
    return engine->ops->logs(engine, id, since_ns, follow, sink, user);
}

struct engine_call *engine_signal(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                  void *user) {
    return engine->ops->signal(engine, id, signum, on_done, user);
}

struct engine_call *engine_pause(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                 void *user) {
    return engine->ops->pause(engine, id, is_pause, on_done, user);
}

struct engine_call *engine_remove(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return engine->ops->remove(engine, id, on_done, user);
}

struct engine_call *engine_list(struct engine *engine, const char *const *labels, engine_list_cb *on_done, void *user) {
    return engine->ops->list(engine, labels, on_done, user);
}
