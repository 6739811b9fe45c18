#pragma once
/* What a verb of the command line is: a row. The one table of rows stands in src/main.c; help, usage errors, shell
 * completion and the man page are made from it, and nothing else knows a verb or an option by name. */

#include <glib.h>
#include <stdbool.h>

#include "base/config.h"

struct cli;

enum cli_option_type {
    CLI_FLAG = 1,
    CLI_TEXT, /* one value; given twice, the last counts */
    CLI_LIST, /* may be given several times */
};

struct cli_option {
    const char *name; /* long name without "--"; NULL ends a table */
    char letter;      /* 0: none */
    enum cli_option_type type;
    const char *arg;     /* what the value is called in help; NULL for a flag */
    const char *choices; /* "a|b": the only values allowed; NULL: any */
    const char *help;
};

struct cli_verb {
    const char *path;       /* "task submit"; NULL ends the table */
    const char *positional; /* "ID", "[host|runner]"; NULL: none */
    int min_args, max_args;
    bool takes_command;               /* "-- COMMAND ARGS…" must follow */
    bool may_take_command;            /* … may follow */
    bool is_hidden;                   /* for the program itself: not in help, completion or the man page */
    const char *summary;              /* one line, no full stop */
    const char *help;                 /* paragraphs behind the summary; may be NULL */
    const struct cli_option *options; /* may be NULL; --help is added to every verb */
    /* Exit code. Errors that end the verb are printed by it with cli_fail. */
    int (*run)(struct cli *cli);
    /* A daemon: its settings are its options too. `run` is cli_run_daemon. */
    const struct config_key *config_keys;
    const char *config_file; /* read when it exists and --config is not given */
    int (*daemon)(const struct config *config);
    /* A tool for this node: is given the runner's settings (as the runner would read them), the options that were given ("name=value",
     * "name" for a flag) and the arguments. false with an error, which is printed. `run` is cli_run_tool. */
    bool (*tool)(const struct config *config, char *const *options, char *const *args, GError **error);
    /* Takes argv as it is, from the verb's name on: for helper processes. */
    int (*raw_main)(int argc, char **argv);
};

/* The verb whose path are the first words of args, the longest one; *ret_words is how many words that were. NULL when
 * there is none. */
const struct cli_verb *cli_verb_find(const struct cli_verb *verbs, char *const *args, int n_args, int *ret_words);

/* True when some verb's path begins with this word. */
bool cli_verb_is_group(const struct cli_verb *verbs, const char *word);
