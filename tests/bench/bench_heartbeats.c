/* Many nodes at once: bench_heartbeats PORT TOKEN_FILE NODES SECONDS [idle], against a running host. Each node has 8 cards, half of
 * them at work, and says once a second what changed of them over a connection of its own, as a runner does. Prints "ready" when
 * all have been welcomed, and one JSON line at the end. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "model/delta.h"
#include "model/node.h"
#include "model/wire.h"
#include "model/wire_seq.h"
#include "net/http_client.h"
#include "net/ws.h"

enum { CARDS = 8, BEAT_MS = 1000, TIMEOUT_MS = 30000 };

struct load {
    uv_loop_t loop;
    struct http_client *http;
    char *base, *token;
    struct node *nodes;
    int n, n_welcome;
    bool is_idle;
    int64_t beats, bytes, answers;
    uv_timer_t end;
    int seconds;
};

struct node {
    struct load *load;
    struct node_info *info;
    json_t *told;
    struct ws *ws;
    struct wire_seq seq;
    uv_timer_t timer;
    GRand *random;
};

static void send_json(struct node *node, json_t *message) {
    g_autofree char *text = NULL;

    wire_seq_stamp(&node->seq, message);
    text = jsonx_to_str(message);
    json_decref(message);
    ws_send_text(node->ws, text, strlen(text));
    node->load->bytes += (int64_t)strlen(text);
}

/* ---- the cards ---- */

static void add_card(struct node *node, int number, int index) {
    struct gpu *gpu = gpu_new();

    gpu->index = index;
    g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08d-0000-0000-0000-%012d", number, index);
    g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", 16 + index);
    g_strlcpy(gpu->name, "NVIDIA H100 80GB HBM3", sizeof gpu->name);
    gpu->condition = GPU_CONDITION_OK;
    gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
    for (int figure = 0; figure < GPU_FIGURE_COUNT_; figure++)
        gpu_set(gpu, figure, 0);
    gpu_set(gpu, GPU_MEM_TOTAL, 80LL << 30);
    gpu_set(gpu, GPU_MINOR, index);
    g_ptr_array_add(node->info->gpus, gpu);
}

/* A card at work: each second another utilisation and power, now and then another temperature or memory. */
static void work(struct node *node, struct gpu *gpu) {
    GRand *random = node->random;

    gpu_unset(gpu, GPU_IDLE_SINCE);
    gpu_set(gpu, GPU_UTIL, g_rand_int_range(random, 80, 101));
    gpu_set(gpu, GPU_MEM_UTIL, g_rand_int_range(random, 40, 60));
    gpu_set(gpu, GPU_POWER, 1000LL * g_rand_int_range(random, 500, 700));
    if (g_rand_int_range(random, 0, 3) == 0)
        gpu_set(gpu, GPU_TEMP, g_rand_int_range(random, 60, 66));
    if (g_rand_int_range(random, 0, 10) == 0)
        gpu_set(gpu, GPU_MEM_USED, (int64_t)g_rand_int_range(random, 40000, 41000) << 20);
}

static void on_beat(uv_timer_t *timer) {
    struct node *node = timer->data;
    json_t *now;

    for (guint i = 0; !node->load->is_idle && i < node->info->gpus->len / 2; i++)
        work(node, node->info->gpus->pdata[i]);
    now = node_info_to_json(node->info);
    send_json(node, json_pack("{s:s,s:o}", "type", WIRE_HEARTBEAT, "node", delta_make(node->told, now)));
    json_decref(node->told);
    node->told = now;
    node->load->beats++;
}

/* ---- the connection ---- */

static void on_end(uv_timer_t *timer) {
    const struct load *load = timer->data;

    printf("{\"heartbeats\": %lld, \"answers\": %lld, \"bytes_each\": %.1f}\n", (long long)load->beats,
           (long long)load->answers, (double)load->bytes / (double)MAX(load->beats, 1));
    exit(0);
}

static void all_welcome(struct load *load) {
    puts("ready");
    fflush(stdout);
    load->bytes = 0;
    uv_timer_start(&load->end, on_end, (uint64_t)load->seconds * 1000, 0);
    for (int i = 0; i < load->n; i++) /* spread over the second */
        uv_timer_start(&load->nodes[i].timer, on_beat, (uint64_t)(i * BEAT_MS / load->n), BEAT_MS);
}

static void on_text(void *user, const char *text, size_t len) {
    struct node *node = user;
    json_t *message = jsonx_parse(text, len, NULL);
    const char *type = json_string_value(json_object_get(message, "type"));

    node->load->answers += strcmp(type, WIRE_BEAT) == 0;
    if (strcmp(type, WIRE_REFUSED) == 0)
        g_error("refused: %s", text);
    if (strcmp(type, WIRE_WELCOME) == 0 && ++node->load->n_welcome == node->load->n)
        all_welcome(node->load);
    json_decref(message);
}

static void on_close(void *user, const char *reason) {
    (void)user;
    g_error("a connection ended: %s", reason);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {.on_text = on_text, .on_close = on_close};
    struct node *node = user;

    if (error)
        g_error("%s", error->message);
    node->ws = ws;
    ws_set_handlers(ws, &handlers, node);
    node->told = node_info_to_json(node->info);
    send_json(node, json_pack("{s:s,s:i,s:O,s:[]}", "type", WIRE_HELLO, "protocol", WIRE_PROTOCOL, "node", node->told,
                              "tasks"));
}

static void on_joined(void *user, int status, const char *body, size_t len, const GError *error) {
    struct node *node = user;
    json_t *json = jsonx_parse(body, len, NULL);
    g_autofree char *url = g_strconcat(node->load->base, "/api/v1/runners/connect", NULL);
    g_autofree char *header = NULL;
    const char *headers[2] = {NULL};

    if (error || status != 201)
        g_error("join: %d %s", status, error ? error->message : body);
    header = g_strconcat("Authorization: Bearer ", json_string_value(json_object_get(json, "credential")), NULL);
    headers[0] = header;
    ws_dial_start(&node->load->loop, url, headers, WIRE_SUBPROTOCOL, TIMEOUT_MS, on_dialled, node);
    json_decref(json);
}

static void node_start(struct load *load, int number) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct node *node = &load->nodes[number];
    g_autofree char *name = g_strdup_printf("bench%d", number);
    g_autofree char *body = g_strdup_printf("{\"node\":\"%s\",\"token\":\"%s\"}", name, load->token);
    g_autofree char *url = g_strconcat(load->base, "/api/v1/runners/join", NULL);

    node->load = load;
    node->random = g_rand_new_with_seed((guint32)number);
    node->info = node_info_new(name);
    node->info->cores = 128;
    node->info->mem_total_bytes = 1LL << 40;
    node->info->gpus_known = node->info->engine_ok = node->info->disk_ok = true;
    for (int i = 0; i < CARDS; i++)
        add_card(node, number, i);
    uv_timer_init(&load->loop, &node->timer);
    node->timer.data = node;
    http_client_start(load->http, &(struct http_request){.method = "POST",
                                                         .url = url,
                                                         .headers = headers,
                                                         .body = body,
                                                         .body_len = strlen(body),
                                                         .timeout_ms = TIMEOUT_MS,
                                                         .max_body_bytes = 4096,
                                                         .user = node,
                                                         .on_done = on_joined});
}

int main(int argc, char **argv) {
    struct load load = {0};
    guint64 n, seconds;

    if (argc < 5 || !g_ascii_string_to_unsigned(argv[3], 10, 1, 10000, &n, NULL) ||
        !g_ascii_string_to_unsigned(argv[4], 10, 1, 3600, &seconds, NULL) ||
        !fs_read_file(argv[2], 512, &load.token, NULL, NULL)) {
        fprintf(stderr, "usage: bench_heartbeats PORT TOKEN_FILE NODES SECONDS [idle]\n");
        return 2;
    }
    g_strstrip(load.token);
    load.base = g_strdup_printf("http://127.0.0.1:%s", argv[1]);
    load.n = (int)n;
    load.seconds = (int)seconds;
    load.is_idle = argc > 5;
    load.nodes = g_new0(struct node, load.n);
    uv_loop_init(&load.loop);
    uv_timer_init(&load.loop, &load.end);
    load.end.data = &load;
    load.http = http_client_new(&load.loop);
    for (int i = 0; i < load.n; i++)
        node_start(&load, i);
    uv_run(&load.loop, UV_RUN_DEFAULT);
    return 0;
}
