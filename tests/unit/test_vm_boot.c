/* A real Linux with cloud-init, from the engine's create to the power button: KOHAKURIVER_TEST_VM_DIR names a folder whose store has
 * the image "debian" (tests/vm/test_cloud_init.py makes it). Without it the test is skipped. */

#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>

#include "vm_fixture.h"

enum { BOOT_S = 400 };

struct boot {
    struct vm_fixture f;
    char *key, *key_file;
};

static char *out_of(const char *const *argv) {
    char *out = NULL;
    int status = -1;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status, NULL);
    g_test_message("%s: %d: %s", argv[0], status, out ? out : "");
    return out;
}

static void create(struct boot *b) {
    struct vm_fixture *f = &b->f;
    char *keys[] = {b->key ? g_strstrip(b->key) : (char *)"ssh-ed25519 AAAA nobody", NULL};
    struct vm_spec vm = {.vps_id = 77,
                         .hostname = (char *)"gpuvm",
                         .image = (char *)"debian",
                         .disk_bytes = (int64_t)4 << 30,
                         .user = (char *)"ops",
                         .ssh_keys = keys,
                         .user_data = (char *)"#cloud-config\nruncmd:\n- echo RUNCMD-DONE $(hostname) > /dev/ttyS0\n",
                         .network = (char *)"user"};
    struct engine_config config = {.name = "boot", .cores = 2, .mem_bytes = (int64_t)1 << 30, .vm = &vm};

    engine_create(f->engine, &config, fixture_on_create, f);
    fixture_wait(f);
    g_assert_no_error(f->error);
}

static void wait_for_agent(struct vm_fixture *f) {
    int64_t by_us = g_get_monotonic_time() + BOOT_S * (int64_t)G_USEC_PER_SEC;
    struct qemu_view view = {0};

    do {
        qemu_view_clear(&view);
        fixture_sleep(f, 250);
        g_assert_true(engine_qemu_view(f->engine, "boot", &view));
        fixture_inspect(f, "boot");
        g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
        if (g_get_monotonic_time() > by_us) {
            fixture_logs(f, "boot", 0);
            g_error("the guest is not ready: %s", f->out->str);
        }
    } while (!view.is_ready);
    g_test_message("%s", view.agent_json);
    g_assert_cmpstr(view.address, ==, "10.0.2.15");
    g_assert_nonnull(strstr(view.agent_json, "\"driver\":\"none\""));
    qemu_view_clear(&view);
}

static void log_in(struct boot *b) {
    g_autofree char *ssh = g_find_program_in_path("ssh"), *port = NULL, *out = NULL;
    struct qemu_view view = {0};

    g_assert_true(engine_qemu_view(b->f.engine, "boot", &view));
    g_assert_cmpint(view.ssh_port, >, 0);
    port = g_strdup_printf("%d", view.ssh_port);
    qemu_view_clear(&view);
    if (!ssh || !b->key)
        return;
    out = out_of((const char *[]){
        "ssh", "-i", b->key_file, "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes", "ops@127.0.0.1",
        "hostname; sudo -n id -u; stat -c %a /usr/local/sbin/kohakuriver-agent 2>&1 | tail -n 1", NULL});
    g_assert_true(out && g_str_has_prefix(out, "gpuvm\n0\n"));
}

static void test_boot(struct boot *b, gconstpointer data) {
    struct vm_fixture *f = &b->f;
    g_autofree char *keygen = g_find_program_in_path("ssh-keygen"), *public = NULL;
    int64_t begin_us = g_get_monotonic_time();

    if (!g_getenv("KOHAKURIVER_TEST_VM_DIR")) {
        g_test_skip("KOHAKURIVER_TEST_VM_DIR does not name a folder with the image debian");
        return;
    }
    if (fixture_is_skipped(f))
        return;
    b->key_file = g_build_filename(f->folder, "key", NULL);
    public = g_strconcat(b->key_file, ".pub", NULL);
    if (keygen) {
        g_free(out_of((const char *[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", b->key_file, NULL}));
        g_file_get_contents(public, &b->key, NULL, NULL);
    }
    create(b);
    fixture_start(f, "boot");
    g_assert_no_error(f->error);
    wait_for_agent(f);
    g_test_message("ready after %d ms", (int)((g_get_monotonic_time() - begin_us) / 1000));
    fixture_expect(f, "boot", "RUNCMD-DONE gpuvm");
    log_in(b);
    fixture_signal(f, "boot", SIGTERM);
    fixture_end(f, "boot");
    g_assert_cmpint(f->seen.exit_code, ==, 0);
    fixture_remove(f, "boot");
    g_assert_no_error(f->error);
}

/* The images are the given folder's; disks and machines are the test's own. */
static void set_up(struct boot *b, gconstpointer data) {
    const char *given = g_getenv("KOHAKURIVER_TEST_VM_DIR");
    g_autofree char *from = given ? g_build_filename(given, "images", NULL) : NULL, *to = NULL;

    fixture_set_up(&b->f, NULL);
    to = g_build_filename(b->f.folder, "images", NULL);
    if (from && b->f.engine) {
        g_rmdir(to);
        g_assert_cmpint(symlink(from, to), ==, 0);
    }
}

static void tear_down(struct boot *b, gconstpointer data) {
    g_free(b->key);
    g_free(b->key_file);
    fixture_tear_down(&b->f, NULL);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add("/vm-boot/cloud-init", struct boot, NULL, set_up, test_boot, tear_down);
    return g_test_run();
}
