/* Durable submissions per second through HTTP: bench_submit PORT TOKEN_FILE CONNECTIONS SECONDS, against a running host.
 * A child process plays an instant runner; this one keeps CONNECTIONS keep-alive connections busy, one submission at
 * a time on each. Prints one JSON line; each id that was answered goes to stderr if BENCH_IDS is set. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "model/node.h"
#include "model/task.h"
#include "model/wire.h"
#include "model/wire_seq.h"
#include "net/http_client.h"
#include "net/ws.h"

/* ---- the instant runner ---- */

struct fake {
    uv_loop_t loop;
    char *base;
    struct ws *ws;
    struct wire_seq seq;
    int ready_fd;
};

static void send_json(struct fake *fake, json_t *message) {
    g_autofree char *text = NULL;

    wire_seq_stamp(&fake->seq, message);
    text = jsonx_to_str(message);
    json_decref(message);
    ws_send_text(fake->ws, text, strlen(text));
}

static void take_start(struct fake *fake, const json_t *message) {
    struct task_report report = {
        .state = TASK_COMPLETED, .has_exit_code = true, .released = true, .proof = {.facts = PROOF_CONTAINER_GONE}};
    struct lease lease;

    if (!lease_from_json(json_object_get(message, "lease"), &lease, NULL))
        abort();
    report.task_id = lease.task_id;
    report.epoch = lease.epoch;
    send_json(fake, json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(&report)));
}

static void on_text(void *user, const char *text, size_t len) {
    struct fake *fake = user;
    json_t *message = jsonx_parse(text, len, NULL);
    const char *type = json_string_value(json_object_get(message, "type"));

    if (strcmp(type, WIRE_START) == 0)
        take_start(fake, message);
    else if (strcmp(type, WIRE_WELCOME) == 0 && write(fake->ready_fd, "r", 1) != 1)
        abort();
    json_decref(message);
}

static void on_binary(void *user, const void *bytes, size_t len) {
    (void)user;
    (void)bytes;
    (void)len;
}

static void on_close(void *user, const char *reason) {
    (void)user;
    (void)reason;
    _exit(0);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {on_text, on_binary, NULL, on_close};
    struct fake *fake = user;
    struct node_info *info = node_info_new("bench");

    if (error)
        g_error("%s", error->message);
    fake->ws = ws;
    ws_set_handlers(ws, &handlers, fake);
    info->cores = 64;
    info->mem_total_bytes = 1LL << 40;
    info->gpus_known = info->engine_ok = true;
    send_json(fake, json_pack("{s:s,s:i,s:o,s:[]}", "type", WIRE_HELLO, "protocol", WIRE_PROTOCOL, "node",
                              node_info_to_json(info), "tasks"));
    node_info_free(info);
}

static void on_joined(void *user, int status, const char *body, size_t len, const GError *error) {
    struct fake *fake = user;
    json_t *json = jsonx_parse(body, len, NULL);
    g_autofree char *url = g_strconcat(fake->base, "/api/v1/runners/connect", NULL);
    g_autofree char *header = NULL;
    const char *headers[2] = {NULL};

    if (error || status != 201)
        g_error("join: %d %s", status, error ? error->message : body);
    header = g_strconcat("Authorization: Bearer ", json_string_value(json_object_get(json, "credential")), NULL);
    headers[0] = header;
    ws_dial_start(&fake->loop, url, headers, WIRE_SUBPROTOCOL, 5000, on_dialled, fake);
    json_decref(json);
}

static void runner_main(const char *port, const char *token, int ready_fd) {
    struct fake fake = {.base = g_strdup_printf("http://127.0.0.1:%s", port), .ready_fd = ready_fd};
    g_autofree char *body = g_strdup_printf("{\"node\":\"bench\",\"token\":\"%s\"}", token);
    g_autofree char *url = g_strconcat(fake.base, "/api/v1/runners/join", NULL);
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct http_request request = {.method = "POST",
                                   .url = url,
                                   .headers = headers,
                                   .body = body,
                                   .body_len = strlen(body),
                                   .user = &fake,
                                   .on_done = on_joined};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uv_loop_init(&fake.loop);
    http_client_start(http_client_new(&fake.loop), &request);
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* ---- the load ---- */

enum { ANSWER_BYTES = 16384 };

struct connection {
    int fd;
    char answer[ANSWER_BYTES];
    size_t len;
};

static const char body_text[] = "{\"targets\":[\"bench\"],\"command\":[\"python\",\"train.py\",\"--epochs\",\"10\"]}";
static char *request_text;

static void submit(struct connection *c) {
    c->len = 0;
    if (send(c->fd, request_text, strlen(request_text), MSG_NOSIGNAL) != (ssize_t)strlen(request_text))
        exit(3);
}

static void open_connection(struct connection *c, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        exit(3);
    submit(c);
}

/* Reads; true when a whole answer is there. Exits when the host has gone: the caller knows that it was killed. */
static bool take(struct connection *c) {
    ssize_t n = recv(c->fd, c->answer + c->len, ANSWER_BYTES - 1 - c->len, MSG_DONTWAIT);
    const char *end, *length;

    if (n <= 0 && !(n < 0 && errno == EAGAIN))
        return false;
    c->len += n > 0 ? (size_t)n : 0;
    c->answer[c->len] = '\0';
    end = strstr(c->answer, "\r\n\r\n");
    length = strstr(c->answer, "Content-Length: ");
    return end && length && c->len >= (size_t)(end + 4 - c->answer) + strtoul(length + 16, NULL, 10);
}

static void check_answer(const struct connection *c) {
    const char *id = strstr(c->answer, "\"id\":");

    if (!g_str_has_prefix(c->answer, "HTTP/1.1 201") || !id) {
        fprintf(stderr, "%s\n", c->answer);
        exit(4);
    }
    if (getenv("BENCH_IDS"))
        fprintf(stderr, "%lu\n", strtoul(id + 5, NULL, 10));
}

static unsigned run_load(int port, int n, int seconds) {
    g_autofree struct connection *connections = g_new0(struct connection, n);
    g_autofree struct pollfd *fds = g_new0(struct pollfd, n);
    int64_t end_ms = clock_mono_ms() + seconds * 1000;
    unsigned done = 0;
    bool is_broken = false;

    for (int i = 0; i < n; i++) {
        open_connection(&connections[i], port);
        fds[i] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
    }
    while (clock_mono_ms() < end_ms && !is_broken) {
        poll(fds, (nfds_t)n, 100);
        for (int i = 0; i < n; i++) {
            if (!fds[i].revents)
                continue;
            if (take(&connections[i])) {
                check_answer(&connections[i]);
                done++;
                submit(&connections[i]);
            } else if (fds[i].revents & (POLLHUP | POLLERR)) {
                is_broken = true;
            }
        }
    }
    return done;
}

int main(int argc, char **argv) {
    g_autofree char *token = NULL;
    int fds[2], connections, seconds;
    unsigned done;
    int64_t begin_ms;
    char ready;
    pid_t child;

    if (argc != 5 || !fs_read_file(argv[2], 512, &token, NULL, NULL) || pipe(fds) < 0)
        return 2;
    g_strstrip(token);
    connections = (int)strtol(argv[3], NULL, 10);
    seconds = (int)strtol(argv[4], NULL, 10);
    child = fork();
    if (child == 0)
        runner_main(argv[1], token, fds[1]);
    if (read(fds[0], &ready, 1) != 1)
        return 2;
    request_text = g_strdup_printf(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        strlen(body_text), body_text);
    begin_ms = clock_mono_ms();
    done = run_load((int)strtol(argv[1], NULL, 10), connections, seconds);
    printf("{\"name\":\"durable_submissions_per_s\",\"connections\":%d,\"value\":%.0f}\n", connections,
           done * 1000.0 / (double)(clock_mono_ms() - begin_ms));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
