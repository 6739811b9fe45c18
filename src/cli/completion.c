/* Completion scripts, made of the table of verbs. They are static: nothing is asked of the host while typing. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* Words that may follow `prefix` ("" or "task") in a verb's path, each once, separated by spaces. */
static char *next_words(const struct cli_verb *verbs, const char *prefix) {
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    size_t len = strlen(prefix);

    for (; verbs->path; verbs++) {
        const char *rest = verbs->path + len + (len ? 1 : 0);
        if (verbs->is_hidden || strncmp(verbs->path, prefix, len) != 0 || (len && verbs->path[len] != ' '))
            continue;
        g_autofree char *word = g_strndup(rest, strcspn(rest, " "));
        if (!g_ptr_array_find_with_equal_func(words, word, g_str_equal, NULL))
            g_ptr_array_add(words, g_steal_pointer(&word));
    }
    g_ptr_array_add(words, NULL);
    return g_strjoinv(" ", (char **)words->pdata);
}

/* What is the beginning of a path and no verb itself: "task", "qemu", "qemu image". */
static GPtrArray *groups_of(const struct cli_verb *verbs) {
    GPtrArray *groups = g_ptr_array_new_with_free_func(g_free);

    for (const struct cli_verb *verb = verbs; verb->path; verb++)
        for (const char *space = strchr(verb->path, ' '); space; space = strchr(space + 1, ' ')) {
            g_autofree char *group = g_strndup(verb->path, (gsize)(space - verb->path));
            if (!g_ptr_array_find_with_equal_func(groups, group, g_str_equal, NULL))
                g_ptr_array_add(groups, g_steal_pointer(&group));
        }
    return groups;
}

/* What can stand where the positional argument is, if that is a closed list: "[host|runner]" -> "host runner". */
static char *positional_words(const struct cli_verb *verb) {
    g_autofree char *text = g_strdup(verb->positional ? verb->positional : "");

    if (!strchr(text, '|'))
        return g_strdup("");
    g_strdelimit(text, "[]|", ' ');
    return g_strdup(g_strstrip(text));
}

/* ---- bash, and zsh through bashcompinit ---- */

static void bash_verb(const struct cli_verb *verb) {
    g_autoptr(GArray) options = cli_options_of(verb);
    g_autofree char *words = positional_words(verb);

    printf("    '%s')\n        words='%s", verb->path, words);
    for (guint i = 0; i < options->len; i++)
        printf(" --%s", g_array_index(options, struct cli_option, i).name);
    printf("'\n        case \"$prev\" in\n");
    for (guint i = 0; i < options->len; i++) {
        const struct cli_option *option = &g_array_index(options, struct cli_option, i);
        g_autofree char *choices = g_strdelimit(g_strdup(option->choices ? option->choices : ""), "|", ' ');
        if (option->type == CLI_FLAG)
            continue;
        printf("        --%s", option->name);
        if (option->letter)
            printf("|-%c", option->letter);
        if (option->arg && (strstr(option->arg, "FILE") || strstr(option->arg, "PATH")))
            printf(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
        else
            printf(") words='%s' ;;\n", choices);
    }
    printf("        esac ;;\n");
}

static void bash_body(const struct cli_verb *verbs) {
    g_autoptr(GPtrArray) groups = groups_of(verbs);
    g_autofree char *top = next_words(verbs, "");

    printf(
        "_kohakuriver() {\n"
        "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\" verb='' words='' i=1 word\n"
        "    COMPREPLY=()\n"
        "    while [ \"$i\" -lt \"$COMP_CWORD\" ]; do\n"
        "        word=\"${COMP_WORDS[i]}\"\n"
        "        [ \"$word\" = -- ] && return\n"
        "        if [ \"$word\" = --host ] && [ -z \"$verb\" ]; then i=$((i + 2)); continue; fi\n"
        "        case \"$verb\" in\n"
        "        '') verb=\"$word\" ;;\n");
    for (guint i = 0; i < groups->len; i++)
        printf("        '%s') verb=\"$verb $word\" ;;\n", (char *)groups->pdata[i]);
    printf("        esac\n        i=$((i + 1))\n    done\n    case \"$verb\" in\n    '') words='%s --host' ;;\n", top);
    for (guint i = 0; i < groups->len; i++) {
        g_autofree char *words = next_words(verbs, groups->pdata[i]);
        printf("    '%s') words='%s' ;;\n", (char *)groups->pdata[i], words);
    }
    for (; verbs->path; verbs++)
        if (!verbs->is_hidden)
            bash_verb(verbs);
    printf("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n");
}

static void print_bash(const struct cli_verb *verbs) {
    printf("# bash completion of kohakuriver: source <(kohakuriver completion bash)\n");
    bash_body(verbs);
    printf("complete -F _kohakuriver kohakuriver\n");
}

static void print_zsh(const struct cli_verb *verbs) {
    printf("#compdef kohakuriver\n# zsh completion of kohakuriver: source <(kohakuriver completion zsh)\n"
           "autoload -U +X bashcompinit && bashcompinit\n");
    bash_body(verbs);
    printf("complete -F _kohakuriver kohakuriver\n");
}

/* ---- fish ---- */

static char *fish_quote(const char *text) {
    GString *quoted = g_string_new("'");

    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            g_string_append_c(quoted, '\\');
        g_string_append_c(quoted, *text);
    }
    g_string_append_c(quoted, '\'');
    return g_string_free(quoted, FALSE);
}

static void fish_option(const char *condition, const struct cli_option *option) {
    g_autofree char *help = fish_quote(option->help);

    printf("complete -c kohakuriver -n '%s' -l %s -d %s", condition, option->name, help);
    if (option->letter)
        printf(" -s %c", option->letter);
    if (option->type != CLI_FLAG)
        printf(" -r");
    if (option->choices) {
        g_autofree char *choices = g_strdelimit(g_strdup(option->choices), "|", ' ');
        printf(" -a '%s'", choices);
    }
    putchar('\n');
}

static unsigned n_words(const char *path) {
    g_auto(GStrv) word = g_strsplit(path, " ", -1);

    return g_strv_length(word);
}

/* "task kill" -> each of its words has been typed. */
static char *fish_seen(const char *path) {
    g_auto(GStrv) word = g_strsplit(path, " ", -1);
    g_autofree char *joined = g_strjoinv("; and __fish_seen_subcommand_from ", word);

    return g_strconcat("__fish_seen_subcommand_from ", joined, NULL);
}

/* A group below a group: what may follow its first word. */
static void fish_group(const char *group) {
    const char *space = strrchr(group, ' ');
    g_autofree char *before = space ? g_strndup(group, (gsize)(space - group)) : NULL;
    g_autofree char *seen = before ? fish_seen(before) : NULL;

    if (before)
        printf("complete -c kohakuriver -f -n '%s; and test (count (commandline -opc)) -eq %u' -a %s -d '%s …'\n", seen,
               n_words(before) + 1, space + 1, group);
    else
        printf("complete -c kohakuriver -f -n '__fish_use_subcommand' -a %s -d '%s …'\n", group, group);
}

static void fish_verb(const struct cli_verb *verb) {
    g_autoptr(GArray) options = cli_options_of(verb);
    g_autofree char *words = positional_words(verb), *summary = fish_quote(verb->summary);
    const char *last = strrchr(verb->path, ' ') ? strrchr(verb->path, ' ') + 1 : verb->path;
    g_autofree char *before = last > verb->path ? g_strndup(verb->path, (gsize)(last - verb->path) - 1) : NULL;
    g_autofree char *seen = before ? fish_seen(before) : NULL, *condition = fish_seen(verb->path);

    if (before)
        printf("complete -c kohakuriver -f -n '%s; and test (count (commandline -opc)) -eq %u' -a %s -d %s\n", seen,
               n_words(before) + 1, last, summary);
    else
        printf("complete -c kohakuriver -f -n '__fish_use_subcommand' -a %s -d %s\n", last, summary);
    if (words[0])
        printf("complete -c kohakuriver -f -n '%s' -a '%s'\n", condition, words);
    for (guint i = 0; i < options->len; i++)
        fish_option(condition, &g_array_index(options, struct cli_option, i));
}

static void print_fish(const struct cli_verb *verbs) {
    g_autoptr(GPtrArray) groups = groups_of(verbs);

    printf("# fish completion of kohakuriver: kohakuriver completion fish | source\n");
    for (guint i = 0; i < groups->len; i++)
        fish_group(groups->pdata[i]);
    for (; verbs->path; verbs++)
        if (!verbs->is_hidden)
            fish_verb(verbs);
}

bool cli_print_completion(const struct cli_verb *verbs, const char *shell) {
    if (strcmp(shell, "bash") == 0)
        print_bash(verbs);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(verbs);
    else if (strcmp(shell, "fish") == 0)
        print_fish(verbs);
    else
        return false;
    return true;
}
