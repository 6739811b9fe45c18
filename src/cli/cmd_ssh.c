/* ssh, vps connect, vps console: a way to a machine through the host. `ssh` runs the system's own ssh with this program as its
 * ProxyCommand; the bytes go over a WebSocket to the host and on to the machine's node. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "model/guest.h"
#include "model/wire.h"
#include "net/ws.h"

enum { DIAL_MS = 15000, GUEST_START_MS = 300000, READ_BYTES = 16 * 1024, ESCAPE = 0x1d /* Ctrl-] */ };

/* ---- a pump between stdin/stdout and the tunnel ---- */

struct pump {
    uv_loop_t *loop;
    struct ws *ws;
    uv_poll_t in;
    bool is_polling, is_terminal;
    int64_t credit; /* bytes that the machine's side can still take */
    bool is_over, is_leaving;
    GError *error;
};

static void finish(struct pump *pump) {
    if (pump->is_over)
        return;
    pump->is_over = true;
    if (pump->is_polling)
        uv_poll_stop(&pump->in);
    uv_stop(pump->loop);
}

static void on_in(uv_poll_t *poll, int status, int events);

static void watch_in(struct pump *pump) {
    if (pump->is_polling && !pump->is_over)
        uv_poll_start(&pump->in, UV_READABLE, on_in);
}

static void on_in(uv_poll_t *poll, int status, int events) {
    struct pump *pump = poll->data;
    char bytes[READ_BYTES];
    size_t room = (size_t)MIN(pump->credit, READ_BYTES);
    ssize_t n = read(STDIN_FILENO, bytes, room);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (status < 0 || n <= 0 || (pump->is_terminal && memchr(bytes, ESCAPE, (size_t)n))) {
        pump->is_leaving = true;
        ws_close(pump->ws, 1000, "done");
        uv_poll_stop(&pump->in);
        return;
    }
    ws_send_binary(pump->ws, bytes, (size_t)n);
    pump->credit -= n;
    if (pump->credit <= 0)
        uv_poll_stop(&pump->in);
}

static void on_tunnel_bytes(void *user, const void *bytes, size_t len) {
    struct pump *pump = user;
    g_autofree char *credit = g_strdup_printf("{\"credit\":%zu}", len);

    if (!fd_write_all(STDOUT_FILENO, bytes, len)) {
        finish(pump);
        return;
    }
    ws_send_text(pump->ws, credit, strlen(credit));
}

static void on_tunnel_text(void *user, const char *text, size_t len) {
    struct pump *pump = user;
    json_t *json = jsonx_parse(text, len, NULL);

    pump->credit = MIN(pump->credit + json_integer_value(json_object_get(json, "credit")), WIRE_TUNNEL_WINDOW_BYTES);
    json_decref(json);
    if (pump->credit > 0)
        watch_in(pump);
}

static void on_tunnel_close(void *user, const char *reason) {
    struct pump *pump = user;

    if (!pump->is_leaving && reason && !strstr(reason, "it is over") && !pump->error)
        kr_fail(&pump->error, UNAVAILABLE, "the connection ended: %s", reason);
    finish(pump);
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {
        .on_text = on_tunnel_text, .on_binary = on_tunnel_bytes, .on_close = on_tunnel_close};
    struct pump *pump = user;

    if (error) {
        pump->error = g_error_copy(error);
        finish(pump);
        return;
    }
    pump->ws = ws;
    ws_set_handlers(ws, &handlers, pump);
    pump->is_polling = uv_poll_init(pump->loop, &pump->in, STDIN_FILENO) == 0;
    pump->in.data = pump;
    if (!pump->is_polling) {
        kr_fail(&pump->error, IO, "standard input is no pipe and no terminal");
        finish(pump);
        return;
    }
    watch_in(pump);
}

/* Runs until either side ends. true when that was in order. */
static bool pump_run(const struct cli *cli, int64_t vps_id, const char *to, bool is_terminal, GError **error) {
    g_autofree char *url = g_strdup_printf("%s/api/v1/vps/%" PRId64 "/connect?to=%s", cli->host_url, vps_id, to);
    static const char *const headers[] = {NULL};
    struct pump pump = {.is_terminal = is_terminal, .credit = WIRE_TUNNEL_WINDOW_BYTES};
    uv_loop_t loop;

    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop);
    pump.loop = &loop;
    ws_dial_start(&loop, url, headers, WIRE_TUNNEL_SUBPROTOCOL, DIAL_MS, on_dialled, &pump);
    uv_run(&loop, UV_RUN_DEFAULT);
    ws_free(pump.ws);
    if (pump.is_polling)
        uv_close((uv_handle_t *)&pump.in, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    if (pump.error)
        g_propagate_error(error, pump.error);
    return pump.error == NULL;
}

/* ---- which machine ---- */

/* New reference, or NULL with the error. */
static json_t *get_vps(const struct cli *cli, GError **error) {
    struct cli_api *api = cli_api_new(cli->host_url);
    json_t *vps = cli_vps_get(api, cli->args[0], error);

    cli_api_free(api);
    if (vps &&
        (g_strcmp0(show_str(vps, "state"), "stopped") == 0 || g_strcmp0(show_str(vps, "state"), "failed") == 0)) {
        kr_fail(error, REFUSED, "VPS %" PRId64 " (%s) is off", show_int(vps, "id"), show_str(vps, "name"));
        g_clear_pointer(&vps, json_decref);
    }
    return vps;
}

/* ---- console ---- */

int cmd_vps_console(struct cli *cli) {
    GError *error = NULL;
    json_t *vps = get_vps(cli, &error);
    struct termios before, raw;
    bool is_terminal = isatty(STDIN_FILENO);

    if (!vps)
        return cli_fail(error);
    if (is_terminal && tcgetattr(STDIN_FILENO, &before) == 0) {
        fprintf(stderr, "console of VPS %" PRId64 " (%s); Ctrl-] leaves it\n", show_int(vps, "id"),
                show_str(vps, "name"));
        raw = before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    pump_run(cli, show_int(vps, "id"), "console", is_terminal, &error);
    if (is_terminal)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    json_decref(vps);
    return error ? cli_fail(error) : CLI_EXIT_OK;
}

/* ---- ssh ---- */

static char *known_hosts_file(const char *name) {
    g_autofree char *folder = g_build_filename(g_get_user_config_dir(), "kohakuriver", NULL);

    fs_mkdir_p(folder, 0700, NULL);
    return g_build_filename(folder, name, NULL);
}

/* Adds which key the machine must show: the one that its guest told its node over its own channel, where it has. Before that the
 * first one that it shows is taken, and asked for from then on. false with an error. */
static bool add_host_key(GPtrArray *words, const struct cli *cli, const json_t *vps, GError **error) {
    const char *key = show_str(json_object_get(vps, "guest"), "ssh_host_key");
    g_autofree char *cluster = g_compute_checksum_for_string(G_CHECKSUM_SHA256, cli->host_url, -1);
    g_autofree char *alias = g_strdup_printf("kohakuriver-%.8s-vps-%" PRId64, cluster, show_int(vps, "id"));
    g_autofree char *own = known_hosts_file(alias), *common = known_hosts_file("known_hosts");
    bool is_pinned = key || fs_exists(own); /* once told it stays, also while the guest is silent */
    const char *hosts = is_pinned ? own : common;

    if (key) {
        g_autofree char *line = g_strdup_printf("%s %s\n", alias, key);
        if (!guest_host_key_is_valid(key))
            return kr_fail(error, IO, "the host says a key for VPS %" PRId64 " that is none", show_int(vps, "id"));
        if (!fs_write_durable(hosts, 0600, line, strlen(line), error))
            return false;
    }
    g_ptr_array_add(words, g_strdup_printf("-oHostKeyAlias=%s", alias));
    g_ptr_array_add(words, g_strdup_printf("-oUserKnownHostsFile=%s", hosts));
    g_ptr_array_add(words, g_strdup("-oGlobalKnownHostsFile=/dev/null"));
    g_ptr_array_add(words, g_strdup_printf("-oStrictHostKeyChecking=%s", is_pinned ? "yes" : "accept-new"));
    return true;
}

/* The words of the ssh command; NULL with an error. */
static GPtrArray *ssh_words(const struct cli *cli, const json_t *vps, GError **error) {
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL),
                    *quoted = g_shell_quote(self ? self : "kohakuriver");
    g_autofree char *host = g_shell_quote(cli->host_url);
    const char *identity = cli_text(cli, "identity");

    g_ptr_array_add(words, g_strdup("ssh"));
    g_ptr_array_add(
        words, g_strdup_printf("-oProxyCommand=%s ssh --stdio --host %s %" PRId64, quoted, host, show_int(vps, "id")));
    if (!add_host_key(words, cli, vps, error)) {
        g_ptr_array_unref(words);
        return NULL;
    }
    /* A guest that goes down does not always say goodbye: nobody waits for it for ever. */
    g_ptr_array_add(words, g_strdup("-oConnectTimeout=60"));
    g_ptr_array_add(words, g_strdup("-oServerAliveInterval=15"));
    if (identity)
        g_ptr_array_add(words, g_strdup_printf("-i%s", identity));
    g_ptr_array_add(words, g_strdup_printf("%s@%s", show_str(vps, "user"), show_str(vps, "name")));
    for (char **word = cli->command; word && *word; word++)
        g_ptr_array_add(words, g_strdup(*word));
    g_ptr_array_add(words, NULL);
    return words;
}

/* A guest that was started just now has no SSH server yet. What never says anything (an image without cloud-init) is tried after
 * a while all the same. */
static bool is_worth_waiting(const json_t *vps) {
    const char *state = show_str(vps, "state");
    const json_t *guest = json_object_get(vps, "guest");

    if (g_strcmp0(state, "pending") == 0 || g_strcmp0(state, "assigning") == 0 || g_strcmp0(state, "provisioning") == 0)
        return true;
    return g_strcmp0(state, "running") == 0 && !show_bool(guest, "ready") &&
           clock_wall_ms() < show_int(vps, "started_ms") + GUEST_START_MS;
}

/* Takes the machine and gives it back as it is then; NULL with an error. */
static json_t *wait_for_guest(const struct cli *cli, json_t *vps, GError **error) {
    g_autofree char *path = g_strdup_printf("/vps/%" PRId64, show_int(vps, "id"));
    struct cli_api *api = cli_api_new(cli->host_url);

    if (is_worth_waiting(vps))
        fprintf(stderr, "VPS %" PRId64 " (%s) starts, waiting until its guest is ready (--no-wait does not)\n",
                show_int(vps, "id"), show_str(vps, "name"));
    while (vps && is_worth_waiting(vps)) {
        g_usleep(G_USEC_PER_SEC);
        json_decref(vps);
        vps = cli_api_get(api, path, error);
    }
    cli_api_free(api);
    return vps;
}

int cmd_ssh(struct cli *cli) {
    GError *error = NULL;
    json_t *vps = get_vps(cli, &error);
    g_autoptr(GPtrArray) words = NULL;

    if (!vps)
        return cli_fail(error);
    if (cli_flag(cli, "stdio")) {
        pump_run(cli, show_int(vps, "id"), "ssh", false, &error);
        json_decref(vps);
        return error ? cli_fail(error) : CLI_EXIT_OK;
    }
    vps = cli_flag(cli, "no-wait") ? vps : wait_for_guest(cli, vps, &error);
    words = vps ? ssh_words(cli, vps, &error) : NULL;
    json_decref(vps);
    if (!words)
        return cli_fail(error);
    execvp("ssh", (char **)words->pdata);
    kr_fail(&error, IO, "ssh cannot be run: %s", g_strerror(errno));
    return cli_fail(error);
}
