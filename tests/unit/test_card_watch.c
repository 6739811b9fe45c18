/* The real monitor with its worker process, a stand-in for NVML that holds the nodes of attached cards as the real one does, and the
 * real switcher over a fake tree, joined by card_watch: a card of the nvidia driver goes to a machine and comes back
 * while the node's own eyes are on it (L68, R3, R4, R7). */
#include <sys/wait.h>

#include "gpu/gpu_pci.h"
#include "gpu_fixture.h"

#include "runner/card_watch.h"
#include "vfio/vfio_holders.h"
#include "vfio/vfio_step.h"
#include "vfio/vfio_switch.h"
#include "vfio_fixture.h"

#define CARD "0000:18:00.0"
enum { STEP_MS = 3000, STUCK_STEP_MS = 400 };

struct node {
    struct fixture f; /* first: the fixture's functions take it */
    char *journals;
    int64_t step_ms;
    struct card_watch *watch;
    struct vfio_switcher *switcher;
    int n_answers, n_changes;
    char *error;
};

static void on_cards(void *user) { ((struct node *)user)->n_changes++; }

static void on_recovered(void *user, const struct vfio_recovered *list, size_t n) {
    ((struct node *)user)->n_answers++;
}

static void note(struct node *n, const GError *error) {
    g_free(n->error);
    n->error = g_strdup(error ? error->message : NULL);
    n->n_answers++;
}

static void on_bound(void *user, const struct vfio_hold *hold, const GError *error) { note(user, error); }
static void on_given_back(void *user, const GError *error) { note(user, error); }

static void start_switcher(struct node *n) {
    struct vfio_switcher_config config = {.root = n->f.root,
                                          .journal_dir = n->journals,
                                          .boot_id = "boot-1",
                                          .helper = FAKES "fake_vfio_kernel",
                                          .step_deadline_ms = n->step_ms ? n->step_ms : STEP_MS,
                                          .grace_ms = 300,
                                          .watch_ms = 50};
    g_autoptr(GError) error = NULL;
    int before = n->n_answers;

    n->watch = card_watch_new(n->f.monitor, on_cards, n);
    n->switcher = card_watch_switcher(n->watch, &n->f.loop, &config, &error);
    g_assert_no_error(error);
    vfio_switcher_recover(n->switcher, on_recovered, n);
    card_watch_update(n->watch);
    WAIT_FOR(&n->f, n->n_answers > before);
}

static void stop_switcher(struct node *n) {
    vfio_switcher_free(n->switcher);
    card_watch_free(n->watch);
}

/* As a kill does: nothing is given back, the journals stay. */
static void restart(struct node *n) {
    stop_switcher(n);
    stop_monitor(&n->f);
    start_monitor(&n->f);
    start_switcher(n);
}

/* What the switch needs to know of the cards, beside what simtree.py writes. /dev/full is the first card's node. */
static void prepare_tree(struct node *n) {
    static const char config[64] = "\xde\x10\x30\x23";

    for (size_t i = 0; i < 4; i++) {
        const char *address = json_string_value(json_object_get(card(&n->f, i), "pci"));
        g_autofree char *group = g_strdup_printf("../../../../kernel/iommu_groups/%zu", 20 + i);

        tree_put_of(n->f.root, address, "driver_override", "(null)\n", -1);
        tree_put_of(n->f.root, address, "default_driver", "nvidia", -1);
        tree_put_of(n->f.root, address, "config", config, sizeof config);
        tree_link(n->f.root, address, "iommu_group", group);
    }
    tree_folder(n->f.root, "sys/bus/pci/drivers/vfio-pci");
    tree_put_of(n->f.root, CARD, "drm/card0/dev", "1:7\n", -1);
}

/* The scenario alone: the tree is the fake kernel's now. */
static void put_scenario(struct node *n) {
    g_autofree char *part = g_strconcat(n->f.scenario_path, ".part", NULL);

    g_assert_cmpint(json_dump_file(n->f.scenario, part, JSON_INDENT(1)), ==, 0);
    g_assert_cmpint(g_rename(part, n->f.scenario_path), ==, 0);
}

static void set_up(struct node *n, const void *data) {
    setup(&n->f, NULL);
    n->journals = g_build_filename(n->f.dir, "journals", NULL);
    json_object_set_new(n->f.scenario, "tree", json_string(n->f.root));
    json_object_set_new(card(&n->f, 0), "device_node", json_string("/dev/full"));
    stop_monitor(&n->f);
    prepare_tree(n);
    put_scenario(n);
    start_monitor(&n->f);
    start_switcher(n);
    WAIT_FOR(&n->f, all_ok(&n->f));
}

static void tear_down(struct node *n, const void *data) {
    stop_switcher(n);
    uv_run(&n->f.loop, UV_RUN_NOWAIT);
    g_free(n->journals);
    g_free(n->error);
    teardown(&n->f, NULL);
}

/* Ours that have the card open: the children of this process alone count, other tests may use /dev/full. */
static guint n_holders(struct node *n) {
    struct vfio_function function;
    g_autoptr(GArray) holders = NULL;
    guint ours = 0;

    g_assert_true(vfio_pci_read(n->f.root, CARD, &function));
    holders = vfio_holders_of(n->f.root, &function);
    for (guint i = 0; i < holders->len; i++)
        ours += strcmp(g_array_index(holders, struct vfio_holder, i).user.command, "fake_worker") == 0;
    return ours;
}

/* What becomes of a bind when nobody asks the worker to go. */
static char *bind_unasked(struct node *n) {
    static const char *const cards[] = {CARD};
    g_autofree char *journals = g_build_filename(n->f.dir, "other", NULL);
    struct vfio_switcher_config config = {
        .root = n->f.root, .journal_dir = journals, .helper = FAKES "fake_vfio_kernel", .step_deadline_ms = STEP_MS};
    struct vfio_switcher *other = vfio_switcher_new(&n->f.loop, &config, NULL);
    int before = n->n_answers;

    vfio_switcher_recover(other, on_recovered, n);
    vfio_bind(other, "vps-9", cards, 1, on_bound, n);
    WAIT_FOR(&n->f, n->n_answers > before + 1);
    vfio_switcher_free(other);
    return g_steal_pointer(&n->error);
}

static const char *driver_of(struct node *n) {
    static char driver[GPU_DRIVER_MAX_BYTES + 1];

    g_assert_true(vfio_pci_driver(n->f.root, CARD, driver));
    return driver;
}

static void start_bind(struct node *n) {
    static const char *const cards[] = {CARD};

    vfio_bind(n->switcher, "vps-1", cards, 1, on_bound, n);
}

static void bind_card(struct node *n) {
    int before = n->n_answers;

    start_bind(n);
    WAIT_FOR(&n->f, n->n_answers > before);
}

static void give_back(struct node *n) {
    int before = n->n_answers;

    vfio_give_back(n->switcher, "vps-1", on_given_back, n);
    WAIT_FOR(&n->f, n->n_answers > before);
}

static void assert_away(struct node *n) {
    struct fixture *f = &n->f;

    WAIT_FOR(f,
             count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_VFIO && gpu(f, 1)->condition == GPU_CONDITION_OK);
    g_assert_cmpint(gpu(f, 0)->index, ==, 0);
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 0));
    g_assert_cmpstr(gpu(f, 0)->name, ==, "NVIDIA H100 80GB HBM3");
    g_assert_cmpint(gpu(f, 1)->index, ==, 1);
    g_assert_cmpuint(n_holders(n), ==, 0);
}

static void assert_home(struct node *n) {
    struct fixture *f = &n->f;

    WAIT_FOR(f, all_ok(f) && proof_of_rest(&gpu(f, 0)->proof));
    g_assert_cmpstr(driver_of(n), ==, "nvidia");
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 0));
    g_assert_cmpint(gpu(f, 0)->index, ==, 0);
    g_assert_cmpuint(n_holders(n), ==, 1);
    check(f, 0, 1);
    g_assert_true(f->is_free[0]);
}

/* Without the watch the card is refused, with the worker named; with it the worker goes, and comes again without the card. */
static void test_there_and_back(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    g_autofree char *why = bind_unasked(n);

    g_assert_true(says(why, CARD " is held by pid ") && says(why, " fake_worker"));
    g_assert_cmpuint(n_holders(n), ==, 1);
    bind_card(n);
    g_assert_cmpstr(n->error, ==, NULL);
    g_assert_cmpstr(driver_of(n), ==, "vfio-pci");
    assert_away(n);
    check(f, 0, 2);
    g_assert_true(!f->is_free[0] && says(f->why[0], "bound to vfio-pci"));
    g_assert_true(f->is_free[1]);
    give_back(n);
    g_assert_cmpstr(n->error, ==, NULL);
    assert_home(n);
    g_assert_cmpint(n->n_changes, >=, 4);
}

/* A check that the worker is at is not lost: it is asked of the next one, and waits that long. */
static void test_a_proof_waits(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    const char *uuid = uuid_of(f, 1);
    int checked = f->checks_done, answered = n->n_answers;

    set_fault(card(f, 1), "nvmlDeviceGetMemoryInfo_v2", json_pack("{s:i}", "latency_ms", 400));
    put_scenario(n);
    gpu_monitor_check(f->monitor, &uuid, 1, on_checked, f);
    start_bind(n);
    WAIT_FOR(f, n->n_answers > answered);
    g_assert_cmpstr(n->error, ==, NULL);
    WAIT_FOR(f, f->checks_done > checked);
    g_assert_true(f->is_free[0]);
    set_fault(card(f, 1), "", NULL);
    put_scenario(n);
    assert_away(n);
    for (guint i = 1; i < 4; i++) /* nothing of this was anything to the others */
        g_assert_cmpint(gpu(f, i)->condition, ==, GPU_CONDITION_OK);
}

/* A worker that hangs in the library is killed, long before its own deadline. */
static void test_a_worker_hangs(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    int64_t began_ms;

    set_fault(card(f, 2), "nvmlDeviceGetUtilizationRates", json_pack("{s:b}", "hang", 1));
    put_scenario(n);
    for (int64_t end_ms = clock_mono_ms() + 300; clock_mono_ms() < end_ms;)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    began_ms = clock_mono_ms();
    bind_card(n);
    g_assert_cmpint(clock_mono_ms() - began_ms, <, DEADLINE_MS);
    g_assert_cmpstr(n->error, ==, NULL);
    set_fault(card(f, 2), "", NULL);
    put_scenario(n);
    assert_away(n);
}

/* -> the worker's pid; 0: none. */
static pid_t worker_pid(void) {
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", (int)getpid()), *text = NULL;
    g_auto(GStrv) pids = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    pids = g_strsplit(g_strstrip(text), " ", -1);
    for (char **pid = pids; *pid; pid++) { /* others may be here that a killed switcher left */
        g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", *pid), *comm = NULL;

        if (g_file_get_contents(comm_path, &comm, NULL, NULL) && strcmp(comm, "fake_worker\n") == 0)
            return (pid_t)g_ascii_strtoll(*pid, NULL, 10);
    }
    return 0;
}

/* Workers come and go while a machine has the card: none opens it. So does the runner. */
static void test_restarts_while_away(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    pid_t first;
    int updates;

    bind_card(n);
    assert_away(n);
    first = worker_pid();
    g_assert_cmpint(first, !=, 0);
    kill(first, SIGKILL);
    WAIT_FOR(f, worker_pid() != 0 && worker_pid() != first);
    updates = f->updates;
    WAIT_FOR(f, f->updates > updates + 4);
    assert_away(n);
    restart(n);
    assert_away(n);
    g_assert_cmpint(vfio_state_of(n->switcher, CARD, NULL), ==, VFIO_BOUND);
    give_back(n);
    assert_home(n);
}

/* The runner is killed while the card is leaving its driver: a write is still in the kernel. The next runner's worker keeps off the card,
 * which still has its driver, until it is home for good. */
static void test_killed_while_leaving(struct node *n, const void *data) {
    struct fixture *f = &n->f;

    stop_switcher(n);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    n->step_ms = STUCK_STEP_MS;
    start_switcher(n);
    tree_put(f->root, "script", "unbind " CARD " wedge\n", -1);
    start_bind(n);
    WAIT_FOR(f, vfio_hold_of(n->switcher, "vps-1") &&
                    strcmp(vfio_hold_of(n->switcher, "vps-1")->step, "unbind " CARD) == 0);
    for (int64_t end_ms = clock_mono_ms() + 100; clock_mono_ms() < end_ms;) /* until it is in the kernel */
        uv_run(&f->loop, UV_RUN_NOWAIT);
    restart(n);
    g_assert_cmpint(vfio_state_of(n->switcher, CARD, NULL), ==, VFIO_STUCK);
    g_assert_cmpstr(driver_of(n), ==, "nvidia");
    WAIT_FOR(f, count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_SWITCHING &&
                    gpu(f, 1)->condition == GPU_CONDITION_OK);
    g_assert_cmpuint(n_holders(n), ==, 0);
    g_assert_cmpint(gpu(f, 0)->index, ==, 0);
    check(f, 0, 1);
    g_assert_false(f->is_free[0]);
    tree_put(f->root, "script", "", 0);
    tree_put(f->root, "unwedge", "", 0);
    WAIT_FOR(f, vfio_state_of(n->switcher, CARD, NULL) == VFIO_IDLE);
    assert_home(n);
}

/* A bind that fails is undone, and the worker looks at the card again. */
static void test_undone(struct node *n, const void *data) {
    tree_put(n->f.root, "script", "unbind " CARD " errno:16\n", -1);
    bind_card(n);
    g_assert_true(says(n->error, "unbind " CARD ": Device or resource busy (undone)"));
    assert_home(n);
}

/* A switch that takes longer than an answer may: what was seen of the other cards is too old, and then it is seen again. */
static void test_long_switch(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    int answered = n->n_answers;

    tree_put(f->root, "script", "unbind " CARD " late:2500\n", -1);
    start_bind(n);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 1)->reason, "while one is being switched"));
    WAIT_FOR(f, n->n_answers > answered);
    g_assert_cmpstr(n->error, ==, NULL);
    assert_away(n);
}

/* A library of old that attaches all cards when it is started does not find the card either. */
static void test_old_library(struct node *n, const void *data) {
    n->f.library = old_library;
    for (size_t i = 0; i < 4; i++) /* it counts this as used */
        json_object_set_new(card(&n->f, i), "memory_reserved_mib", json_integer(0));
    put_scenario(n);
    restart(n);
    WAIT_FOR(&n->f, all_ok(&n->f));
    bind_card(n);
    g_assert_cmpstr(n->error, ==, NULL);
    assert_away(n);
    give_back(n);
    assert_home(n);
}

/* Without a driver of its vendor the card is for machines, and stays who it is; it is proved at rest, goes and comes back as it was. */
static void test_bare(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    g_autofree char *link = g_build_filename(f->root, "sys/bus/pci/devices/" CARD "/driver", NULL);

    stop_switcher(n);
    stop_monitor(f);
    unlink(link);
    tree_put_of(f->root, CARD, "default_driver", "", -1);
    start_monitor(f);
    start_switcher(n);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_BARE && proof_of_rest(&gpu(f, 0)->proof));
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 0));
    g_assert_cmpint(gpu(f, 0)->index, ==, 0);
    check(f, 0, 1);
    g_assert_true(f->is_free[0]);
    bind_card(n);
    g_assert_cmpstr(n->error, ==, NULL);
    assert_away(n);
    give_back(n);
    g_assert_cmpstr(driver_of(n), ==, "");
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_BARE && proof_of_rest(&gpu(f, 0)->proof));
    /* R1: what another way of passing cards has is not ours to take, whatever the way is called */
    tree_set_driver(f->root, CARD, "nvgrace_gpu_vfio_pci");
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_UNKNOWN && strstr(gpu(f, 0)->reason, "nvgrace_gpu_vfio_pci"));
    check(f, 0, 1);
    g_assert_false(f->is_free[0]);
    tree_set_driver(f->root, CARD, "nouveau");
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_BARE && proof_of_rest(&gpu(f, 0)->proof));
    tree_put_of(f->root, CARD, "config", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_FAULT); /* nothing answers there */
    check(f, 0, 1);
    g_assert_false(f->is_free[0]);
}

/* Leased by its place; then somebody loads the driver. The lease's name stays good, for the proof too, and when it is over the card has its
 * own. */
static void test_named_by_its_place(struct node *n, const void *data) {
    struct fixture *f = &n->f;
    struct gpu_pci_card card = {.vendor = PCI_VENDOR_NVIDIA, .device = 0x2330, .address = CARD};
    char place[GPU_UUID_MAX_BYTES + 1];
    const char *const places[] = {place};
    g_autofree char *link = g_build_filename(f->root, "sys/bus/pci/devices/" CARD "/driver", NULL);
    int checked = f->checks_done;

    stop_switcher(n);
    stop_monitor(f);
    unlink(link);
    unlink(f->index_path);
    start_monitor(f);
    start_switcher(n);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_BARE);
    gpu_pci_place_name(f->root, &card, place);
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, place);
    gpu_monitor_set_leased(f->monitor, place, true);
    tree_set_driver(f->root, CARD, "nvidia");
    kill(worker_pid(), SIGKILL); /* a library knows the cards of its start */
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, place);
    gpu_monitor_check(f->monitor, places, 1, on_checked, f);
    WAIT_FOR(f, f->checks_done > checked);
    g_assert_true(f->is_free[0]);
    gpu_monitor_set_leased(f->monitor, place, false);
    WAIT_FOR(f, strcmp(gpu(f, 0)->uuid, uuid_of(f, 0)) == 0);
    g_assert_cmpint(gpu(f, 0)->index, ==, 0);
}

int main(int argc, char **argv) {
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

    if (argc > 1 && strcmp(argv[1], "vfio-step") == 0)
        return vfio_step_main(argc - 1, argv + 1);
    g_setenv("KR_VFIO_REAL", self, TRUE);
    log_init(LOG_LEVEL_ERROR);
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add("/runner/card_watch/" path, struct node, NULL, set_up, test, tear_down)
    ADD("there_and_back", test_there_and_back);
    ADD("a_proof_waits", test_a_proof_waits);
    ADD("a_worker_hangs", test_a_worker_hangs);
    ADD("restarts_while_away", test_restarts_while_away);
    ADD("killed_while_leaving", test_killed_while_leaving);
    ADD("undone", test_undone);
    ADD("long_switch", test_long_switch);
    ADD("old_library", test_old_library);
    ADD("bare", test_bare);
    ADD("named_by_its_place", test_named_by_its_place);
    return g_test_run();
}
