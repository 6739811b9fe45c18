/* A node that finishes every task at once, and clients that submit as fast as answers come, in one process and on one
 * loop, against a real host: bench_load HOST PORT JOIN_TOKEN CONNECTIONS SECONDS. Each submission asks for a task of its own
 * and counts when its 201 has come, that is, when it is durable. One JSON object on stdout; the largest id that was
 * answered is in it, so that the caller can look for all of them after a crash. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "model/lease.h"
#include "model/node.h"
#include "model/task.h"
#include "model/wire.h"
#include "net/http_client.h"
#include "net/ws.h"

enum { MAX_CONNECTIONS = 256, ANSWER_BYTES = 16 * 1024, DIAL_MS = 5000 };

static const char body[] = "{\"targets\":[\"bench\"],\"command\":[\"true\"]}";

struct bench;

struct client {
    struct bench *bench;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    int64_t sent_us;
    size_t len;
    char answer[ANSWER_BYTES];
};

struct bench {
    uv_loop_t loop;
    const char *address;
    int port, n_clients;
    int64_t seconds;
    char *url, *request;
    struct http_client *http;
    struct ws *ws;
    uv_timer_t stop;
    struct client clients[MAX_CONNECTIONS];
    GArray *spans_us; /* of int64_t */
    int64_t begin_us;
    uint32_t largest_id;
    long n_started, n_refused;
    bool is_over;
};

static int64_t now_us(void) { return (int64_t)(uv_hrtime() / 1000); }

static void die(const char *what, const char *why) {
    fprintf(stderr, "bench_load: %s: %s\n", what, why);
    exit(1);
}

/* ---- the node ---- */

static void send_json(struct bench *bench, json_t *message) {
    g_autofree char *text = jsonx_to_str(message);

    ws_send_text(bench->ws, text, strlen(text));
    json_decref(message);
}

static void send_hello(struct bench *bench) {
    struct node_info *info = node_info_new("bench");

    info->boot_id = g_strdup("bench");
    info->version = g_strdup(KR_VERSION);
    info->cores = 64;
    info->mem_total_bytes = INT64_C(1) << 40;
    info->gpus_known = info->engine_ok = info->disk_ok = true;
    info->gpu_text = g_strdup("none");
    info->engine_text = g_strdup("none: every task ends at once");
    send_json(bench, json_pack("{s:s,s:i,s:s,s:o,s:[]}", "type", WIRE_HELLO, "protocol", (int)WIRE_PROTOCOL, "version",
                               KR_VERSION, "node", node_info_to_json(info), "tasks"));
    node_info_free(info);
}

static void finish_task(struct bench *bench, const json_t *message) {
    struct lease lease;
    struct task_report report = {.state = TASK_COMPLETED, .has_exit_code = true, .released = true};

    if (!lease_from_json(json_object_get(message, "lease"), &lease, NULL))
        die("start", "its lease is not understood");
    report.task_id = lease.task_id;
    report.epoch = lease.epoch;
    report.started_ms = report.finished_ms = clock_wall_ms();
    bench->n_started++;
    send_json(bench, json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(&report)));
}

static void start_clients(struct bench *bench);

static void on_text(void *user, const char *text, size_t len) {
    json_t *message = jsonx_parse(text, len, NULL);
    const char *type = json_string_value(json_object_get(message, "type"));

    if (g_strcmp0(type, WIRE_WELCOME) == 0)
        start_clients(user);
    else if (g_strcmp0(type, WIRE_START) == 0)
        finish_task(user, message);
    else if (g_strcmp0(type, WIRE_REFUSED) == 0)
        die("hello was refused", text);
    json_decref(message);
}

static void on_binary(void *user, const void *bytes, size_t len) {}

static void on_close(void *user, const char *reason) {
    struct bench *bench = user;

    if (!bench->is_over)
        die("the host closed the node's connection", reason);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {.on_text = on_text, .on_binary = on_binary, .on_close = on_close};
    struct bench *bench = user;

    if (error)
        die("dial", error->message);
    bench->ws = ws;
    ws_set_handlers(ws, &handlers, bench);
    send_hello(bench);
}

static void on_joined(void *user, int status, const char *answer, size_t len, const GError *error) {
    struct bench *bench = user;
    json_t *json = error ? NULL : jsonx_parse(answer, len, NULL);
    const char *credential = json_string_value(json_object_get(json, "credential"));
    g_autofree char *url = g_strdup_printf("%s/runners/connect", bench->url);
    g_autofree char *header = g_strdup_printf("Authorization: Bearer %s", credential ? credential : "");

    if (!credential)
        die("join", error ? error->message : answer);
    ws_dial_start(&bench->loop, url, (const char *const[]){header, NULL}, WIRE_SUBPROTOCOL, DIAL_MS, on_dialled, bench);
    json_decref(json);
}

static void join(struct bench *bench, const char *token) {
    g_autofree char *url = g_strdup_printf("%s/runners/join", bench->url);
    g_autofree char *text = g_strdup_printf("{\"node\":\"bench\",\"token\":\"%s\"}", token);
    struct http_request request = {.method = "POST",
                                   .url = url,
                                   .headers = (const char *const[]){"Content-Type: application/json", NULL},
                                   .body = text,
                                   .body_len = strlen(text),
                                   .user = bench,
                                   .on_done = on_joined};

    http_client_start(bench->http, &request);
}

/* ---- the clients ---- */

static void send_request(struct client *client);

/* True when the whole answer is there. */
static bool answer_is_complete(const struct client *client) {
    const char *end = strstr(client->answer, "\r\n\r\n"), *length = strcasestr(client->answer, "Content-Length:");

    return end && length && length < end &&
           client->len >= (size_t)(end + 4 - client->answer) + strtoul(length + strlen("Content-Length:"), NULL, 10);
}

static void take_answer(struct client *client) {
    struct bench *bench = client->bench;
    int64_t span_us = now_us() - client->sent_us;
    const char *id = strstr(client->answer, "\"id\":");

    if (strncmp(client->answer, "HTTP/1.1 201", 12) == 0 && id) {
        uint32_t task_id = (uint32_t)strtoul(id + 5, NULL, 10);
        g_array_append_val(bench->spans_us, span_us);
        bench->largest_id = MAX(bench->largest_id, task_id);
    } else if (bench->n_refused++ == 0) {
        fprintf(stderr, "bench_load: not created: %.400s\n", client->answer);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct client *client = handle->data;

    *buf = uv_buf_init(client->answer + client->len, (unsigned)(sizeof client->answer - 1 - client->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct client *client = stream->data;

    if (n < 0)
        die("a client's connection", uv_strerror((int)n));
    client->len += (size_t)n;
    client->answer[client->len] = '\0';
    if (!answer_is_complete(client))
        return;
    take_answer(client);
    if (!client->bench->is_over)
        send_request(client);
}

static void on_written(uv_write_t *write, int status) {
    if (status < 0)
        die("write", uv_strerror(status));
}

static void send_request(struct client *client) {
    uv_buf_t buf = uv_buf_init(client->bench->request, (unsigned)strlen(client->bench->request));

    client->len = 0;
    client->answer[0] = '\0';
    client->sent_us = now_us();
    uv_write(&client->write, (uv_stream_t *)&client->tcp, &buf, 1, on_written);
}

static void on_connected(uv_connect_t *connect, int status) {
    struct client *client = connect->data;

    if (status < 0)
        die("connect", uv_strerror(status));
    uv_tcp_nodelay(&client->tcp, 1);
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read);
    send_request(client);
}

static void on_stop(uv_timer_t *timer) {
    struct bench *bench = timer->data;

    bench->is_over = true;
    uv_stop(&bench->loop);
}

static void start_clients(struct bench *bench) {
    struct sockaddr_in address;

    uv_ip4_addr(bench->address, bench->port, &address);
    bench->begin_us = now_us();
    for (int i = 0; i < bench->n_clients; i++) {
        struct client *client = &bench->clients[i];
        client->bench = bench;
        uv_tcp_init(&bench->loop, &client->tcp);
        client->tcp.data = client->connect.data = client;
        uv_tcp_connect(&client->connect, &client->tcp, (const struct sockaddr *)&address, on_connected);
    }
    uv_timer_start(&bench->stop, on_stop, (uint64_t)bench->seconds * 1000, 0);
}

/* ---- the result ---- */

static int compare_spans(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double percentile_ms(const GArray *sorted, double part) {
    return sorted->len ? (double)g_array_index(sorted, int64_t, (guint)(part * (sorted->len - 1))) / 1000 : 0;
}

static void print_result(struct bench *bench) {
    double seconds = (double)(now_us() - bench->begin_us) / 1e6;

    g_array_sort(bench->spans_us, compare_spans);
    printf("{\"connections\": %d, \"per_second\": %.0f, \"submitted\": %u, \"not_created\": %ld, \"finished_on_node\": "
           "%ld, "
           "\"median_ms\": %.2f, \"p99_ms\": %.2f, \"largest_id\": %" PRIu32 "}\n",
           bench->n_clients, (double)bench->spans_us->len / seconds, bench->spans_us->len, bench->n_refused,
           bench->n_started, percentile_ms(bench->spans_us, 0.5), percentile_ms(bench->spans_us, 0.99),
           bench->largest_id);
}

int main(int argc, char **argv) {
    struct bench *bench = g_new0(struct bench, 1);

    if (argc != 6) {
        fprintf(stderr, "usage: bench_load ADDRESS PORT JOIN_TOKEN CONNECTIONS SECONDS\n");
        return 2;
    }
    bench->address = argv[1];
    bench->port = (int)strtol(argv[2], NULL, 10);
    bench->n_clients = CLAMP((int)strtol(argv[4], NULL, 10), 1, MAX_CONNECTIONS);
    bench->seconds = strtol(argv[5], NULL, 10);
    bench->url = g_strdup_printf("http://%s:%d/api/v1", bench->address, bench->port);
    bench->request = g_strdup_printf(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        strlen(body), body);
    bench->spans_us = g_array_new(FALSE, FALSE, sizeof(int64_t));
    uv_loop_init(&bench->loop);
    bench->http = http_client_new(&bench->loop);
    uv_timer_init(&bench->loop, &bench->stop);
    bench->stop.data = bench;
    join(bench, argv[3]);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    print_result(bench);
    return 0;
}
