#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "gpu/gpu_pci.h"

static void test_address_forms(void) {
    struct pci_address a, b;
    char text[GPU_PCI_BYTES];

    g_assert_true(pci_address_from_str("0000:41:00.0", &a));
    g_assert_true(pci_address_from_str("00000000:41:00.0", &b)); /* NVML's way to write it */
    g_assert_cmpint(pci_address_compare(&a, &b), ==, 0);
    g_assert_cmpstr(pci_address_to_str(&b, text), ==, "0000:41:00.0");
    g_assert_true(pci_address_from_str("FFFFFFFF:fF:1f.7", &a));
    g_assert_cmpstr(pci_address_to_str(&a, text), ==, "ffffffff:ff:1f.7");
    g_assert_true(pci_address_from_str("10000:e1:00.0", &b));
    g_assert_cmpint(pci_address_compare(&b, &a), <, 0);
}

static void test_address_refused(void) {
    static const char *const bad[] = {"",           "41:00.0",       "0000:41:00",      "0000:41:20.0", "0000:41:00.8",
                                      "0000:41:0.", "0000:141:00.0", "000000000:1:0.0", "0000:41:00.0 "};
    struct pci_address a;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        if (pci_address_from_str(bad[i], &a))
            g_error("\"%s\" was accepted", bad[i]);
}

static void put(const char *root, const char *device, const char *name, const char *text) {
    g_autofree char *folder = g_build_filename(root, "sys/bus/pci/devices", device, NULL);
    g_autofree char *path = g_build_filename(folder, name, NULL);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void put_device(const char *root, const char *device, const char *vendor, const char *class) {
    put(root, device, "vendor", vendor);
    put(root, device, "class", class);
}

static void remove_tree(const char *root) {
    const char *argv[] = {"rm", "-rf", root, NULL};

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
}

static void test_scan(void) {
    g_autofree char *root = g_dir_make_tmp("kr-pci-XXXXXX", NULL);
    g_autofree char *driver = g_build_filename(root, "sys/bus/pci/devices/0000:9a:00.0/driver", NULL);
    g_autoptr(GArray) cards = NULL;
    const struct gpu_pci_card *card;

    put_device(root, "10000:01:00.0", "0x10de\n", "0x030200\n");
    put_device(root, "0000:9a:00.0", "0x10de\n", "0x030000\n");
    put_device(root, "0000:9a:00.1", "0x10de\n", "0x040300\n"); /* its audio function */
    put_device(root, "0000:0a:00.0", "0x1a03\n", "0x030000\n"); /* a server's console */
    put_device(root, "0000:1b:00.0", "0x10de\n", "0x030200\n");
    put(root, "0000:1b:00.0", "numa_node", "-1\n");
    put(root, "0000:9a:00.0", "numa_node", "1\n");
    put(root, "0000:77:00.0", "class", "0x030200\n"); /* vanishing: no vendor file */
    g_assert_cmpint(symlink("../../drivers/vfio-pci", driver), ==, 0);
    cards = gpu_pci_scan(root, NULL);
    g_assert_cmpuint(cards->len, ==, 3);
    card = &g_array_index(cards, struct gpu_pci_card, 0);
    g_assert_cmpstr(card->address, ==, "0000:1b:00.0");
    g_assert_cmpint(card->numa_node, ==, -1);
    g_assert_cmpstr(card->driver, ==, "");
    g_assert_cmpstr(card[1].address, ==, "0000:9a:00.0");
    g_assert_cmpint(card[1].numa_node, ==, 1);
    g_assert_cmpstr(card[1].driver, ==, "vfio-pci");
    g_assert_cmpstr(card[2].address, ==, "10000:01:00.0");
    remove_tree(root);
}

/* A processing accelerator of AMD's is a GPU, one of Intel's is none. */
static void test_vendors(void) {
    static const struct {
        const char *address, *vendor, *class;
        bool is_gpu;
    } cases[] = {
        {"0000:01:00.0", "0x10de\n", "0x030000\n", true},  {"0000:02:00.0", "0x10de\n", "0x120000\n", false},
        {"0000:03:00.0", "0x1002\n", "0x038000\n", true},  {"0000:04:00.0", "0x1002\n", "0x120000\n", true},
        {"0000:05:00.0", "0x8086\n", "0x038000\n", true},  {"0000:06:00.0", "0x8086\n", "0x120000\n", false},
        {"0000:07:00.0", "0x8086\n", "0x020000\n", false},
    };
    g_autofree char *root = g_dir_make_tmp("kr-pci-XXXXXX", NULL);
    g_autoptr(GArray) cards = NULL;
    guint found = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        put_device(root, cases[i].address, cases[i].vendor, cases[i].class);
    cards = gpu_pci_scan(root, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        if (cases[i].is_gpu)
            g_assert_cmpstr(g_array_index(cards, struct gpu_pci_card, found++).address, ==, cases[i].address);
    g_assert_cmpuint(cards->len, ==, found);
    remove_tree(root);
}

/* A later look sees cards come, go and change their driver. */
static void test_inventory(void) {
    g_autofree char *root = g_dir_make_tmp("kr-pci-XXXXXX", NULL);
    g_autofree char *driver = g_build_filename(root, "sys/bus/pci/devices/0000:01:00.0/driver", NULL);
    g_autofree char *gone = g_build_filename(root, "sys/bus/pci/devices/0000:02:00.0", NULL);
    struct gpu_inventory *inventory = gpu_inventory_new(root);
    const GArray *cards;

    put_device(root, "0000:01:00.0", "0x10de\n", "0x030200\n");
    put_device(root, "0000:02:00.0", "0x10de\n", "0x030200\n");
    put_device(root, "0000:03:00.0", "0x15b3\n", "0x020000\n");
    put(root, "0000:04:00.0", "class", "0x030200\n"); /* half there */
    cards = gpu_inventory_look(inventory, false, NULL);
    g_assert_cmpuint(cards->len, ==, 2);
    g_assert_cmpint(symlink("../../drivers/nvidia", driver), ==, 0);
    remove_tree(gone);
    put(root, "0000:04:00.0", "vendor", "0x10de\n");
    put_device(root, "0000:00:00.0", "0x1002\n", "0x030000\n");
    cards = gpu_inventory_look(inventory, false, NULL);
    g_assert_cmpuint(cards->len, ==, 3);
    g_assert_cmpstr(g_array_index(cards, struct gpu_pci_card, 0).address, ==, "0000:00:00.0");
    g_assert_cmpstr(g_array_index(cards, struct gpu_pci_card, 1).driver, ==, "nvidia");
    g_assert_cmpstr(g_array_index(cards, struct gpu_pci_card, 2).address, ==, "0000:04:00.0");
    put(root, "0000:03:00.0", "vendor", "0x10de\n"); /* another device in a slot that held none of ours */
    put(root, "0000:03:00.0", "class", "0x030200\n");
    g_assert_cmpuint(gpu_inventory_look(inventory, false, NULL)->len, ==, 3);
    g_assert_cmpuint(gpu_inventory_look(inventory, true, NULL)->len, ==, 4);
    gpu_inventory_free(inventory);
    remove_tree(root);
}

static void test_absence(void) {
    g_autofree char *root = g_dir_make_tmp("kr-pci-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(root, "sys/bus/pci/devices/0000:01:00.0/config", NULL);
    char config[64] = {0};

    put_device(root, "0000:01:00.0", "0x10de\n", "0x030200\n");
    g_assert_null(gpu_pci_absence(root, "0000:01:00.0")); /* nothing to read */
    g_assert_true(g_file_set_contents(path, config, sizeof config, NULL));
    g_assert_null(gpu_pci_absence(root, "0000:01:00.0"));
    config[14] = 0x7f;
    g_assert_true(g_file_set_contents(path, config, sizeof config, NULL));
    g_assert_nonnull(strstr(gpu_pci_absence(root, "0000:01:00.0"), "header type 7f"));
    memset(config, 0xff, sizeof config);
    g_assert_true(g_file_set_contents(path, config, sizeof config, NULL));
    g_assert_nonnull(strstr(gpu_pci_absence(root, "0000:01:00.0"), "all ones"));
    remove_tree(root);
}

/* Two machines with the same card in the same slot: each name is one card's in the whole cluster, and stays (R4). */
static void test_place_names(void) {
    struct gpu_pci_card card = {.vendor = PCI_VENDOR_NVIDIA, .device = 0x2684, .address = "0000:01:00.0"};
    char names[3][GPU_UUID_MAX_BYTES + 1], again[GPU_UUID_MAX_BYTES + 1];
    static const char *const machines[] = {"aaaa\n", "bbbb\n", NULL}; /* the last one has no machine-id */

    for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autofree char *root = g_dir_make_tmp("kr-pci-XXXXXX", NULL), *etc = g_build_filename(root, "etc", NULL);
        g_autofree char *id = g_build_filename(etc, "machine-id", NULL);
        g_assert_cmpint(g_mkdir(etc, 0755), ==, 0);
        g_assert_true(!machines[i] || g_file_set_contents(id, machines[i], -1, NULL));
        gpu_pci_place_name(root, &card, names[i]);
        gpu_pci_place_name(root, &card, again);
        g_assert_cmpstr(names[i], ==, again);
        g_assert_true(g_str_has_prefix(names[i], "PCI-10de-2684-"));
        g_assert_true(g_str_has_suffix(names[i], "-0000:01:00.0"));
        remove_tree(root);
    }
    g_assert_cmpstr(names[0], !=, names[1]);
    g_assert_cmpstr(names[0], !=, names[2]);
    g_assert_cmpstr(names[1], !=, names[2]);
}

static void test_no_tree(void) {
    g_autoptr(GError) error = NULL;

    g_assert_null(gpu_pci_scan("/proc/self/fdinfo", &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_IO);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/pci/L49-one-form-of-an-address", test_address_forms);
    g_test_add_func("/gpu/pci/malformed-addresses", test_address_refused);
    g_test_add_func("/gpu/pci/R4-cards-in-pci-order", test_scan);
    g_test_add_func("/gpu/pci/vendors-and-classes", test_vendors);
    g_test_add_func("/gpu/pci/L41-cards-come-and-go", test_inventory);
    g_test_add_func("/gpu/pci/L61-fallen-off-the-bus", test_absence);
    g_test_add_func("/gpu/pci/R4-names-by-place", test_place_names);
    g_test_add_func("/gpu/pci/R3-no-tree-is-no-inventory", test_no_tree);
    return g_test_run();
}
