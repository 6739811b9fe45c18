/* What changed between two documents, and back. */

#include "model/delta.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

static json_t *parse(const char *text) {
    g_autoptr(GError) error = NULL;
    json_t *json = jsonx_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    return json;
}

static void expect(const char *before_text, const char *after_text, const char *delta_text) {
    json_t *before = parse(before_text), *after = parse(after_text), *wanted = parse(delta_text);
    json_t *delta = delta_make(before, after);
    g_autoptr(GError) error = NULL;
    json_t *back = delta_apply(before, delta, &error);

    g_assert_no_error(error);
    g_assert_true(json_equal(delta, wanted));
    g_assert_true(json_equal(back, after));
    json_decref(before);
    json_decref(after);
    json_decref(wanted);
    json_decref(delta);
    json_decref(back);
}

static void test_examples(void) {
    expect("{\"a\":1,\"b\":{\"c\":2}}", "{\"a\":1,\"b\":{\"c\":2}}", "{}");
    expect("{\"a\":1,\"b\":2}", "{\"a\":3}", "{\"a\":3,\"b\":null}");
    expect("{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":1,\"z\":3}}", "{\"a\":{\"y\":null,\"z\":3}}");
    expect("{\"g\":[{\"i\":0,\"t\":1},{\"i\":1,\"t\":1}]}", "{\"g\":[{\"i\":0,\"t\":1},{\"i\":1,\"t\":9}]}",
           "{\"g\":{\"1\":{\"t\":9}}}");
    expect("{\"g\":[{\"i\":0}]}", "{\"g\":[{\"i\":0},{\"i\":1}]}", "{\"g\":[{\"i\":0},{\"i\":1}]}");
    expect("{\"g\":[{\"i\":0}]}", "{\"g\":[]}", "{\"g\":[]}");
    expect("{\"g\":[1,2]}", "{\"g\":[1,3]}", "{\"g\":[1,3]}");
    expect("{\"g\":[{\"i\":0}]}", "{\"g\":\"gone\"}", "{\"g\":\"gone\"}");
    expect("{\"g\":\"x\"}", "{\"g\":{\"a\":1}}", "{\"g\":{\"a\":1}}");
    expect("{\"g\":[{\"i\":0,\"x\":[{\"c\":1}]}]}", "{\"g\":[{\"i\":0,\"x\":[{\"c\":2}]}]}",
           "{\"g\":{\"0\":{\"x\":{\"0\":{\"c\":2}}}}}");
}

/* An object in the place of a list of objects would read as its difference: there, the list stands for nothing yet. */
static void test_list_turned_object(void) {
    json_t *before = parse("{\"g\":[{\"i\":0}]}"), *after = parse("{\"g\":{\"a\":1}}");
    json_t *delta = delta_make(before, after);
    g_autoptr(GError) error = NULL;

    g_assert_null(delta_apply(before, delta, &error)); /* never wrong in silence */
    g_assert_error(error, KR_ERROR, KR_ERROR_BAD_REQUEST);
    json_decref(before);
    json_decref(after);
    json_decref(delta);
}

static void test_bad(void) {
    static const char *const bad[] = {"{\"g\":{\"7\":{}}}", "{\"g\":{\"x\":{}}}", "{\"g\":{\"0\":1}}",
                                      "{\"g\":{\"-1\":{}}}", "{\"g\":{\"0\":{\"h\":{\"0\":{}}}}}"};
    json_t *before = parse("{\"g\":[{\"i\":0,\"h\":[1]}]}");

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_t *delta = parse(bad[i]);
        g_autoptr(GError) error = NULL;
        g_assert_null(delta_apply(before, delta, &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_BAD_REQUEST);
        json_decref(delta);
    }
    json_decref(before);
}

/* ---- any two documents of one kind ---- */

static json_t *random_value(int depth, int kind);

static json_t *random_object(int depth) {
    json_t *object = json_object();

    for (int i = 0; i < 5; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        if (g_test_rand_int_range(0, 4) > 0)
            json_object_set_new(object, key, random_value(depth, i)); /* a member's kind goes with its name */
    }
    return object;
}

static json_t *random_value(int depth, int kind) {
    json_t *list;

    if (depth == 0 || kind == 0)
        return json_integer(g_test_rand_int_range(0, 3));
    if (kind == 1)
        return json_string(g_test_rand_int_range(0, 2) ? "x" : "y");
    if (kind == 2)
        return random_object(depth - 1);
    list = json_array();
    for (int i = g_test_rand_int_range(0, 4); i > 0; i--)
        json_array_append_new(list, kind == 3 ? random_object(depth - 1) : json_integer(g_test_rand_int_range(0, 3)));
    return list;
}

static void test_property(void) {
    for (int i = 0; i < 3000; i++) {
        json_t *before = random_object(3), *after = random_object(3);
        json_t *delta = delta_make(before, after), *kept = json_deep_copy(before);
        g_autoptr(GError) error = NULL;
        json_t *back = delta_apply(before, delta, &error);

        g_assert_no_error(error);
        g_assert_true(json_equal(back, after));
        g_assert_true(json_equal(before, kept));
        json_decref(before);
        json_decref(after);
        json_decref(delta);
        json_decref(kept);
        json_decref(back);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/delta/examples", test_examples);
    g_test_add_func("/delta/list-turned-object", test_list_turned_object);
    g_test_add_func("/delta/bad", test_bad);
    g_test_add_func("/delta/property", test_property);
    return g_test_run();
}
