/* The target grammar, against the golden table tests/golden/targets.txt. */

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "model/target.h"

/* Like g_strcompress, but \0 and \xNN give one byte each and the length is returned. */
static char *unescape(const char *text, size_t *ret_len) {
    GString *out = g_string_new(NULL);

    for (const char *at = text; *at; at++) {
        if (at[0] == '\\' && at[1] == '0') {
            g_string_append_c(out, '\0');
            at++;
        } else if (at[0] == '\\' && at[1] == 'x') {
            g_string_append_c(out, (char)(g_ascii_xdigit_value(at[2]) * 16 + g_ascii_xdigit_value(at[3])));
            at += 3;
        } else {
            g_string_append_c(out, *at);
        }
    }
    *ret_len = out->len;
    return g_string_free(out, FALSE);
}

static void check_line(const char *input, const char *expected) {
    size_t len;
    g_autofree char *raw = unescape(input, &len);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    struct target target;
    bool ok = target_from_str(raw, len, &target, &error);

    if (expected[0] == '!') {
        g_assert_false(ok);
        g_assert_cmpint(error->code, ==, KR_ERROR_BAD_REQUEST);
        g_assert_null(strchr(error->message, '\n'));
        if (!strstr(error->message, expected + 2))
            g_error("\"%s\": \"%s\" does not contain \"%s\"", input, error->message, expected + 2);
        return;
    }
    g_assert_no_error(error);
    text = target_to_str(&target);
    g_assert_cmpstr(text, ==, expected);
}

static void test_golden(void) {
    g_autofree char *table = NULL;
    g_auto(GStrv) lines = NULL;
    int checked = 0;

    g_assert_true(fs_read_file(TEST_SOURCE_ROOT "/tests/golden/targets.txt", 1 << 20, &table, NULL, NULL));
    lines = g_strsplit(table, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *arrow = strstr(*line, " => ");
        const char *input = *line;
        if (**line == '#' || !arrow) {
            if (g_str_has_prefix(*line, "=> "))
                input = "", arrow = *line - 1;
            else
                continue;
        } else {
            *arrow = '\0';
        }
        check_line(input, arrow + 4);
        checked++;
    }
    g_assert_cmpint(checked, >=, 45);
}

static void test_many_gpus(void) {
    GString *text = g_string_new("n::0");
    struct target target;
    g_autoptr(GError) error = NULL;

    for (int i = 1; i < TARGET_MAX_GPUS; i++)
        g_string_append_printf(text, ",%d", i);
    g_assert_true(target_from_str(text->str, text->len, &target, NULL));
    g_assert_cmpuint(target.n_gpus, ==, TARGET_MAX_GPUS);
    g_string_append(text, ",64");
    g_assert_false(target_from_str(text->str, text->len, &target, &error));
    g_assert_nonnull(strstr(error->message, "more than 64 GPUs"));
    g_string_free(text, TRUE);
}

static void test_too_long(void) {
    g_autofree char *text = g_strnfill(100000, ':');
    struct target target;

    g_assert_false(target_from_str(text, strlen(text), &target, NULL));
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/target/golden-table", test_golden);
    g_test_add_func("/target/many-gpus", test_many_gpus);
    g_test_add_func("/target/too-long", test_too_long);
    return g_test_run();
}
