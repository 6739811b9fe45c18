#pragma once
/* Compares a text with tests/golden/NAME; with UPDATE_GOLDEN=1 writes it there instead. */

#include <glib.h>

static inline void golden_check(const char *name, const char *text) {
    g_autofree char *path = g_build_filename(TEST_SOURCE_ROOT, "tests", "golden", name, NULL), *want = NULL;
    g_autoptr(GError) error = NULL;

    if (g_getenv("UPDATE_GOLDEN")) {
        g_file_set_contents(path, text, -1, &error);
        g_assert_no_error(error);
        return;
    }
    g_file_get_contents(path, &want, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, want);
}
