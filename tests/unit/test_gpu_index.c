#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "gpu/gpu_index.h"

struct fixture {
    char *dir;
    char *path;
    struct gpu_index *index;
};

static void setup(struct fixture *f, const void *data) {
    f->dir = g_dir_make_tmp("kr-index-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "gpus.json", NULL);
    f->index = gpu_index_load(f->path, NULL);
    g_assert_nonnull(f->index);
}

static void teardown(struct fixture *f, const void *data) {
    gpu_index_free(f->index);
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static void add(GPtrArray *gpus, const char *pci, const char *uuid) {
    struct gpu *gpu = gpu_new();

    g_strlcpy(gpu->pci, pci, sizeof gpu->pci);
    g_strlcpy(gpu->uuid, uuid, sizeof gpu->uuid);
    g_strlcpy(gpu->name, uuid[0] ? "H100" : "", sizeof gpu->name);
    gpu->condition = GPU_CONDITION_OK;
    g_ptr_array_add(gpus, gpu);
}

static GPtrArray *list_new(void) { return g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free); }
static const struct gpu *at(const GPtrArray *gpus, guint i) { return gpus->pdata[i]; }

static void reload(struct fixture *f) {
    g_autoptr(GError) error = NULL;

    g_assert_true(gpu_index_save(f->index, &error));
    gpu_index_free(f->index);
    f->index = gpu_index_load(f->path, &error);
    g_assert_no_error(error);
}

static void test_pci_order(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) gpus = list_new();

    add(gpus, "0000:18:00.0", "GPU-a");
    add(gpus, "0000:2a:00.0", "");
    add(gpus, "0000:9a:00.0", "GPU-c");
    gpu_index_assign(f->index, gpus);
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(at(gpus, (guint)i)->index, ==, i);
}

static void test_kept_over_restart(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) first = list_new(), later = list_new();

    add(first, "0000:18:00.0", "GPU-a");
    add(first, "0000:2a:00.0", "GPU-b");
    gpu_index_assign(f->index, first);
    reload(f);
    add(later, "0000:05:00.0", "GPU-new"); /* lower on the bus than all: the next number all the same */
    add(later, "0000:2a:00.0", "GPU-b");
    gpu_index_assign(f->index, later);
    g_assert_cmpint(at(later, 0)->index, ==, 2);
    g_assert_cmpint(at(later, 1)->index, ==, 1);
    g_assert_false(gpu_index_by_uuid(f->index, "GPU-a")->is_present);
}

static void test_moved_slot(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) first = list_new(), swapped = list_new();

    add(first, "0000:18:00.0", "GPU-a");
    add(first, "0000:2a:00.0", "GPU-b");
    gpu_index_assign(f->index, first);
    add(swapped, "0000:18:00.0", "GPU-b");
    add(swapped, "0000:2a:00.0", "GPU-a");
    gpu_index_assign(f->index, swapped);
    g_assert_cmpint(at(swapped, 0)->index, ==, 1);
    g_assert_cmpint(at(swapped, 1)->index, ==, 0);
    g_assert_cmpstr(gpu_index_by_uuid(f->index, "GPU-a")->pci, ==, "0000:2a:00.0");
}

static void test_replaced_card(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) first = list_new(), later = list_new(), silent = list_new();

    add(first, "0000:18:00.0", "GPU-a");
    gpu_index_assign(f->index, first);
    add(later, "0000:18:00.0", "GPU-x");
    gpu_index_assign(f->index, later);
    g_assert_cmpint(at(later, 0)->index, ==, 1);
    g_assert_cmpstr(gpu_index_by_uuid(f->index, "GPU-a")->pci, ==, "");
    add(silent, "0000:18:00.0", ""); /* NVML says nothing: it is the one that was there last */
    gpu_index_assign(f->index, silent);
    g_assert_cmpstr(at(silent, 0)->uuid, ==, "GPU-x");
}

static void test_remembers_identity(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) first = list_new(), later = list_new();

    add(first, "0000:18:00.0", "GPU-a");
    gpu_index_assign(f->index, first);
    reload(f);
    add(later, "0000:18:00.0", ""); /* on vfio-pci, or without NVML */
    gpu_index_assign(f->index, later);
    g_assert_cmpint(at(later, 0)->index, ==, 0);
    g_assert_cmpstr(at(later, 0)->uuid, ==, "GPU-a");
    g_assert_cmpstr(at(later, 0)->name, ==, "H100");
}

static void test_learns_uuid(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) first = list_new(), later = list_new();

    add(first, "0000:18:00.0", "");
    add(first, "0000:2a:00.0", "");
    gpu_index_assign(f->index, first);
    add(later, "0000:18:00.0", "GPU-a");
    add(later, "0000:2a:00.0", "GPU-b");
    gpu_index_assign(f->index, later);
    g_assert_cmpint(at(later, 1)->index, ==, 1);
    g_assert_cmpuint(gpu_index_entries(f->index)->len, ==, 2);
}

static void test_same_uuid_twice(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) gpus = list_new();

    add(gpus, "0000:18:00.0", "GPU-a");
    add(gpus, "0000:2a:00.0", "GPU-a");
    gpu_index_assign(f->index, gpus);
    g_assert_cmpint(at(gpus, 0)->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpint(at(gpus, 1)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_cmpstr(at(gpus, 1)->uuid, ==, "");
    g_assert_cmpint(at(gpus, 1)->index, ==, 1);
    g_assert_nonnull(strstr(at(gpus, 1)->reason, "GPU 0"));
}

/* A card without a driver has an identity by its place. Its library's word makes it good, under the same number, but not while a
 * lease has it by the other name (R1); and one that lost its driver stays who it was. */
static void test_provisional(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) bare = list_new(), leased = list_new(), known = list_new(), again = list_new();
    static const char place[] = "PCI-10de-2330-0000:18:00.0";

    add(bare, "0000:18:00.0", place);
    add(bare, "0000:2a:00.0", "GPU-b");
    ((struct gpu *)bare->pdata[0])->condition = GPU_CONDITION_BARE;
    gpu_index_assign(f->index, bare);
    g_assert_cmpstr(at(bare, 0)->uuid, ==, place);
    gpu_index_pin(f->index, place, true);
    add(leased, "0000:18:00.0", "GPU-a");
    gpu_index_assign(f->index, leased);
    g_assert_cmpstr(at(leased, 0)->uuid, ==, place);
    gpu_index_pin(f->index, place, false);
    add(known, "0000:18:00.0", "GPU-a");
    gpu_index_assign(f->index, known);
    g_assert_cmpstr(at(known, 0)->uuid, ==, "GPU-a");
    g_assert_cmpint(at(known, 0)->index, ==, 0);
    reload(f);
    add(again, "0000:18:00.0", place);
    ((struct gpu *)again->pdata[0])->condition = GPU_CONDITION_BARE;
    gpu_index_assign(f->index, again);
    g_assert_cmpstr(at(again, 0)->uuid, ==, "GPU-a");
    g_assert_cmpint(at(again, 0)->index, ==, 0);
}

static void test_idle_baseline(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) gpus = list_new();

    add(gpus, "0000:18:00.0", "GPU-a");
    gpu_index_assign(f->index, gpus);
    g_assert_cmpint(gpu_index_by_uuid(f->index, "GPU-a")->idle_bytes, ==, -1);
    gpu_index_set_driver(f->index, "550");
    gpu_index_learn_idle(f->index, "GPU-a", 600 << 20);
    gpu_index_learn_idle(f->index, "GPU-a", 900 << 20);
    gpu_index_learn_idle(f->index, "GPU-a", 500 << 20);
    gpu_index_learn_idle(f->index, "GPU-b", 1); /* unknown: nothing happens */
    reload(f);
    g_assert_cmpint(gpu_index_by_uuid(f->index, "GPU-a")->idle_bytes, ==, 500 << 20);
    gpu_index_set_driver(f->index, "550");
    g_assert_cmpint(gpu_index_by_uuid(f->index, "GPU-a")->idle_bytes, ==, 500 << 20);
    gpu_index_set_driver(f->index, "560"); /* another driver takes other amounts for itself */
    g_assert_cmpint(gpu_index_by_uuid(f->index, "GPU-a")->idle_bytes, ==, -1);
}

static void test_bad_file(struct fixture *f, const void *data) {
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"version\":2,\"cards\":[]}",
        "{\"version\":1}",
        ("{\"version\":1,\"cards\":[{\"index\":1,\"uuid\":\"a\",\"pci_address\":\"\",\"name\":\"\"},"
         "{\"index\":1,\"uuid\":\"b\",\"pci_address\":\"\",\"name\":\"\"}]}"),
        "{\"version\":1,\"cards\":[{\"index\":-1,\"uuid\":\"a\",\"pci_address\":\"\",\"name\":\"\"}]}"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(g_file_set_contents(f->path, bad[i], -1, NULL));
        g_assert_null(gpu_index_load(f->path, &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_IO);
        g_assert_nonnull(strstr(error->message, f->path));
    }
}

static void test_unwritable(struct fixture *f, const void *data) {
    g_autofree char *path = g_build_filename(f->dir, "missing", "gpus.json", NULL);
    struct gpu_index *index = gpu_index_load(path, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(index);
    g_assert_false(gpu_index_save(index, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_IO);
    gpu_index_free(index);
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *, const void *);
    } tests[] = {{"/gpu/index/R4-in-pci-order-at-first-sight", test_pci_order},
                 {"/gpu/index/R4-L48-stable-after-removal-and-restart", test_kept_over_restart},
                 {"/gpu/index/L47-follows-the-uuid-to-another-slot", test_moved_slot},
                 {"/gpu/index/L47-replaced-card-gets-a-new-number", test_replaced_card},
                 {"/gpu/index/L48-identity-remembered-without-nvml", test_remembers_identity},
                 {"/gpu/index/uuid-learned-later", test_learns_uuid},
                 {"/gpu/index/one-uuid-claimed-twice", test_same_uuid_twice},
                 {"/gpu/index/R4-provisional-identity", test_provisional},
                 {"/gpu/index/idle-baseline-per-driver", test_idle_baseline},
                 {"/gpu/index/bad-file-is-an-error", test_bad_file},
                 {"/gpu/index/unwritable-is-an-error", test_unwritable}};

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
