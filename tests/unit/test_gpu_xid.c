/* XIDs: from NVML's events and from the kernel's log, counted once, kept until another boot, and in the way of a proof. */

#include <fcntl.h>

#include "gpu/gpu_kmsg.h"
#include "gpu/gpu_monitor.h"
#include "gpu/xid_balance.h"
#include "gpu_fixture.h"

static void add_xid(struct fixture *f, size_t i, int seq, int code) {
    json_t *list = json_object_get(card(f, i), "xids");

    if (!list)
        json_object_set_new(card(f, i), "xids", list = json_array());
    json_array_append_new(list, json_pack("{s:i,s:i}", "seq", seq, "code", code));
}

/* A record in the kernel's log, logged `ago_ms` ago. */
static void log_record(struct fixture *f, int64_t ago_ms, const char *text) {
    g_autofree char *dev = g_build_filename(f->root, "dev", NULL);
    g_autofree char *path = g_build_filename(dev, "kmsg", NULL);
    g_autofree char *record = g_strdup_printf("4,77,%" G_GINT64_FORMAT ",-;%s\n",
                                              g_get_monotonic_time() - ago_ms * 1000, text);
    int fd;

    g_assert_cmpint(g_mkdir_with_parents(dev, 0755), ==, 0);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    g_assert_cmpint(write(fd, record, strlen(record)), ==, (ssize_t)strlen(record));
    close(fd);
}

static int64_t count_of(struct fixture *f, guint i, int code) {
    for (size_t k = 0; i < count(f) && k < gpu(f, i)->n_xids; k++)
        if (gpu(f, i)->xids[k].code == code)
            return gpu(f, i)->xids[k].count;
    return 0;
}

static void wait_samples(struct fixture *f, int n) {
    int updates = f->updates;

    WAIT_FOR(f, f->updates >= updates + n);
}

static void test_parse(void) {
    static const char *const bad[] = {"",
                                      "4,1,2,-",
                                      "4,1,2,-;NVRM: Xid (PCI:0000:41): 79, x",
                                      "4,1,2,-;NVRM: Xid (PCI:0000:41:00) 79",
                                      "4,1,2,-;NVRM: Xid (PCI:0000:41:00): x",
                                      "4,1,2,-;NVRM: loading",
                                      "NVRM: Xid (PCI:0000:41:00): 79",
                                      "4;NVRM: Xid (PCI:0000:41:00): 79,1,2,-"};
    struct gpu_kmsg_xid xid = {0};

    g_assert_true(gpu_kmsg_parse("4,1234,5678901,-;NVRM: Xid (PCI:0000:41:00): 79, pid=1, GPU has fallen", &xid));
    g_assert_cmpint(xid.code, ==, 79);
    g_assert_cmpint(xid.at_us, ==, 5678901);
    g_assert_cmpint(xid.at.bus, ==, 0x41);
    g_assert_true(gpu_kmsg_parse("4,1,2,c;NVRM: Xid (0001:0a:1f): 13, Graphics", &xid));
    g_assert_cmpint((int)xid.at.domain, ==, 1);
    g_assert_cmpint(xid.at.device, ==, 0x1f);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(gpu_kmsg_parse(bad[i], &xid));
}

/* Each order, each silence. */
static void test_balance(void) {
    struct xid_balance balance = {0};
    struct gpu *told = gpu_new(), *out = gpu_new();

    gpu_note_xid(told, 48, 1, 1);
    xid_balance_logged(&balance, 48, 1, 1000); /* the log first */
    xid_balance_settle(&balance, true, 1500, out);
    xid_balance_told(&balance, told, 2000);
    xid_balance_settle(&balance, true, 100000, out);
    xid_balance_told(&balance, told, 101000); /* the event first */
    xid_balance_logged(&balance, 48, 1, 102000);
    xid_balance_settle(&balance, true, 200000, out);
    xid_balance_told(&balance, told, 201000); /* nothing in the log */
    xid_balance_settle(&balance, true, 300000, out);
    g_assert_cmpuint(out->n_xids, ==, 0);
    xid_balance_logged(&balance, 48, 7, 301000); /* nothing by events */
    xid_balance_settle(&balance, true, 301000 + XID_BALANCE_MS - 1, out);
    g_assert_cmpuint(out->n_xids, ==, 0);
    xid_balance_settle(&balance, true, 301000 + XID_BALANCE_MS, out);
    g_assert_cmpint(out->xids[0].count, ==, 1);
    g_assert_cmpint(out->xids[0].last_ms, ==, 7);
    xid_balance_logged(&balance, 79, 8, 400000); /* nobody listens any more */
    xid_balance_settle(&balance, false, 400000, out);
    g_assert_cmpint(out->xids[0].code, ==, 79);
    for (int code = 200; code < 300; code++)
        xid_balance_logged(&balance, code, 9, 500000);
    g_assert_cmpuint(balance.n, ==, GPU_MAX_XIDS);
    xid_balance_settle(&balance, false, 500000, out);
    g_assert_cmpuint(balance.n, ==, 0);
    gpu_free(told);
    gpu_free(out);
}

static void test_events(struct fixture *f, const void *data) {
    int64_t began_ms = clock_wall_ms();

    WAIT_FOR(f, all_ok(f));
    add_xid(f, 1, 1, 31);
    add_xid(f, 1, 2, 48);
    add_xid(f, 1, 3, 31);
    apply(f);
    WAIT_FOR(f, count_of(f, 1, 31) == 2);
    g_assert_cmpint(count_of(f, 1, 48), ==, 1);
    g_assert_cmpint(gpu(f, 1)->xids[0].code, ==, 31); /* the newest first */
    g_assert_cmpint(gpu(f, 1)->xids[0].last_ms, >=, began_ms);
    g_assert_cmpuint(gpu(f, 0)->n_xids, ==, 0);
    wait_samples(f, 5);
    g_assert_cmpint(count_of(f, 1, 31), ==, 2); /* each is delivered once */
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_OK);
}

/* More than a look takes, and more codes than are kept: counted, bounded, and the looks go on. */
static void test_storm(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    for (int i = 1; i <= 1000; i++)
        add_xid(f, 2, i, 94);
    for (int i = 0; i < 40; i++)
        add_xid(f, 2, 1001 + i, 500 + i);
    apply(f);
    WAIT_FOR(f, count_of(f, 2, 539) == 1);
    g_assert_cmpuint(gpu(f, 2)->n_xids, ==, GPU_MAX_XIDS);
    g_assert_cmpint(gpu(f, 2)->xids[0].code, ==, 539);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK);
}

static void test_kept_until_boot(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    add_xid(f, 0, 1, 74);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 74) == 1);
    stop_monitor(f); /* the runner starts again */
    set_fault(f->scenario, "nvmlInit", json_pack("{s:s}", "return", "DRIVER_NOT_LOADED"));
    apply(f);
    start_monitor(f);
    g_assert_cmpint(count_of(f, 0, 74), ==, 1); /* from the file, before any sample */
    WAIT_FOR(f, snapshot(f)->taken_ms > 0);
    g_assert_cmpint(count_of(f, 0, 74), ==, 1);
    stop_monitor(f);
    set_fault(f->scenario, "", NULL);
    apply(f);
    f->boot_id = ""; /* not known: nothing is forgotten */
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpint(count_of(f, 0, 74), ==, 1);
    stop_monitor(f);
    f->boot_id = "boot-2";
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpuint(gpu(f, 0)->n_xids, ==, 0);
}

/* The kernel's log tells what came before anybody listened, and of cards whose events cannot be had; nothing twice. */
static void test_log(struct fixture *f, const void *data) {
    stop_monitor(f);
    log_record(f, 600000, "NVRM: Xid (PCI:0000:18:00): 63, pid='<unknown>', name=<unknown>, Row remapper");
    set_fault(card(f, 1), "nvmlDeviceRegisterEvents", json_pack("{s:s}", "return", "NOT_SUPPORTED"));
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpint(count_of(f, 0, 63), ==, 1); /* before this runner was there */
    g_assert_cmpint(gpu(f, 0)->xids[0].last_ms, <, clock_wall_ms() - 500000);
    add_xid(f, 0, 1, 48); /* both sources tell of it */
    log_record(f, 0, "NVRM: Xid (PCI:0000:18:00): 48, pid=1, DBE");
    log_record(f, 0, "NVRM: Xid (PCI:0000:2a:00): 31, pid=1, MMU Fault"); /* NVML does not, for this card */
    log_record(f, 0, "NVRM: Xid (PCI:0000:77:00): 31, pid=1, no card of ours");
    apply(f);
    WAIT_FOR(f, count_of(f, 1, 31) == 1 && count_of(f, 0, 48) == 1);
    wait_samples(f, 5);
    g_assert_cmpint(count_of(f, 0, 48), ==, 1);
    stop_monitor(f); /* the log is read again from its beginning, and counted on from where it was */
    start_monitor(f);
    WAIT_FOR(f, all_ok(f));
    wait_samples(f, 5);
    g_assert_cmpint(count_of(f, 0, 63), ==, 1);
    g_assert_cmpint(count_of(f, 0, 48), ==, 1);
    g_assert_cmpint(count_of(f, 1, 31), ==, 1);
}

/* A worker that is killed is no reason to forget, nor to count twice. */
static void test_worker_restart(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    add_xid(f, 0, 1, 62);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 62) == 1);
    set_fault(card(f, 3), "nvmlDeviceGetMemoryInfo", json_pack("{s:b}", "crash", 1));
    apply(f);
    WAIT_FOR(f, gpu(f, 3)->condition == GPU_CONDITION_UNKNOWN);
    set_fault(card(f, 3), "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpint(count_of(f, 0, 62), ==, 1);
    add_xid(f, 0, 2, 62);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 62) == 2); /* the new worker listens */
}

/* Fallen off the bus: said by the driver, and no answer. The card stays what it was, with what is known of it. */
static void test_dead(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    log_record(f, 0, "NVRM: Xid (PCI:0000:9a:00): 79, pid=1, GPU has fallen off the bus.");
    json_object_set_new(card(f, 2), "driver", json_null());
    add_xid(f, 2, 1, 79);
    apply(f);
    WAIT_FOR(f, gpu(f, 2)->condition == GPU_CONDITION_FAULT);
    g_assert_true(says(gpu(f, 2)->reason, "XID 79") && says(gpu(f, 2)->reason, "no driver is bound"));
    json_object_set_new(card(f, 2), "driver", json_string("nvidia"));
    json_object_set_new(card(f, 2), "state", json_string("lost"));
    apply(f);
    WAIT_FOR(f, says(gpu(f, 2)->reason, "GPU is lost"));
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_FAULT);
    g_assert_cmpstr(gpu(f, 2)->uuid, ==, uuid_of(f, 2));
}

/* The wait for events may be the first to say that a card is lost: that card's fault, and nobody else's (L57). */
static void test_wait_says_lost(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    set_fault(card(f, 1), "nvmlEventSetWait", json_pack("{s:s}", "return", "GPU_IS_LOST"));
    apply(f);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_FAULT);
    g_assert_true(says(gpu(f, 1)->reason, "read its events: GPU is lost"));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK);
    set_fault(card(f, 1), "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f));
}

static void test_proof_of_release(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 0), true);
    add_xid(f, 0, 1, 48);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 48) == 1);
    check(f, 0, 1); /* what came while the task ran is no news between looks */
    g_assert_true(f->is_free[0]);
    g_assert_cmpuint(f->proof[0].facts, ==, PROOF_CARD);
    add_xid(f, 0, 2, 31);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 31) == 1);
    check(f, 0, 1); /* an application's own */
    g_assert_true(f->is_free[0]);
    add_xid(f, 0, 3, 119);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 119) == 1);
    check(f, 0, 2);
    g_assert_false(f->is_free[0]);
    g_assert_cmpuint(f->proof[0].facts & PROOF_NO_XID, ==, 0);
    g_assert_true(says(f->why[0], "XID 119"));
    g_assert_true(f->is_free[1]);
    check(f, 0, 1); /* looks begin anew */
    g_assert_true(f->is_free[0]);
}

static void test_proof_of_rest(struct fixture *f, const void *data) {
    int samples;

    WAIT_FOR(f, all_ok(f) && gpu(f, 0)->proof.samples >= 20);
    add_xid(f, 0, 1, 13);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 13) == 1);
    samples = gpu(f, 0)->proof.samples;
    g_assert_cmpint(samples, >=, 20); /* a program's own doing */
    add_xid(f, 0, 2, 62);
    apply(f);
    WAIT_FOR(f, count_of(f, 0, 62) == 1);
    g_assert_cmpint(gpu(f, 0)->proof.samples, <, 20);
    WAIT_FOR(f, proof_of_rest(&gpu(f, 0)->proof) && gpu(f, 0)->proof.samples < 20);
    g_assert_true(proof_of_rest(&gpu(f, 1)->proof));
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, const void *data);
    } tests[] = {{"/gpu/xid/L58-events", test_events},
                 {"/gpu/xid/storm", test_storm},
                 {"/gpu/xid/L58-kept-until-another-boot", test_kept_until_boot},
                 {"/gpu/xid/from-the-log-and-once", test_log},
                 {"/gpu/xid/worker-restart", test_worker_restart},
                 {"/gpu/xid/L61-dead", test_dead},
                 {"/gpu/xid/L57-the-wait-says-lost", test_wait_says_lost},
                 {"/gpu/xid/R2-proof-of-release", test_proof_of_release},
                 {"/gpu/xid/R2-proof-of-rest", test_proof_of_rest}};

    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    g_test_add_func("/gpu/xid/records", test_parse);
    g_test_add_func("/gpu/xid/one-XID-two-tellers", test_balance);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
