#include "runner/node_facts.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "model/node.h"
#include "runner/runner_config.h"

static char *make_tree(const char *const (*file)[2]) {
    char *root = g_dir_make_tmp("kr-facts-XXXXXX", NULL);

    for (; (*file)[0]; file++) {
        g_autofree char *path = g_build_filename(root, "sys/devices/system/node", (*file)[0], NULL);
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
        g_assert_true(g_file_set_contents(path, (*file)[1], -1, NULL));
    }
    return root;
}

static void remove_made(const char *root, const char *const (*file)[2]) {
    static const char *const folders[] = {"sys/devices/system/node/node0", "sys/devices/system/node/node1", "sys/devices/system/node/node10",
                                          "sys/devices/system/node/nodex", "sys/devices/system/node", "sys/devices/system", "sys/devices", "sys", ""};

    for (; (*file)[0]; file++) {
        g_autofree char *path = g_build_filename(root, "sys/devices/system/node", (*file)[0], NULL);
        g_unlink(path);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *path = g_build_filename(root, folders[i], NULL);
        g_rmdir(path);
    }
}

static void test_numa(void) {
    static const char *const files[][2] = {{"has_memory", "0,10\n"}, {"node0/cpulist", "0-1,4\n"}, {"node0/meminfo", "\nNode 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB\n"},
                                           {"node1/cpulist", "2-3\n"}, {"node10/cpulist", "\n"}, {"node10/meminfo", "Node 10 MemTotal: 1 kB\n"}, {"nodex/cpulist", "9\n"}, {NULL, NULL}};
    g_autofree char *root = make_tree(files);
    struct node_facts *facts = node_facts_new(root, 0);
    struct node_info *info = node_info_new("n1");
    const struct numa_node *node;
    const char *cpulist;
    bool has_memory;

    node_facts_describe(facts, info);
    g_assert_cmpint(info->numa->len, ==, 3);
    node = info->numa->pdata[0];
    g_assert_cmpint(node->cores, ==, 3);
    g_assert_cmpint(node->mem_bytes, ==, 2048 * 1024);
    node = info->numa->pdata[2];
    g_assert_cmpint(node->id, ==, 10);
    g_assert_cmpint(node->cores, ==, 0);
    g_assert_true(node_facts_numa(facts, 0, &cpulist, &has_memory));
    g_assert_cmpstr(cpulist, ==, "0-1,4");
    g_assert_true(has_memory);
    g_assert_true(node_facts_numa(facts, 1, &cpulist, &has_memory));
    g_assert_false(has_memory);
    g_assert_true(node_facts_numa(facts, 10, &cpulist, &has_memory) && has_memory);
    g_assert_false(node_facts_numa(facts, 2, &cpulist, &has_memory));
    node_info_free(info);
    node_facts_free(facts);
    remove_made(root, files);
}

static void test_no_numa(void) {
    struct node_facts *facts = node_facts_new("/nonexistent", 0);
    struct node_info *info = node_info_new("n1");

    node_facts_describe(facts, info);
    g_assert_cmpint(info->numa->len, ==, 0);
    g_assert_cmpint(info->cores, ==, (int)sysconf(_SC_NPROCESSORS_ONLN));
    g_assert_cmpint(info->mem_total_bytes, >, 0);
    g_assert_cmpint(info->mem_used_bytes, >, 0);
    g_assert_cmpint(info->mem_used_bytes, <, info->mem_total_bytes);
    g_assert_cmpint(strlen(info->boot_id), ==, 36);
    g_assert_cmpstr(info->version, ==, KR_VERSION);
    node_info_free(info);
    node_facts_free(facts);
}

static void test_reserved(void) {
    struct node_facts *facts = node_facts_new("/nonexistent", 4096);
    struct node_info *info = node_info_new("n1");

    node_facts_describe(facts, info);
    g_assert_cmpint(info->cores, ==, 0);
    node_info_free(info);
    node_facts_free(facts);
}

static void test_disk(void) {
    g_autofree char *folder = g_dir_make_tmp("kr-disk-XXXXXX", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(node_facts_disk_check(folder, false, &error));
    g_assert_true(node_facts_disk_check(folder, true, &error));
    g_assert_cmpint(g_rmdir(folder), ==, 0); /* nothing is left of the test */
    g_assert_false(node_facts_disk_check(folder, true, &error));
    g_assert_nonnull(error);
}

static struct config *load(const char *override) {
    const char *list[] = {override, NULL};
    g_autoptr(GError) error = NULL;
    struct config *config = config_load(runner_config_keys, RUNNER_CONFIG_GROUP, NULL, NULL, (char *const *)list, &error);

    g_assert_no_error(error);
    return config;
}

static void check_name(const char *override, const char *expected) {
    struct config *config = load(override);
    g_autoptr(GError) error = NULL;
    g_autofree char *name = runner_config_node_name(config, &error);

    g_assert_cmpstr(name, ==, expected);
    g_assert_true((name == NULL) == (error != NULL));
    config_free(config);
}

static void test_node_name(void) {
    check_name("node_name=n1", "n1");
    check_name("node_name=a b", NULL);
    check_name("node_name=../x", NULL);
    check_name("node_name=-x", NULL);
}

static void check_memlock(const char *override, bool ok, int64_t expected) {
    struct config *config = load(override);
    g_autoptr(GError) error = NULL;
    int64_t memlock = -99;

    g_assert_cmpint(runner_config_memlock(config, &memlock, &error), ==, ok);
    if (ok)
        g_assert_cmpint(memlock, ==, expected);
    config_free(config);
}

static void test_memlock(void) {
    check_memlock("memlock=unlimited", true, -1);
    check_memlock("memlock=default", true, -2);
    check_memlock("memlock=64M", true, 64 << 20);
    check_memlock("memlock=lots", false, 0);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/runner/node-facts/numa", test_numa);
    g_test_add_func("/runner/node-facts/no-numa", test_no_numa);
    g_test_add_func("/runner/node-facts/cpus-reserved", test_reserved);
    g_test_add_func("/runner/node-facts/disk", test_disk);
    g_test_add_func("/runner/config/node-name", test_node_name);
    g_test_add_func("/runner/config/memlock", test_memlock);
    return g_test_run();
}
