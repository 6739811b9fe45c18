/* QEMU's command line: golden files, and the rules that cards need (passthrough facts in docs/architecture.md's seams). */

#include "vm/qemu_argv.h"

#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "golden.h"

static struct qemu_machine plain(void) {
    return (struct qemu_machine){.binary = "qemu-system-x86_64",
                                 .machine_type = "pc-q35-7.2",
                                 .accel = "kvm",
                                 .name = "gpuvm",
                                 .uuid = "6f0c1f7e-0000-4000-8000-000000000001",
                                 .cores = 4,
                                 .mem_bytes = (int64_t)8 << 30,
                                 .disk = "/v/disks/12.qcow2",
                                 .seed = "/v/machines/m/seed.img",
                                 .mac = "02:00:00:00:00:01",
                                 .ssh_port = 40022,
                                 .console_fd = 5};
}

/* One option with its value a line. */
static void check_golden(const char *name, const struct qemu_machine *m) {
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = qemu_argv_make(m, &error);
    g_autoptr(GString) text = g_string_new(NULL);

    g_assert_no_error(error);
    for (char **at = argv; *at; at++)
        g_string_append_printf(text, "%s%s", at == argv ? "" : (*at)[0] == '-' ? "\n" : " ", *at);
    g_string_append_c(text, '\n');
    golden_check(name, text->str);
}

static void test_plain(void) {
    struct qemu_machine m = plain();

    check_golden("qemu/plain.txt", &m);
}

/* RTX with its audio, USB and UCSI functions, and a single-function data centre card: each behind a root port of its own. */
static void test_cards(void) {
    static const struct qemu_function functions[] = {{"0000:41:00.0", 0x0300},
                                                     {"0000:41:00.1", 0x0403},
                                                     {"0000:41:00.2", 0x0c03},
                                                     {"0000:41:00.3", 0x0c80},
                                                     {"0000:81:00.0", 0x0302}};
    struct qemu_machine m = plain();

    m.functions = functions;
    m.n_functions = G_N_ELEMENTS(functions);
    m.ovmf_code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    m.ovmf_vars = "/v/disks/12.vars";
    m.numa_nodes = "1";
    m.mmio_window_bytes = (int64_t)512 << 30;
    check_golden("qemu/cards.txt", &m);
}

static void test_tiny(void) {
    struct qemu_machine m = plain();

    m.accel = "tcg";
    m.seed = NULL;
    m.kernel = "/v/images/tiny/kernel";
    m.initrd = "/v/images/tiny/initrd";
    m.append = "root=/dev/vda, console=ttyS0";
    m.is_bridged = true;
    m.ssh_port = 0;
    m.hugepages = "/dev/hugepages";
    m.shared_folder = "/srv/shared";
    check_golden("qemu/kernel.txt", &m);
}

/* Sixteen cards: slots and chassis numbers do not meet. */
static void test_many(void) {
    struct qemu_function functions[16];
    struct qemu_machine m = plain();
    g_autoptr(GHashTable) places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) argv = NULL;
    int ports = 0;

    for (int i = 0; i < 16; i++) {
        g_snprintf(functions[i].address, sizeof functions[i].address, "0000:%02x:00.0", i + 1);
        functions[i].pci_class = 0x0302;
    }
    m.functions = functions;
    m.n_functions = 16;
    argv = qemu_argv_make(&m, NULL);
    for (char **at = argv; *at; at++) {
        char *address = g_str_has_prefix(*at, "pcie-root-port") ? strstr(*at, "addr=") : NULL;
        if (!address)
            continue;
        ports++;
        g_assert_true(g_hash_table_add(places, g_strndup(address, 9)));
    }
    g_assert_cmpint(ports, ==, 16);
}

static void test_refused(void) {
    static const struct qemu_function audio[] = {{"0000:41:00.1", 0x0403}};
    struct qemu_machine m = plain();
    g_autoptr(GError) error = NULL;

    m.disk = "/v/a,readonly=off/12.qcow2";
    g_assert_null(qemu_argv_make(&m, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_REFUSED);
    g_clear_error(&error);
    m = plain();
    m.functions = audio;
    m.n_functions = 1;
    g_assert_null(qemu_argv_make(&m, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_REFUSED);
}

static void test_machine_type(void) {
    g_assert_cmpstr(qemu_machine_type_pick("Supported machines are:\npc-q35-7.1 x\npc-q35-7.2 Standard\n"), ==,
                    "pc-q35-7.2");
    g_assert_cmpstr(qemu_machine_type_pick("pc-q35-10.0 x\npc-q35-9.2 x\npc-q35-7.2 x\n"), ==, "pc-q35-9.2");
    g_assert_null(qemu_machine_type_pick("pc-q35-7.20 x\npc-q35-2.12 x\nxpc-q35-7.2 x\n"));
}

/* A card of 128 GiB needs more than that: regions are aligned to their size. */
static void test_window(void) {
    const int64_t big[] = {(int64_t)128 << 30, (int64_t)128 << 30}, small[] = {256 << 20};

    g_assert_cmpint(qemu_mmio_window(big, 2), ==, (int64_t)512 << 30);
    g_assert_cmpint(qemu_mmio_window(small, 1), ==, (int64_t)1 << 30);
    g_assert_cmpint(qemu_mmio_window(NULL, 0), ==, 0);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu-argv/plain", test_plain);
    g_test_add_func("/qemu-argv/cards", test_cards);
    g_test_add_func("/qemu-argv/kernel", test_tiny);
    g_test_add_func("/qemu-argv/many", test_many);
    g_test_add_func("/qemu-argv/refused", test_refused);
    g_test_add_func("/qemu-argv/machine-type", test_machine_type);
    g_test_add_func("/qemu-argv/window", test_window);
    return g_test_run();
}
