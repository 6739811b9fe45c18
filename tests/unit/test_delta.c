/* What changed between two documents, and back. */

#include "model/delta.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/node.h"

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

/* ---- a heartbeat of figures alone is taken over without reading the whole node: with the same result ---- */

static struct node_info *some_node(void) {
    struct node_info *info = node_info_new("mynode");

    info->boot_id = g_strdup("b");
    for (int i = 0; i < 3; i++) {
        struct gpu *gpu = gpu_new();

        gpu->index = 2 - i; /* the list need not be in their order */
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%d", gpu->index);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i);
        gpu->condition = GPU_CONDITION_OK;
        g_ptr_array_add(info->gpus, gpu);
    }
    return info;
}

static void change_figures(struct node_info *info) {
    info->mem_used_bytes = g_test_rand_int_range(0, 1000);
    for (int i = g_test_rand_int_range(0, 8); i > 0; i--) {
        struct gpu *gpu = info->gpus->pdata[g_test_rand_int_range(0, 3)];
        enum gpu_figure figure = (enum gpu_figure)g_test_rand_int_range(0, GPU_FIGURE_COUNT_);

        if (g_test_rand_int_range(0, 3))
            gpu_set(gpu, figure, g_test_rand_int_range(0, 2));
        else
            gpu_unset(gpu, figure);
    }
}

static void test_figures_alone(void) {
    struct node_info *node = some_node(), *host = some_node();
    json_t *told = node_info_to_json(node);

    for (int i = 0; i < 3000; i++) {
        json_t *now, *delta, *taken;

        change_figures(node);
        now = node_info_to_json(node);
        delta = delta_make(told, now);
        g_assert_true(delta_apply_to(told, delta, NULL));
        g_assert_true(node_info_take_figures(host, told, delta));
        taken = node_info_to_json(host);
        g_assert_true(json_equal(taken, now));
        json_decref(taken);
        json_decref(delta);
        json_decref(now);
    }
    json_decref(told);
    node_info_free(node);
    node_info_free(host);
}

static void test_more_than_figures(void) {
    static const char *const others[] = {
        "{\"engine_ok\":true}",
        "{\"gpus\":[]}",
        "{\"gpus\":{\"0\":{\"condition\":\"fault\"}}}",
        "{\"gpus\":{\"0\":{\"reason\":null}}}",
        "{\"gpus\":{\"0\":{\"xids\":[]}}}",
        "{\"gpus\":{\"0\":{\"proof\":{}}}}",
        "{\"gpus\":{\"0\":{\"utilization_percent\":101}}}",
        "{\"gpus\":{\"0\":{\"utilization_percent\":\"1\"}}}",
        "{\"gpus\":{\"7\":{\"utilization_percent\":1}}}",
        "{\"gpus\":{\"0\":1}}",
        "{\"memory_used_bytes\":-1}",
        "{\"memory_used_bytes\":null}",
    };
    struct node_info *info = some_node();
    json_t *told = node_info_to_json(info);
    json_t *good = parse("{\"gpus\":{\"0\":{\"utilization_percent\":5}}}");

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        json_t *delta = parse(others[i]);

        if (node_info_take_figures(info, told, delta))
            g_error("taken for figures: %s", others[i]);
        json_decref(delta);
    }
    g_assert_true(node_info_take_figures(info, told, good));
    g_assert_cmpint(gpu_figure(node_info_gpu_by_index(info, 2), GPU_UTIL), ==, 5);
    g_strlcpy(node_info_gpu_by_index(info, 2)->uuid, "GPU-x",
              sizeof "GPU-x"); /* R4: another card is at that index here */
    g_assert_false(node_info_take_figures(info, told, good));
    json_decref(good);
    json_decref(told);
    node_info_free(info);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/delta/examples", test_examples);
    g_test_add_func("/delta/list-turned-object", test_list_turned_object);
    g_test_add_func("/delta/bad", test_bad);
    g_test_add_func("/delta/property", test_property);
    g_test_add_func("/delta/figures-alone", test_figures_alone);
    g_test_add_func("/delta/more-than-figures", test_more_than_figures);
    return g_test_run();
}
