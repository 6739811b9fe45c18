/* Help texts and the man page, made of the table of verbs. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { OPTION_COLUMN = 30, TEXT_WIDTH = 96 };

char *cli_usage_of(const struct cli_verb *verb) {
    return g_strdup_printf("kohakuriver %s [OPTIONS]%s%s%s", verb->path, verb->positional ? " " : "",
                           verb->positional ? verb->positional : "",
                           verb->takes_command      ? " -- COMMAND [ARGS…]"
                           : verb->may_take_command ? " [-- COMMAND [ARGS…]]"
                                                    : "");
}

/* Prints text, wrapped, its continuation lines indented; the cursor stands at column `column` already. */
static void print_wrapped(FILE *out, const char *text, int column, int indent) {
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    bool is_first = true;

    for (char **word = words; *word; word++) {
        int width = (int)g_utf8_strlen(*word, -1);
        if (!is_first && column + 1 + width > TEXT_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            is_first = true;
        }
        fprintf(out, "%s%s", is_first ? "" : " ", *word);
        column += width + (is_first ? 0 : 1);
        is_first = false;
    }
    fputc('\n', out);
}

static char *option_head(const struct cli_option *option) {
    g_autofree char *letter = option->letter ? g_strdup_printf("-%c, ", option->letter) : g_strdup("    ");

    return g_strdup_printf("%s--%s%s%s", letter, option->name, option->arg ? " " : "", option->arg ? option->arg : "");
}

static void print_option(const struct cli_option *option) {
    g_autofree char *head = option_head(option);
    int width = (int)g_utf8_strlen(head, -1) + 2;

    printf("  %s", head);
    if (width >= OPTION_COLUMN)
        printf("\n%*s", OPTION_COLUMN, "");
    else
        printf("%*s", OPTION_COLUMN - width, "");
    print_wrapped(stdout, option->help, OPTION_COLUMN, OPTION_COLUMN);
}

/* The long text of a verb: "\n" ends a paragraph; a line that begins with a space is an example and stays as it is. */
static void print_paragraphs(const char *text) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        if ((*line)[0] == ' ' || (*line)[0] == '\0')
            printf("%s\n", *line);
        else
            print_wrapped(stdout, *line, 0, 0);
    }
}

void cli_print_help(const struct cli_verb *verb) {
    g_autofree char *usage = cli_usage_of(verb);
    g_autoptr(GArray) options = cli_options_of(verb);

    printf("usage: %s\n\n", usage);
    printf("%c", g_ascii_toupper(verb->summary[0]));
    print_wrapped(stdout, verb->summary + 1, 1, 0);
    if (verb->help) {
        putchar('\n');
        print_paragraphs(verb->help);
    }
    printf("\noptions:\n");
    for (guint i = 0; i < options->len; i++)
        print_option(&g_array_index(options, struct cli_option, i));
}

static void print_verb_line(FILE *out, const struct cli_verb *verb) {
    fprintf(out, "  %-16s ", verb->path);
    print_wrapped(out, verb->summary, 19, 19);
}

void cli_print_overview(const struct cli_verb *verbs, bool to_stderr) {
    FILE *out = to_stderr ? stderr : stdout;

    fprintf(out, "usage: kohakuriver [--host URL] VERB [OPTIONS] [ARGS…]\n\n");
    for (; verbs->path; verbs++)
        if (!verbs->is_hidden)
            print_verb_line(out, verbs);
    fprintf(out, "\n`kohakuriver help VERB` says more about one of them.\n");
}

void cli_print_group(const struct cli_verb *verbs, const char *word, bool to_stderr) {
    FILE *out = to_stderr ? stderr : stdout;
    size_t len = strlen(word);

    fprintf(out, "usage: kohakuriver %s VERB [OPTIONS] [ARGS…]\n\n", word);
    for (; verbs->path; verbs++)
        if (!verbs->is_hidden && strncmp(verbs->path, word, len) == 0 && verbs->path[len] == ' ')
            print_verb_line(out, verbs);
}

/* ---- the man page ---- */

/* roff: backslashes, leading dots and quotes, and hyphens that are to be copied from the page. */
static void man_text(const char *text) {
    bool at_line_start = true;

    for (; *text; text++) {
        if (at_line_start && (*text == '.' || *text == '\''))
            printf("\\&");
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
        at_line_start = *text == '\n';
    }
}

static void man_paragraphs(const char *text) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool in_example = false;

    for (char **line = lines; *line; line++) {
        bool is_example = (*line)[0] == ' ';
        if (is_example != in_example)
            printf(is_example ? ".PP\n.nf\n" : ".fi\n");
        else if (!is_example)
            printf(".PP\n");
        in_example = is_example;
        if ((*line)[0] == '\0')
            continue;
        man_text(*line);
        putchar('\n');
    }
    if (in_example)
        printf(".fi\n");
}

static void man_options(const struct cli_verb *verb) {
    g_autoptr(GArray) options = cli_options_of(verb);

    for (guint i = 0; i < options->len; i++) {
        const struct cli_option *option = &g_array_index(options, struct cli_option, i);
        printf(".TP\n.B ");
        if (option->letter)
            printf("\\-%c, ", option->letter);
        printf("\\-\\-");
        man_text(option->name);
        if (option->arg) {
            printf(" \\fI");
            man_text(option->arg);
            printf("\\fR");
        }
        putchar('\n');
        man_text(option->help);
        putchar('\n');
    }
}

static void man_verb(const struct cli_verb *verb) {
    g_autofree char *usage = cli_usage_of(verb);

    printf(".SS ");
    man_text(usage);
    printf("\n%c", g_ascii_toupper(verb->summary[0]));
    man_text(verb->summary + 1);
    printf(".\n");
    if (verb->help)
        man_paragraphs(verb->help);
    man_options(verb);
}

void cli_print_man(const struct cli_verb *verbs) {
    printf(".TH KOHAKURIVER 1 \"\" \"KohakuRiver %s\" \"User Commands\"\n", KR_VERSION);
    printf(".SH NAME\nkohakuriver \\- hand the GPUs of a shared pool to tasks, and get them back\n");
    printf(".SH SYNOPSIS\n.B kohakuriver\n[\\-\\-host \\fIURL\\fR] \\fIVERB\\fR [\\fIOPTIONS\\fR] [\\fIARGS\\fR]\n");
    printf(".SH DESCRIPTION\nOne program is the control plane (\\fBhost\\fR), the agent of a node (\\fBrunner\\fR) and "
           "the "
           "command line. Results go to standard output, everything else to standard error.\n");
    printf(".SH VERBS\n");
    for (; verbs->path; verbs++)
        if (!verbs->is_hidden)
            man_verb(verbs);
    printf(".SH EXIT STATUS\n0: done. 1: refused or failed. 2: wrong usage. With \\fB\\-\\-wait\\fR and in \\fBtask "
           "watch\\fR: "
           "the task's own exit code, 130 after Ctrl\\-C.\n");
    printf(".SH ENVIRONMENT\n.TP\n.B KOHAKURIVER_HOST\nThe host's address where \\fB\\-\\-host\\fR is not given; "
           "http://127.0.0.1:8000 by default.\n");
    printf(".SH FILES\n.TP\n.I /etc/kohakuriver/host.conf\nSettings of the host, group [host].\n.TP\n"
           ".I /etc/kohakuriver/runner.conf\nSettings of the runner, group [runner].\n");
}
