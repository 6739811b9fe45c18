/* What a guest is told: golden files; and that no text can be more than a text, by reading it back with PyYAML where that is installed. */

#include "vm/cloud_init.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "golden.h"
#include "vm/fat_seed.h"
#include "vm/guest_agent.h"

static const char *const keys[] = {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey alice@laptop", NULL};

static struct cloud_init plain(void) {
    return (struct cloud_init){.instance_id = "6f0c1f7e-0000-4000-8000-000000000001",
                               .hostname = "gpuvm",
                               .user = "ops",
                               .ssh_keys = (char *const *)keys,
                               .mac = "02:00:00:00:00:01",
                               .agent = "#!/bin/sh\necho agent\n",
                               .driver_version = "",
                               .driver_source = "",
                               .driver_sha256 = ""};
}

static void check(const char *name, const struct cloud_init *c) {
    g_autofree char *meta = cloud_init_meta_data(c), *user = cloud_init_user_data(c),
                    *net = cloud_init_network_config(c);
    g_autofree char *all = g_strconcat("--- meta-data\n", meta, "--- network-config\n", net, "--- user-data\n", user,
                                       NULL);

    golden_check(name, all);
}

static void test_plain(void) {
    struct cloud_init c = plain();

    check("cloud-init/plain.txt", &c);
}

static void test_all(void) {
    struct cloud_init c = plain();

    c.has_share = true;
    c.driver = CLOUD_DRIVER_DISTRIBUTION;
    c.driver_version = "535.104.05";
    c.is_open = true;
    c.user_data = "#cloud-config\npackages: [htop]\n";
    check("cloud-init/all.txt", &c);
}

/* In the node's own network for machines the address is given, as there is no DHCP. */
static void test_address(void) {
    static const char *const servers[] = {"192.0.2.53", NULL};
    struct cloud_init c = plain();
    g_autofree char *net = NULL;

    c.address = "10.88.0.5/24";
    c.gateway = "10.88.0.1";
    c.name_servers = (char *const *)servers;
    net = cloud_init_network_config(&c);
    golden_check("cloud-init/address.txt", net);
}

static void test_driver_source(void) {
    static const char pattern[] = "https://example.invalid/{line}/{version}/N-{version}.run";
    g_autofree char *tesla = cloud_driver_source(pattern, "535.104", true),
                    *other = cloud_driver_source(pattern, "1.2", false);
    g_autofree char *plain = cloud_driver_source("/shared/x.run", "", false),
                    *none = cloud_driver_source(pattern, "", false);
    static const struct {
        const char *sums, *version, *want;
    } sums[] = {
        {"aa", "1", "aa"}, {"1=aa, 2=bb", "2", "bb"}, {"1=aa,2=bb", "3", ""}, {"", "1", ""}, {" 1 = aa ", "1", "aa"}};

    g_assert_cmpstr(tesla, ==, "https://example.invalid/tesla/535.104/N-535.104.run");
    g_assert_cmpstr(other, ==, "https://example.invalid/XFree86/Linux-x86_64/1.2/N-1.2.run");
    g_assert_cmpstr(plain, ==, "/shared/x.run");
    g_assert_null(none);
    for (size_t i = 0; i < G_N_ELEMENTS(sums); i++) {
        g_autofree char *sum = cloud_driver_sum(sums[i].sums, sums[i].version);
        g_assert_cmpstr(sum, ==, sums[i].want);
    }
}

static void test_run_file(void) {
    struct cloud_init c = plain();

    c.driver = CLOUD_DRIVER_RUN_FILE;
    c.driver_source = "https://example.invalid/it's.run";
    c.driver_sha256 = "00ff";
    check("cloud-init/run-file.txt", &c);
}

/* A key with everything that means something in YAML, in JSON and to a shell. */
static char *nasty(GRand *rand) {
    static const char *const bits[] = {"\"",
                                       "'",
                                       "\n",
                                       "#",
                                       ": ",
                                       "- ",
                                       "{",
                                       "}",
                                       "[",
                                       "]",
                                       "\\",
                                       "&a",
                                       "*a",
                                       "!!python/object:x",
                                       "%",
                                       "|",
                                       ">",
                                       "\t",
                                       "ä",
                                       "\xf0\x9f\x98\x80",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xef\xbf\xbe",
                                       "ssh-rsa",
                                       " ",
                                       "${x}",
                                       "\xff",
                                       "---",
                                       "...",
                                       "\r",
                                       "\x01",
                                       "null",
                                       "~"};
    g_autoptr(GString) text = g_string_new("k ");

    for (int i = g_rand_int_range(rand, 0, 24); i > 0; i--)
        g_string_append(text, bits[g_rand_int_range(rand, 0, G_N_ELEMENTS(bits))]);
    return g_strdup(text->str);
}

/* JSON is read back as the very value; PyYAML, as cloud-init uses it, has to agree with JSON. */
static void test_nothing_breaks_out(void) {
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261126);
    g_autofree char *folder = g_dir_make_tmp("kr-cloud-XXXXXX", NULL);
    const char *code = "import sys,json\n"
                       "try:\n import yaml\n"
                       "except ImportError: sys.exit(3)\n"
                       "for p in sys.argv[1:]:\n"
                       " t=open(p,encoding='utf-8',newline='').read()\n"
                       " assert yaml.safe_load(t)==json.loads(t.split('\\n',1)[1]),p\n";
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    int status = 0;

    g_ptr_array_add(argv, (char *)"/usr/bin/python3");
    g_ptr_array_add(argv, (char *)"-c");
    g_ptr_array_add(argv, (char *)code);
    for (int i = 0; i < 200; i++) {
        g_autofree char *key = nasty(rand), *host = nasty(rand), *text = NULL;
        char *const one[] = {key, NULL};
        struct cloud_init c = plain();
        const json_t *users;
        json_t *json;
        char *path = g_strdup_printf("%s/%d", folder, i);

        c.ssh_keys = one;
        c.hostname = host;
        text = cloud_init_user_data(&c);
        g_assert_true(g_str_has_prefix(text, "#cloud-config\n"));
        json = json_loads(strchr(text, '\n'), 0, NULL);
        g_assert_nonnull(json);
        users = json_object_get(json, "users");
        g_assert_cmpuint(json_array_size(users), ==, 1);
        g_assert_cmpuint(json_array_size(json_object_get(json_array_get(users, 0), "ssh_authorized_keys")), ==, 1);
        g_assert_cmpuint(json_object_size(json), ==, 8);
        json_decref(json);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        g_ptr_array_add(argv, path);
    }
    g_ptr_array_add(argv, NULL);
    g_assert_true(g_spawn_sync(NULL, (char **)argv->pdata, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
    for (guint i = 3; argv->pdata[i]; i++) {
        g_unlink(argv->pdata[i]);
        g_free(argv->pdata[i]);
    }
    g_rmdir(folder);
    if (g_spawn_check_wait_status(status, NULL))
        return;
    g_assert_cmpint(status >> 8, ==, 3);
    g_test_skip("python3-yaml is not installed: read back as JSON alone");
}

static void test_versions(void) {
    g_autofree char *closed = cloud_driver_version("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat "
                                                   "Aug 19 01:15:15 UTC 2023\nGCC version:  12.2.0\n");
    g_autofree char *open = cloud_driver_version(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\n");
    g_autofree char *none = cloud_driver_version("no such thing 12 here");

    g_assert_cmpstr(closed, ==, "535.104.05");
    g_assert_cmpstr(open, ==, "560.35.03");
    g_assert_null(none);
    g_assert_false(cloud_card_takes_open(0x1b06)); /* GTX 1080 Ti */
    g_assert_true(cloud_card_takes_open(0x1e07));  /* RTX 2080 Ti */
    g_assert_true(cloud_card_takes_open(0x2684));
}

/* The scripts are what a shell can read. */
static void test_scripts(void) {
    g_autofree char *agent = guest_agent_script("c2VjcmV0");
    const char *argv[] = {"/bin/sh", "-n", "-c", agent, NULL};
    int status = -1;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_assert_nonnull(strstr(agent, "secret='c2VjcmV0'"));
}

/* ---- the seed ---- */

static char *ask(const char *const *argv) {
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    int status = -1;

    g_assert_true(
        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status, &error));
    g_assert_cmpint(status, ==, 0);
    return out;
}

static void test_seed(void) {
    g_autofree char *path = NULL, *large = g_strnfill(300001, 'x'), *got = NULL, *dir = NULL, *small = NULL,
                    *mtype = NULL;
    const struct fat_file files[] = {{"meta-data", "instance-id: x\n", 15},
                                     {"user-data", large, 300001},
                                     {"network-config", "version: 2\n", 11},
                                     {"empty", "", 0}};
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) bytes = fat_seed_make("CIDATA", files, G_N_ELEMENTS(files), &error);
    int fd;

    g_assert_no_error(error);
    g_assert_cmpmem(bytes->data + 43, 11, "CIDATA     ", 11);
    mtype = g_find_program_in_path("mtype");
    if (!mtype) {
        g_test_skip("mtools are not installed: the seed is not read back");
        return;
    }
    fd = g_file_open_tmp("kr-seed-XXXXXX", &path, NULL);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, (const char *)bytes->data, bytes->len, NULL));
    got = ask((const char *[]){"mtype", "-i", path, "::user-data", NULL});
    g_assert_cmpstr(got, ==, large);
    small = ask((const char *[]){"mtype", "-i", path, "::network-config", NULL});
    g_assert_cmpstr(small, ==, "version: 2\n");
    dir = ask((const char *[]){"mdir", "-i", path, "::", NULL});
    g_assert_nonnull(strstr(dir, "CIDATA"));
    g_assert_nonnull(strstr(dir, "network-config"));
    g_unlink(path);
}

static void test_seed_too_large(void) {
    g_autofree char *large = g_strnfill(FAT_SEED_MAX_BYTES, 'x');
    const struct fat_file files[] = {{"a", large, FAT_SEED_MAX_BYTES}, {"b", large, FAT_SEED_MAX_BYTES}};
    const struct fat_file name[] = {{"a-name-that-is-longer-than-it-may-be", "x", 1}};
    g_autoptr(GError) error = NULL;

    g_assert_null(fat_seed_make("CIDATA", files, 2, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_TOO_LARGE);
    g_assert_null(fat_seed_make("CIDATA", name, 1, NULL));
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cloud-init/plain", test_plain);
    g_test_add_func("/cloud-init/all", test_all);
    g_test_add_func("/cloud-init/address", test_address);
    g_test_add_func("/cloud-init/driver-source", test_driver_source);
    g_test_add_func("/cloud-init/run-file", test_run_file);
    g_test_add_func("/cloud-init/nothing-breaks-out", test_nothing_breaks_out);
    g_test_add_func("/cloud-init/versions", test_versions);
    g_test_add_func("/cloud-init/scripts", test_scripts);
    g_test_add_func("/cloud-init/seed", test_seed);
    g_test_add_func("/cloud-init/seed-too-large", test_seed_too_large);
    return g_test_run();
}
