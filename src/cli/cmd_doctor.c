/* doctor: what of this node would cost tasks one day. The only verb that looks at the machine instead of the host. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "doctor/doctor.h"

enum { WIDTH = 100, SEEN_COLUMN = 8, ID_COLUMN = 27 };

/* ---- words ---- */

/* Words of the text up to WIDTH, goes on below at `indent`; the cursor stands at `indent` already. */
static void print_wrapped(const char *text, int indent) {
    g_autofree char *clean = cli_clean(text);
    g_auto(GStrv) words = g_strsplit(clean, " ", -1);
    int column = indent;

    for (size_t i = 0; words[i]; i++) {
        int width = (int)g_utf8_strlen(words[i], -1);

        if (column > indent && column + 1 + width > WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        fputs(words[i], stdout);
        column += width;
    }
    putchar('\n');
}

static void print_field(const char *name, const char *text) {
    printf("  %-*s", SEEN_COLUMN - 2, name);
    print_wrapped(text, SEEN_COLUMN);
}

static const struct doctor_result *result_at(const GPtrArray *results, guint i) {
    return g_ptr_array_index(results, i);
}

/* ---- the report ---- */

static void print_complaints(const GPtrArray *results, enum doctor_outcome outcome, const char *heading) {
    if (doctor_count(results, outcome) == 0)
        return;
    printf("%s\n\n", heading);
    for (guint i = 0; i < results->len; i++) {
        const struct doctor_result *result = result_at(results, i);
        bool has_loss = strcmp(result->check->against, "-") != 0;

        if (result->outcome != outcome)
            continue;
        printf("%s: %s%s%s\n", result->check->id, result->check->group, has_loss ? ", " : "",
               has_loss ? result->check->against : "");
        print_field("want", result->check->title);
        print_field("seen", result->seen);
        print_field("why", result->check->why);
        if (result->fix)
            print_field("fix", result->fix);
        putchar('\n');
    }
}

static void print_lines(const GPtrArray *results, enum doctor_outcome outcome, const char *heading) {
    if (doctor_count(results, outcome) == 0)
        return;
    printf("%s\n\n", heading);
    for (guint i = 0; i < results->len; i++) {
        const struct doctor_result *result = result_at(results, i);

        if (result->outcome != outcome)
            continue;
        printf("  %-*s", ID_COLUMN - 2, result->check->id);
        print_wrapped(result->seen, ID_COLUMN);
    }
    putchar('\n');
}

/* The first of those that say the same speaks for all. */
static bool is_first_to_say(const GPtrArray *results, guint at) {
    for (guint i = 0; i < at; i++)
        if (result_at(results, i)->outcome == result_at(results, at)->outcome &&
            strcmp(result_at(results, i)->seen, result_at(results, at)->seen) == 0)
            return false;
    return true;
}

static char *ids_that_say(const GPtrArray *results, enum doctor_outcome outcome, const char *seen, int *ret_n) {
    GString *ids = g_string_new(NULL);

    *ret_n = 0;
    for (guint i = 0; i < results->len; i++)
        if (result_at(results, i)->outcome == outcome && strcmp(result_at(results, i)->seen, seen) == 0) {
            g_string_append_printf(ids, "%s%s", *ret_n > 0 ? ", " : "", result_at(results, i)->check->id);
            ++*ret_n;
        }
    return g_string_free(ids, FALSE);
}

static const char *plural(int n) { return n == 1 ? "" : "s"; }

/* By reason, each with the checks that it stands for. */
static void print_by_reason(const GPtrArray *results, enum doctor_outcome outcome, const char *heading) {
    if (doctor_count(results, outcome) == 0)
        return;
    printf("%s\n\n", heading);
    for (guint i = 0; i < results->len; i++) {
        g_autofree char *ids = NULL, *head = NULL;
        int n;

        if (result_at(results, i)->outcome != outcome || !is_first_to_say(results, i))
            continue;
        ids = ids_that_say(results, outcome, result_at(results, i)->seen, &n);
        head = g_strdup_printf("%s (%d check%s)", result_at(results, i)->seen, n, plural(n));
        printf("  ");
        print_wrapped(head, 2);
        printf("    ");
        print_wrapped(ids, 4);
    }
    putchar('\n');
}

static void print_summary(const GPtrArray *results) {
    int errors = doctor_count(results, DOCTOR_ERROR), warnings = doctor_count(results, DOCTOR_WARNING);
    int unknown = doctor_count(results, DOCTOR_UNKNOWN), skipped = doctor_count(results, DOCTOR_NOT_APPLICABLE);

    printf("%d error%s, %d warning%s, ", errors, plural(errors), warnings, plural(warnings));
    if (unknown > 0)
        printf("%d could not be judged, ", unknown);
    printf("%d ok, %d do%s not apply\n", doctor_count(results, DOCTOR_OK), skipped, skipped == 1 ? "es" : "");
}

static void print_report(const GPtrArray *results) {
    print_complaints(results, DOCTOR_ERROR, "ERRORS");
    print_complaints(results, DOCTOR_WARNING, "WARNINGS");
    print_by_reason(results, DOCTOR_UNKNOWN, "COULD NOT BE JUDGED");
    print_lines(results, DOCTOR_OK, "OK");
    print_by_reason(results, DOCTOR_NOT_APPLICABLE, "DO NOT APPLY");
    print_summary(results);
}

/* ---- the list ---- */

static void print_list(void) {
    const char *group = "";

    for (const struct doctor_check *check = doctor_checks; check->id; check++) {
        if (strcmp(group, check->group) != 0)
            printf("%s%s\n\n", group[0] ? "\n" : "", check->group);
        group = check->group;
        printf("  %-*s", ID_COLUMN - 2, check->id);
        print_wrapped(check->title, ID_COLUMN);
    }
}

static int list_checks(const struct cli *cli) {
    if (cli_wants_json(cli)) {
        json_t *list = doctor_list_to_json();
        cli_print_json(list);
        json_decref(list);
    } else {
        print_list();
    }
    return CLI_EXIT_OK;
}

/* The runner's settings have their fallbacks in its own table, which stands in the table of verbs. */
static const struct config_key *runner_keys(const struct cli *cli) {
    for (const struct cli_verb *verb = cli->verbs; verb->path; verb++)
        if (strcmp(verb->path, "runner") == 0)
            return verb->config_keys;
    return NULL;
}

int cmd_doctor(struct cli *cli) {
    const char *root = cli_text(cli, "root");
    struct doctor_options options = {.root = root ? root : "/",
                                     .only = cli_list(cli, "check"),
                                     .expect_vfio = cli_flag(cli, "vfio"),
                                     .runner_keys = runner_keys(cli)};
    GError *error = NULL;
    GPtrArray *results;
    int exit_code;

    if (cli_flag(cli, "list"))
        return list_checks(cli);
    results = doctor_run(&options, &error);
    if (!results)
        return cli_fail(error);
    exit_code = doctor_count(results, DOCTOR_ERROR) > 0 ? CLI_EXIT_FAILED : CLI_EXIT_OK;
    if (cli_wants_json(cli)) {
        json_t *json = doctor_to_json(results);
        cli_print_json(json);
        json_decref(json);
    } else {
        print_report(results);
    }
    g_ptr_array_unref(results);
    return exit_code;
}
