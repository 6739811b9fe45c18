/* What is found of cards and of the node, over fake trees. */
#include <stdlib.h>

#include "base/json.h"
#include "vfio/vfio_card.h"
#include "vfio/vfio_check.h"
#include "vfio/vfio_hold.h"
#include "vfio_fixture.h"

static struct vfio_card *look(const char *root, const char *address) {
    g_autoptr(GArray) all = vfio_pci_scan(root, NULL);
    char *const nobody[] = {NULL};

    return vfio_card_look(root, all, address, nobody);
}

static void test_companions(void) {
    g_autofree char *root = tree_of_machine();
    struct vfio_card *card = look(root, "0000:01:00.0");
    static const enum vfio_role roles[] = {VFIO_ROLE_GPU, VFIO_ROLE_AUDIO, VFIO_ROLE_USB, VFIO_ROLE_UCSI};

    g_assert_true(vfio_card_is_passable(card));
    g_assert_cmpuint(card->functions->len, ==, 4);
    for (guint i = 0; i < 4; i++)
        g_assert_cmpint(vfio_role_of_class(g_array_index(card->functions, struct vfio_function, i).class), ==,
                        roles[i]);
    g_assert_cmpuint(card->others->len, ==, 0);
    vfio_card_free(card);
    tree_remove(root);
}

/* A bridge in the group needs nothing; a NIC is refused by name, with the bridge shown beside it. */
static void test_groups(void) {
    g_autofree char *root = tree_of_machine();
    struct vfio_card *card = look(root, "0000:06:01.0");
    const struct vfio_obstacle *o;

    g_assert_cmpuint(card->others->len, ==, 2);
    g_assert_cmpuint(card->obstacles->len, ==, 2); /* the NIC, and no way of resetting */
    o = card->obstacles->pdata[0];
    g_assert_cmpint(o->id, ==, VFIO_OBSTACLE_FOREIGN);
    g_assert_nonnull(strstr(o->text, "0000:06:02.0"));
    g_assert_false(vfio_card_is_passable(card));
    vfio_card_free(card);
    card = look(root, "0000:07:00.0");
    g_assert_true(vfio_card_has(card, VFIO_OBSTACLE_SHARED));
    vfio_card_free(card);
    tree_remove(root);
}

static void test_obstacles(void) {
    static const struct {
        const char *file, *text;
        enum vfio_obstacle_id id;
        bool is_passable;
    } cases[] = {
        {"boot_vga", "1\n", VFIO_OBSTACLE_BOOT_VGA, false},
        {"sriov_numvfs", "2\n", VFIO_OBSTACLE_SRIOV, false},
        {"config", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", VFIO_OBSTACLE_OFF_THE_BUS,
         false},
        {"config",
         "abcdefghijklmn\x7f"
         "o",
         VFIO_OBSTACLE_OFF_THE_BUS, false},
        {"reset_method", "\n", VFIO_OBSTACLE_NO_RESET, true},
        {"reset_method", "flr bus\n", VFIO_OBSTACLE_NONE, true},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *root = tree_of_machine();
        struct vfio_card *card;

        tree_put_of(root, "0000:02:00.0", cases[i].file, cases[i].text, -1);
        card = look(root, "0000:02:00.0");
        g_assert_true(vfio_card_is_passable(card) == cases[i].is_passable);
        if (cases[i].id)
            g_assert_true(vfio_card_has(card, cases[i].id));
        else
            g_assert_cmpuint(card->obstacles->len, ==, 0);
        vfio_card_free(card);
        tree_remove(root);
    }
}

/* No IOMMU; a console that is on vfio-pci already is nobody's console any more. */
static void test_odd_cards(void) {
    g_autofree char *root = tree_new();
    struct vfio_card *card;

    tree_add(root, &(struct tree_function){"0000:41:00.0", "0x030000", "10de:2684", "nvidia", -1});
    tree_add(root, &(struct tree_function){"0000:42:00.0", "0x030000", "10de:2684", "vfio-pci", 2});
    tree_put_of(root, "0000:42:00.0", "boot_vga", "1\n", -1);
    card = look(root, "0000:41:00.0");
    g_assert_true(vfio_card_has(card, VFIO_OBSTACLE_NO_GROUP));
    vfio_card_free(card);
    card = look(root, "00000000:42:00.0"); /* NVML's way to write it */
    g_assert_true(vfio_card_is_passable(card));
    vfio_card_free(card);
    tree_remove(root);
}

static const json_t *by(const json_t *list, const char *key, const char *value) {
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        if (g_strcmp0(json_string_value(json_object_get(item, key)), value) == 0)
            return item;
    g_error("no %s %s", key, value);
}

static const char *state_of(const json_t *check, const char *id) {
    return json_string_value(json_object_get(by(json_object_get(check, "findings"), "id", id), "state"));
}

static void test_check_of_nothing(void) {
    g_autofree char *root = tree_new();
    json_t *check = vfio_check(root, "kvm");

    g_assert_cmpstr(state_of(check, "kvm"), ==, "missing");
    g_assert_cmpstr(state_of(check, "qemu"), ==, "missing");
    g_assert_cmpstr(state_of(check, "iommu"), ==, "missing");
    g_assert_cmpstr(state_of(check, "gpus"), ==, "warning");
    g_assert_null(json_object_get(check, "accelerator"));
    g_assert_true(json_is_false(json_object_get(check, "can_run_machines")));
    json_decref(check);
    tree_remove(root);
}

static void put_qemu(const char *root, const char *version) {
    g_autofree char *path = g_build_filename(root, "usr/bin/qemu-system-x86_64", NULL);
    g_autofree char *script = g_strdup_printf("#!/bin/sh\necho 'QEMU emulator version %s'\n", version);

    tree_put(root, "usr/bin/qemu-system-x86_64", script, -1);
    g_assert_cmpint(g_chmod(path, 0755), ==, 0);
}

static void test_check_of_a_node(void) {
    g_autofree char *root = tree_of_machine();
    json_t *check;
    const json_t *card;

    put_qemu(root, "7.2.22 (Debian)");
    tree_put(root, "usr/share/OVMF/OVMF_CODE_4M.fd", "", 0);
    tree_put(root, "proc/cpuinfo", "flags\t\t: fpu vmx sse\n", -1);
    tree_put(root, "proc/cmdline", "quiet pcie_acs_override=downstream\n", -1);
    tree_put(root, "proc/kallsyms", "0 t pcie_acs_overrides\n", -1);
    tree_folder(root, "sys/module/vfio_iommu_type1");
    tree_put(root, "dev/kvm", "", 0); /* is there, and is no KVM */
    check = vfio_check(root, "auto");
    g_assert_cmpstr(state_of(check, "cpu_virtualisation"), ==, "ok");
    g_assert_cmpstr(state_of(check, "kvm"), ==, "warning");
    g_assert_cmpstr(state_of(check, "qemu"), ==, "ok");
    g_assert_cmpstr(state_of(check, "ovmf"), ==, "ok");
    g_assert_cmpstr(state_of(check, "iommu"), ==, "ok");
    g_assert_cmpstr(state_of(check, "vfio_modules"), ==, "ok");
    g_assert_cmpstr(json_string_value(json_object_get(check, "accelerator")), ==, "tcg");
    g_assert_true(json_is_true(json_object_get(check, "can_run_machines")));
    g_assert_true(json_is_true(json_object_get(check, "can_pass_gpus")));
    g_assert_cmpuint(json_array_size(json_object_get(check, "gpus")), ==, 7);
    card = by(json_object_get(check, "gpus"), "address", "0000:01:00.0");
    g_assert_cmpuint(json_array_size(json_object_get(card, "companions")), ==, 3);
    g_assert_cmpint(json_integer_value(json_object_get(card, "iommu_group")), ==, 9);
    g_assert_true(json_is_true(json_object_get(json_object_get(check, "acs"), "kernel_has_override")));
    g_assert_cmpuint(json_array_size(json_object_get(json_object_get(check, "acs"), "would_split")), ==, 3);
    json_decref(check);
    put_qemu(root, "4.2.0");
    check = vfio_check(root, "tcg");
    g_assert_cmpstr(state_of(check, "qemu"), ==, "missing");
    json_decref(check);
    tree_remove(root);
}

/* Every id that a person may read has a section that says what to do. */
static void test_documented(void) {
    g_autofree char *text = NULL;
    bool is_read = g_file_get_contents(TEST_SOURCE_ROOT "/docs/gpu-passthrough.md", &text, NULL, NULL);

    g_assert_true(is_read);
    for (int i = 0; i < VFIO_FINDING_COUNT_ + VFIO_OBSTACLE_COUNT_; i++) {
        bool is_finding = i < VFIO_FINDING_COUNT_;
        const char *id = is_finding ? vfio_finding_to_str((enum vfio_finding_id)i)
                                    : vfio_obstacle_to_str((enum vfio_obstacle_id)(i - VFIO_FINDING_COUNT_));
        g_autofree char *heading = g_strdup_printf("\n### `%s`", id);

        if (id && !strstr(text, heading))
            g_error("docs/gpu-passthrough.md has no section for %s", id);
    }
}

/* What is written is read; what is wrong is refused with a reason. */
static void test_hold_json(void) {
    static const char good[] =
        "{\"owner\":\"a\",\"boot_id\":\"b\",\"state\":\"bound\",\"step\":\"\",\"reason\":\"\",\"gpus\":[{\"address\":"
        "\"0000:01:00.0\",\"group\":9,\"had_persistence\":true,\"functions\":[{\"address\":\"0000:01:00.0\",\"class\":"
        "196608,\"vendor\":4318,\"device\":9860,\"group\":9,\"former_driver\":\"nvidia\",\"former_override\":\"\"}]}]}";
    static const char *const wrong[][2] = {
        {"\"bound\"", "\"bond\""},
        {"0000:01:00.0", "01:00.0"},
        {"196608", "-1"},
        {"\"functions\"", "\"functional\""},
        {"\"a\"", "7"},
        {"9860", "98600"},
    };
    json_t *json = jsonx_parse(good, sizeof good - 1, NULL), *again;
    struct vfio_hold *hold = vfio_hold_from_json(json, NULL);

    g_assert_nonnull(hold);
    again = vfio_hold_to_json(hold);
    g_assert_true(json_equal(json, again));
    json_decref(json);
    json_decref(again);
    vfio_hold_free(hold);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GString) text = g_string_new(good);
        g_autoptr(GError) error = NULL;

        g_string_replace(text, wrong[i][0], wrong[i][1], 1);
        json = jsonx_parse(text->str, text->len, NULL);
        g_assert_null(vfio_hold_from_json(json, &error));
        g_assert_nonnull(error);
        json_decref(json);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vfio/card/companions", test_companions);
    g_test_add_func("/vfio/card/groups", test_groups);
    g_test_add_func("/vfio/card/obstacles", test_obstacles);
    g_test_add_func("/vfio/card/odd", test_odd_cards);
    g_test_add_func("/vfio/check/nothing", test_check_of_nothing);
    g_test_add_func("/vfio/check/node", test_check_of_a_node);
    g_test_add_func("/vfio/check/documented", test_documented);
    g_test_add_func("/vfio/hold/json", test_hold_json);
    return g_test_run();
}
