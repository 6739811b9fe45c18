/* node watch: a node's cards, live, with bars and a short history. A terminal is drawn over; anything else gets one picture
 * after the other. */

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/show_gpu.h"

enum { BAR_CHARS = 10, SPARK_CHARS = 24, MAX_CARDS = 64 };

struct history { /* of one card's utilisation, the newest last */
    signed char percent[SPARK_CHARS];
    int n;
};

struct watch {
    struct cli *cli;
    struct cli_api *api;
    char *path;
    bool is_terminal;
    struct history cards[MAX_CARDS]; /* by index */
};

/* "[######    ]"; figures that are not there make an empty one. g_free. */
static char *bar(double share) {
    int full = (int)(CLAMP(share, 0.0, 1.0) * BAR_CHARS + 0.5);
    GString *text = g_string_new("[");

    for (int i = 0; i < BAR_CHARS; i++)
        g_string_append_c(text, i < full ? '#' : ' ');
    g_string_append_c(text, ']');
    return g_string_free(text, FALSE);
}

static char *spark(const struct history *history) {
    static const char *const levels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    GString *text = g_string_new(NULL);

    for (int i = 0; i < history->n; i++)
        g_string_append(text, history->percent[i] < 0 ? " " : levels[MIN(history->percent[i] * 8 / 101, 7)]);
    return g_string_free(text, FALSE);
}

static void note(struct history *history, const json_t *gpu) {
    if (history->n == SPARK_CHARS)
        memmove(history->percent, history->percent + 1, SPARK_CHARS - 1);
    else
        history->n++;
    history->percent[history->n - 1] =
        (signed char)(show_has(gpu, "utilization_percent") ? show_int(gpu, "utilization_percent") : -1);
}

static void end_line(const struct watch *watch) { fputs(watch->is_terminal ? "\033[K\n" : "\n", stdout); }

static void print_figure(const json_t *gpu, const char *key, int64_t divisor, const char *unit) {
    if (show_has(gpu, key))
        printf("%4" PRId64 "%s", show_int(gpu, key) / divisor, unit);
    else
        printf("%4s%*s", "-", (int)g_utf8_strlen(unit, -1), "");
}

static void print_card(struct watch *watch, const json_t *gpu) {
    int64_t index = show_int(gpu, "index"), total = show_int(gpu, "memory_total_bytes");
    struct history *history = &watch->cards[CLAMP(index, 0, MAX_CARDS - 1)];
    g_autofree char *util = bar((double)show_int(gpu, "utilization_percent") / 100.0);
    g_autofree char *memory = bar(total ? (double)show_int(gpu, "memory_used_bytes") / (double)total : 0);
    g_autofree char *holder = show_gpu_holder(gpu), *line = NULL;
    const char *reason = show_str(gpu, "state_reason");

    note(history, gpu);
    printf("%3" PRId64 "  util %s", index, util);
    print_figure(gpu, "utilization_percent", 1, "%");
    printf("  mem %s", memory);
    print_figure(gpu, "memory_used_bytes", 1 << 30, " GiB");
    print_figure(gpu, "temperature_celsius", 1, "°C");
    print_figure(gpu, "power_mw", 1000, " W");
    line = spark(history);
    printf("  %s", line);
    end_line(watch);
    g_free(line);
    line = cli_clean(holder ? holder : reason ? reason : show_gpu_model(show_str(gpu, "name")));
    printf("     %s  %s", show_gpu_state(gpu), line);
    end_line(watch);
}

static void print_picture(struct watch *watch, const json_t *node) {
    g_autofree char *seen = show_span(show_int(node, "last_seen_ms"), 0);
    char when[CLOCK_TEXT_BYTES];
    const json_t *gpu;
    size_t i;

    if (watch->is_terminal)
        fputs("\033[H", stdout);
    printf("%s  %s  %s, heard of %s ago", clock_utc_to_str(clock_wall_ms(), when), show_str(node, "name"),
           show_bool(node, "online") ? "online" : "OFFLINE", seen);
    end_line(watch);
    json_array_foreach (json_object_get(node, "gpus"), i, gpu)
        print_card(watch, gpu);
    if (watch->is_terminal)
        fputs("\033[J", stdout);
    fflush(stdout);
}

/* A host that is away for a moment is said so, and asked again. */
static bool look(struct watch *watch, GError **error) {
    json_t *answer = cli_api_get(watch->api, watch->path, error);

    if (answer)
        print_picture(watch, json_object_get(answer, "node"));
    else if (g_error_matches(*error, KR_ERROR, KR_ERROR_UNREACHABLE) && watch->is_terminal) {
        printf("\033[H%s\033[K", (*error)->message);
        fflush(stdout);
        g_clear_error(error);
    }
    json_decref(answer);
    return *error == NULL;
}

static bool read_numbers(const struct cli *cli, int64_t *ret_interval_ms, guint64 *ret_count, GError **error) {
    const char *interval = cli_text(cli, "interval"), *times = cli_text(cli, "count");
    g_autoptr(GError) why = NULL;

    *ret_interval_ms = 1000;
    *ret_count = G_MAXUINT64;
    if (interval && !units_span_from_str(interval, ret_interval_ms, &why))
        return kr_fail(error, USAGE, "--interval: %s", why->message);
    if (*ret_interval_ms < 100)
        return kr_fail(error, USAGE, "--interval is \"%s\", the least is 100ms", interval);
    if (times && !g_ascii_string_to_unsigned(times, 10, 1, G_MAXUINT32, ret_count, NULL))
        return kr_fail(error, USAGE, "--count is \"%s\", it must be a whole number of at least 1", times);
    return true;
}

int cmd_node_watch(struct cli *cli) {
    g_autofree char *name = g_uri_escape_string(cli->args[0], NULL, FALSE);
    struct watch watch = {.cli = cli, .path = g_strconcat("/nodes/", name, NULL), .is_terminal = isatty(STDOUT_FILENO)};
    GError *error = NULL;
    int64_t interval_ms;
    guint64 count;

    if (read_numbers(cli, &interval_ms, &count, &error)) {
        watch.api = cli_api_new(cli->host_url);
        if (watch.is_terminal)
            fputs("\033[2J", stdout);
        for (guint64 i = 0; i < count && look(&watch, &error); i++)
            if (i + 1 < count)
                g_usleep((gulong)interval_ms * 1000);
        cli_api_free(watch.api);
    }
    g_free(watch.path);
    return error ? cli_fail(error) : CLI_EXIT_OK;
}
