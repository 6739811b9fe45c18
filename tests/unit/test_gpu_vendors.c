/* Cards of AMD and Intel beside NVIDIA's, and cards that PCI lists and no library knows. */

#include "gpu_fixture.h"

static json_t *sysfs_of_amd(const char *unique_id) {
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "unique_id", unique_id, "product_name",
                     "AMD Instinct MI210", "mem_info_vram_total", "68702699520", "mem_info_vram_used", "10485760",
                     "gpu_busy_percent", "17", "hwmon/hwmon4/temp1_input", "35000", "hwmon/hwmon4/temp2_input", "41000",
                     "hwmon/hwmon4/power1_average", "42000000", "hwmon/hwmon4/power1_cap", "300000000",
                     "hwmon/hwmon4/freq1_input", "800000000", "drm/renderD128/dev", "226:128", "drm/card1/dev",
                     "226:1");
}

static void add_card(struct fixture *f, const char *vendor, const char *pci, json_t *sysfs) {
    json_array_append_new(json_object_get(f->scenario, "gpus"), json_pack("{s:s,s:s,s:s,s:o}", "vendor", vendor, "pci",
                                                                          pci, "device", "0x740f", "sysfs", sysfs));
}

static void check_uuid(struct fixture *f, const char *uuid) {
    int before = f->checks_done;

    gpu_monitor_check(f->monitor, &uuid, 1, on_checked, f);
    WAIT_FOR(f, f->checks_done > before);
}

static void restart_with(struct fixture *f) {
    stop_monitor(f);
    unlink(f->index_path);
    apply(f);
    start_monitor(f);
}

static void test_amd(struct fixture *f, const void *data) {
    const struct gpu *amd;

    add_card(f, "amd", "0000:05:00.0", sysfs_of_amd("9f8e7d6c5b4a3928"));
    restart_with(f);
    WAIT_FOR(f, count(f) == 5 && snapshot(f)->taken_ms > 0);
    amd = gpu(f, 0); /* in PCI order, whoever made it */
    g_assert_cmpstr(amd->uuid, ==, "AMD-9f8e7d6c5b4a3928");
    g_assert_cmpstr(amd->name, ==, "AMD Instinct MI210");
    g_assert_cmpint(amd->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpuint(amd->n_device_nodes, ==, 2); /* no /dev/kfd here */
    g_assert_cmpstr(amd->device_nodes[0], ==, "/dev/dri/renderD128");
    g_assert_cmpstr(amd->device_nodes[1], ==, "/dev/dri/card1");
    g_assert_cmpint(gpu_figure(amd, GPU_MEM_TOTAL), ==, 68702699520LL);
    g_assert_cmpint(gpu_figure(amd, GPU_MEM_USED), ==, 10485760);
    g_assert_cmpint(gpu_figure(amd, GPU_UTIL), ==, 17);
    g_assert_cmpint(gpu_figure(amd, GPU_TEMP), ==, 41);
    g_assert_cmpint(gpu_figure(amd, GPU_POWER), ==, 42000);
    g_assert_cmpint(gpu_figure(amd, GPU_POWER_LIMIT), ==, 300000);
    g_assert_cmpint(gpu_figure(amd, GPU_CLOCK_SM), ==, 800);
    g_assert_false(gpu_has(amd, GPU_CLOCK_MEM) || gpu_has(amd, GPU_ECC_CORRECTED) || gpu_has(amd, GPU_MINOR));
    for (guint i = 1; i < 5; i++) {
        g_assert_cmpint(gpu(f, i)->condition, ==, GPU_CONDITION_OK);
        g_assert_cmpuint(gpu(f, i)->n_device_nodes, ==, 0);
    }
    g_assert_true(says(snapshot(f)->text, "AMD by sysfs; driver 550.54.15"));
    ask_users(f, amd->uuid);
    g_assert_cmpuint(json_array_size(f->answer), ==, 0);
    check(f, 0, 1); /* NVIDIA's cards are checked as ever */
    g_assert_true(f->is_free[0]);
    check_uuid(f, "AMD-9f8e7d6c5b4a3928");
    g_assert_true(f->is_free[0] && f->proof[0].facts == PROOF_CARD);
}

static void put(struct fixture *f, const char *file, const char *text) {
    g_autofree char *path = g_build_filename(f->root, file, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

#define KFD "sys/class/kfd/kfd/"

/* R2, R3: whom AMD's compute driver names is on the card, and memory above what it has at rest is a use too. */
static void test_amd_evidence(struct fixture *f, const void *data) {
    const char *uuid = "AMD-9f8e7d6c5b4a3928";
    g_autofree char *mine = g_strdup_printf(KFD "proc/%d/vram_4660", (int)getpid());

    put(f, "dev/kfd", "");
    put(f, KFD "topology/nodes/0/gpu_id", "0\n");
    put(f, KFD "topology/nodes/0/properties", "cpu_cores_count 8\ndrm_render_minor 0\n");
    put(f, KFD "topology/nodes/1/gpu_id", "4660\n");
    put(f, KFD "topology/nodes/1/properties", "simd_count 416\ndrm_render_minor 128\nnum_xcc 1\n");
    put(f, mine, "0\n"); /* it may use the card and does not */
    add_card(f, "amd", "0000:05:00.0", sysfs_of_amd("9f8e7d6c5b4a3928"));
    restart_with(f);
    WAIT_FOR(f, count(f) == 5 && gpu(f, 0)->condition == GPU_CONDITION_OK && gpu(f, 0)->proof.facts == PROOF_CARD);
    g_assert_cmpuint(gpu(f, 0)->n_device_nodes, ==, 3);
    g_assert_cmpstr(gpu(f, 0)->device_nodes[2], ==, "/dev/kfd");
    check_uuid(f, uuid);
    g_assert_true(f->is_free[0]);
    put(f, mine, "4096\n");
    check_uuid(f, uuid);
    g_assert_false(f->is_free[0]);
    g_assert_true(says(f->why[0], "uses it"));
    ask_users(f, uuid);
    g_assert_cmpint(answer_number(f, 0, "pid"), ==, getpid());
    g_assert_cmpint(answer_number(f, 0, "memory_bytes"), ==, 4096);
    put(f, mine, "0\n");
    json_object_set_new(json_object_get(card(f, 4), "sysfs"), "mem_info_vram_used", json_string("9000000000"));
    apply(f);
    check_uuid(f, uuid);
    g_assert_false(f->is_free[0]);
    g_assert_true(says(f->why[0], "above its idle memory"));
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_FOREIGN);
}

/* Another driver than the kernel's own for these cards says nothing that we could judge by. */
static void test_other_driver(struct fixture *f, const void *data) {
    add_card(f, "amd", "0000:05:00.0", sysfs_of_amd("9f8e7d6c5b4a3928"));
    json_object_set_new(card(f, 4), "driver", json_string("radeon"));
    restart_with(f);
    WAIT_FOR(f, count(f) == 5 && snapshot(f)->taken_ms > 0);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 0)->reason, "bound to the driver radeon, not to amdgpu"));
}

/* A processor's graphics, and a card without an id of its own. */
static void test_amd_odd(struct fixture *f, const void *data) {
    json_t *apu = sysfs_of_amd("1"), *nameless = sysfs_of_amd("not hex");

    json_object_del(apu, "hwmon/hwmon4/power1_cap");
    json_object_del(nameless, "product_name");
    json_object_set_new(nameless, "gpu_busy_percent", json_string("rubbish"));
    add_card(f, "amd", "0000:05:00.0", apu);
    add_card(f, "amd", "0000:06:00.0", nameless);
    restart_with(f);
    WAIT_FOR(f, count(f) == 6 && snapshot(f)->taken_ms > 0);
    g_assert_true(says(gpu(f, 0)->reason, "without memory of its own: not handed out"));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_true(g_str_has_prefix(gpu(f, 1)->uuid, "PCI-1002-740f-")); /* then this machine's number */
    g_assert_true(g_str_has_suffix(gpu(f, 1)->uuid, "-0000:06:00.0"));
    g_assert_cmpstr(gpu(f, 1)->name, ==, "AMD GPU 740f");
    g_assert_false(gpu_has(gpu(f, 1), GPU_UTIL));
}

static void test_intel(struct fixture *f, const void *data) {
    json_t *arc = json_pack("{s:s,s:s,s:s,s:s}", "tile0/physical_vram_size_bytes", "0x400000000",
                            "hwmon/hwmon2/energy1_input", "1000000", "hwmon/hwmon2/power1_max", "150000000",
                            "tile0/gt0/freq0/act_freq", "2400");
    json_t *granted = json_pack("{s:s,s:s}", "drm/card0/lmem_total_bytes", "17179869184", "drm/renderD129/dev",
                                "226:129");

    add_card(f, "intel", "0000:00:02.0", json_object());
    add_card(f, "intel", "0000:03:00.0", arc);
    add_card(f, "intel", "0000:04:00.0", granted);
    restart_with(f);
    WAIT_FOR(f, count(f) == 7 && snapshot(f)->taken_ms > 0);
    g_assert_true(says(gpu(f, 0)->reason, "without memory of its own"));
    g_assert_true(says(gpu(f, 1)->reason, "its driver xe offers no render node"));
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpstr(gpu(f, 2)->device_nodes[0], ==, "/dev/dri/renderD129");
    g_assert_cmpstr(gpu(f, 2)->device_nodes[1], ==, "/dev/dri/card0");
    check_uuid(f, gpu(f, 2)->uuid);
    g_assert_true(f->is_free[0]); /* sysfs tells no used memory: by its processes alone */
    g_assert_cmpint(gpu_figure(gpu(f, 1), GPU_MEM_TOTAL), ==, 16LL << 30);
    g_assert_cmpint(gpu_figure(gpu(f, 1), GPU_POWER_LIMIT), ==, 150000);
    g_assert_cmpint(gpu_figure(gpu(f, 1), GPU_CLOCK_SM), ==, 2400);
    g_assert_false(gpu_has(gpu(f, 1), GPU_UTIL)); /* sysfs does not tell */
    WAIT_FOR(f, gpu_has(gpu(f, 1), GPU_POWER));   /* from the energy between two looks */
    g_assert_cmpint(gpu_figure(gpu(f, 1), GPU_POWER), ==, 0);
    json_object_set_new(json_object_get(card(f, 5), "sysfs"), "hwmon/hwmon2/energy1_input", json_string("900000000"));
    apply(f);
    WAIT_FOR(f, gpu_figure(gpu(f, 1), GPU_POWER) > 1000);
}

/* No library of NVIDIA's is no trouble for the others. */
static void test_amd_without_nvml(struct fixture *f, const void *data) {
    add_card(f, "amd", "0000:05:00.0", sysfs_of_amd("9f8e7d6c5b4a3928"));
    f->library = "/nowhere/libnvidia-ml.so.1";
    restart_with(f);
    WAIT_FOR(f, count(f) == 5 && snapshot(f)->taken_ms > 0);
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_UTIL), ==, 17);
    g_assert_true(says(gpu(f, 1)->reason, "NVML is absent"));
}

/* What a card that PCI lists and NVML does not know is: on vfio-pci, without a driver, in trouble, or gone. */
static void test_absent_cards(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    json_object_set_new(card(f, 0), "state", json_string("vfio"));
    json_object_set_new(card(f, 1), "driver", json_null());
    set_fault(card(f, 2), "nvmlDeviceGetHandleByPciBusId", json_pack("{s:s}", "return", "NOT_FOUND"));
    set_fault(card(f, 3), "nvmlDeviceGetMemoryInfo", json_pack("{s:s}", "return", "UNKNOWN"));
    json_object_set_new(card(f, 3), "config", json_string("ones"));
    stop_monitor(f);
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, gpu(f, 3)->condition == GPU_CONDITION_FAULT);
    g_assert_true(says(gpu(f, 3)->reason, "fallen off the bus"));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_VFIO);
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 1)->reason, "no driver is bound"));
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 2)->reason, "the driver has the card and NVML does not"));
    json_object_set_new(card(f, 1), "config", json_string("7f"));
    apply(f);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_FAULT && says(gpu(f, 1)->reason, "header type 7f"));
    check(f, 0, 4);
    g_assert_false(f->is_free[0] || f->is_free[1] || f->is_free[2] || f->is_free[3]);
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, const void *data);
    } tests[] = {{"/gpu/vendors/amd-beside-nvidia", test_amd},
                 {"/gpu/vendors/R2-amd-evidence", test_amd_evidence},
                 {"/gpu/vendors/other-driver", test_other_driver},
                 {"/gpu/vendors/amd-odd-ones", test_amd_odd},
                 {"/gpu/vendors/intel", test_intel},
                 {"/gpu/vendors/L57-amd-without-nvml", test_amd_without_nvml},
                 {"/gpu/vendors/L31-L61-cards-without-an-answer", test_absent_cards}};

    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
