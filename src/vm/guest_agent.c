#include "vm/guest_agent.h"

#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"

enum { RETRY_MS = 1000, READ_BYTES = 4096, MAX_NUMBER = 1 << 30 };

/* ---- a report ---- */

/* Text of a guest's is shown to people: plain characters only. */
static void take_text(char *to, size_t size, const char *text) {
    size_t n = 0;

    for (; text && *text && n + 1 < size; text++)
        if (g_ascii_isprint(*text))
            to[n++] = *text;
    to[n] = '\0';
}

/* "NVIDIA H100, 12, 1024, 81559, 41": as nvidia-smi prints it; what it does not know is no number. */
static void take_gpu(struct guest_gpu *gpu, const char *text) {
    g_auto(GStrv) part = g_strsplit(text, ",", 5);
    int64_t number[4] = {-1, -1, -1, -1};
    guint n = g_strv_length(part);

    for (guint i = 0; i < 4 && i + 1 < n; i++)
        if (!g_ascii_string_to_signed(g_strstrip(part[i + 1]), 10, 0, MAX_NUMBER, &number[i], NULL))
            number[i] = -1;
    take_text(gpu->name, sizeof gpu->name, n ? part[0] : "");
    gpu->utilization_percent = (int)number[0];
    gpu->mem_used_bytes = number[1] < 0 ? -1 : number[1] << 20;
    gpu->mem_total_bytes = number[2] < 0 ? -1 : number[2] << 20;
    gpu->temperature_celsius = (int)number[3];
}

static bool has_secret(const char *given, const char *secret) {
    size_t len = strlen(secret);

    return given && strlen(given) == len && len > 0 && sodium_memcmp(given, secret, len) == 0;
}

static bool take_report(struct agent_pump *pump, const json_t *json, struct guest_state *state) {
    struct json_reader r = jr_init(json, "agent", NULL);
    const char *secret = jr_str(&r, "secret", 128), *address = jr_str_opt(&r, "address", 256, "");
    const char *version = jr_str_opt(&r, "driver_version", 256, ""), *why = jr_str_opt(&r, "driver_text", 1024, "");
    const char *key = jr_str_opt(&r, "host_key", 256, "");
    g_auto(GStrv) gpus = NULL;

    state->is_ready = jr_bool_opt(&r, "ready", false);
    state->driver = guest_driver_from_str(jr_str_opt(&r, "driver", 32, ""));
    gpus = jr_strv_opt(&r, "gpus", GUEST_MAX_GPUS, 256);
    if (!jr_done(&r) || !has_secret(secret, pump->secret))
        return false;
    take_text(state->address, sizeof state->address, address);
    take_text(state->driver_version, sizeof state->driver_version, version);
    take_text(state->driver_text, sizeof state->driver_text, why);
    if (guest_host_key_is_valid(key))
        g_strlcpy(state->host_key, key, sizeof state->host_key);
    for (char **gpu = gpus; gpu && *gpu; gpu++)
        take_gpu(&state->gpus[state->n_gpus++], *gpu);
    return true;
}

/* ---- the pump ---- */

void agent_pump_init(struct agent_pump *pump, const char *secret,
                     void (*on_report)(void *user, const struct guest_state *state), void *user) {
    *pump = (struct agent_pump){.secret = secret, .on_report = on_report, .user = user, .line = g_byte_array_new()};
}

void agent_pump_clear(struct agent_pump *pump) { g_clear_pointer(&pump->line, g_byte_array_unref); }

static void take_line(struct agent_pump *pump) {
    struct guest_state state = {0};
    json_t *json;

    if (pump->line->len == 0)
        return;
    json = jsonx_parse((const char *)pump->line->data, pump->line->len, NULL);
    if (json && take_report(pump, json, &state))
        pump->on_report(pump->user, &state);
    else
        pump->n_refused++;
    json_decref(json);
}

static void end_line(struct agent_pump *pump) {
    if (pump->is_skipping)
        pump->n_refused++;
    else
        take_line(pump);
    pump->is_skipping = false;
    g_byte_array_set_size(pump->line, 0);
}

void agent_pump_feed(struct agent_pump *pump, const char *bytes, size_t len) {
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline ? (size_t)(newline - bytes) : len;
        if (pump->line->len + n > AGENT_MAX_LINE_BYTES)
            pump->is_skipping = true;
        if (!pump->is_skipping)
            g_byte_array_append(pump->line, (const guint8 *)bytes, (guint)n);
        if (!newline)
            return;
        end_line(pump);
        bytes += n + 1;
        len -= n + 1;
    }
}

/* ---- the channel ---- */

struct agent_link {
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_connect_t connecting;
    bool has_pipe, is_freed;
    int open_handles;
    char *path, *secret;
    struct agent_pump pump;
    void (*on_told)(void *user, const struct guest_state *state);
    void *user;
    struct guest_state state;
    int64_t state_ms; /* monotonic, 0: none yet */
    char chunk[READ_BYTES];
};

static void on_handle_closed(uv_handle_t *handle) {
    struct agent_link *link = handle->data;

    if (--link->open_handles > 0 || !link->is_freed)
        return;
    agent_pump_clear(&link->pump);
    g_free(link->path);
    g_free(link->secret);
    g_free(link);
}

static void hang_up(struct agent_link *link) {
    if (link->has_pipe)
        uv_close((uv_handle_t *)&link->pipe, on_handle_closed);
    link->has_pipe = false;
}

void agent_link_free(struct agent_link *link) {
    if (!link)
        return;
    link->is_freed = true;
    hang_up(link);
    uv_close((uv_handle_t *)&link->timer, on_handle_closed);
}

static void on_report(void *user, const struct guest_state *state) {
    struct agent_link *link = user;

    link->state = *state;
    link->state_ms = clock_mono_ms();
    link->on_told(link->user, state);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct agent_link *link = handle->data;

    *buf = uv_buf_init(link->chunk, sizeof link->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct agent_link *link = stream->data;

    if (n > 0)
        agent_pump_feed(&link->pump, buf->base, (size_t)n);
    else if (n < 0)
        hang_up(link);
}

static void on_connected(uv_connect_t *connecting, int status) {
    struct agent_link *link = connecting->data;

    if (status < 0 || uv_read_start((uv_stream_t *)&link->pipe, on_alloc, on_read) < 0) {
        if (status != UV_ECANCELED)
            hang_up(link);
        return;
    }
    agent_pump_feed(&link->pump, "\n", 1); /* a line that was cut by a break is over */
}

static void on_timer(uv_timer_t *timer) {
    struct agent_link *link = timer->data;

    if (link->has_pipe || link->open_handles > 1)
        return;
    uv_pipe_init(timer->loop, &link->pipe, 0);
    link->pipe.data = link->connecting.data = link;
    link->has_pipe = true;
    link->open_handles++;
    uv_pipe_connect(&link->connecting, &link->pipe, link->path, on_connected);
}

struct agent_link *agent_link_new(uv_loop_t *loop, int folder_fd, const char *secret,
                                  void (*on_told)(void *user, const struct guest_state *state), void *user) {
    struct agent_link *link = g_new0(struct agent_link, 1);

    link->path = g_strdup_printf("/proc/self/fd/%d/agent.sock", folder_fd);
    link->secret = g_strdup(secret);
    link->on_told = on_told;
    link->user = user;
    agent_pump_init(&link->pump, link->secret, on_report, link);
    uv_timer_init(loop, &link->timer);
    link->timer.data = link;
    link->open_handles = 1;
    uv_timer_start(&link->timer, on_timer, 0, RETRY_MS);
    return link;
}

const struct guest_state *agent_link_state(const struct agent_link *link, int64_t *ret_mono_ms) {
    if (link->state_ms == 0)
        return NULL;
    *ret_mono_ms = link->state_ms;
    return &link->state;
}

/* ---- the guest's side ---- */

/* %s: the secret. Nothing but what every Debian or Ubuntu has; what a text may hold is cut down to what JSON takes as it is. */
static const char script[] =
    "#!/bin/sh\n"
    "# Tells the node how this machine is: a line of JSON every few seconds on its own channel.\n"
    "channel=/dev/virtio-ports/org.kohakuriver.agent.0\n"
    "state=/var/lib/kohakuriver\n"
    "secret='%s'\n"
    "clean() { tr -cd 'A-Za-z0-9 .,:_()+/=-'; }\n"
    "address() {\n"
    "    set -- $(hostname -I 2>/dev/null)\n"
    "    printf '%%s' \"${1:-}\" | clean\n"
    "}\n"
    "gpus() {\n"
    "    command -v nvidia-smi >/dev/null 2>&1 || return\n"
    "    timeout 20 nvidia-smi --query-gpu=name,utilization.gpu,memory.used,memory.total,temperature.gpu \\\n"
    "        --format=csv,noheader,nounits 2>/dev/null | head -n 32 | while IFS= read -r line; do\n"
    "        printf '%%s\"%%s\"' \"${comma:-}\" \"$(printf '%%s' \"$line\" | clean)\"\n"
    "        comma=,\n"
    "    done\n"
    "}\n"
    "driver() {\n"
    "    [ -r \"$state/driver\" ] && { head -n 1 \"$state/driver\" | clean; return; }\n"
    "    [ -r /proc/driver/nvidia/version ] && printf ready || printf none\n"
    "}\n"
    "why() { sed -n 2p \"$state/driver\" 2>/dev/null | cut -c 1-200 | clean; }\n"
    "host_key() { cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null | head -n 1 | clean; }\n"
    "version() { sed -n 's/^NVRM version:.* \\([0-9][0-9]*\\.[0-9.]*\\) .*/\\1/p' /proc/driver/nvidia/version "
    "2>/dev/null | clean; }\n"
    "# The first start is over, and this one has come so far that one can log in, or that nothing more is to come.\n"
    "is_ready() {\n"
    "    [ -e \"$state/ready\" ] || return 1\n"
    "    grep -qs ':0016 [0-9A-F:]* 0A ' /proc/net/tcp /proc/net/tcp6 && return 0\n"
    "    case $(systemctl is-system-running 2>/dev/null) in initializing|starting) return 1 ;; esac\n"
    "}\n"
    "while :; do\n"
    "    is_ready && ready=true || ready=false\n"
    "    printf '{\"secret\":\"%%s\",\"address\":\"%%s\",\"ready\":%%s,\"driver\":\"%%s\",\"driver_version\":\"%%s\",' "
    "\\\n"
    "        \"$secret\" \"$(address)\" \"$ready\" \"$(driver)\" \"$(version)\" > \"$channel\"\n"
    "    printf '\"driver_text\":\"%%s\",\"host_key\":\"%%s\",\"gpus\":[%%s]}\\n' \"$(why)\" \"$(host_key)\" "
    "\"$(gpus)\" > \"$channel\"\n"
    "    [ \"$ready\" = true ] && sleep 10 || sleep 2\n"
    "done\n";

char *guest_agent_script(const char *secret) { return g_strdup_printf(script, secret); }
