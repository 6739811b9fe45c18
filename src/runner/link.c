#include "runner/link.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "model/wire.h"
#include "model/wire_seq.h"
#include "net/http_client.h"
#include "net/ws.h"
#include "runner/runner_config.h"

enum {
    MIN_PAUSE_MS = 500,
    MAX_PAUSE_MS = 15000,
    DIAL_TIMEOUT_MS = 10000,
    HELLO_TIMEOUT_MS = 20000,
    MAX_FILE_BYTES = 64 * 1024,
    MAX_CREDENTIAL_BYTES = 1024,
};

struct link {
    uv_loop_t *loop;
    char *node, *host_url, *credential_file, *token_file;
    struct link_handlers handlers;
    void *user;
    char *credential, *cluster_id; /* NULL / "" before the first join */
    struct http_client *http;      /* only while joining */
    struct ws_dial *dial;
    struct ws *ws;
    bool is_up;
    struct wire_seq seq; /* of this connection */
    GPtrArray *held;     /* of json_t: what happened between hello and welcome, to be said then */
    bool is_down_logged;
    bool has_rejoined; /* and no welcome since: a new credential has not helped, or not yet */
    int pause_ms;
    uv_timer_t timer; /* the pause, or the wait for welcome */
};

static void dial(struct link *link);
static void join(struct link *link);

/* ---- the credential ---- */

static bool load_credential(struct link *link, GError **error) {
    g_autofree char *text = NULL;
    struct json_reader r;
    json_t *json;
    size_t len;

    link->cluster_id = g_strdup("");
    if (!g_file_test(link->credential_file, G_FILE_TEST_EXISTS))
        return true;
    if (!fs_read_file(link->credential_file, MAX_FILE_BYTES, &text, &len, error))
        return false;
    json = jsonx_parse(text, len, error);
    if (!json)
        return false;
    r = jr_init(json, link->credential_file, error);
    g_free(link->cluster_id);
    link->cluster_id = g_strdup(jr_str(&r, "cluster_id", 128));
    link->credential = g_strdup(jr_str(&r, "credential", MAX_CREDENTIAL_BYTES));
    json_decref(json);
    return jr_done(&r);
}

/* Takes both strings on success. */
static bool keep_credential(struct link *link, const char *credential, const char *cluster_id, GError **error) {
    json_t *json = json_pack("{s:s,s:s}", "credential", credential, "cluster_id", cluster_id);
    g_autofree char *text = jsonx_to_str(json);

    json_decref(json);
    if (!fs_write_durable(link->credential_file, 0600, text, strlen(text), error))
        return false;
    g_free(link->credential);
    link->credential = g_strdup(credential);
    g_free(link->cluster_id);
    link->cluster_id = g_strdup(cluster_id);
    return true;
}

/* ---- pauses ---- */

static void on_pause_over(uv_timer_t *timer) { dial(timer->data); }

/* Tries again later; the first failure of a row is told, the rest only on request. */
static void try_later(struct link *link, const char *why) {
    int pause_ms = link->pause_ms / 2 + (int)g_random_int_range(0, link->pause_ms / 2 + 1);

    log_at(link->is_down_logged ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "%s; trying again, tasks run on", why);
    link->is_down_logged = true;
    link->pause_ms = MIN(link->pause_ms * 2, MAX_PAUSE_MS);
    uv_timer_start(&link->timer, on_pause_over, (uint64_t)pause_ms, 0);
}

/* ---- joining ---- */

static void on_http_free(struct link *link) { g_clear_pointer(&link->http, http_client_free); }

static bool read_joined(struct link *link, const char *body, size_t len, GError **error) {
    json_t *json = jsonx_parse(body, len, error);
    struct json_reader r;
    bool ok;

    if (!json)
        return false;
    r = jr_init(json, "the answer to joining", error);
    {
        const char *credential = jr_str(&r, "credential", MAX_CREDENTIAL_BYTES),
                   *cluster = jr_str(&r, "cluster_id", 128);
        if (!r.failed && strpbrk(credential, "\r\n"))
            jr_fail(&r, "the credential is malformed");
        ok = jr_done(&r) && keep_credential(link, credential, cluster, error);
    }
    json_decref(json);
    return ok;
}

/* The host said no. Without any credential there is nothing to wait for. */
static void join_refused(struct link *link, int status, const char *body, size_t len) {
    json_t *json = jsonx_parse(body, len, NULL);
    const char *said = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    g_autofree char *why = g_strdup_printf("node %s cannot join the cluster of %s with the token in %s: %s", link->node,
                                           link->host_url, link->token_file, said ? said : "no reason given");
    bool is_final = !link->credential && (status == 401 || status == 403 || status == 400);
    g_autoptr(GError) error = NULL;

    json_decref(json);
    if (is_final) {
        kr_fail(&error, UNAUTHORIZED, "%s", why);
        link->handlers.on_fatal(link->user, error);
    } else {
        try_later(link, why);
    }
}

static void on_joined(void *user, int status, const char *body, size_t len, const GError *error) {
    struct link *link = user;
    g_autoptr(GError) why = NULL;

    if (error) {
        try_later(link, error->message);
    } else if (status != 201) {
        join_refused(link, status, body, len);
    } else if (!read_joined(link, body, len, &why)) {
        try_later(link, why->message);
    } else {
        link->has_rejoined = true;
        log_info("node %s has joined cluster %s", link->node, link->cluster_id);
        dial(link);
    }
    on_http_free(link);
}

static void join(struct link *link) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    g_autofree char *url = g_strconcat(link->host_url, "/api/v1/runners/join", NULL);
    g_autofree char *token = NULL, *body = NULL;
    g_autoptr(GError) error = NULL;
    json_t *json;

    if (!fs_read_file(link->token_file, MAX_FILE_BYTES, &token, NULL, &error)) {
        g_prefix_error(&error, "the join token is needed: ");
        if (link->credential)
            try_later(link, error->message);
        else
            link->handlers.on_fatal(link->user, error);
        return;
    }
    json = json_pack("{s:s,s:s}", "node", link->node, "token", g_strstrip(token));
    body = jsonx_to_str(json);
    json_decref(json);
    link->http = http_client_new(link->loop);
    http_client_start(link->http, &(struct http_request){.method = "POST",
                                                         .url = url,
                                                         .headers = headers,
                                                         .body = body,
                                                         .body_len = strlen(body),
                                                         .timeout_ms = DIAL_TIMEOUT_MS,
                                                         .max_body_bytes = MAX_FILE_BYTES,
                                                         .user = link,
                                                         .on_done = on_joined});
}

/* ---- the connection ---- */

static void end_connection(struct link *link) {
    bool was_up = link->is_up;

    link->is_up = false;
    uv_timer_stop(&link->timer);
    g_ptr_array_set_size(link->held, 0); /* the next hello tells it */
    ws_free(g_steal_pointer(&link->ws));
    if (was_up)
        link->handlers.on_down(link->user);
}

static void lose_connection(struct link *link, const char *reason) {
    g_autofree char *why = g_strdup_printf("the connection to %s is lost: %s", link->host_url, reason);

    end_connection(link);
    try_later(link, why);
}

static void send_json(struct link *link, json_t *message) {
    g_autofree char *text = NULL;

    wire_seq_stamp(&link->seq, message);
    text = jsonx_to_str(message);
    json_decref(message);
    ws_send_text(link->ws, text, strlen(text));
}

static void say_held(struct link *link) {
    for (guint i = 0; link->is_up && i < link->held->len; i++)
        send_json(link, json_incref(link->held->pdata[i]));
    g_ptr_array_set_size(link->held, 0);
}

static void on_welcome(struct link *link, const json_t *message) {
    g_autoptr(GError) error = NULL;
    struct json_reader r = jr_init(message, "welcome", &error);
    const char *cluster_id = jr_str(&r, "cluster_id", 128);
    int64_t heartbeat_ms = jr_int(&r, "heartbeat_ms", 100, 3600 * 1000);

    if (!jr_done(&r)) {
        lose_connection(link, error->message);
        return;
    }
    uv_timer_stop(&link->timer);
    link->is_up = true;
    link->is_down_logged = link->has_rejoined = false;
    link->pause_ms = MIN_PAUSE_MS;
    log_info("connected to %s, cluster %s", link->host_url, cluster_id);
    link->handlers.on_welcome(link->user, cluster_id, heartbeat_ms);
    say_held(link);
}

static void on_refused(struct link *link, const json_t *message) {
    const char *reason = json_string_value(json_object_get(message, "reason"));
    g_autofree char *why = g_strdup_printf("the host refuses this node: %.500s", reason ? reason : "no reason given");

    end_connection(link);
    link->pause_ms = MAX_PAUSE_MS; /* somebody has to do something first */
    try_later(link, why);
}

static void on_text(void *user, const char *text, size_t len) {
    struct link *link = user;
    g_autoptr(GError) error = NULL;
    json_t *message = jsonx_parse(text, len, &error);
    const char *type = json_string_value(json_object_get(message, "type"));

    if (!type)
        log_warning("the host sent something that is no message: %s", error ? error->message : "no type");
    else if (!wire_seq_check(&link->seq, message, &error))
        lose_connection(link, error->message);
    else if (strcmp(type, WIRE_REFUSED) == 0)
        on_refused(link, message);
    else if (!link->is_up && strcmp(type, WIRE_WELCOME) == 0)
        on_welcome(link, message);
    else if (link->is_up)
        link->handlers.on_message(link->user, type, message);
    json_decref(message);
}

static void on_binary(void *user, const void *bytes, size_t len) {
    struct link *link = user;

    if (link->is_up && link->handlers.on_binary)
        link->handlers.on_binary(link->user, bytes, len);
}

static void on_drain(void *user) {
    struct link *link = user;

    if (link->is_up)
        link->handlers.on_drain(link->user);
}

static void on_close(void *user, const char *reason) { lose_connection(user, reason); }

static void on_hello_timeout(uv_timer_t *timer) { lose_connection(timer->data, "no answer to hello"); }

static void say_hello(struct link *link) {
    json_t *hello = json_pack("{s:s,s:i,s:s}", "type", WIRE_HELLO, "protocol", WIRE_PROTOCOL, "version", KR_VERSION);
    json_t *truth = link->handlers.hello(link->user);

    json_object_update(hello, truth);
    json_decref(truth);
    send_json(link, hello);
    uv_timer_start(&link->timer, on_hello_timeout, HELLO_TIMEOUT_MS, 0);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {
        .on_text = on_text, .on_binary = on_binary, .on_drain = on_drain, .on_close = on_close};
    struct link *link = user;

    link->dial = NULL;
    if (g_error_matches(error, KR_ERROR, KR_ERROR_UNAUTHORIZED)) {
        if (link->has_rejoined) { /* each join is a heavy request: one a pause, not one after the other */
            link->has_rejoined = false;
            try_later(link, error->message);
            return;
        }
        log_warning("%s: joining anew with the join token", error->message);
        join(link);
    } else if (error) {
        try_later(link, error->message);
    } else {
        link->ws = ws;
        link->seq = (struct wire_seq){0};
        ws_set_handlers(ws, &handlers, link);
        say_hello(link);
    }
}

static void dial(struct link *link) {
    g_autofree char *url = g_strconcat(link->host_url, "/api/v1/runners/connect", NULL);
    g_autofree char *authorization = NULL;
    const char *headers[] = {NULL, NULL};

    if (!link->credential) {
        join(link);
        return;
    }
    authorization = g_strconcat("Authorization: Bearer ", link->credential, NULL);
    headers[0] = authorization;
    link->dial = ws_dial_start(link->loop, url, headers, WIRE_SUBPROTOCOL, DIAL_TIMEOUT_MS, on_dialled, link);
}

/* ---- the public face ---- */

static void on_closed(uv_handle_t *handle) { g_free(handle->data); }

struct link *link_new(uv_loop_t *loop, const struct link_config *config, const struct link_handlers *handlers,
                      void *user, GError **error) {
    struct link *link = g_new0(struct link, 1);

    link->loop = loop;
    link->node = g_strdup(config->node);
    link->host_url = g_strdup(config->host_url);
    while (g_str_has_suffix(link->host_url, "/"))
        link->host_url[strlen(link->host_url) - 1] = '\0';
    link->credential_file = g_build_filename(config->state_dir, "credential.json", NULL);
    link->token_file = g_strdup(config->join_token_file);
    link->handlers = *handlers;
    link->user = user;
    link->pause_ms = MIN_PAUSE_MS;
    link->held = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    uv_timer_init(loop, &link->timer);
    link->timer.data = link;
    if (load_credential(link, error))
        return link;
    link_free(link);
    return NULL;
}

void link_free(struct link *link) {
    if (!link)
        return;
    ws_dial_cancel(link->dial);
    ws_free(link->ws);
    g_ptr_array_unref(link->held);
    on_http_free(link);
    g_free(link->node);
    g_free(link->host_url);
    g_free(link->credential_file);
    g_free(link->token_file);
    g_free(link->credential);
    g_free(link->cluster_id);
    uv_close((uv_handle_t *)&link->timer, on_closed);
}

void link_start(struct link *link) { dial(link); }

const char *link_cluster_id(const struct link *link) { return link->cluster_id; }

bool link_is_up(const struct link *link) { return link->is_up; }

void link_send_json(struct link *link, json_t *message) {
    if (link->is_up)
        send_json(link, message);
    else if (link->ws)
        g_ptr_array_add(link->held, message);
    else
        json_decref(message);
}

bool link_send_binary(struct link *link, const void *bytes, size_t len) {
    return link->is_up && ws_send_binary(link->ws, bytes, len);
}

size_t link_queued_bytes(const struct link *link) { return link->is_up ? ws_queued_bytes(link->ws) : 0; }

void link_say_hello_again(struct link *link) {
    if (!link->is_up)
        return;
    end_connection(link);
    dial(link);
}
