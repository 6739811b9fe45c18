/* The tiers in which figures are read, what reading costs, and that every call may hang or be missing. */

#include "gpu_fixture.h"

/* A card that has every figure. */
static void make_rich(json_t *card) {
    static const struct {
        const char *member;
        int value;
    } members[] = {{"utilization", 40},         {"memory_utilization", 12}, {"memory_temperature", 61},
                   {"fan_percent", 33},         {"sm_clock_mhz", 1980},     {"memory_clock_mhz", 2619},
                   {"clock_reasons", 0x1ff},    {"ecc_corrected", 5},       {"ecc_uncorrected", 1},
                   {"ecc_uncorrected_ever", 7}, {"pcie_generation", 5},     {"pcie_width", 16},
                   {"pcie_replays", 3},         {"persistence", 1},         {"recovery_action", 0}};

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
        json_object_set_new(card, members[i].member, json_integer(members[i].value));
    json_object_set_new(card, "remapped_rows", json_pack("[i,i,i,i]", 2, 1, 1, 0));
}

static void test_all_figures(struct fixture *f, const void *data) {
    static const struct {
        enum gpu_figure figure;
        int64_t value;
    } wanted[] = {{GPU_UTIL, 40},
                  {GPU_MEM_UTIL, 12},
                  {GPU_MEM_TEMP, 61},
                  {GPU_FAN, 33},
                  {GPU_CLOCK_SM, 1980},
                  {GPU_CLOCK_MEM, 2619},
                  {GPU_THROTTLE, GPU_THROTTLE_POWER_CAP | GPU_THROTTLE_HW_SLOWDOWN | GPU_THROTTLE_SW_THERMAL |
                                     GPU_THROTTLE_HW_THERMAL | GPU_THROTTLE_POWER_BRAKE},
                  {GPU_ECC_CORRECTED, 5},
                  {GPU_ECC_UNCORRECTED, 1},
                  {GPU_ECC_UNCORRECTED_EVER, 7},
                  {GPU_ROWS_CORRECTED, 2},
                  {GPU_ROWS_UNCORRECTED, 1},
                  {GPU_REMAP_PENDING, 1},
                  {GPU_REMAP_FAILED, 0},
                  {GPU_RECOVERY, 0},
                  {GPU_PCIE_GENERATION, 5},
                  {GPU_PCIE_WIDTH, 16},
                  {GPU_PCIE_REPLAYS, 3},
                  {GPU_PERSISTENCE, 1}};

    make_rich(card(f, 0));
    apply(f);
    WAIT_FOR(f, all_ok(f) && gpu_has(gpu(f, 0), GPU_PERSISTENCE));
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_assert_true(gpu_has(gpu(f, 0), wanted[i].figure));
        g_assert_cmpint(gpu_figure(gpu(f, 0), wanted[i].figure), ==, wanted[i].value);
    }
    g_assert_false(gpu_has(gpu(f, 0), GPU_IDLE_SINCE)); /* it works */
    for (int i = GPU_MEM_TEMP; i < GPU_IDLE_SINCE; i++) /* what a card does not have is absent, not 0 */
        g_assert_false(gpu_has(gpu(f, 1), i));
}

/* The older names do as well (L40). */
static void test_old_names(struct fixture *f, const void *data) {
    stop_monitor(f);
    make_rich(card(f, 0));
    f->library = old_library;
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, all_ok(f) && gpu_has(gpu(f, 0), GPU_THROTTLE));
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_CLOCK_SM), ==, 1980);
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_MEM_USED), ==,
                    555LL << 20); /* the older function counts what is reserved */
    g_assert_false(gpu_has(gpu(f, 0), GPU_REMAP_PENDING) || gpu_has(gpu(f, 0), GPU_RECOVERY));
}

/* -1: it was not called. */
static int64_t cost_of(struct fixture *f, const char *function, const char *member) {
    for (size_t i = 0; i < json_array_size(f->answer); i++)
        if (g_strcmp0(json_string_value(json_object_get(json_array_get(f->answer, i), "function")), function) == 0)
            return answer_number(f, i, member);
    return -1;
}

/* The cheap figures do not cost what the others do (L77): with long intervals those are read once and remembered. */
static void test_tiers(struct fixture *f, const void *data) {
    int updates;

    stop_monitor(f);
    make_rich(card(f, 0));
    apply(f);
    f->slow_ms = f->rare_ms = 3600 * 1000;
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    updates = f->updates;
    WAIT_FOR(f, f->updates >= updates + 10);
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_CLOCK_SM), ==, 1980); /* remembered */
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_PCIE_REPLAYS), ==, 3);
    ask_costs(f);
    g_assert_null(f->no_answer);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetUtilizationRates", "count"), >=, 40);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetTemperature", "count"), ==, 4); /* once for each card */
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetPowerUsage", "count"), ==, 4);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetTotalEccErrors", "count"), ==, 12);
    g_assert_cmpint(cost_of(f, "nvmlInit_v2", "count"), ==, 1);
    check(f, 0, 1);
    g_assert_false(f->is_free[0] && f->why[0]);
    ask_costs(f);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetPowerUsage", "count"), ==, 4); /* a check reads no more than it needs */
}

static void test_costs(struct fixture *f, const void *data) {
    set_fault(card(f, 0), "nvmlDeviceGetFanSpeed", json_pack("{s:i}", "latency_ms", 30));
    apply(f);
    WAIT_FOR(f, all_ok(f));
    do
        ask_costs(f);
    while (cost_of(f, "nvmlDeviceGetFanSpeed", "max_us") < 30000);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetFanSpeed", "total_us"), >=, 30000);
    g_assert_cmpint(cost_of(f, "nvmlDeviceGetUtilizationRates", "max_us"), <, 30000);
}

static void test_no_costs_without_worker(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    set_fault(f->scenario, "*", json_pack("{s:b}", "hang", 1));
    apply(f);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_UNKNOWN);
    gpu_query_cancel(gpu_monitor_costs(f->monitor, on_answer, f));
    ask_users(f, uuid_of(f, 0));
    g_assert_nonnull(f->no_answer);
}

/* Every function that is called may hang at one card: that card alone is unknown, and all is well when it ends (L57, R7). */
static void test_each_call_hangs(struct fixture *f, const void *data) {
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    stop_monitor(f);
    make_rich(card(f, 1));
    json_object_set_new(card(f, 1), "utilization", json_integer(0));
    apply(f);
    f->deadline_ms = 400;
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    ask_costs(f);
    for (size_t i = 0; i < json_array_size(f->answer); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(f->answer, i), "function"));
        if (g_str_has_prefix(name, "nvmlDevice") || g_str_has_prefix(name, "nvmlEventSetWait"))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_assert_cmpuint(names->len, >=, 25);
    for (guint i = 0; i < names->len; i++) {
        stop_monitor(f); /* a fresh one: it has no suspects, so that nothing waits for their time */
        set_fault(card(f, 1), names->pdata[i], json_pack("{s:b}", "hang", 1));
        apply(f);
        start_monitor(f);
        WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_UNKNOWN && says(gpu(f, 1)->reason, "0000:2a:00.0"));
        WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_OK && gpu(f, 3)->condition == GPU_CONDITION_OK);
        g_test_message("%s hung at its card alone", (const char *)names->pdata[i]);
        set_fault(card(f, 1), "", NULL);
        apply(f);
    }
}

/* Every function may say that it is not there, or fail: nothing becomes free by that, and nobody falls. */
static void test_each_call_fails(struct fixture *f, const void *data) {
    static const char *const codes[] = {"NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION", "UNKNOWN", "TIMEOUT"};

    make_rich(card(f, 0));
    apply(f);
    WAIT_FOR(f, all_ok(f));
    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        int updates = f->updates;

        set_fault(card(f, 0), "*", json_pack("{s:s}", "return", codes[i]));
        apply(f);
        WAIT_FOR(f, f->updates > updates + 3);
        for (int figure = 0; figure < GPU_FIGURE_COUNT_;
             figure++) /* no figure of a failed call remains or is made up */
            if (figure != GPU_MINOR && figure != GPU_NUMA && figure != GPU_IDLE_SINCE)
                g_assert_false(gpu_has(gpu(f, 0), figure));
        g_assert_cmpint(gpu(f, 3)->condition, ==, GPU_CONDITION_OK);
        set_fault(card(f, 0), "", NULL);
        apply(f);
        WAIT_FOR(f, all_ok(f) && gpu_has(gpu(f, 0), GPU_CLOCK_SM));
    }
}

/* Cards by the dozen, a renumbering by NVML, and one that comes late. */
static void test_many_cards(struct fixture *f, const void *data) {
    json_t *cards = json_array();

    for (int i = 0; i < 16; i++) {
        json_t *one = json_deep_copy(card(f, 0));
        g_autofree char *uuid = g_strdup_printf("GPU-00000000-0000-0000-0000-0000000000%02d", i);
        g_autofree char *pci = g_strdup_printf("0000:%02x:00.0", 0x10 + (15 - i)); /* listed against the order of PCI */

        json_object_set_new(one, "uuid", json_string(uuid));
        json_object_set_new(one, "pci", json_string(pci));
        json_object_set_new(one, "minor", json_integer(i));
        json_object_set_new(one, "state", json_string(i == 3 ? "gone" : "ok"));
        json_array_append_new(cards, one);
    }
    stop_monitor(f);
    unlink(f->index_path);
    json_object_set_new(f->scenario, "gpus", cards);
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, all_are(f, 15, GPU_CONDITION_OK));
    g_assert_cmpstr(gpu(f, 0)->pci, ==, "0000:10:00.0");
    g_assert_cmpint(gpu_figure(gpu(f, 0), GPU_MINOR), ==, 15);
    json_object_set_new(card(f, 3), "state", json_string("ok"));
    apply(f);
    WAIT_FOR(f, all_are(f, 16, GPU_CONDITION_OK));
    g_assert_cmpstr(gpu(f, 15)->uuid, ==, uuid_of(f, 3)); /* late, so its number is the last one, whatever its slot */
    g_assert_cmpstr(gpu(f, 0)->pci, ==, "0000:10:00.0");
}

/* Two cards change slots: their numbers, and what is remembered of them, go with them (L47). */
static void test_swap(struct fixture *f, const void *data) {
    json_t *first, *second;

    WAIT_FOR(f, all_ok(f));
    stop_monitor(f);
    first = json_incref(json_object_get(card(f, 0), "pci"));
    second = json_incref(json_object_get(card(f, 1), "pci"));
    json_object_set_new(card(f, 0), "pci", second);
    json_object_set_new(card(f, 1), "pci", first);
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 0));
    g_assert_cmpstr(gpu(f, 0)->pci, ==, "0000:2a:00.0");
    json_object_set_new(card(f, 2), "uuid", json_string("GPU-ffffffff-0000-0000-0000-000000000001"));
    stop_monitor(f); /* another card in the slot of one that went */
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 3)->index == 4 && gpu(f, 3)->condition == GPU_CONDITION_OK);
    g_assert_cmpstr(gpu(f, 3)->uuid, ==, "GPU-ffffffff-0000-0000-0000-000000000001");
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, const void *data);
    } tests[] = {{"/gpu/figures/all", test_all_figures},
                 {"/gpu/figures/L40-older-names", test_old_names},
                 {"/gpu/figures/L77-tiers", test_tiers},
                 {"/gpu/figures/costs", test_costs},
                 {"/gpu/figures/no-costs-without-a-worker", test_no_costs_without_worker},
                 {"/gpu/figures/L57-each-call-hangs", test_each_call_hangs},
                 {"/gpu/figures/L43-each-call-fails", test_each_call_fails},
                 {"/gpu/figures/sixteen-cards-and-a-late-one", test_many_cards},
                 {"/gpu/figures/L47-swapped-cards", test_swap}};

    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
