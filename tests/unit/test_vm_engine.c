/* Machines for real: QEMU (TCG) with the tiny guest. A card cannot be passed here: what is done with cards is seen by a stand-in. */

#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/image_import.h"
#include "vm_fixture.h"

static void set_up(struct vm_fixture *f, gconstpointer words) {
    fixture_set_up(f, NULL);
    if (f->engine)
        fixture_add_image(f, "tiny", words);
}

static void test_power_off(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    fixture_create(f, "m1", "tiny", 12, NULL);
    g_assert_no_error(f->error);
    g_assert_cmpstr(f->id, ==, "m1");
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_CREATED);
    fixture_start(f, "m1");
    g_assert_no_error(f->error);
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 0);
    g_assert_cmpstr(f->seen.error, ==, NULL);
    g_assert_cmpint(f->seen.started_ms, >, 0);
    g_assert_cmpint(f->seen.finished_ms, >=, f->seen.started_ms);
    fixture_logs(f, "m1", 0);
    g_assert_no_error(f->error);
    g_assert_nonnull(strstr(f->out->str, "TINY-GUEST-UP"));
    g_assert_nonnull(strstr(f->out->str, "TINY-GUEST-READY"));
    fixture_remove(f, "m1");
    g_assert_no_error(f->error);
    fixture_inspect(f, "m1");
    g_assert_error(f->error, KR_ERROR, KR_ERROR_NOT_FOUND);
}

static void start_one(struct vm_fixture *f) {
    fixture_create(f, "m1", "tiny", 12, NULL);
    g_assert_no_error(f->error);
    fixture_start(f, "m1");
    g_assert_no_error(f->error);
    fixture_expect(f, "m1", "TINY-GUEST-READY");
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
    g_assert_cmpint(f->seen.pid, >, 0);
}

static void test_power_button(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    start_one(f);
    fixture_signal(f, "m1", SIGTERM);
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 0);
    fixture_logs(f, "m1", 0);
    g_assert_nonnull(strstr(f->out->str, "POWER-BUTTON"));
    fixture_logs(f, "m1", f->last_ns); /* that one included */
    g_assert_cmpint(f->entries, ==, 1);
}

static void test_kill(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    start_one(f);
    fixture_signal(f, "m1", SIGKILL);
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 128 + SIGKILL);
    fixture_signal(f, "m1", SIGKILL); /* also when it does not run any more */
}

/* Somebody kills QEMU: with KILL its supervisor sees it, with TERM QEMU says so itself and ends in order. */
static void test_killed_from_outside(struct vm_fixture *f, gconstpointer words) {
    static const int signals[] = {SIGKILL, SIGSEGV, SIGTERM};

    if (fixture_is_skipped(f))
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        start_one(f);
        kill(f->seen.pid, signals[i]);
        fixture_end(f, "m1");
        g_assert_cmpint(f->seen.exit_code, ==, 128 + signals[i]);
        g_assert_nonnull(strstr(f->seen.error, "ended by signal"));
        fixture_remove(f, "m1");
        g_assert_no_error(f->error);
    }
}

static void test_reset(struct vm_fixture *f, gconstpointer words) {
    char *first;

    if (fixture_is_skipped(f))
        return;
    start_one(f); /* its READY comes after the reset */
    fixture_logs(f, "m1", 0);
    first = strstr(f->out->str, "TINY-GUEST-UP");
    g_assert_nonnull(first);
    g_assert_nonnull(strstr(first + 1, "TINY-GUEST-UP"));
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
    fixture_remove(f, "m1"); /* kills it */
    g_assert_no_error(f->error);
}

static void test_pause(struct vm_fixture *f, gconstpointer words) {
    int before;

    if (fixture_is_skipped(f))
        return;
    start_one(f);
    engine_pause(f->engine, "m1", true, fixture_on_done, f);
    fixture_wait(f);
    g_assert_no_error(f->error);
    fixture_inspect(f, "m1");
    g_assert_true(f->seen.is_paused);
    g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
    fixture_sleep(f, 200);
    fixture_logs(f, "m1", 0);
    before = (int)f->out->len;
    fixture_sleep(f, 300);
    fixture_logs(f, "m1", 0);
    g_assert_cmpint(f->out->len, ==, before);
    engine_pause(f->engine, "m1", true, fixture_on_done, f); /* twice is once */
    fixture_wait(f);
    g_assert_no_error(f->error);
    fixture_reopen(f); /* and it is known afterwards */
    fixture_until(f, (fixture_inspect(f, "m1"), f->seen.is_paused));
    engine_pause(f->engine, "m1", false, fixture_on_done, f);
    fixture_wait(f);
    g_assert_no_error(f->error);
    fixture_inspect(f, "m1");
    g_assert_false(f->seen.is_paused);
    fixture_signal(f, "m1", SIGKILL);
    fixture_end(f, "m1");
}

/* L21: a runner that starts again touches nothing and knows everything. */
static void test_adopted(struct vm_fixture *f, gconstpointer words) {
    const char *labels[] = {"kohakuriver.node=n1", NULL}, *others[] = {"kohakuriver.node=n2", NULL};
    pid_t pid;

    if (fixture_is_skipped(f))
        return;
    start_one(f);
    pid = f->seen.pid;
    fixture_reopen(f);
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
    g_assert_cmpint(f->seen.pid, ==, pid);
    engine_list(f->engine, labels, fixture_on_list, f);
    fixture_wait(f);
    g_assert_cmpuint(f->listed, ==, 1);
    engine_list(f->engine, others, fixture_on_list, f);
    fixture_wait(f);
    g_assert_cmpuint(f->listed, ==, 0);
    fixture_until(f, (engine_signal(f->engine, "m1", SIGTERM, fixture_on_done, f), fixture_wait(f), !f->error));
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 0);
}

/* It ends while nobody looks. */
static void test_ended_meanwhile(struct vm_fixture *f, gconstpointer words) {
    pid_t pid;

    if (fixture_is_skipped(f))
        return;
    start_one(f);
    pid = f->seen.pid;
    engine_free(f->engine);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    kill(pid, SIGABRT);
    g_usleep(300000);
    fixture_open(f);
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 128 + SIGABRT);
    g_assert_cmpint(f->seen.finished_ms, >, 0);
}

/* A number that another process has now is not the machine, and no signal reaches it (defect of many: kill(pid, 0)). */
static void test_recycled_pid(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *path = NULL, *text = NULL, *exit_path = NULL, *other = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid;

    if (fixture_is_skipped(f))
        return;
    start_one(f);
    pid = f->seen.pid;
    engine_free(f->engine);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    kill(pid, SIGKILL);
    g_usleep(300000);
    path = g_build_filename(f->folder, "machines", "m1", "process.json", NULL);
    exit_path = g_build_filename(f->folder, "machines", "m1", "exit.json", NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, &error));
    g_assert_nonnull(strstr(text, "start_ticks"));
    other = g_strdup_printf("{\"shim\":{\"pid\":%d,\"start_ticks\":1,\"boot_id\":\"x\"},"
                            "\"qemu\":{\"pid\":%d,\"start_ticks\":1,\"boot_id\":\"x\"}}",
                            (int)getpid(), (int)getpid());
    g_assert_true(g_file_set_contents(path, other, -1, &error));
    unlink(exit_path);
    fixture_open(f);
    fixture_end(f, "m1");
    g_assert_nonnull(strstr(f->seen.error, "vanished"));
    g_assert_cmpint(f->seen.exit_code, !=, 0);
    fixture_remove(f, "m1"); /* and we live */
    g_assert_no_error(f->error);
}

/* The disk outlives the machine, and has one machine at a time. */
static void test_disk_stays(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *path = g_build_filename(f->folder, "disks", "12.qcow2", NULL);
    struct stat before, after;

    if (fixture_is_skipped(f))
        return;
    start_one(f);
    g_assert_cmpint(stat(path, &before), ==, 0);
    fixture_create(f, "m2", "tiny", 12, NULL);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "in use: machine m1"));
    fixture_create(f, "m1", "tiny", 13, NULL);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    fixture_remove(f, "m1");
    g_assert_no_error(f->error);
    fixture_create(f, "m2", "tiny", 12, NULL);
    g_assert_no_error(f->error);
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpuint(before.st_ino, ==, after.st_ino);
    fixture_start(f, "m2");
    g_assert_no_error(f->error);
    fixture_remove(f, "m2");
    g_assert_cmpint(stat(path, &after), ==, 0);
}

static void test_no_image(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    fixture_create(f, "m1", "no-such", 12, NULL);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_NOT_FOUND);
    fixture_create(f, "../m1", "tiny", 12, NULL);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    fixture_create(f, "m1", "../tiny", 12, NULL);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_BAD_REQUEST);
    engine_pull(f->engine, "no-such", fixture_on_done, f);
    fixture_wait(f);
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
}

/* Where memory cannot be locked it does not come as far as QEMU. */
static bool is_about_the_card(const char *text) { return strstr(text, "0000:41:00.0") || strstr(text, "LimitMEMLOCK"); }

/* The cards are bound and QEMU cannot have them: its own words are the reason, and the cards come back with the removal. */
static void test_card_fails(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    fixture_create(f, "m1", "tiny", 12, "0000:41:00.0");
    g_assert_no_error(f->error);
    fixture_start(f, "m1");
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_true(is_about_the_card(f->error->message));
    g_assert_cmpstr(f->owner, ==, "m1");
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_CREATED);
    g_assert_true(is_about_the_card(f->seen.error));
    f->refuses_return = true;
    fixture_remove(f, "m1");
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "is stuck"));
    fixture_inspect(f, "m1"); /* it is there until they are back */
    g_assert_no_error(f->error);
    f->refuses_return = false;
    fixture_reopen(f);
    fixture_remove(f, "m1");
    g_assert_no_error(f->error);
    g_assert_null(f->owner);
    g_assert_cmpint(f->binds, ==, 1);
    g_assert_cmpint(f->returns, ==, 2);
}

static void test_bind_refused(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    f->refuses_bind = true;
    fixture_create(f, "m1", "tiny", 12, "0000:41:00.0");
    fixture_start(f, "m1");
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "held by pid 4711"));
    fixture_remove(f, "m1");
    g_assert_no_error(f->error);
    g_assert_cmpint(f->returns, ==, 1);
}

/* Removed while its cards are being bound; and the runner dies there. */
static void test_cut_off(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    f->hangs = true;
    fixture_create(f, "m1", "tiny", 12, "0000:41:00.0");
    g_assert_no_error(f->error);
    engine_start(f->engine, "m1", fixture_on_done, f);
    fixture_until(f, f->pending);
    f->hangs = false;
    fixture_reopen(f);
    fixture_until(f, (fixture_inspect(f, "m1"), !f->error));
    g_assert_cmpint(f->seen.state, ==, ENGINE_CREATED);
    f->hangs = true;
    engine_start(f->engine, "m1", fixture_on_done, f);
    fixture_until(f, f->pending);
    f->hangs = false;
    f->done = 0;
    engine_remove(f->engine, "m1", fixture_on_done, f);
    fixture_until(f, f->done == 2); /* the start is answered too */
    g_assert_cmpint(f->returns, ==, 1);
    g_assert_null(f->owner);
}

static void test_failed_start(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *path = g_build_filename(f->folder, "disks", "12.qcow2", NULL);

    if (fixture_is_skipped(f))
        return;
    fixture_create(f, "m1", "tiny", 12, NULL);
    g_assert_cmpint(truncate(path, 0), ==, 0);
    fixture_start(f, "m1");
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "qcow2"));
    fixture_inspect(f, "m1");
    g_assert_cmpint(f->seen.state, ==, ENGINE_CREATED);
    g_assert_nonnull(strstr(f->seen.error, "qcow2"));
}

/* QEMU is another user's, and reaches what it needs and its own folder alone. */
static void test_user(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *path = NULL, *text = NULL,
                    *record = g_build_filename(f->folder, "machines", "m1", "record.json", NULL);
    struct stat st;

    if (fixture_is_skipped(f))
        return;
    if (getuid() != 0) {
        g_test_skip("needs root");
        return;
    }
    g_assert_cmpint(chmod(f->folder, 0755), ==, 0);
    engine_free(f->engine);
    f->config.user = "nobody";
    fixture_open(f);
    start_one(f);
    path = g_strdup_printf("/proc/%d/status", (int)f->seen.pid);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "Uid:\t65534\t65534\t65534\t65534"));
    g_assert_cmpint(stat(record, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, 0);
    g_assert_cmpuint(st.st_mode & 0077, ==, 0);
    fixture_signal(f, "m1", SIGTERM);
    fixture_end(f, "m1");
    g_assert_cmpint(f->seen.exit_code, ==, 0);
}

/* An image that brings no kernel: firmware runs, with variables that are the VPS's own. */
static void test_firmware(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *raw = g_build_filename(f->folder, "x.raw", NULL);
    g_autofree char *vars = g_build_filename(f->folder, "disks", "12.vars", NULL);
    struct image_wish wish = {.name = "bare", .from = raw};
    struct image_store *store;

    if (fixture_is_skipped(f))
        return;
    if (!fs_exists("/usr/share/OVMF/OVMF_CODE_4M.fd")) {
        g_test_skip("ovmf is not installed");
        return;
    }
    fixture_run((const char *[]){"qemu-img", "create", "-q", "-f", "raw", raw, "1M", NULL});
    store = image_store_new(f->folder, NULL);
    g_assert_true(image_import(store, &wish, NULL));
    image_store_free(store);
    engine_free(f->engine);
    f->config.firmware = "/usr/share/OVMF";
    fixture_open(f);
    fixture_create(f, "m1", "bare", 12, NULL);
    fixture_start(f, "m1");
    g_assert_no_error(f->error);
    g_assert_true(fs_exists(vars));
    fixture_remove(f, "m1");
    g_assert_no_error(f->error);
    g_assert_true(fs_exists(vars));
}

static void on_probe(void *user, const struct engine_facts *facts) {
    struct vm_fixture *f = user;

    f->listed = facts->presence;
    g_string_assign(f->out, facts->text);
    fixture_take(f, NULL);
}

static void test_probe(struct vm_fixture *f, gconstpointer words) {
    if (fixture_is_skipped(f))
        return;
    engine_probe(f->engine, on_probe, f);
    fixture_wait(f);
    g_assert_cmpuint(f->listed, ==, ENGINE_PRESENT);
    g_assert_nonnull(strstr(f->out->str, "pc-q35-"));
    engine_free(f->engine);
    f->config.binary = "qemu-no-such";
    fixture_open(f);
    engine_probe(f->engine, on_probe, f);
    fixture_wait(f);
    g_assert_cmpuint(f->listed, ==, ENGINE_ABSENT);
}

static void add(const char *name, const char *words, void (*test)(struct vm_fixture *f, gconstpointer words)) {
    g_test_add(name, struct vm_fixture, words, set_up, test, fixture_tear_down);
}

/* cloud-init writes the agent at a disk's first start alone: its secret is the disk's, and no other's. */
static char *agent_secret(struct vm_fixture *f, const char *machine, uint32_t vps_id) {
    g_autofree char *path = g_strdup_printf("%s/machines/%s/seed.img", f->folder, machine), *bytes = NULL;
    static const char mark[] = "secret='";
    char *at, *secret;
    gsize len;

    fixture_create(f, machine, "tiny", vps_id, NULL);
    fixture_start(f, machine);
    g_assert_no_error(f->error);
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    at = g_strstr_len(bytes, (gssize)len, mark);
    for (size_t i = 0; !at && i + sizeof mark < len; i++) /* beyond a NUL */
        if (memcmp(bytes + i, mark, sizeof mark - 1) == 0)
            at = bytes + i;
    g_assert_nonnull(at);
    secret = g_strndup(at + sizeof mark - 1, strcspn(at + sizeof mark - 1, "'"));
    fixture_remove(f, machine);
    g_assert_no_error(f->error);
    return secret;
}

static void test_secret_of_disk(struct vm_fixture *f, gconstpointer words) {
    g_autofree char *first = NULL, *second = NULL, *other = NULL,
                    *path = g_build_filename(f->folder, "disks/12.json", NULL);
    struct stat st;

    if (fixture_is_skipped(f))
        return;
    first = agent_secret(f, "m1", 12);
    second = agent_secret(f, "m2", 12);
    other = agent_secret(f, "m3", 13);
    g_assert_cmpuint(strlen(first), >=, 32);
    g_assert_cmpstr(first, ==, second);
    g_assert_cmpstr(first, !=, other);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    add("/vm-engine/power-off", "off", test_power_off);
    add("/vm-engine/power-button", "wait", test_power_button);
    add("/vm-engine/kill", "wait", test_kill);
    add("/vm-engine/killed-from-outside", "wait", test_killed_from_outside);
    add("/vm-engine/reset", "reset", test_reset);
    add("/vm-engine/pause", "wait", test_pause);
    add("/vm-engine/adopted", "wait", test_adopted);
    add("/vm-engine/ended-meanwhile", "wait", test_ended_meanwhile);
    add("/vm-engine/recycled-pid", "wait", test_recycled_pid);
    add("/vm-engine/secret-of-disk", "wait", test_secret_of_disk);
    add("/vm-engine/disk-stays", "wait", test_disk_stays);
    add("/vm-engine/no-image", "wait", test_no_image);
    add("/vm-engine/card-fails", "wait", test_card_fails);
    add("/vm-engine/bind-refused", "wait", test_bind_refused);
    add("/vm-engine/cut-off", "wait", test_cut_off);
    add("/vm-engine/failed-start", "wait", test_failed_start);
    add("/vm-engine/firmware", "wait", test_firmware);
    add("/vm-engine/user", "wait", test_user);
    add("/vm-engine/probe", "wait", test_probe);
    return g_test_run();
}
