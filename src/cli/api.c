#include "cli/api.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"

enum {
    CALL_TIMEOUT_MS = 70 * 1000,
    RETRY_FOR_MS = 30 * 1000,
    RETRY_EVERY_MS = 300,
    MAX_ANSWER_BYTES = 64 * 1024 * 1024
};

struct cli_api {
    uv_loop_t loop;
    struct http_client *client;
    char *base_url;
};

struct cli_api *cli_api_new(const char *base_url) {
    struct cli_api *api = g_new0(struct cli_api, 1);
    int failed = uv_loop_init(&api->loop);

    if (failed)
        g_error("no event loop: %s", uv_strerror(failed));
    api->client = http_client_new(&api->loop);
    api->base_url = g_strdup(base_url);
    return api;
}

void cli_api_free(struct cli_api *api) {
    if (!api)
        return;
    http_client_free(api->client);
    uv_run(&api->loop, UV_RUN_DEFAULT);
    uv_loop_close(&api->loop);
    g_free(api->base_url);
    g_free(api);
}

void cli_api_wake(struct cli_api *api) { uv_stop(&api->loop); }
uv_loop_t *cli_api_loop(struct cli_api *api) { return &api->loop; }

struct http_client *cli_api_client(struct cli_api *api) {
    return api->client;
}

char *cli_api_url(const struct cli_api *api, const char *path) {
    return g_strconcat(api->base_url, "/api/v1", path, NULL);
}

char *cli_api_query(const char *path, ...) {
    GString *url = g_string_new(path);
    const char *name, *separator = "?";
    va_list args;

    va_start(args, path);
    while ((name = va_arg(args, const char *))) {
        const char *value = va_arg(args, const char *);
        g_autofree char *escaped = value ? g_uri_escape_string(value, NULL, FALSE) : NULL;
        if (!escaped)
            continue;
        g_string_append_printf(url, "%s%s=%s", separator, name, escaped);
        separator = "&";
    }
    va_end(args);
    return g_string_free(url, FALSE);
}

/* ---- answers ---- */

/* Codes that the host sends and that this program gives a meaning of its own (usage: exit 2) stay the host's answer. */
static enum kr_error code_of(const char *name, int status) {
    enum kr_error code = kr_error_from_name(name);

    if (code == KR_ERROR_NONE)
        return status == 404 ? KR_ERROR_NOT_FOUND : KR_ERROR_INTERNAL;
    return code == KR_ERROR_USAGE ? KR_ERROR_BAD_REQUEST : code;
}

static void decode_error(const struct cli_api *api, int status, const json_t *answer, json_t **ret_refusals,
                         GError **error) {
    const json_t *object = json_object_get(answer, "error");
    const char *message = json_string_value(json_object_get(object, "message"));

    if (!message) {
        kr_fail(error, IO, "%s does not answer like a KohakuRiver host (HTTP status %d)", api->base_url, status);
        return;
    }
    kr_fail_at(error, code_of(json_string_value(json_object_get(object, "code")), status), "%s", message);
    if (ret_refusals && json_is_array(json_object_get(object, "refusals")))
        *ret_refusals = json_incref(json_object_get(object, "refusals"));
}

json_t *cli_api_decode(const struct cli_api *api, int status, const char *body, size_t len, const GError *failure,
                       json_t **ret_refusals, GError **error) {
    json_t *answer;

    if (failure && g_error_matches(failure, KR_ERROR, KR_ERROR_UNREACHABLE)) {
        kr_fail(error, UNREACHABLE, "no host answers: %s", failure->message);
        return NULL;
    }
    if (failure) {
        if (error)
            *error = g_error_copy(failure);
        g_prefix_error(error, "%s: ", api->base_url);
        return NULL;
    }
    answer = jsonx_parse(body ? body : "", len, NULL);
    if (status >= 200 && status < 300 && answer)
        return answer;
    decode_error(api, status, answer, ret_refusals, error);
    json_decref(answer);
    return NULL;
}

/* Between sending and the answer something broke: it may have taken effect. */
static bool is_of_transport(const GError *error) {
    return error->code == KR_ERROR_IO || error->code == KR_ERROR_TIMEOUT;
}

/* ---- one call ---- */

struct pending {
    struct cli_api *api;
    bool is_done;
    json_t *answer;
    json_t **ret_refusals;
    GError **error;
};

static void on_done(void *user, int status, const char *body, size_t len, const GError *failure) {
    struct pending *pending = user;

    pending->answer = cli_api_decode(pending->api, status, body, len, failure, pending->ret_refusals, pending->error);
    pending->is_done = true;
    cli_api_wake(pending->api);
}

static json_t *call(struct cli_api *api, const char *method, const char *path, const json_t *body,
                    const char *key_header, json_t **ret_refusals, GError **error) {
    const char *const json_headers[] = {"Content-Type: application/json", key_header, NULL};
    g_autofree char *url = cli_api_url(api, path), *text = body ? jsonx_to_str(body) : NULL;
    struct pending pending = {.api = api, .ret_refusals = ret_refusals, .error = error};
    struct http_request request = {
        .method = method,
        .url = url,
        .headers = text ? json_headers : NULL,
        .body = text,
        .body_len = text ? strlen(text) : 0,
        .timeout_ms = CALL_TIMEOUT_MS,
        .max_body_bytes = MAX_ANSWER_BYTES,
        .user = &pending,
        .on_done = on_done,
    };

    http_client_start(api->client, &request);
    while (!pending.is_done)
        uv_run(&api->loop, UV_RUN_ONCE);
    return pending.answer;
}

json_t *cli_api_call(struct cli_api *api, const char *method, const char *path, const json_t *body,
                     json_t **ret_refusals, GError **error) {
    return call(api, method, path, body, NULL, ret_refusals, error);
}

json_t *cli_api_call_once(struct cli_api *api, const char *method, const char *path, const json_t *body,
                          json_t **ret_refusals, GError **error) {
    g_autofree char *key = g_uuid_string_random(), *header = g_strdup_printf("Idempotency-Key: %s", key);
    int64_t give_up_ms = clock_mono_ms() + RETRY_FOR_MS;
    bool was_lost = false;

    for (;;) {
        g_autoptr(GError) why = NULL;
        json_t *answer = call(api, method, path, body, header, ret_refusals, &why);
        bool is_lost = !answer &&
                       (was_lost ? is_of_transport(why) || why->code == KR_ERROR_UNREACHABLE : is_of_transport(why));

        if (answer || !is_lost || clock_mono_ms() >= give_up_ms) {
            if (why)
                g_propagate_error(error, g_steal_pointer(&why));
            return answer;
        }
        if (!was_lost)
            cli_note("the host's answer was lost, asking again (nothing is done twice)");
        was_lost = true;
        g_usleep(RETRY_EVERY_MS * 1000);
    }
}

json_t *cli_api_get(struct cli_api *api, const char *path, GError **error) {
    return cli_api_call(api, "GET", path, NULL, NULL, error);
}
