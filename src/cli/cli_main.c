#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"

#define DEFAULT_HOST_URL "http://127.0.0.1:8000"

/* ---- talking to the person in front ---- */

char *cli_clean(const char *text) {
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_new(NULL);

    for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        g_string_append_unichar(clean, g_unichar_iscntrl(c) ? ' ' : c);
    }
    return g_string_free(clean, FALSE);
}

int cli_fail(GError *error) {
    g_autofree char *message = cli_clean(error->message);
    const char *hint = kr_error_hint(error);
    int exit_code = kr_error_exit_code(error);

    fprintf(stderr, "kohakuriver: %s\n", message);
    if (hint)
        fprintf(stderr, "hint: %s\n", hint);
    g_error_free(error);
    return exit_code;
}

void cli_note(const char *format, ...) {
    g_autofree char *text = NULL, *clean = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    clean = cli_clean(text);
    fprintf(stderr, "note: %s\n", clean);
}

void cli_print_json(const json_t *json) {
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

/* ---- from argv to a verb ---- */

static int usage_error(const struct cli_verb *verb, GError *error) {
    g_autofree char *usage = cli_usage_of(verb), *message = cli_clean(error->message);

    fprintf(stderr, "kohakuriver: %s: %s\nusage: %s\nhint: `kohakuriver help %s` says more\n", verb->path, message,
            usage, verb->path);
    g_error_free(error);
    return CLI_EXIT_USAGE;
}

static bool has_option(const struct cli *cli, const char *name) {
    for (guint i = 0; i < cli->options->len; i++)
        if (strcmp(g_array_index(cli->options, struct cli_option, i).name, name) == 0)
            return true;
    return false;
}

static bool set_host_url(struct cli *cli, const char *early, GError **error) {
    const char *url = cli_text(cli, "host");

    if (!url)
        url = early ? early : getenv("KOHAKURIVER_HOST");
    cli->host_is_given = url && url[0];
    if (!cli->host_is_given)
        url = DEFAULT_HOST_URL;
    if (strstr(url, "://") && !g_str_has_prefix(url, "http://") && !g_str_has_prefix(url, "https://"))
        return kr_fail(error, USAGE, "the host \"%s\" is neither an http:// nor an https:// address", url);
    if (!g_utf8_validate(url, -1, NULL) || strpbrk(url, " \t\r\n"))
        return kr_fail(error, USAGE, "the host \"%s\" is not an address", url);
    cli->host_url = strstr(url, "://") ? g_strdup(url) : g_strconcat("http://", url, NULL);
    for (size_t len = strlen(cli->host_url); len > 0 && cli->host_url[len - 1] == '/'; len--)
        cli->host_url[len - 1] = '\0';
    return true;
}

static int run_verb(struct cli *cli, const char *early_host, int argc, char **argv) {
    GError *error = NULL;

    if (!cli_parse(cli, argc, argv, &error))
        return usage_error(cli->verb, error);
    if (cli_flag(cli, "help")) {
        cli_print_help(cli->verb);
        return CLI_EXIT_OK;
    }
    if (has_option(cli, "host") && !cli->verb->daemon && !set_host_url(cli, early_host, &error))
        return usage_error(cli->verb, error);
    return cli->verb->run(cli);
}

static int no_such_verb(const struct cli_verb *verbs, char *const *args, int n_args) {
    g_autofree char *word = n_args > 0 ? cli_clean(args[0]) : NULL;

    if (!word) {
        cli_print_overview(verbs, true);
    } else if (cli_verb_is_group(verbs, word)) {
        bool wants_help = n_args > 1 && (strcmp(args[1], "--help") == 0 || strcmp(args[1], "-h") == 0);
        g_autofree char *second = n_args > 1 ? cli_clean(args[1]) : NULL;
        if (second && !wants_help)
            fprintf(stderr, "kohakuriver: there is no \"%s %s\"\n", word, second);
        cli_print_group(verbs, word, !wants_help);
        return wants_help ? CLI_EXIT_OK : CLI_EXIT_USAGE;
    } else {
        fprintf(stderr, "kohakuriver: there is no \"%s\"\nhint: `kohakuriver help` lists what there is\n", word);
    }
    return CLI_EXIT_USAGE;
}

/* --host may stand before the verb too. Returns how many words it took. */
static int early_options(int n_args, char **args, const char **ret_host) {
    int used = 0;

    while (used < n_args && args[used][0] == '-') {
        if (g_str_has_prefix(args[used], "--host=")) {
            *ret_host = args[used++] + strlen("--host=");
        } else if (strcmp(args[used], "--host") == 0 && used + 1 < n_args) {
            *ret_host = args[used + 1];
            used += 2;
        } else {
            break;
        }
    }
    return used;
}

/* Tables are measured in columns of a UTF-8 text, also where no locale is set. */
static void set_locale(void) {
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

int cli_main(const struct cli_verb *verbs, int argc, char **argv) {
    struct cli cli = {.verbs = verbs};
    const char *early_host = NULL;
    char help_word[] = "help", version_word[] = "version";
    int words = 0, exit_code, used;

    set_locale();
    used = early_options(argc - 1, argv + 1, &early_host);
    argc -= used + 1;
    argv += used + 1;
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0))
        argv[0] = help_word;
    else if (argc > 0 && strcmp(argv[0], "--version") == 0)
        argv[0] = version_word;
    cli.verb = cli_verb_find(verbs, argv, argc, &words);
    if (!cli.verb)
        return no_such_verb(verbs, argv, argc);
    if (cli.verb->raw_main)
        return cli.verb->raw_main(argc, argv);
    exit_code = run_verb(&cli, early_host, argc - words, argv + words);
    cli_clear(&cli);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "kohakuriver: writing the output: %s\n", g_strerror(errno));
        return CLI_EXIT_FAILED;
    }
    return exit_code;
}

int cli_run_daemon(struct cli *cli) {
    g_autoptr(GPtrArray) overrides = g_ptr_array_new_with_free_func(g_free);
    GError *error = NULL;
    struct config *config;
    int exit_code;

    for (const struct config_key *key = cli->verb->config_keys; key->name; key++) {
        g_autofree char *option = g_strdelimit(g_strdup(key->name), "_", '-');
        const char *text = cli_text(cli, option);
        if (text)
            g_ptr_array_add(overrides, g_strdup_printf("%s=%s", key->name, text));
    }
    g_ptr_array_add(overrides, NULL);
    config = config_load(cli->verb->config_keys, cli->verb->path, cli_text(cli, "config"), cli->verb->config_file,
                         (char *const *)overrides->pdata, &error);
    if (!config)
        return cli_fail(error);
    exit_code = cli->verb->daemon(config);
    config_free(config);
    return exit_code;
}

/* "name=value" of each option that was given. */
static char **given_options(const struct cli *cli) {
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (guint i = 0; i < cli->options->len; i++) {
        const struct cli_option *option = &g_array_index(cli->options, struct cli_option, i);
        const char *text = option->type == CLI_TEXT ? cli_text(cli, option->name) : NULL;
        g_autofree char *pair = text ? g_strconcat(option->name, "=", text, NULL) : NULL;
        if (pair || (option->type == CLI_FLAG && cli_flag(cli, option->name)))
            g_strv_builder_add(builder, pair ? pair : option->name);
    }
    return g_strv_builder_end(builder);
}

static const struct cli_verb *runner_verb(const struct cli_verb *verbs) {
    while (verbs->path && strcmp(verbs->path, "runner") != 0)
        verbs++;
    return verbs;
}

int cli_run_tool(struct cli *cli) {
    const struct cli_verb *runner = runner_verb(cli->verbs);
    g_auto(GStrv) options = given_options(cli);
    GError *error = NULL;
    struct config *config = config_load(runner->config_keys, runner->path, cli_text(cli, "config"), runner->config_file,
                                        NULL, &error);
    bool ok = config && cli->verb->tool(config, options, cli->args, &error);

    config_free(config);
    return ok ? CLI_EXIT_OK : cli_fail(error);
}
