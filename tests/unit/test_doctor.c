/* The doctor on described machines: each check on each of them. A fixture says in its first lines what must be found on
 * it, "# expect OUTCOME ID, OUTCOME ID"; one that says nothing is clean. */
#include "doctor/doctor.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "doctor/cdi_spec.h"
#include "doctor/doctor_case.h"
#include "doctor/doctor_root.h"
#include "runner/runner_config.h"

#define FIXTURES TEST_SOURCE_ROOT "/tests/fixtures/doctor"

static GPtrArray *look(const char *fixture, bool expect_vfio) {
    g_autofree char *path = g_build_filename(FIXTURES, fixture, NULL);
    struct doctor_options options = {
        .root = path, .expect_vfio = expect_vfio, .deadline_ms = 1500, .runner_keys = runner_config_keys};
    GError *error = NULL;
    GPtrArray *results = doctor_run(&options, &error);

    g_assert_no_error(error);
    return results;
}

/* ---- the matrix ---- */

static GPtrArray *fixture_names(void) {
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(FIXTURES, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".txt"))
            g_ptr_array_add(names, g_strdup(name));
    return names;
}

static int compare_lines(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* "error a\nwarning b", sorted. */
static char *expected_of(const char *fixture) {
    g_autofree char *path = g_build_filename(FIXTURES, fixture, NULL), *text = NULL;
    g_autoptr(GPtrArray) lines = g_ptr_array_new();
    g_auto(GStrv) parts = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    if (!g_str_has_prefix(text, "# expect "))
        return g_strdup("");
    text[strcspn(text, "\n")] = '\0';
    parts = g_strsplit(text + strlen("# expect "), ", ", -1);
    for (size_t i = 0; parts[i]; i++)
        g_ptr_array_add(lines, parts[i]);
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static char *found_in(const GPtrArray *results) {
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < results->len; i++) {
        const struct doctor_result *result = g_ptr_array_index(results, i);
        if (result->outcome >= DOCTOR_UNKNOWN)
            g_ptr_array_add(lines, g_strdup_printf("%s %s", doctor_outcome_to_str(result->outcome), result->check->id));
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

/* All were looked at, each said something, and only those that complain say how to fix it. */
static void assert_complete(const GPtrArray *results) {
    guint n = 0;

    while (doctor_checks[n].id)
        n++;
    g_assert_cmpuint(results->len, ==, n);
    for (guint i = 0; i < n; i++) {
        const struct doctor_result *result = g_ptr_array_index(results, i);
        g_assert_true(result->check == &doctor_checks[i]);
        g_assert_cmpuint(strlen(result->seen), >, 0);
        g_assert_true((result->fix != NULL) == (result->outcome >= DOCTOR_WARNING));
    }
}

static void test_each_fixture_has_its_complaints_and_no_others(void) {
    g_autoptr(GPtrArray) names = fixture_names();
    GString *wrong = g_string_new(NULL);
    guint n_clean = 0;

    for (guint i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autofree char *expected = expected_of(name);
        g_autoptr(GPtrArray) results = look(name, false);
        g_autofree char *found = found_in(results);

        assert_complete(results);
        n_clean += !expected[0];
        if (strcmp(expected, "unknown *") == 0)
            g_assert_true(strstr(found, "error") == NULL && strstr(found, "warning") == NULL && found[0]);
        else if (strcmp(expected, found) != 0)
            g_string_append_printf(wrong, "%s: expected [%s] found [%s]\n", name, expected, found);
        g_assert_true(expected[0] || g_str_has_prefix(name, "clean-"));
    }
    if (wrong->len > 0)
        g_error("%s", wrong->str);
    g_string_free(wrong, TRUE);
    g_assert_cmpuint(n_clean, >=, 5);
}

static void test_each_check_has_a_fixture_in_which_it_alone_complains(void) {
    g_autoptr(GPtrArray) names = fixture_names();
    g_autoptr(GHashTable) alone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *expected = expected_of(g_ptr_array_index(names, i));
        const char *id = strchr(expected, ' ');
        if (id && !strchr(expected, '\n') && !g_str_has_prefix(expected, "unknown"))
            g_hash_table_add(alone, g_strdup(id + 1));
    }
    g_hash_table_add(alone, g_strdup("docker-config")); /* a file that cannot be read leaves live-restore unknown */
    for (const struct doctor_check *check = doctor_checks; check->id; check++)
        if (!g_hash_table_contains(alone, check->id))
            g_error("no fixture in which %s alone complains", check->id);
}

static const struct doctor_result *result_of(const GPtrArray *results, const char *id) {
    for (guint i = 0; i < results->len; i++) {
        const struct doctor_result *result = g_ptr_array_index(results, i);
        if (strcmp(result->check->id, id) == 0)
            return result;
    }
    g_assert_not_reached();
}

/* ---- what is said ---- */

static void assert_says(const char *fixture, const char *id, const char *seen, const char *fix) {
    g_autoptr(GPtrArray) results = look(fixture, false);
    const struct doctor_result *result = result_of(results, id);

    if (!strstr(result->seen, seen) || (fix && !strstr(result->fix ? result->fix : "", fix)))
        g_error("%s, %s: seen \"%s\", fix \"%s\"", fixture, id, result->seen, result->fix);
}

static void test_values_and_paths_are_named(void) {
    assert_says("driver-library-mismatch.alternatives.txt", "driver-library-mismatch",
                "loaded is 550.54.15 (/proc/driver/nvidia/version), on disk is 535.183.01 "
                "(/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.535.183.01)",
                "reboot");
    assert_says("gpu-holders.service.txt", "gpu-holders", "pid 5000 Xorg (gdm.service) has /dev/nvidia-modeset",
                "systemctl stop gdm.service");
    assert_says("gpu-holders.txt", "gpu-holders", "pid 5000 python3 (session-3.scope) has /dev/nvidia2", "kill 5000");
    assert_says("gpu-holder-stuck.txt", "gpu-holder-stuck", "wchan os_acquire_mutex", NULL);
    assert_says("iommu-group-foreign.txt", "iommu-group-foreign",
                "GPU 0000:05:00.0 shares IOMMU group 13 with 0000:06:00.0 (class 0200, driver none)", NULL);
    assert_says("cdi-stale-devices.txt", "cdi-stale-devices", "GPU-99999999-0000-4000-8000-000000000000",
                "--output=/etc/cdi/nvidia.yaml");
    assert_says("cdi-stale-driver.txt", "cdi-stale-driver", "/var/run/cdi/nvidia.json mounts libraries of 535.183.01",
                "nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.json");
    assert_says("sick.txt", "cdi-stale-driver", "mounts libraries of 550.90.07, loaded is 550.54.15", "reboot");
    assert_says("token-mode.txt", "token-mode", "/etc/kohakuriver/join-token has mode 0644",
                "chmod 0600 /etc/kohakuriver/join-token");
    assert_says("driver-auto-upgrade.txt", "driver-auto-upgrade", "libcuda1", "apt-mark hold libcuda1");
    assert_says("device-nodes.txt", "device-nodes", "/dev/nvidia2 is 195:1, the driver gave 0000:81:00.0 195:2", NULL);
    assert_says("docker-config.txt", "docker-config", "/etc/docker/daemon.json: ", NULL);
    assert_says("denied-processes.txt", "gpu-holders", "/proc/4000/fd: Permission denied", NULL);
    assert_says("clean-laptop.txt", "gpu-no-driver", "no NVIDIA GPU found by PCI", NULL);
}

static void test_vfio_is_judged_when_asked_for(void) {
    g_autoptr(GPtrArray) plain = look("clean-docker.txt", false), asked = look("clean-docker.txt", true);

    g_assert_cmpint(result_of(plain, "drm-modeset")->outcome, ==, DOCTOR_NOT_APPLICABLE);
    g_assert_cmpint(result_of(asked, "drm-modeset")->outcome, ==, DOCTOR_WARNING);
    g_assert_cmpint(result_of(asked, "kvm-node")->outcome, ==, DOCTOR_WARNING);
    g_assert_cmpint(result_of(asked, "iommu-group-foreign")->outcome, ==, DOCTOR_OK);
}

/* R7: a read that never comes back costs one deadline, and what follows is judged all the same. */
static void test_a_hanging_read_is_given_up(void) {
    g_autofree char *path = g_build_filename(FIXTURES, "hang.txt", NULL);
    char id_a[] = "gpu-not-initialised", id_b[] = "persistence-off";
    char *only[] = {id_a, id_b, NULL};
    struct doctor_options options = {.root = path, .only = only, .deadline_ms = 300, .runner_keys = runner_config_keys};
    int64_t begin = clock_mono_ms();
    g_autoptr(GPtrArray) results = doctor_run(&options, NULL);

    g_assert_cmpuint(results->len, ==, 2);
    g_assert_cmpint(result_of(results, id_a)->outcome, ==, DOCTOR_ERROR);
    g_assert_nonnull(strstr(result_of(results, id_a)->seen, "no answer within 0.3 s"));
    g_assert_cmpint(result_of(results, id_b)->outcome, ==, DOCTOR_OK);
    g_assert_cmpint(clock_mono_ms() - begin, <, 3000);
}

static void test_bad_requests_are_refused(void) {
    char bad[] = "no-such-check";
    char *only[] = {bad, NULL};
    struct doctor_options options = {.root = "/", .only = only};
    g_autoptr(GError) error = NULL, error2 = NULL;

    g_assert_null(doctor_run(&options, &error));
    g_assert_nonnull(strstr(error->message, "no-such-check"));
    options = (struct doctor_options){.root = "/nonexistent/folder"};
    g_assert_null(doctor_run(&options, &error2));
    g_assert_nonnull(strstr(error2->message, "/nonexistent/folder"));
}

static void test_ids_are_unique_and_kebab_case(void) {
    for (const struct doctor_check *a = doctor_checks; a->id; a++) {
        g_assert_cmpuint(strspn(a->id, "abcdefghijklmnopqrstuvwxyz0123456789-"), ==, strlen(a->id));
        g_assert_true(strcmp(a->against, "-") == 0 || a->against[0] == 'L' || a->against[0] == 'R');
        for (const struct doctor_check *b = a + 1; b->id; b++)
            g_assert_cmpstr(a->id, !=, b->id);
    }
}

/* ---- a folder as root ---- */

static void write_below(const char *root, const char *name, const char *text) {
    g_autofree char *path = g_build_filename(root, name, NULL), *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_an_image_is_read_inside_itself(void) {
    g_autofree char *image = g_dir_make_tmp("kr-doctor-XXXXXX", NULL);
    g_autofree char *link = g_build_filename(image, "etc/release", NULL),
                    *fifo = g_build_filename(image, "etc/fifo", NULL);
    g_autofree char *folder = g_build_filename(image, "etc", NULL);
    g_autofree char *file = g_build_filename(image, "etc/os-release", NULL),
                    *big = g_build_filename(image, "etc/big", NULL);
    const char *const argv[] = {"true", NULL};
    struct doctor_root *root;
    struct doctor_space space;
    g_auto(GStrv) names = NULL;
    g_autofree char *text = NULL, *target = NULL;

    write_below(image, "etc/os-release", "ours\n");
    write_below(image, "etc/big", "0123456789");
    g_assert_cmpint(symlink("/../../etc/os-release", link), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    root = doctor_root_open(image, NULL);
    text = doctor_root_read(root, "/etc/release", 100);
    g_assert_cmpstr(text, ==, "ours\n");
    target = doctor_root_link(root, "/etc/release");
    g_assert_cmpstr(target, ==, "/../../etc/os-release");
    g_assert_null(doctor_root_read(root, "/etc/fifo", 100)); /* would never return */
    g_assert_null(doctor_root_read(root, "/etc", 100));
    g_assert_null(doctor_root_read(root, "/etc/none", 100));
    names = doctor_root_list(root, "/etc");
    g_assert_cmpuint(g_strv_length(names), ==, 4);
    g_assert_null(doctor_root_list(root, "/none"));
    g_assert_null(doctor_root_trouble(root));
    g_assert_null(doctor_root_read(root, "/etc/big", 9));
    g_assert_cmpstr(doctor_root_trouble(root), ==, "/etc/big is too large");
    g_assert_true(doctor_root_space(root, "/not/there/at/all", &space));
    g_assert_cmpint(space.total_bytes, >, 0);
    g_assert_null(doctor_root_ask(root, argv)); /* this machine's programs say nothing of an image */
    doctor_root_close(root);
    g_unlink(link);
    g_unlink(fifo);
    g_unlink(file);
    g_unlink(big);
    g_rmdir(folder);
    g_rmdir(image);
}

static void test_this_machine_is_read_and_no_device_is_opened(void) {
    const char *const argv[] = {"echo", "hello", NULL}, *const fails[] = {"false", NULL},
                      *const none[] = {"/no/such", NULL};
    struct doctor_root *root = doctor_root_open("/", NULL);
    g_autofree char *said = doctor_root_ask(root, argv), *own = g_strdup_printf("/proc/%d/fd/0", (int)getpid());
    struct doctor_stat st;

    g_assert_cmpstr(said, ==, "hello\n");
    g_assert_null(doctor_root_ask(root, fails));
    g_assert_null(doctor_root_ask(root, none));
    g_assert_null(doctor_root_read(root, "/dev/zero", 100)); /* would be endless */
    g_assert_true(doctor_root_stat(root, "/dev/null", &st) && S_ISCHR(st.mode));
    g_assert_true(doctor_root_stat(root, own, &st));
    doctor_root_close(root);
}

/* ---- descriptions ---- */

static void assert_refused(const char *text, const char *words) {
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("kr-doctor-XXXXXX", &path, NULL);

    close(fd);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_null(doctor_root_open(path, &error));
    g_unlink(path);
    if (!strstr(error->message, words))
        g_error("\"%s\": %s", text, error->message);
}

static void test_mistakes_in_descriptions_are_named(void) {
    assert_refused("frobnicate /x\n", ":1: \"frobnicate /x\" is not understood");
    assert_refused("\nlink /x\n", ":2: ");
    assert_refused("pci 0000:01:00.0 10de 030200\n", "is not understood");
    assert_refused("space / lots 10G\n", ":1: ");
    assert_refused("include nowhere.txt\n", "nowhere.txt");
    assert_refused("ask something else\n", "ask wants");
    assert_refused("\xff\xfe\n", "neither a folder nor the description of one");
}

/* ---- parsers ---- */

static struct cdi_spec *parse(const char *text) { return cdi_spec_parse(text, strlen(text), NULL); }

static void test_cdi_yaml(void) {
    struct cdi_spec *spec = parse(
        "---\n# made\ncdiVersion: 0.6.0\nkind: 'nvidia.com/gpu' # ours\ndevices:\n"
        "  -   name: \"0\"\n      containerEdits:\n        deviceNodes:\n          - path: /dev/nvidia0\n"
        "            hostPath: /dev/nvidia0\n"
        "  - name: all\n    annotations:\n      name: inner\n"
        "containerEdits:\n  mounts:\n  - hostPath: /usr/lib/libcuda.so.1\n"
        "  - hostPath: /usr/lib/libnvidia-ml.so.570.1\n");

    g_assert_nonnull(spec);
    g_assert_cmpstr(spec->kind, ==, "nvidia.com/gpu");
    g_assert_cmpuint(spec->devices->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(spec->devices, 1), ==, "all");
    g_assert_cmpuint(spec->nodes->len, ==, 1);
    g_assert_cmpuint(spec->versions->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(spec->versions, 0), ==, "570.1");
    cdi_spec_free(spec);
}

static void test_cdi_that_is_not_understood_is_refused(void) {
    static const char *const texts[] = {
        "",
        "kind: nvidia.com/gpu\ndevices: [{name: \"0\"}]\n",
        "kind: nvidia.com/gpu\ndevices:\n\t- name: x\n",
        "kind: nvidia.com/gpu\ncontainerEdits: {deviceNodes: []}\ndevices:\n- containerEdits: &a\n",
        "kind: nvidia.com/gpu\ndevices:\n- name: *alias\n",
        "kind: nvidia.com/gpu\ndevices:\n- name: \"a\\u0041\"\n",
        "devices:\n- name: x\n",
        "{\"kind\": \"nvidia.com/gpu\"",
        "{\"devices\": []}",
        "[1]",
        "kind: \xff/gpu\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        struct cdi_spec *spec = parse(texts[i]);
        if (spec)
            g_error("understood: %s", texts[i]);
    }
}

static void test_versions(void) {
    g_autofree char *version = doctor_version_after("CLI version 1.17.8\ncommit", "version ");

    g_assert_cmpstr(version, ==, "1.17.8");
    g_assert_null(doctor_version_after("no number", "no "));
    g_assert_cmpint(doctor_version_compare("550.54.15", "550.54.15-1"), ==, 0);
    g_assert_cmpint(doctor_version_compare("1.9", "1.17.8"), <, 0);
    g_assert_cmpint(doctor_version_compare("1.18.0~rc.1", "1.17.8"), >, 0);
    g_assert_cmpint(doctor_version_compare("550.54", "550.54.15"), <, 0);
    g_assert_cmpint(doctor_version_compare("550", "550.0"), ==, 0);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/doctor/matrix", test_each_fixture_has_its_complaints_and_no_others);
    g_test_add_func("/doctor/covered", test_each_check_has_a_fixture_in_which_it_alone_complains);
    g_test_add_func("/doctor/values", test_values_and_paths_are_named);
    g_test_add_func("/doctor/vfio", test_vfio_is_judged_when_asked_for);
    g_test_add_func("/doctor/hang", test_a_hanging_read_is_given_up);
    g_test_add_func("/doctor/refused", test_bad_requests_are_refused);
    g_test_add_func("/doctor/ids", test_ids_are_unique_and_kebab_case);
    g_test_add_func("/doctor/image", test_an_image_is_read_inside_itself);
    g_test_add_func("/doctor/live", test_this_machine_is_read_and_no_device_is_opened);
    g_test_add_func("/doctor/description", test_mistakes_in_descriptions_are_named);
    g_test_add_func("/doctor/cdi-yaml", test_cdi_yaml);
    g_test_add_func("/doctor/cdi-refused", test_cdi_that_is_not_understood_is_refused);
    g_test_add_func("/doctor/versions", test_versions);
    return g_test_run();
}
