#include "runner/lease_files.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

struct fixture {
    char *folder;
    struct lease_files *files;
};

static void set_up(struct fixture *f, gconstpointer data) {
    f->folder = g_dir_make_tmp("kr-leases-XXXXXX", NULL);
    f->files = lease_files_open(f->folder, NULL);
}

static void reopen(struct fixture *f) {
    lease_files_close(f->files);
    f->files = lease_files_open(f->folder, NULL);
    g_assert_nonnull(f->files);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    static const char *const names[] = {
        "leases/1.json", "leases/2.json", "leases/1.started", "leases/2.json.tmp", "leases", "epochs.json", "."};

    lease_files_close(f->files);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(f->folder, names[i], NULL);
        g_remove(path);
    }
    g_assert_true(g_rmdir(f->folder) == 0 || !g_file_test(f->folder, G_FILE_TEST_EXISTS));
    g_free(f->folder);
}

static struct lease_file sample(uint32_t task_id, int64_t epoch) {
    static const char *const argv[] = {"sh", "-c", "a \"b\"\n\xc3\xa4", "", NULL}, *const env[] = {"A=1", NULL};
    struct lease_file file = {.phase = LEASE_ACCEPTED,
                              .lease = {.task_id = task_id,
                                        .epoch = epoch,
                                        .numa = 1,
                                        .cores = 2,
                                        .mem_bytes = 1 << 30,
                                        .granted_ms = 5,
                                        .n_gpus = 1}};

    g_strlcpy(file.lease.node, "n1", sizeof file.lease.node);
    file.lease.gpus[0].index = 3;
    g_snprintf(file.lease.gpus[0].uuid, sizeof file.lease.gpus[0].uuid, "GPU-%u", task_id);
    file.spec = g_new0(struct task_spec, 1);
    file.spec->image = g_strdup("img");
    file.spec->argv = g_strdupv((char **)argv);
    file.spec->env = g_strdupv((char **)env);
    file.spec->mounts = g_new0(char *, 1);
    return file;
}

static void save(struct fixture *f, struct lease_file *file) {
    g_autoptr(GError) error = NULL;

    lease_files_save(f->files, file, &error);
    g_assert_no_error(error);
}

static struct lease_file *only(GPtrArray *list) {
    g_assert_nonnull(list);
    g_assert_cmpint(list->len, ==, 1);
    return list->pdata[0];
}

static void test_round_trip(struct fixture *f, gconstpointer data) {
    struct lease_file file = sample(1, 10), *got;
    g_autoptr(GPtrArray) list = NULL;
    g_autofree char *path = g_build_filename(f->folder, "leases/1.json", NULL);
    struct stat status;

    file.phase = LEASE_ENDED;
    file.container = g_strdup("abc");
    file.stop_requested = true;
    file.report = (struct task_report){.task_id = 1,
                                       .epoch = 10,
                                       .state = TASK_KILLED,
                                       .has_exit_code = true,
                                       .exit_code = 143,
                                       .reason = g_strdup("stopped"),
                                       .started_ms = 7,
                                       .finished_ms = 9};
    save(f, &file);
    g_assert_cmpint(stat(path, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 0777, ==, 0600);
    reopen(f);
    list = lease_files_load(f->files, NULL);
    got = only(list);
    g_assert_cmpint(got->phase, ==, LEASE_ENDED);
    g_assert_cmpmem(&got->lease, sizeof got->lease, &file.lease, sizeof file.lease);
    g_assert_true(g_strv_equal((const char *const *)got->spec->argv, (const char *const *)file.spec->argv));
    g_assert_cmpstr(got->spec->env[0], ==, "A=1");
    g_assert_cmpstr(got->container, ==, "abc");
    g_assert_true(got->stop_requested);
    g_assert_cmpint(got->report.state, ==, TASK_KILLED);
    g_assert_cmpint(got->report.exit_code, ==, 143);
    g_assert_cmpstr(got->report.reason, ==, "stopped");
    lease_file_clear(&file);
}

/* A container found without its file has no specification. */
static void test_without_spec(struct fixture *f, gconstpointer data) {
    struct lease_file file = sample(1, 10);
    g_autoptr(GPtrArray) list = NULL;

    g_clear_pointer(&file.spec, task_spec_free);
    file.phase = LEASE_STARTING;
    save(f, &file);
    list = lease_files_load(f->files, NULL);
    g_assert_null(only(list)->spec);
    lease_file_clear(&file);
}

static void test_started(struct fixture *f, gconstpointer data) {
    struct lease_file file = sample(1, 10);
    g_autoptr(GPtrArray) before = NULL, after = NULL, gone = NULL;
    g_autofree char *path = g_build_filename(f->folder, "leases/1.started", NULL);

    file.phase = LEASE_STARTING;
    save(f, &file);
    before = lease_files_load(f->files, NULL);
    g_assert_cmpint(only(before)->started_ms, ==, 0);
    lease_files_note_start(f->files, 1, 1234);
    after = lease_files_load(f->files, NULL);
    g_assert_cmpint(only(after)->started_ms, ==, 1234);
    g_assert_true(lease_files_remove(f->files, &file.lease, NULL));
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    gone = lease_files_load(f->files, NULL);
    g_assert_cmpint(gone->len, ==, 0);
    lease_file_clear(&file);
}

static bool epoch_ok(struct fixture *f, const char *uuid, int64_t epoch) {
    struct lease lease = {.task_id = 99, .epoch = epoch, .node = "n", .n_gpus = 1};
    g_autoptr(GError) error = NULL;
    bool ok;

    g_strlcpy(lease.gpus[0].uuid, uuid, sizeof lease.gpus[0].uuid);
    ok = lease_files_epoch_check(f->files, &lease, &error);
    g_assert_true(ok || g_error_matches(error, KR_ERROR, KR_ERROR_REFUSED));
    return ok;
}

static void test_epochs(struct fixture *f, gconstpointer data) {
    struct lease_file file = sample(1, 10);
    g_autoptr(GPtrArray) list = NULL;

    g_assert_true(epoch_ok(f, "GPU-1", 1));
    g_assert_cmpint(lease_files_max_epoch(f->files), ==, 0);
    save(f, &file);
    g_assert_false(epoch_ok(f, "GPU-1", 10));
    reopen(f);
    list = lease_files_load(f->files, NULL); /* known from the lease alone, without epochs.json */
    g_assert_false(epoch_ok(f, "GPU-1", 9));
    g_assert_true(epoch_ok(f, "GPU-1", 11));
    g_assert_false(epoch_ok(f, "GPU-2", 10)); /* leases come in the order of their epochs, whatever their cards */
    g_assert_true(epoch_ok(f, "GPU-2", 11));
    g_assert_true(lease_files_remove(f->files, &file.lease, NULL));
    reopen(f);
    g_assert_false(epoch_ok(f, "GPU-1", 10));
    g_assert_true(epoch_ok(f, "GPU-1", 11));
    g_assert_cmpint(lease_files_max_epoch(f->files), ==, 10); /* of what is no lease any more, too */
    g_assert_true(lease_files_fence(f->files, 20, NULL));     /* a stop came before its start */
    reopen(f);
    g_assert_false(epoch_ok(f, "GPU-2", 20));
    g_assert_true(epoch_ok(f, "GPU-2", 21));
    lease_file_clear(&file);
}

static void check_damaged(struct fixture *f, const char *text) {
    g_autofree char *path = g_build_filename(f->folder, "leases/2.json", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_null(lease_files_load(f->files, &error));
    g_assert_nonnull(strstr(error->message, "leases/2.json"));
}

static void test_damaged(struct fixture *f, gconstpointer data) {
    static const char *const lease = "\"lease\":{\"task_id\":2,\"epoch\":1,\"node\":\"n\",\"gpus\":[],\"cores\":0,"
                                     "\"memory_bytes\":0,\"numa\":-1,\"granted_ms\":0}";
    g_autofree char *ended = g_strdup_printf("{\"version\":1,\"phase\":\"ended\",%s}", lease);
    g_autofree char *future = g_strdup_printf("{\"version\":2,\"phase\":\"accepted\",%s}", lease);
    g_autofree char *odd = g_strdup_printf("{\"version\":1,\"phase\":\"odd\",%s}", lease);

    check_damaged(f, "");
    check_damaged(f, "{}");
    check_damaged(f, "{\"version\":1,\"phase\":\"accepted\"}");
    check_damaged(f, ended);
    check_damaged(f, future);
    check_damaged(f, odd);
}

/* A temporary is a write that was never finished: no lease. */
static void test_temporary(struct fixture *f, gconstpointer data) {
    g_autofree char *path = g_build_filename(f->folder, "leases/2.json.tmp", NULL);
    g_autoptr(GPtrArray) list = NULL;

    g_assert_true(g_file_set_contents(path, "half", -1, NULL));
    list = lease_files_load(f->files, NULL);
    g_assert_cmpint(list->len, ==, 0);
}

static void test_damaged_epochs(struct fixture *f, gconstpointer data) {
    g_autofree char *path = g_build_filename(f->folder, "epochs.json", NULL);
    static const char *const bad[] = {"", "[]", "{\"GPU-1\":\"x\"}", "{\"GPU-1\":-1}"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(g_file_set_contents(path, bad[i], -1, NULL));
        g_assert_null(lease_files_open(f->folder, &error));
        g_assert_nonnull(error);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/lease-files/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("round-trip", test_round_trip);
    ADD("without-spec", test_without_spec);
    ADD("started", test_started);
    ADD("L25-epochs", test_epochs);
    ADD("R3-damaged", test_damaged);
    ADD("temporary", test_temporary);
    ADD("R3-damaged-epochs", test_damaged_epochs);
    return g_test_run();
}
