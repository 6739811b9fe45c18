/* config show, version, help, completion. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/table.h"
#include "model/wire.h"

/* ---- config show ---- */

static void print_settings(const char *daemon, const json_t *settings) {
    static const struct table_column columns[] = {{"SETTING", TABLE_LEFT, 0, false},
                                                  {"VALUE", TABLE_LEFT, 32, false},
                                                  {"FROM", TABLE_LEFT, 36, false},
                                                  {"MEANING", TABLE_LEFT, 44, false, true},
                                                  {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *row;
    size_t i;

    json_array_foreach (settings, i, row) {
        table_row(table);
        table_cell(table, show_str(row, "key"));
        table_cell(table, show_str(row, "value"));
        table_cell(table, show_str(row, "source"));
        table_cell(table, show_str(row, "help"));
    }
    printf("[%s]\n", daemon);
    table_print(table);
    table_free(table);
}

/* The settings of one daemon, read as it would read them; NULL with *error. */
static json_t *settings_of(const struct cli *cli, const struct cli_verb *daemon, GError **error) {
    struct config *config = config_load(daemon->config_keys, daemon->path, cli_text(cli, "config"), daemon->config_file,
                                        NULL, error);
    json_t *settings = config ? config_to_json(config) : NULL;

    config_free(config);
    return settings;
}

int cmd_config_show(struct cli *cli) {
    json_t *all = json_object();
    GError *error = NULL;
    bool is_known = !cli->args[0];
    const char *daemon;
    json_t *settings;

    for (const struct cli_verb *verb = cli->verbs; verb->path && !error; verb++) {
        if (!verb->daemon || (cli->args[0] && strcmp(cli->args[0], verb->path) != 0))
            continue;
        is_known = true;
        settings = settings_of(cli, verb, &error);
        if (settings)
            json_object_set_new(all, verb->path, settings);
    }
    if (!is_known)
        kr_fail(&error, USAGE, "config show: \"%s\" is neither host nor runner", cli->args[0]);
    if (!error && cli_wants_json(cli))
        cli_print_json(all);
    else if (!error)
        json_object_foreach (all, daemon, settings)
            print_settings(daemon, settings);
    json_decref(all);
    return error ? cli_fail(error) : CLI_EXIT_OK;
}

/* ---- version ---- */

/* Asks the host only when one was named: a version must be had without one. */
int cmd_version(struct cli *cli) {
    json_t *answer = json_pack("{s:s,s:i}", "version", KR_VERSION, "protocol", (int)WIRE_PROTOCOL), *host = NULL;
    GError *error = NULL;

    if (cli->host_is_given) {
        struct cli_api *api = cli_api_new(cli->host_url);
        host = cli_api_get(api, "/version", &error);
        cli_api_free(api);
    }
    if (host)
        json_object_set_new(answer, "host", host);
    if (cli_wants_json(cli)) {
        cli_print_json(answer);
    } else {
        printf("kohakuriver %s, protocol %d\n", KR_VERSION, WIRE_PROTOCOL);
        if (host)
            printf("host %s: %s, cluster %s\n", cli->host_url, show_str(host, "version"), show_str(host, "cluster_id"));
    }
    json_decref(answer);
    return error ? cli_fail(error) : CLI_EXIT_OK;
}

/* ---- help, completion ---- */

int cmd_help(struct cli *cli) {
    int n_args = (int)g_strv_length(cli->args), words;
    const struct cli_verb *verb = cli_verb_find(cli->verbs, cli->args, n_args, &words);

    if (cli_flag(cli, "man"))
        cli_print_man(cli->verbs);
    else if (n_args == 0)
        cli_print_overview(cli->verbs, false);
    else if (verb)
        cli_print_help(verb);
    else if (n_args == 1 && cli_verb_is_group(cli->verbs, cli->args[0]))
        cli_print_group(cli->verbs, cli->args[0], false);
    else {
        g_autofree char *words_text = g_strjoinv(" ", cli->args), *clean = cli_clean(words_text);
        fprintf(stderr, "kohakuriver: there is no \"%s\"\nhint: `kohakuriver help` lists what there is\n", clean);
        return CLI_EXIT_USAGE;
    }
    return CLI_EXIT_OK;
}

int cmd_completion(struct cli *cli) {
    GError *error = NULL;

    if (cli_print_completion(cli->verbs, cli->args[0]))
        return CLI_EXIT_OK;
    kr_fail(&error, USAGE, "completion: \"%s\" is none of bash, zsh, fish", cli->args[0]);
    return cli_fail(error);
}
