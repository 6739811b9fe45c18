/* RFC 7396, word for word, and the property that the live stream stands on. */

#include <glib.h>

#include "model/merge_patch.h"

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, 0, NULL);

    g_assert_nonnull(json);
    return json;
}

static void expect_applied(const char *target, const char *patch, const char *wanted) {
    json_t *json = parse(target), *by = parse(patch), *right = parse(wanted);

    merge_patch_apply(json, by);
    if (!json_equal(json, right))
        g_error("%s patched by %s is %s", target, patch, json_dumps(json, JSON_COMPACT));
    json_decref(json);
    json_decref(by);
    json_decref(right);
}

static void test_apply(void) { /* the RFC's appendix A, those of objects */
    expect_applied("{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    expect_applied("{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}");
    expect_applied("{\"a\":\"b\"}", "{\"a\":null}", "{}");
    expect_applied("{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}");
    expect_applied("{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}");
    expect_applied("{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}");
    expect_applied("{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}");
    expect_applied("{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}");
    expect_applied("{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}");
    expect_applied("{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}");
    expect_applied("{\"a\":\"foo\"}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}");
}

static void test_make(void) {
    json_t *before = parse("{\"a\":1,\"b\":{\"c\":2,\"d\":[1,2]},\"e\":true,\"f\":{\"g\":1}}");
    json_t *after = parse("{\"a\":1,\"b\":{\"c\":3,\"d\":[1,2]},\"h\":{\"i\":1},\"f\":\"x\"}");
    json_t *patch = merge_patch_make(before, after);
    json_t *wanted = parse("{\"b\":{\"c\":3},\"e\":null,\"h\":{\"i\":1},\"f\":\"x\"}");

    g_assert_true(json_equal(patch, wanted));
    g_assert_null(merge_patch_make(before, before));
    json_object_set_new(json_object_get(patch, "h"), "i", json_integer(2)); /* a copy: what was compared stays */
    g_assert_cmpint(json_integer_value(json_object_get(json_object_get(after, "h"), "i")), ==, 1);
    json_decref(before);
    json_decref(after);
    json_decref(patch);
    json_decref(wanted);
}

static json_t *random_value(int depth);

static json_t *random_object(int depth) {
    json_t *json = json_object();

    for (int i = g_test_rand_int_range(0, 6); i > 0; i--) {
        char key[2] = {(char)('a' + g_test_rand_int_range(0, 6)), '\0'};
        json_object_set_new(json, key, random_value(depth - 1));
    }
    return json;
}

static json_t *random_value(int depth) {
    switch (depth > 0 ? g_test_rand_int_range(0, 5) : g_test_rand_int_range(0, 3)) {
    case 0: return json_integer(g_test_rand_int_range(0, 3));
    case 1: return json_string(g_test_rand_int_range(0, 2) ? "x" : "");
    case 2: return json_pack("[i]", g_test_rand_int_range(0, 2));
    default: return random_object(depth);
    }
}

static void test_property(void) {
    for (int i = 0; i < 20000; i++) {
        json_t *before = random_object(3), *after = random_object(3), *patch = merge_patch_make(before, after);

        g_assert_true((patch == NULL) == json_equal(before, after));
        if (patch)
            merge_patch_apply(before, patch);
        g_assert_true(json_equal(before, after));
        json_decref(before);
        json_decref(after);
        json_decref(patch);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/merge_patch/apply", test_apply);
    g_test_add_func("/merge_patch/make", test_make);
    g_test_add_func("/merge_patch/patch of two objects makes one of the other", test_property);
    return g_test_run();
}
