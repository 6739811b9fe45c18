/* qemu check, qemu acs-override: can this node run machines, and which GPUs can be passed to them. On the node itself the look is
 * done by a child process with a deadline, since it touches hardware. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/table.h"

enum { CHECK_DEADLINE_MS = 30000, CHECK_MAX_BYTES = 1 << 22 };

/* ---- the look ---- */

static void run_child(int out, const char *root, const char *accel) {
    dup2(out, STDOUT_FILENO);
    execl("/proc/self/exe", "kohakuriver", "vfio-step", "check", root, accel, (char *)NULL);
    _exit(127);
}

/* Reads until the child closes its end; false at the deadline. */
static bool read_all(int fd, GString *text) {
    int64_t end_ms = clock_mono_ms() + CHECK_DEADLINE_MS;
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    char chunk[4096];
    ssize_t n = 1;

    while (n > 0 && text->len < CHECK_MAX_BYTES) {
        int64_t left_ms = end_ms - clock_mono_ms();
        if (left_ms <= 0)
            return false;
        if (poll(&waiting, 1, (int)left_ms) <= 0)
            continue;
        n = read(fd, chunk, sizeof chunk);
        if (n > 0)
            g_string_append_len(text, chunk, n);
    }
    return true;
}

static json_t *look_here(const char *root, const char *accel, GError **error) {
    g_autoptr(GString) text = g_string_new(NULL);
    int ends[2], status = 0;
    bool is_whole;
    pid_t pid;

    if (pipe(ends) < 0)
        return fs_fail_errno(error, errno, "make", "a pipe"), NULL;
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        run_child(ends[1], root, accel);
    close(ends[1]);
    is_whole = pid > 0 && read_all(ends[0], text);
    close(ends[0]);
    if (pid > 0 && !is_whole)
        kill(pid, SIGKILL); /* not waited for: it may hang in the kernel */
    if (is_whole)
        waitpid(pid, &status, 0);
    if (is_whole && status == 0)
        return jsonx_parse(text->str, text->len, error);
    kr_fail_at(error, is_whole ? KR_ERROR_IO : KR_ERROR_TIMEOUT,
               is_whole ? "the look at the hardware failed" : "the look at the hardware does not return within %d s",
               CHECK_DEADLINE_MS / 1000);
    return NULL;
}

static json_t *look_there(const struct cli *cli, const char *node, GError **error) {
    g_autofree char *name = g_uri_escape_string(node, NULL, FALSE);
    g_autofree char *path = g_strdup_printf("/nodes/%s/qemu", name);
    struct cli_api *api = cli_api_new(cli->host_url);
    json_t *answer = cli_api_get(api, path, error);

    cli_api_free(api);
    return answer;
}

/* --accel, else the runner's own setting. g_free; NULL with *error. */
static char *accel_of(const struct cli *cli, GError **error) {
    const char *given = cli_text(cli, "accel");
    struct config *config = NULL;
    char *accel = NULL;
    int words;
    char runner[] = "runner", *path[] = {runner, NULL};
    const struct cli_verb *verb = cli_verb_find(cli->verbs, path, 1, &words);

    if (given)
        return g_strdup(given);
    config = config_load(verb->config_keys, verb->path, NULL, verb->config_file, NULL, error);
    if (config)
        accel = g_strdup(config_str(config, "vm_accel"));
    config_free(config);
    return accel;
}

static json_t *look(const struct cli *cli, GError **error) {
    const char *node = cli_text(cli, "node"), *root = cli_text(cli, "root");
    g_autofree char *accel = NULL;

    if (node)
        return look_there(cli, node, error);
    accel = accel_of(cli, error);
    return accel ? look_here(root ? root : "/", accel, error) : NULL;
}

/* ---- qemu check ---- */

static const char *state_colour(const char *state) {
    return g_strcmp0(state, "ok") == 0 ? "green" : g_strcmp0(state, "missing") == 0 ? "red" : "yellow";
}

static void print_findings(const json_t *findings) {
    static const struct table_column columns[] = {{"CHECK", TABLE_LEFT, 0, false},
                                                  {"STATE", TABLE_LEFT, 0, false},
                                                  {"FOUND", TABLE_LEFT, 40, false, true},
                                                  {"WHAT TO DO", TABLE_LEFT, 40, false, true},
                                                  {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *finding;
    size_t i;

    json_array_foreach (findings, i, finding) {
        table_row(table);
        table_cell(table, show_str(finding, "id"));
        table_cell(table, show_str(finding, "state"));
        table_colour(table, state_colour(show_str(finding, "state")));
        table_cell(table, show_str(finding, "text"));
        table_cell(table, show_str(finding, "fix"));
    }
    table_print(table);
    table_free(table);
}

/* One line, without control characters of others'. */
static void line(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void line(const char *format, ...) {
    g_autofree char *text = NULL, *clean = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    clean = cli_clean(text);
    puts(clean);
}

static const char *or_dash(const json_t *object, const char *key) {
    const char *text = show_str(object, key);

    return text && text[0] ? text : "-";
}

static void print_functions(const char *what, const json_t *functions) {
    const json_t *f;
    size_t i;

    json_array_foreach (functions, i, f)
        line("    %-10s %s  %s  %s  driver %s", what, or_dash(f, "address"), or_dash(f, "role"), or_dash(f, "ids"),
             or_dash(f, "driver"));
}

static void print_holders(const json_t *gpu) {
    const json_t *holder;
    size_t i;

    json_array_foreach (json_object_get(gpu, "holders"), i, holder)
        line("    held by    pid %d %s  user %s  unit %s  container %.12s", (int)show_int(holder, "pid"),
             or_dash(holder, "command"), or_dash(holder, "user"), or_dash(holder, "unit"),
             or_dash(holder, "container"));
}

static void print_obstacles(const json_t *gpu) {
    const json_t *obstacle;
    size_t i;

    json_array_foreach (json_object_get(gpu, "obstacles"), i, obstacle) {
        line("    %-10s %s: %s", show_bool(obstacle, "blocks") ? "against it" : "note", or_dash(obstacle, "id"),
             or_dash(obstacle, "text"));
        line("    %-10s %s", "", or_dash(obstacle, "fix"));
    }
}

static void print_gpu(const json_t *gpu) {
    g_autofree char *group = show_has(gpu, "iommu_group") ? g_strdup_printf("%d", (int)show_int(gpu, "iommu_group"))
                                                          : g_strdup("none");

    putchar('\n');
    line("GPU %s  %s  driver %s  IOMMU group %s  reset %s%s: %s", or_dash(gpu, "address"), or_dash(gpu, "ids"),
         or_dash(gpu, "driver"), group, or_dash(gpu, "reset_methods"),
         show_bool(gpu, "is_boot_vga") ? "  boot VGA" : "", show_bool(gpu, "passable") ? "passable" : "NOT passable");
    print_functions("companion", json_object_get(gpu, "companions"));
    print_functions("in group", json_object_get(gpu, "others_in_group"));
    print_holders(gpu);
    print_obstacles(gpu);
}

/* NULL: the kernel does not tell. */
static void print_override(const json_t *acs) {
    const json_t *carries = json_object_get(acs, "kernel_has_override"), *address;
    const char *parameter = show_str(acs, "parameter");
    size_t i;

    printf("ACS override: this kernel %s, %s\n",
           !carries                ? "does not say whether it carries it"
           : json_is_true(carries) ? "carries it"
                                   : "does not carry it",
           parameter ? "and was started with it" : "and was not started with it");
    json_array_foreach (json_object_get(acs, "would_split"), i, address)
        line("  it might split the group of %s", json_string_value(address));
}

static void print_check(const json_t *answer) {
    const json_t *gpu;
    size_t i;

    print_findings(json_object_get(answer, "findings"));
    json_array_foreach (json_object_get(answer, "gpus"), i, gpu)
        print_gpu(gpu);
    putchar('\n');
    print_override(json_object_get(answer, "acs"));
    line("machines: %s%s%s; GPUs for them: %s", show_bool(answer, "can_run_machines") ? "yes" : "no",
         show_str(answer, "accelerator") ? ", by " : "",
         show_str(answer, "accelerator") ? show_str(answer, "accelerator") : "",
         show_bool(answer, "can_pass_gpus") ? "yes" : "no");
}

int cmd_qemu_check(struct cli *cli) {
    GError *error = NULL;
    json_t *answer = look(cli, &error);
    bool can_run;

    if (!answer)
        return cli_fail(error);
    can_run = show_bool(answer, "can_run_machines");
    if (cli_wants_json(cli))
        cli_print_json(answer);
    else
        print_check(answer);
    json_decref(answer);
    return can_run ? CLI_EXIT_OK : CLI_EXIT_FAILED;
}

/* ---- qemu acs-override ---- */

static const char explanation[] =
    "IOMMU groups are what the hardware can keep apart. The kernel fixes them at boot, from what the bridges between "
    "the\n"
    "cards and the CPU promise (ACS, access control services). Nothing that is done later changes a group.\n"
    "\n"
    "The override is a patch that the kernel's own source does not have; some distributions add it. With it, the boot\n"
    "parameter\n"
    "\n"
    "    pcie_acs_override=downstream,multifunction\n"
    "\n"
    "makes the kernel believe in a separation that the hardware does not promise. Groups get smaller, and a card can "
    "be\n"
    "passed that could not be before.\n"
    "\n"
    "What it costs: devices that were in one group may still reach each other past the IOMMU. A machine that was given "
    "one\n"
    "of them can read and write what the other does with its memory: of another machine, or of this node. Use it only "
    "where\n"
    "all who get machines are trusted, and rather move the card to another slot.\n"
    "\n"
    "kohakuriver changes neither bridges nor boot parameters.\n";

/* Explains also where nothing can be looked at. */
int cmd_qemu_acs_override(struct cli *cli) {
    g_autoptr(GError) error = NULL;
    json_t *answer = look(cli, &error);

    if (answer) {
        print_override(json_object_get(answer, "acs"));
        putchar('\n');
    } else {
        cli_note("this node could not be looked at: %s", error ? error->message : "no reason given");
    }
    fputs(explanation, stdout);
    json_decref(answer);
    return CLI_EXIT_OK;
}
