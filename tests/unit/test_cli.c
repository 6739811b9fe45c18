/* The command line's pure parts: finding a verb, reading its options, the words for people. What needs a host is tested
 * by tests/cli. */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"

static const struct config_key keys[] = {
    {.name = "idle_ms", .type = CONFIG_INT, .fallback = "5", .min = 1, .max = 9, .help = "a number"},
    {.name = "mode", .type = CONFIG_CHOICE, .fallback = "a", .choices = "a|b", .help = "a choice"},
    {0},
};
static const struct cli_option options[] = {
    {"target", 't', CLI_LIST, "T", NULL, "where"},
    {"format", 'f', CLI_TEXT, "F", "table|json", "how"},
    {"quiet", 'q', CLI_FLAG, NULL, NULL, "less"},
    {0},
};
static const struct cli_verb verbs[] = {
    {.path = "task submit", .takes_command = true, .summary = "x", .options = options},
    {.path = "task list", .summary = "x", .options = options},
    {.path = "task", .positional = "ID", .min_args = 1, .max_args = 2, .summary = "x"},
    {.path = "daemon", .summary = "x", .config_keys = keys},
    {.path = NULL},
};

struct parse {
    struct cli cli;
    GError *error;
    bool ok;
};

/* Words separated by '|', so that they may hold spaces and be empty. */
static struct parse parse(const char *path, const char *line) {
    g_auto(GStrv) words = g_strsplit(line, "|", -1), path_words = g_strsplit(path, " ", -1);
    struct parse result = {.cli = {.verbs = verbs}};
    int n;

    result.cli.verb = cli_verb_find(verbs, path_words, (int)g_strv_length(path_words), &n);
    result.ok = cli_parse(&result.cli, line[0] ? (int)g_strv_length(words) : 0, words, &result.error);
    return result;
}

static void parse_clear(struct parse *result) {
    cli_clear(&result->cli);
    g_clear_error(&result->error);
}

static void check_refused(const char *path, const char *line, const char *words) {
    struct parse result = parse(path, line);

    g_assert_false(result.ok);
    g_assert_error(result.error, KR_ERROR, KR_ERROR_USAGE);
    g_assert_nonnull(strstr(result.error->message, words));
    parse_clear(&result);
}

static void test_finds_the_longest_verb(void) {
    char *two[] = {(char *)"task", (char *)"list", (char *)"x"}, *one[] = {(char *)"task", (char *)"7"};
    char *none[] = {(char *)"tas"};
    int n = 0;

    g_assert_cmpstr(cli_verb_find(verbs, two, 3, &n)->path, ==, "task list");
    g_assert_cmpint(n, ==, 2);
    g_assert_cmpstr(cli_verb_find(verbs, one, 2, &n)->path, ==, "task");
    g_assert_cmpint(n, ==, 1);
    g_assert_null(cli_verb_find(verbs, none, 1, &n));
    g_assert_null(cli_verb_find(verbs, none, 0, &n));
    g_assert_true(cli_verb_is_group(verbs, "task"));
    g_assert_false(cli_verb_is_group(verbs, "tas"));
    g_assert_false(cli_verb_is_group(verbs, "daemon"));
}

static void test_reads_options_wherever_they_stand(void) {
    struct parse result = parse("task submit", "-t|a b|--target=|-f|json|-q|--|--quiet||--");

    g_assert_no_error(result.error);
    g_assert_true(cli_flag(&result.cli, "quiet"));
    g_assert_true(cli_wants_json(&result.cli));
    g_assert_cmpstr(cli_list(&result.cli, "target")[0], ==, "a b");
    g_assert_cmpstr(cli_list(&result.cli, "target")[1], ==, "");
    g_assert_null(cli_list(&result.cli, "target")[2]);
    g_assert_cmpuint(g_strv_length(result.cli.command), ==, 3);
    g_assert_cmpstr(result.cli.command[0], ==, "--quiet");
    g_assert_cmpstr(result.cli.command[1], ==, "");
    g_assert_cmpstr(result.cli.command[2], ==, "--");
    parse_clear(&result);
}

static void test_defaults_are_empty(void) {
    struct parse result = parse("task list", "");

    g_assert_true(result.ok);
    g_assert_false(cli_flag(&result.cli, "quiet"));
    g_assert_null(cli_text(&result.cli, "format"));
    g_assert_null(cli_list(&result.cli, "target")[0]);
    g_assert_null(result.cli.args[0]);
    parse_clear(&result);
}

static void test_refuses_what_it_does_not_know(void) {
    check_refused("task list", "--frob", "--frob");
    check_refused("task list", "extra", "extra");
    check_refused("task list", "-f|yaml", "table|json");
    check_refused("task list", "--|x", "x");
    check_refused("task submit", "x|--|y", "\"--\"");
    check_refused("task submit", "-q", "command is missing");
    check_refused("task submit", "--", "command is missing");
    check_refused("task", "", "ID is missing");
    check_refused("task", "1|2|3", "3");
    check_refused("daemon", "--mode|c", "a|b");
}

static void test_settings_are_options(void) {
    struct parse result = parse("daemon", "--idle-ms=7|--config|/x");

    g_assert_no_error(result.error);
    g_assert_cmpstr(cli_text(&result.cli, "idle-ms"), ==, "7");
    g_assert_cmpstr(cli_text(&result.cli, "config"), ==, "/x");
    g_assert_null(cli_text(&result.cli, "mode"));
    parse_clear(&result);
}

static void test_task_ids(void) {
    uint32_t id = 0;

    g_assert_true(cli_task_id_from_str("4294967295", &id, NULL));
    g_assert_cmpuint(id, ==, 4294967295U);
    for (const char *const *bad = (const char *const[]){"", "0", "-1", "+1", " 1", "1 ", "4294967296", "1x", NULL};
         *bad; bad++)
        g_assert_false(cli_task_id_from_str(*bad, &id, NULL));
    g_assert_cmpuint(id, ==, 4294967295U);
}

static void test_clean_takes_control_characters_out(void) {
    g_autofree char *clean = cli_clean("a\x1b[31mb\nc\td\x7f\xc2\x9b"
                                       "e\xff"
                                       "f 日本");

    g_assert_cmpstr(clean, ==,
                    "a [31mb c d  e\xef\xbf\xbd"
                    "f 日本");
}

static int exit_code_of(const char *text) {
    json_t *task = json_loads(text, 0, NULL);
    int code = show_exit_code(task);

    json_decref(task);
    return code;
}

static void test_exit_code_stands_for_the_task(void) {
    g_assert_cmpint(exit_code_of("{\"state\":\"completed\",\"exit_code\":0}"), ==, 0);
    g_assert_cmpint(exit_code_of("{\"state\":\"failed\",\"exit_code\":7}"), ==, 7);
    g_assert_cmpint(exit_code_of("{\"state\":\"failed\",\"exit_code\":127}"), ==, 127);
    g_assert_cmpint(exit_code_of("{\"state\":\"failed\"}"), ==, 1);
    g_assert_cmpint(exit_code_of("{\"state\":\"killed\"}"), ==, 1);
    g_assert_cmpint(exit_code_of("{\"state\":\"killed\",\"exit_code\":143}"), ==, 143);
    /* Asked to end and ended with 0: killed all the same. A code that has no place in a byte never becomes success. */
    g_assert_cmpint(exit_code_of("{\"state\":\"killed\",\"exit_code\":0}"), ==, 1);
    g_assert_cmpint(exit_code_of("{\"state\":\"failed\",\"exit_code\":256}"), ==, 1);
    g_assert_cmpint(exit_code_of("{\"state\":\"lost\"}"), ==, 1);
}

static void test_command_is_quoted_where_it_must_be(void) {
    json_t *task = json_pack("{s:[s,s,s,s]}", "command", "python3", "a b", "", "x='y'");
    g_autofree char *text = show_command(task);
    g_auto(GStrv) back = NULL;

    g_assert_true(g_shell_parse_argv(text, NULL, &back, NULL));
    g_assert_cmpuint(g_strv_length(back), ==, 4);
    g_assert_cmpstr(back[1], ==, "a b");
    g_assert_cmpstr(back[2], ==, "");
    g_assert_cmpstr(back[3], ==, "x='y'");
    json_decref(task);
}

static void test_where_names_what_is_reserved(void) {
    json_t *task = json_loads("{\"node\":\"n\",\"gpus\":[{\"index\":2},{\"index\":0}],\"numa\":1,\"cores\":4,"
                              "\"memory_bytes\":1073741824}",
                              0, NULL);
    json_t *bare = json_loads("{\"node\":\"n\",\"gpus\":[]}", 0, NULL);
    g_autofree char *text = show_where(task), *none = show_where(bare);

    g_assert_cmpstr(text, ==, "n: GPUs 2,0, NUMA node 1, 4 cores, 1.0 GiB memory");
    g_assert_cmpstr(none, ==, "n: no GPU");
    json_decref(task);
    json_decref(bare);
}

static void test_query_escapes(void) {
    g_autofree char *query = cli_api_query("/tasks", "node", "a&b/c d", "status", NULL, "limit", "5", NULL);
    g_autofree char *bare = cli_api_query("/tasks", "node", NULL, NULL);

    g_assert_cmpstr(query, ==, "/tasks?node=a%26b%2Fc%20d&limit=5");
    g_assert_cmpstr(bare, ==, "/tasks");
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/verb/longest-path-wins", test_finds_the_longest_verb);
    g_test_add_func("/cli/args/options-and-exact-command", test_reads_options_wherever_they_stand);
    g_test_add_func("/cli/args/defaults", test_defaults_are_empty);
    g_test_add_func("/cli/args/unknown-is-refused", test_refuses_what_it_does_not_know);
    g_test_add_func("/cli/args/settings-are-options", test_settings_are_options);
    g_test_add_func("/cli/args/task-ids", test_task_ids);
    g_test_add_func("/cli/show/R10-no-control-characters", test_clean_takes_control_characters_out);
    g_test_add_func("/cli/show/exit-codes", test_exit_code_stands_for_the_task);
    g_test_add_func("/cli/show/command-can-be-pasted", test_command_is_quoted_where_it_must_be);
    g_test_add_func("/cli/show/where", test_where_names_what_is_reserved);
    g_test_add_func("/cli/api/query-escapes", test_query_escapes);
    return g_test_run();
}
