#include "runner/link.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "model/wire.h"
#include "net/http_client.h"
#include "net/ws.h"

enum {
    DIAL_TIMEOUT_MS = 10000,
    WELCOME_TIMEOUT_MS = 10000,
    FIRST_PAUSE_MS = 500,
    LONGEST_PAUSE_MS = 15000,
    TOKEN_MAX_BYTES = 512,
};

enum link_state { LINK_PAUSING = 1, LINK_JOINING, LINK_DIALLING, LINK_GREETING, LINK_UP };

struct link {
    struct link_deps deps;
    enum link_state state;
    uv_timer_t *timer; /* on the heap: closes after the link is freed */
    struct http_client *http; /* while joining only */
    struct http_call *join;
    struct ws_dial *dial;
    struct ws *ws;
    char *credential; /* NULL: must join */
    bool had_credential; /* a host has accepted us before: never hopeless any more */
    int64_t pause_ms;
    bool was_told; /* of the present outage */
};

static void attempt(struct link *link);

/* ---- pauses ---- */

static void on_timer(uv_timer_t *timer);

static void end_connection(struct link *link) {
    struct ws *ws = g_steal_pointer(&link->ws);

    ws_free(ws);
    ws_dial_cancel(g_steal_pointer(&link->dial));
    if (link->join)
        http_call_cancel(g_steal_pointer(&link->join));
}

static void pause_and_retry(struct link *link, const char *why) {
    bool was_up = link->state == LINK_UP;
    int64_t pause_ms = link->pause_ms / 2 + g_random_int_range(0, (int)link->pause_ms);

    end_connection(link);
    link->state = LINK_PAUSING;
    if (was_up || !link->was_told)
        log_warning("no connection to the host %s: %s; trying again", link->deps.host_url, why);
    link->was_told = true;
    link->pause_ms = MIN(link->pause_ms * 2, LONGEST_PAUSE_MS);
    uv_timer_start(link->timer, on_timer, (uint64_t)pause_ms, 0);
    if (was_up)
        link->deps.on_down(link->deps.user);
}

static void on_timer(uv_timer_t *timer) {
    struct link *link = timer->data;

    if (link->state == LINK_PAUSING)
        attempt(link);
    else if (link->state == LINK_GREETING)
        pause_and_retry(link, "it does not answer our hello");
}

/* ---- joining ---- */

static bool take_credential(struct link *link, const char *body, size_t len, GError **error) {
    json_t *json = jsonx_parse(body, len, error);
    struct json_reader r;
    const char *credential;
    bool ok;

    if (!json)
        return false;
    r = jr_init(json, "join", error);
    credential = jr_str(&r, "credential", TOKEN_MAX_BYTES);
    ok = jr_done(&r) && fs_write_durable(link->deps.credential_file, 0600, credential, strlen(credential), error);
    if (ok) {
        link->credential = g_strdup(credential);
        link->had_credential = true;
    }
    json_decref(json);
    return ok;
}

/* The host's own words out of an error answer. Caller frees. */
static char *host_words(const char *body, size_t len) {
    json_t *json = jsonx_parse(body, len, NULL);
    const char *message = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    char *words = g_strdup(message ? message : "no reason given");

    json_decref(json);
    return words;
}

static void on_joined(void *user, int status, const char *body, size_t len, const GError *error) {
    struct link *link = user;
    g_autoptr(GError) why = NULL;
    g_autofree char *words = NULL;

    link->join = NULL;
    if (!error && status == 201 && take_credential(link, body, len, &why)) {
        log_info("joined the cluster of %s", link->deps.host_url);
        attempt(link);
        return;
    }
    if (!error && !why) {
        words = host_words(body, len);
        kr_fail_at(&why, status == 401 ? KR_ERROR_UNAUTHORIZED : KR_ERROR_REFUSED,
                   "the host %s does not let node %s join: %s (token from %s)", link->deps.host_url,
                   link->deps.node_name, words, link->deps.join_token_file);
        if (!link->had_credential && status >= 400 && status < 500) {
            link->deps.on_hopeless(link->deps.user, why);
            return;
        }
    }
    pause_and_retry(link, error ? error->message : why->message);
}

static void join(struct link *link) {
    g_autofree char *token = NULL;
    g_autofree char *url = g_strconcat(link->deps.host_url, "/api/v1/runners/join", NULL);
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct http_request request = {.method = "POST", .url = url, .headers = headers, .timeout_ms = DIAL_TIMEOUT_MS,
                                   .user = link, .on_done = on_joined};
    g_autoptr(GError) error = NULL;
    g_autofree char *body = NULL;
    json_t *json;

    if (!fs_read_file(link->deps.join_token_file, TOKEN_MAX_BYTES, &token, NULL, &error)) {
        g_prefix_error(&error, "the join token is needed: ");
        if (link->had_credential)
            pause_and_retry(link, error->message);
        else
            link->deps.on_hopeless(link->deps.user, error);
        return;
    }
    json = json_pack("{s:s,s:s}", "node", link->deps.node_name, "token", g_strstrip(token));
    body = jsonx_to_str(json);
    json_decref(json);
    request.body = body;
    request.body_len = strlen(body);
    link->state = LINK_JOINING;
    if (!link->http)
        link->http = http_client_new(link->deps.loop);
    link->join = http_client_start(link->http, &request);
}

/* ---- the connection ---- */

static void send_json(struct link *link, json_t *message) {
    g_autofree char *text = jsonx_to_str(message);

    json_decref(message);
    ws_send_text(link->ws, text, strlen(text));
}

static void take_welcome(struct link *link, const json_t *message) {
    struct json_reader r = jr_init(message, "welcome", NULL);
    const char *cluster_id = jr_str(&r, "cluster_id", 64);
    int64_t heartbeat_ms = jr_int(&r, "heartbeat_ms", 100, 600000);

    if (!jr_done(&r)) {
        pause_and_retry(link, "its welcome is not understood");
        return;
    }
    uv_timer_stop(link->timer);
    link->state = LINK_UP;
    link->pause_ms = FIRST_PAUSE_MS;
    link->was_told = false;
    if (link->http) /* needed for joining only */
        http_client_free(g_steal_pointer(&link->http));
    log_info("connected to the host %s", link->deps.host_url);
    link->deps.on_welcome(link->deps.user, cluster_id, heartbeat_ms);
}

static void on_text(void *user, const char *text, size_t len) {
    struct link *link = user;
    g_autoptr(GError) error = NULL;
    json_t *message = jsonx_parse(text, len, &error);
    const char *type = json_string_value(json_object_get(message, "type"));

    if (!type) {
        log_warning("the host sent a message that is not understood: %s", error ? error->message : "no type");
    } else if (strcmp(type, WIRE_REFUSED) == 0) {
        const char *reason = json_string_value(json_object_get(message, "reason"));
        g_autofree char *why = g_strdup_printf("it refuses this node: %.200s", reason ? reason : "no reason given");
        link->was_told = false;
        pause_and_retry(link, why);
    } else if (link->state == LINK_GREETING && strcmp(type, WIRE_WELCOME) == 0) {
        take_welcome(link, message);
    } else if (link->state == LINK_UP) {
        link->deps.on_message(link->deps.user, type, message);
    }
    json_decref(message);
}

static void on_binary(void *user, const void *bytes, size_t len) {
    (void)user;
    (void)bytes;
    (void)len; /* the host sends none */
}

static void on_close(void *user, const char *reason) {
    g_autofree char *why = g_strdup(reason);

    pause_and_retry(user, why[0] ? why : "the host closed it");
}

static void greet(struct link *link) {
    json_t *hello = link->deps.hello(link->deps.user);

    json_object_set_new(hello, "type", json_string(WIRE_HELLO));
    json_object_set_new(hello, "protocol", json_integer(WIRE_PROTOCOL));
    json_object_set_new(hello, "version", json_string(KR_VERSION));
    link->state = LINK_GREETING;
    send_json(link, hello);
    uv_timer_start(link->timer, on_timer, WELCOME_TIMEOUT_MS, 0);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {.on_text = on_text, .on_binary = on_binary, .on_close = on_close};
    struct link *link = user;

    link->dial = NULL;
    if (ws) {
        link->ws = ws;
        ws_set_handlers(ws, &handlers, link);
        greet(link);
        return;
    }
    if (error->code == KR_ERROR_UNAUTHORIZED) { /* the host's records are new, or somebody joined under our name */
        log_warning("the host does not know this node's credential; joining anew");
        g_clear_pointer(&link->credential, g_free);
    }
    pause_and_retry(link, error->message);
}

static void dial(struct link *link) {
    g_autofree char *url = g_strconcat(link->deps.host_url, "/api/v1/runners/connect", NULL);
    g_autofree char *header = g_strconcat("Authorization: Bearer ", link->credential, NULL);
    const char *headers[] = {header, NULL};

    link->state = LINK_DIALLING;
    link->dial = ws_dial_start(link->deps.loop, url, headers, WIRE_SUBPROTOCOL, DIAL_TIMEOUT_MS, on_dialled, link);
}

static void attempt(struct link *link) {
    if (link->credential)
        dial(link);
    else
        join(link);
}

/* ---- life ---- */

struct link *link_new(const struct link_deps *deps) {
    struct link *link = g_new0(struct link, 1);

    link->deps = *deps;
    link->state = LINK_PAUSING;
    link->pause_ms = FIRST_PAUSE_MS;
    link->timer = g_new0(uv_timer_t, 1);
    uv_timer_init(deps->loop, link->timer);
    link->timer->data = link;
    if (fs_read_file(deps->credential_file, TOKEN_MAX_BYTES, &link->credential, NULL, NULL))
        g_strstrip(link->credential);
    link->had_credential = link->credential != NULL;
    uv_timer_start(link->timer, on_timer, 0, 0);
    return link;
}

static void on_timer_closed(uv_handle_t *handle) { g_free(handle); }

void link_free(struct link *link) {
    if (!link)
        return;
    end_connection(link);
    http_client_free(link->http);
    uv_close((uv_handle_t *)link->timer, on_timer_closed);
    g_free(link->credential);
    g_free(link);
}

bool link_is_up(const struct link *link) { return link->state == LINK_UP; }

void link_send(struct link *link, json_t *message) {
    if (link_is_up(link))
        send_json(link, message);
    else
        json_decref(message);
}

void link_send_binary(struct link *link, const void *bytes, size_t len) {
    if (link_is_up(link))
        ws_send_binary(link->ws, bytes, len);
}
