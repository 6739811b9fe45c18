#include <string.h>

#include "base/error.h"
#include "cli/cli.h"

enum { MAX_WORDS_OF_A_PATH = 3 };

const struct cli_verb *cli_verb_find(const struct cli_verb *verbs, char *const *args, int n_args, int *ret_words) {
    for (int words = MIN(n_args, MAX_WORDS_OF_A_PATH); words > 0; words--) {
        const char *word[MAX_WORDS_OF_A_PATH + 1] = {0};
        g_autofree char *path = NULL;

        for (int i = 0; i < words; i++)
            word[i] = args[i];
        path = g_strjoinv(" ", (char **)word);
        for (const struct cli_verb *verb = verbs; verb->path; verb++) {
            if (strcmp(verb->path, path) != 0)
                continue;
            *ret_words = words;
            return verb;
        }
    }
    return NULL;
}

bool cli_verb_is_group(const struct cli_verb *verbs, const char *word) {
    size_t len = strlen(word);

    for (; verbs->path; verbs++)
        if (strncmp(verbs->path, word, len) == 0 && verbs->path[len] == ' ')
            return true;
    return false;
}

/* ---- the options of a verb ---- */

static const struct cli_option help_option = {"help", 'h', CLI_FLAG, NULL, NULL, "show this help"};
static const struct cli_option config_option = {"config", 0, CLI_TEXT, "FILE", NULL, "read the settings from FILE"};

static const char *config_arg_name(const struct config_key *key) {
    switch (key->type) {
    case CONFIG_INT: return "NUMBER";
    case CONFIG_BYTES: return "SIZE";
    case CONFIG_BOOL: return "true|false";
    case CONFIG_PATH: return "PATH";
    case CONFIG_LIST: return "A;B;…";
    case CONFIG_STRING:
    case CONFIG_CHOICE: break;
    }
    return "VALUE";
}

/* Interned: the table of keys is constant, so this set of names is bounded. */
static const char *option_name(const char *key_name) {
    g_autofree char *name = g_strdelimit(g_strdup(key_name), "_", '-');

    return g_intern_string(name);
}

static void add_config_options(GArray *options, const struct config_key *keys) {
    g_array_append_val(options, config_option);
    for (; keys->name; keys++) {
        struct cli_option option = {option_name(keys->name), 0,         CLI_TEXT, config_arg_name(keys),
                                    keys->choices,           keys->help};

        if (keys->choices)
            option.arg = keys->choices;
        if (keys->type == CONFIG_BOOL)
            option.choices = "true|false";
        g_array_append_val(options, option);
    }
}

GArray *cli_options_of(const struct cli_verb *verb) {
    GArray *options = g_array_new(FALSE, FALSE, sizeof(struct cli_option));

    for (const struct cli_option *option = verb->options; option && option->name; option++)
        g_array_append_val(options, *option);
    if (verb->config_keys)
        add_config_options(options, verb->config_keys);
    g_array_append_val(options, help_option);
    return options;
}

/* ---- reading them ---- */

static GOptionEntry entry_of(const struct cli_option *option, struct cli_value *value) {
    /* FILENAME kinds take the bytes as they are, whatever the locale. */
    switch (option->type) {
    case CLI_FLAG: return (GOptionEntry){option->name, option->letter, 0, G_OPTION_ARG_NONE, &value->flag, NULL, NULL};
    case CLI_LIST:
        return (GOptionEntry){option->name, option->letter, 0, G_OPTION_ARG_FILENAME_ARRAY, &value->list, NULL, NULL};
    case CLI_TEXT: break;
    }
    return (GOptionEntry){option->name, option->letter, 0, G_OPTION_ARG_FILENAME, &value->text, NULL, NULL};
}

static GOptionContext *context_of(struct cli *cli) {
    GOptionContext *context = g_option_context_new(NULL);
    g_autoptr(GArray) entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));

    for (guint i = 0; i < cli->options->len; i++) {
        GOptionEntry entry = entry_of(&g_array_index(cli->options, struct cli_option, i), &cli->values[i]);
        g_array_append_val(entries, entry);
    }
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, (GOptionEntry *)(void *)entries->data, NULL);
    return context;
}

static bool check_choices(struct cli *cli, GError **error) {
    for (guint i = 0; i < cli->options->len; i++) {
        const struct cli_option *option = &g_array_index(cli->options, struct cli_option, i);
        g_auto(GStrv) choices = option->choices ? g_strsplit(option->choices, "|", -1) : NULL;

        if (choices && cli->values[i].text && !g_strv_contains((const char *const *)choices, cli->values[i].text))
            return kr_fail(error, USAGE, "--%s is \"%s\", it must be one of %s", option->name, cli->values[i].text,
                           option->choices);
    }
    return true;
}

static bool check_args(const struct cli *cli, bool has_dashes, GError **error) {
    const struct cli_verb *verb = cli->verb;
    int n = (int)g_strv_length(cli->args);

    if (n > verb->max_args && verb->takes_command)
        return kr_fail(error, USAGE, "unexpected argument \"%s\": the command goes behind \"--\"",
                       cli->args[verb->max_args]);
    if (n > verb->max_args)
        return kr_fail(error, USAGE, "unexpected argument \"%s\"", cli->args[verb->max_args]);
    if (n < verb->min_args)
        return kr_fail(error, USAGE, "%s is missing", verb->positional);
    if (verb->takes_command && !cli->command[0])
        return kr_fail(error, USAGE, "the command is missing: write it behind \"--\"");
    return verb->takes_command || verb->may_take_command || !has_dashes || !cli->command[0] ||
           kr_fail(error, USAGE, "unexpected argument \"%s\"", cli->command[0]);
}

/* g_strv of n words; "-" alone would be eaten by nobody, so there is no special case. */
static char **copy_words(char *const *words, int n) {
    char **copy = g_new0(char *, n + 1);

    for (int i = 0; i < n; i++)
        copy[i] = g_strdup(words[i]);
    return copy;
}

bool cli_parse(struct cli *cli, int argc, char **argv, GError **error) {
    g_autoptr(GOptionContext) context = NULL;
    g_autoptr(GError) why = NULL;
    g_auto(GStrv) front = NULL;
    int n_front = 0;

    while (n_front < argc && strcmp(argv[n_front], "--") != 0)
        n_front++;
    cli->command = copy_words(argv + n_front + 1, MAX(argc - n_front - 1, 0));
    cli->options = cli_options_of(cli->verb);
    cli->values = g_new0(struct cli_value, cli->options->len);
    front = g_new0(char *, n_front + 2);
    front[0] = g_strdup("kohakuriver");
    for (int i = 0; i < n_front; i++)
        front[i + 1] = g_strdup(argv[i]);
    context = context_of(cli);
    if (!g_option_context_parse_strv(context, &front, &why))
        return kr_fail(error, USAGE, "%s", why->message);
    cli->args = copy_words(front + 1, (int)g_strv_length(front) - 1);
    if (cli_flag(cli, "help"))
        return true;
    return check_choices(cli, error) && check_args(cli, n_front < argc, error);
}

void cli_clear(struct cli *cli) {
    for (guint i = 0; cli->values && i < cli->options->len; i++) {
        g_free(cli->values[i].text);
        g_strfreev(cli->values[i].list);
    }
    g_clear_pointer(&cli->values, g_free);
    g_clear_pointer(&cli->options, g_array_unref);
    g_clear_pointer(&cli->args, g_strfreev);
    g_clear_pointer(&cli->command, g_strfreev);
    g_clear_pointer(&cli->host_url, g_free);
}

/* ---- asking for them ---- */

static const struct cli_value *value_of(const struct cli *cli, const char *name) {
    for (guint i = 0; i < cli->options->len; i++)
        if (strcmp(g_array_index(cli->options, struct cli_option, i).name, name) == 0)
            return &cli->values[i];
    g_error("the verb \"%s\" has no option --%s", cli->verb->path, name);
}

bool cli_flag(const struct cli *cli, const char *name) { return value_of(cli, name)->flag; }

const char *cli_text(const struct cli *cli, const char *name) { return value_of(cli, name)->text; }

char *const *cli_list(const struct cli *cli, const char *name) {
    static char *const none[] = {NULL};
    char **list = value_of(cli, name)->list;

    return list ? list : none;
}

bool cli_wants_json(const struct cli *cli) { return g_strcmp0(cli_text(cli, "format"), "json") == 0; }

bool cli_task_id_from_str(const char *text, uint32_t *ret_id, GError **error) {
    guint64 id;

    if (!g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &id, NULL))
        return kr_fail(error, USAGE, "\"%s\" is not a task's number", text);
    *ret_id = (uint32_t)id;
    return true;
}
