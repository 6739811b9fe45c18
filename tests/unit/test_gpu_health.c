/* When a card is trusted with work: XIDs, memory errors, what the driver asks for, how tasks end on it (L57-L60). */

#include <string.h>

#include "core/gpu_health.h"
#include "model/xid.h"

enum { MINUTE_MS = 60000 };
static const int64_t now_ms = 1700000000000;

struct bed {
    struct gpu *gpu;
    struct gpu_health_view view;
};

static void setup(struct bed *bed, const void *data) {
    (void)data;
    bed->gpu = gpu_new();
    bed->view = (struct gpu_health_view){.gpu = bed->gpu, .boot_id = "boot-1", .now_ms = now_ms};
}

static void teardown(struct bed *bed, const void *data) {
    (void)data;
    gpu_free(bed->gpu);
}

static void expect(const struct bed *bed, enum gpu_health health, const char *part) {
    g_autofree char *reason = NULL;
    enum gpu_health found = gpu_health_judge(&bed->view, &reason);

    g_assert_cmpstr(gpu_health_to_str(found), ==, gpu_health_to_str(health));
    g_assert_true((health == GPU_HEALTH_OK) == (reason == NULL));
    if (part && !strstr(reason, part))
        g_error("\"%s\" does not contain \"%s\"", reason, part);
}

static void test_nothing_known(struct bed *bed, const void *data) {
    (void)data;
    expect(bed, GPU_HEALTH_OK, NULL); /* a card that tells no figures is no sick card */
    g_assert_cmpint(gpu_health_judge(&bed->view, NULL), ==, GPU_HEALTH_OK);
}

static void test_classes(struct bed *bed, const void *data) { /* L58 */
    (void)data;
    gpu_note_xid(bed->gpu, 31, 5, now_ms);
    expect(bed, GPU_HEALTH_OK, NULL); /* the program's own doing */
    gpu_note_xid(bed->gpu, 63, 1, now_ms);
    expect(bed, GPU_HEALTH_SUSPECT, "XID 63");
    gpu_note_xid(bed->gpu, 48, 1, now_ms);
    expect(bed, GPU_HEALTH_QUARANTINE, "double bit ECC error; XID 63"); /* the worst first */
    gpu_note_xid(bed->gpu, 79, 1, now_ms);
    expect(bed, GPU_HEALTH_DEAD, "fallen off the bus");
}

static void test_unknown_xid(struct bed *bed, const void *data) { /* R3 */
    (void)data;
    gpu_note_xid(bed->gpu, 4711, 1, now_ms);
    expect(bed, GPU_HEALTH_SUSPECT, "XID 4711");
}

static void test_ways_back(struct bed *bed, const void *data) { /* L58: no card is sick for ever */
    struct pardon *pardon;

    (void)data;
    gpu_note_xid(bed->gpu, 63, 1, now_ms);
    bed->view.now_ms = now_ms + 11 * MINUTE_MS;
    expect(bed, GPU_HEALTH_OK, NULL); /* suspect: by itself */
    gpu_note_xid(bed->gpu, 95, 1, now_ms);
    bed->view.now_ms = now_ms + 1000LL * MINUTE_MS;
    expect(bed, GPU_HEALTH_QUARANTINE, "uncontained"); /* quarantine: not by time */
    bed->view.pardon = pardon = pardon_of_gpu(bed->gpu, "boot-1", now_ms);
    expect(bed, GPU_HEALTH_OK, NULL); /* by an operator… */
    gpu_note_xid(bed->gpu, 95, 1, now_ms + 2);
    expect(bed, GPU_HEALTH_QUARANTINE, "XID 95"); /* …until it happens again… */
    bed->gpu->xids[0].count = 1;
    bed->view.boot_id = "boot-2";
    expect(bed, GPU_HEALTH_QUARANTINE, "XID 95"); /* …and for that boot only, as counts begin anew */
    pardon_free(pardon);
}

static void test_figures(struct bed *bed, const void *data) { /* L59 */
    struct pardon *pardon;

    (void)data;
    gpu_set(bed->gpu, GPU_ECC_UNCORRECTED, 2);
    expect(bed, GPU_HEALTH_QUARANTINE, "2 uncorrectable memory errors");
    bed->view.pardon = pardon = pardon_of_gpu(bed->gpu, "boot-1", now_ms);
    expect(bed, GPU_HEALTH_OK, NULL);
    gpu_set(bed->gpu, GPU_REMAP_PENDING, 1); /* what is so now cannot be pardoned */
    expect(bed, GPU_HEALTH_QUARANTINE, "reset the card");
    gpu_set(bed->gpu, GPU_REMAP_PENDING, 0);
    gpu_set(bed->gpu, GPU_RECOVERY, GPU_RECOVERY_REBOOT);
    expect(bed, GPU_HEALTH_QUARANTINE, "reboot of the node");
    gpu_set(bed->gpu, GPU_RECOVERY, GPU_RECOVERY_NONE);
    gpu_set(bed->gpu, GPU_THROTTLE, GPU_THROTTLE_POWER_CAP | GPU_THROTTLE_SW_THERMAL);
    expect(bed, GPU_HEALTH_OK, NULL); /* a card at work does that */
    gpu_set(bed->gpu, GPU_THROTTLE, GPU_THROTTLE_HW_THERMAL);
    expect(bed, GPU_HEALTH_SUSPECT, "too hot");
    pardon_free(pardon);
}

static void test_failures(struct bed *bed, const void *data) { /* L59: the black hole that shows in no counter */
    struct gpu_failures failures = {0};

    (void)data;
    bed->view.failures = &failures;
    for (int i = 0; i < 5; i++)
        gpu_failures_note(&failures, "alice@a", now_ms);
    expect(bed, GPU_HEALTH_OK, NULL); /* one owner's bug is no sick card */
    gpu_failures_note(&failures, "bob@b", now_ms);
    expect(bed, GPU_HEALTH_SUSPECT, "the last 6 tasks on it failed");
    bed->view.now_ms = now_ms + 31 * MINUTE_MS;
    expect(bed, GPU_HEALTH_OK, NULL);
}

static void test_pardon_json(struct bed *bed, const void *data) {
    struct pardon *pardon, *back;
    json_t *json;

    (void)data;
    gpu_note_xid(bed->gpu, 95, 3, now_ms);
    gpu_note_xid(bed->gpu, 63, 1, now_ms);
    g_strlcpy(bed->gpu->uuid, "GPU-a", sizeof bed->gpu->uuid);
    pardon = pardon_of_gpu(bed->gpu, "boot-1", now_ms);
    json = pardon_to_json(pardon);
    back = pardon_from_json(json, NULL);
    g_assert_cmpstr(back->uuid, ==, "GPU-a");
    g_assert_cmpuint(back->n_xids, ==, 2);
    g_assert_cmpint(back->xids[1].code, ==, 95);
    g_assert_cmpint(back->xids[1].count, ==, 3);
    json_object_set_new(json, "xids", json_pack("[{s:i}]", "code", 1));
    g_assert_null(pardon_from_json(json, NULL));
    json_decref(json);
    pardon_free(pardon);
    pardon_free(back);
}

static void test_xid_list(struct bed *bed,
                          const void *data) { /* a storm of different ones stays bounded, the newest first */
    (void)data;
    for (int code = 1; code <= 40; code++)
        gpu_note_xid(bed->gpu, code, 1, now_ms + code);
    g_assert_cmpuint(bed->gpu->n_xids, ==, GPU_MAX_XIDS);
    g_assert_cmpint(bed->gpu->xids[0].code, ==, 40);
    gpu_note_xid(bed->gpu, 38, 2, now_ms + 50);
    g_assert_cmpuint(bed->gpu->n_xids, ==, GPU_MAX_XIDS);
    g_assert_cmpint(bed->gpu->xids[0].code, ==, 38);
    g_assert_cmpint(bed->gpu->xids[0].count, ==, 3);
    g_assert_cmpint(bed->gpu->xids[1].code, ==, 40);
    g_assert_cmpint(bed->gpu->xids[2].code, ==, 39);
    g_assert_cmpint(bed->gpu->xids[3].code, ==, 37);
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct bed *bed, const void *data);
    } tests[] = {
        {"/health/nothing-known", test_nothing_known}, {"/health/L58-classes", test_classes},
        {"/health/R3-unknown-xid", test_unknown_xid},  {"/health/L58-ways-back", test_ways_back},
        {"/health/L59-figures", test_figures},         {"/health/L59-failures", test_failures},
        {"/health/pardon-json", test_pardon_json},     {"/health/xid-list", test_xid_list},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct bed, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
