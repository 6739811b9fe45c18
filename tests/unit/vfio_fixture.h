#pragma once
/* A fake tree of PCI functions and IOMMU groups below a temporary folder, for the tests of src/vfio. */

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct tree_function {
    const char *address, *class, *ids; /* "0x030000", "10de:2684" */
    const char *driver;                /* NULL: none */
    int group;                         /* -1: none */
};

static inline void tree_put(const char *root, const char *path, const char *text, gssize len) {
    g_autofree char *full = g_build_filename(root, path, NULL), *folder = g_path_get_dirname(full);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(full, text, len, NULL));
}

static inline void tree_put_of(const char *root, const char *address, const char *name, const char *text, gssize len) {
    g_autofree char *path = g_build_filename("sys/bus/pci/devices", address, name, NULL);

    tree_put(root, path, text, len);
}

static inline void tree_link(const char *root, const char *address, const char *name, const char *target) {
    g_autofree char *path = g_build_filename(root, "sys/bus/pci/devices", address, name, NULL);

    unlink(path);
    g_assert_cmpint(symlink(target, path), ==, 0);
}

static inline void tree_folder(const char *root, const char *path) {
    g_autofree char *full = g_build_filename(root, path, NULL);

    g_assert_cmpint(g_mkdir_with_parents(full, 0755), ==, 0);
}

static inline void tree_set_driver(const char *root, const char *address, const char *driver) {
    g_autofree char *path = g_build_filename("sys/bus/pci/drivers", driver, NULL);
    g_autofree char *target = g_build_filename("../../drivers", driver, NULL);

    tree_folder(root, path);
    tree_link(root, address, "driver", target);
}

static inline void tree_add(const char *root, const struct tree_function *f) {
    g_autofree char *vendor = g_strdup_printf("0x%.4s\n", f->ids), *device = g_strdup_printf("0x%s\n", f->ids + 5);
    g_autofree char *class = g_strdup_printf("%s\n", f->class);
    g_autofree char *group = g_strdup_printf("../../../../kernel/iommu_groups/%d", f->group);
    g_autofree char *group_folder = g_strdup_printf("sys/kernel/iommu_groups/%d/devices", f->group);
    static const char config[64] = "\xde\x10\x84\x26";

    tree_put_of(root, f->address, "vendor", vendor, -1);
    tree_put_of(root, f->address, "device", device, -1);
    tree_put_of(root, f->address, "class", class, -1);
    tree_put_of(root, f->address, "driver_override", "(null)\n", -1);
    tree_put_of(root, f->address, "config", config, sizeof config);
    tree_put_of(root, f->address, "default_driver", f->driver ? f->driver : "", -1);
    tree_folder(root, "sys/bus/pci/drivers/vfio-pci");
    if (f->driver)
        tree_set_driver(root, f->address, f->driver);
    if (f->group < 0)
        return;
    tree_folder(root, group_folder);
    tree_link(root, f->address, "iommu_group", group);
}

static inline void tree_remove(const char *root) {
    const char *argv[] = {"rm", "-rf", root, NULL};

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
}

/* In memory where there is such a folder: thousands of synced journals are written here. */
static inline char *tree_new(void) {
    char *root = g_strdup(g_file_test("/dev/shm", G_FILE_TEST_IS_DIR) ? "/dev/shm/kr-vfio-XXXXXX"
                                                                      : "/tmp/kr-vfio-XXXXXX");

    g_assert_nonnull(mkdtemp(root));
    tree_folder(root, "sys/bus/pci/devices");
    return root;
}

/* A consumer card with four functions, a data centre card, a card with audio, a card that shares its group with a NIC, and two
 * cards in one group. */
static const struct tree_function tree_machine[] = {
    {"0000:00:01.0", "0x060400", "8086:1901", "pcieport", 1},
    {"0000:01:00.0", "0x030000", "10de:2684", "nvidia", 9},
    {"0000:01:00.1", "0x040300", "10de:22ba", "snd_hda_intel", 9},
    {"0000:01:00.2", "0x0c0330", "10de:1ad8", "xhci_hcd", 9},
    {"0000:01:00.3", "0x0c8000", "10de:1ad9", NULL, 9},
    {"0000:02:00.0", "0x030200", "10de:2330", "nvidia", 10},
    {"0000:03:00.0", "0x030000", "1002:744c", "amdgpu", 11},
    {"0000:03:00.1", "0x040300", "1002:ab30", "snd_hda_intel", 11},
    {"0000:05:00.0", "0x060400", "1b36:000e", NULL, 12},
    {"0000:06:01.0", "0x030000", "10de:1e04", "nvidia", 12},
    {"0000:06:02.0", "0x020000", "8086:1521", "igb", 12},
    {"0000:07:00.0", "0x030200", "10de:20b0", "nvidia", 13},
    {"0000:08:00.0", "0x030200", "10de:20b0", "nvidia", 13},
    {"10000:e1:00.0", "0x030200", "10de:26b5", "nvidia", 14},
};

static inline char *tree_of_machine(void) {
    char *root = tree_new();

    for (size_t i = 0; i < G_N_ELEMENTS(tree_machine); i++)
        tree_add(root, &tree_machine[i]);
    return root;
}
