#pragma once
/* One call of the command line: the verb with its options and arguments, and how the verbs talk to the person in front:
 * results on stdout, everything else on stderr, exit codes 0 ok, 1 refused or failed, 2 usage. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/verb.h"

enum { CLI_EXIT_OK = 0, CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2, CLI_EXIT_INTERRUPTED = 130 };

struct cli_value {
    gboolean flag;
    char *text;  /* owned */
    char **list; /* owned, NULL when not given */
};

struct cli {
    const struct cli_verb *verbs;
    const struct cli_verb *verb;
    GArray *options;          /* of struct cli_option: all that the verb takes */
    struct cli_value *values; /* one per option */
    char **args;              /* what is left before "--" */
    char **command;           /* what stood behind "--", byte for byte */
    char *host_url;           /* "http://127.0.0.1:8000", no slash at the end; NULL for verbs without --host */
    bool host_is_given;       /* by option or environment */
};

/* The whole program: finds the verb, reads its options, runs it. Returns the exit code. */
int cli_main(const struct cli_verb *verbs, int argc, char **argv);

/* Runs a verb with `daemon`: loads the settings (file, options) and hands them over. */
int cli_run_daemon(struct cli *cli);
/* Runs a verb with `tool`. */
int cli_run_tool(struct cli *cli);

/* Values of options; asking for one that the verb does not have is a programming error (aborts). */
bool cli_flag(const struct cli *cli, const char *name);
const char *cli_text(const struct cli *cli, const char *name);  /* NULL when not given */
char *const *cli_list(const struct cli *cli, const char *name); /* never NULL */
bool cli_wants_json(const struct cli *cli);                     /* --format json */

/* All options of a verb: its own, those made of its settings, --help. Names made here live as long as the array. */
GArray *cli_options_of(const struct cli_verb *verb);

/* Reads argv (words behind the verb's path) into cli, which has verbs and verb set. KR_ERROR_USAGE. */
bool cli_parse(struct cli *cli, int argc, char **argv, GError **error);
void cli_clear(struct cli *cli);

/* A task's number. KR_ERROR_USAGE. */
bool cli_task_id_from_str(const char *text, uint32_t *ret_id, GError **error);

/* "71@mynode": what node mynode holds under the number 71 and the host has no record of. KR_ERROR_USAGE; *ret_node: g_free. */
bool cli_orphan_from_str(const char *text, uint32_t *ret_id, char **ret_node, GError **error);

/* The machine of that number or name, as the API shows it. New reference, or NULL with the error. */
struct cli_api;
json_t *cli_vps_get(struct cli_api *api, const char *text, GError **error);

/* "alice@laptop": who gives an order or submits a task. There are no users yet, so a claim. Caller frees. */
char *cli_who(void);
/* The body of an operator's order: who ("alice@laptop": there are no users yet, so a claim) and the reason, NULL: none. New
 * reference. */
json_t *cli_order_body(const char *reason);

/* "kohakuriver: MESSAGE" and the error's hint on stderr. Returns the exit code that belongs to it. Takes the error. */
int cli_fail(GError *error);
/* "note: …" on stderr. */
void cli_note(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Text from elsewhere (names, reasons) without control characters, so that it cannot steer a terminal. g_free. */
char *cli_clean(const char *text);
/* Indented JSON and a newline on stdout. */
void cli_print_json(const json_t *json);

/* help.c: texts made of the table. */
void cli_print_overview(const struct cli_verb *verbs, bool to_stderr);
void cli_print_help(const struct cli_verb *verb);
char *cli_usage_of(const struct cli_verb *verb); /* "kohakuriver task status [OPTIONS] ID"; g_free */
void cli_print_group(const struct cli_verb *verbs, const char *word, bool to_stderr);
void cli_print_man(const struct cli_verb *verbs);

/* completion.c. False when the shell is not known. */
bool cli_print_completion(const struct cli_verb *verbs, const char *shell);

/* The verbs themselves, one file per group (cmd_*.c). */
int cmd_task_submit(struct cli *cli);
int cmd_task_list(struct cli *cli);
int cmd_task_status(struct cli *cli);
int cmd_task_logs(struct cli *cli);
int cmd_task_kill(struct cli *cli);
int cmd_task_watch(struct cli *cli);
int cmd_task_pause(struct cli *cli);
int cmd_task_resume(struct cli *cli);
int cmd_task_release(struct cli *cli);
int cmd_node_cordon(struct cli *cli);
int cmd_node_uncordon(struct cli *cli);
int cmd_node_drain(struct cli *cli);
int cmd_gpu_cordon(struct cli *cli);
int cmd_gpu_uncordon(struct cli *cli);
int cmd_gpu_list(struct cli *cli);
int cmd_gpu_who(struct cli *cli);
int cmd_audit(struct cli *cli);
int cmd_node_list(struct cli *cli);
int cmd_node_status(struct cli *cli);
int cmd_node_health(struct cli *cli);
int cmd_node_topo(struct cli *cli);
int cmd_node_summary(struct cli *cli);
int cmd_node_watch(struct cli *cli);
int cmd_vps_create(struct cli *cli);
int cmd_vps_list(struct cli *cli);
int cmd_vps_status(struct cli *cli);
int cmd_vps_start(struct cli *cli);
int cmd_vps_stop(struct cli *cli);
int cmd_vps_restart(struct cli *cli);
int cmd_vps_pause(struct cli *cli);
int cmd_vps_resume(struct cli *cli);
int cmd_vps_delete(struct cli *cli);
int cmd_vps_logs(struct cli *cli);
int cmd_vps_console(struct cli *cli);
int cmd_ssh(struct cli *cli);
int cmd_qemu_check(struct cli *cli);
int cmd_qemu_acs_override(struct cli *cli);
int cmd_config_show(struct cli *cli);
int cmd_doctor(struct cli *cli);
int cmd_version(struct cli *cli);
int cmd_help(struct cli *cli);
int cmd_completion(struct cli *cli);
