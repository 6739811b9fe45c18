/* vps create: from options to a request; keys are found, read or made. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/shell.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "model/vm.h"

enum { KEY_FILE_MAX_BYTES = 64 * 1024, WAIT_S = 600 };

/* ---- keys ---- */

static bool add_key(json_t *keys, const char *text, const char *from, GError **error) {
    g_autofree char *line = g_strstrip(g_strdup(text));

    if (!line[0] || strpbrk(line, "\r\n") || !strchr(line, ' ') || !g_utf8_validate(line, -1, NULL))
        return kr_fail(error, USAGE, "%s has no public key: one line such as \"ssh-ed25519 AAAA… name\" is needed",
                       from);
    json_array_append_new(keys, json_string(line));
    return true;
}

static bool add_key_file(json_t *keys, const char *path, GError **error) {
    g_autofree char *text = NULL;

    return fs_read_file(path, KEY_FILE_MAX_BYTES, &text, NULL, error) && add_key(keys, text, path, error);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal_number) {
    *(int64_t *)process->data = signal_number ? -signal_number : status;
    uv_close((uv_handle_t *)process, NULL);
}

/* Runs it silently to its end. Its exit status, or negative: a signal, or a libuv error. */
static int64_t run_silently(const char *const *argv) {
    uv_stdio_container_t nothing[3] = {{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_IGNORE}};
    uv_process_options_t options = {
        .exit_cb = on_exit_of, .file = argv[0], .args = (char **)(uintptr_t)argv, .stdio = nothing, .stdio_count = 3};
    int64_t status = -1;
    uv_process_t process = {.data = &status};
    uv_loop_t loop;
    int rc;

    uv_loop_init(&loop);
    rc = uv_spawn(&loop, &process, &options);
    if (rc < 0)
        uv_close((uv_handle_t *)&process, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return rc < 0 ? rc : status;
}

/* Makes a pair with ssh-keygen; the private one stays here, with mode 0600. */
static bool make_key(json_t *keys, const char *path, GError **error) {
    const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kohakuriver", "-f", path, NULL};
    g_autofree char *public_path = g_strconcat(path, ".pub", NULL);

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return kr_fail(error, USAGE, "%s is there already: choose another --key-out-file", path);
    if (run_silently(argv) != 0)
        return kr_fail(error, IO,
                       "no key could be made at %s with ssh-keygen: is it installed, is the folder writable?", path);
    return add_key_file(keys, public_path, error);
}

static bool add_default_keys(json_t *keys) {
    static const char *const names[] = {"id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(g_get_home_dir(), ".ssh", names[i], NULL);
        if (add_key_file(keys, path, NULL))
            return true;
    }
    return false;
}

/* Caller frees. */
static char *key_file_name(const struct cli *cli, const char *name) {
    const char *out = cli_text(cli, "key-out-file");

    return out ? g_strdup(out) : g_strdup_printf("%s.key", name);
}

static bool set_keys(json_t *body, const struct cli *cli, const char *name, GError **error) {
    const char *file = cli_text(cli, "public-key-file"), *text = cli_text(cli, "public-key-string");
    bool makes = cli_flag(cli, "gen-ssh-key");
    g_autofree char *path = key_file_name(cli, name);
    json_t *keys = json_array();

    json_object_set_new(body, "ssh_keys", keys);
    if (makes + (file != NULL) + (text != NULL) > 1)
        return kr_fail(error, USAGE, "give one of --gen-ssh-key, --public-key-file and --public-key-string");
    if (cli_text(cli, "key-out-file") && !makes)
        return kr_fail(error, USAGE, "--key-out-file goes with --gen-ssh-key");
    if (makes)
        return make_key(keys, path, error);
    if (file)
        return add_key_file(keys, file, error);
    if (text)
        return add_key(keys, text, "--public-key-string", error);
    if (!add_default_keys(keys) && cli_flag(cli, "ssh"))
        return kr_fail(error, USAGE, "there is no public key in ~/.ssh: give --gen-ssh-key or --public-key-file");
    return true;
}

/* ---- amounts ---- */

/* A plain number is MiB, as in the guide; 16G works too. */
static bool set_memory(json_t *body, const char *text, GError **error) {
    g_autoptr(GError) why = NULL;
    guint64 mib;
    int64_t bytes;

    if (g_ascii_string_to_unsigned(text, 10, 1, (guint64)G_MAXINT64 >> 20, &mib, NULL))
        bytes = (int64_t)mib << 20;
    else if (!units_bytes_from_str(text, &bytes, &why))
        return kr_fail(error, USAGE, "--vm-memory: \"%s\" is neither a number of MiB nor a size such as 16G", text);
    json_object_set_new(body, "memory_bytes", json_integer(bytes));
    return true;
}

static bool set_amounts(json_t *body, const struct cli *cli, GError **error) {
    const char *cores = cli_text(cli, "cores"), *disk = cli_text(cli, "vm-disk");
    g_autoptr(GError) why = NULL;
    guint64 n = 1;
    int64_t bytes = (int64_t)20 << 30;

    if (cores && !g_ascii_string_to_unsigned(cores, 10, 1, G_MAXINT, &n, NULL))
        return kr_fail(error, USAGE, "--cores is \"%s\", it must be a whole number of at least 1", cores);
    if (disk && !units_bytes_from_str(disk, &bytes, &why))
        return kr_fail(error, USAGE, "--vm-disk: %s", why->message);
    json_object_set_new(body, "cores", json_integer((json_int_t)n));
    json_object_set_new(body, "disk_bytes", json_integer(bytes));
    return set_memory(body, cli_text(cli, "vm-memory") ? cli_text(cli, "vm-memory") : "2048", error);
}

static bool set_user_data(json_t *body, const char *path, GError **error) {
    g_autofree char *text = NULL;

    if (!path)
        return true;
    if (!fs_read_file(path, VM_MAX_USER_DATA_BYTES, &text, NULL, error))
        return false;
    if (!g_utf8_validate(text, -1, NULL))
        return kr_fail(error, USAGE, "%s is not valid UTF-8", path);
    json_object_set_new(body, "user_data", json_string(text));
    return true;
}

/* ---- the request ---- */

static bool check_backend(const char *backend, GError **error) {
    if (!backend || strcmp(backend, "qemu") == 0)
        return true;
    return kr_fail(error, USAGE, "--backend is \"%s\"; there is one: qemu", backend);
}

static json_t *request_body(const struct cli *cli, GError **error) {
    g_autofree char *who = cli_who();
    g_autofree char *name = cli_text(cli, "name") ? g_strdup(cli_text(cli, "name"))
                                                  : g_strdup_printf("vm-%06x", g_random_int() & 0xffffff);
    const char *image = cli_text(cli, "vm-image"), *network = cli_text(cli, "network");
    const char *target = cli_text(cli, "target");
    json_t *body;

    if (!check_backend(cli_text(cli, "backend"), error) || !vm_name_check(name, "name", error))
        return NULL;
    if (!target) {
        kr_fail(error, USAGE, "--target is missing: where should it run? NODE[:NUMA][::GPU[,GPU…]]");
        return NULL;
    }
    body = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:b}", "owner", who, "name", name, "target", target, "image",
                     image ? image : "debian", "network", network ? network : "user", "user",
                     cli_text(cli, "user") ? cli_text(cli, "user") : "ops", "installs_driver",
                     strstr(target, "::") != NULL && !cli_flag(cli, "no-driver"), "takes_group",
                     cli_flag(cli, "with-group"));
    if (body && set_amounts(body, cli, error) && set_user_data(body, cli_text(cli, "user-data"), error) &&
        set_keys(body, cli, name, error))
        return body;
    if (!body)
        kr_fail(error, USAGE, "an option is not valid UTF-8");
    json_decref(body);
    return NULL;
}

/* ---- the answer ---- */

static bool is_settled(const char *state) {
    return g_strcmp0(state, "running") == 0 || g_strcmp0(state, "failed") == 0 || g_strcmp0(state, "stopped") == 0;
}

/* Until it is on, or will not be. */
static int wait_for(struct cli_api *api, json_t **vps) {
    g_autofree char *path = g_strdup_printf("/vps/%" PRId64, show_int(*vps, "id"));

    for (int i = 0; i < WAIT_S * 2 && !is_settled(show_str(*vps, "state")); i++) {
        GError *error = NULL;
        json_t *next;

        g_usleep(500000);
        if (!(next = cli_api_get(api, path, &error)))
            return cli_fail(error);
        json_decref(*vps);
        *vps = next;
    }
    return CLI_EXIT_OK;
}

/* A command that can be copied. */
static void print_login(const struct cli *cli, const json_t *vps) {
    g_autofree char *key = cli_flag(cli, "gen-ssh-key") ? key_file_name(cli, show_str(vps, "name")) : NULL;
    const char *words[] = {"kohakuriver", "ssh", "--host", cli_text(cli, "host"), "-i", key, show_str(vps, "name")};
    g_autoptr(GString) line = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i] && (words[i][0] != '-' || words[i + 1])) /* an option goes with its value */
            shell_add_word(line, words[i]);
    printf("log in with: %s\n", line->str);
}

static int report(const struct cli *cli, const json_t *vps) {
    const char *state = show_str(vps, "state"), *reason = show_str(vps, "reason");
    g_autofree char *clean = reason ? cli_clean(reason) : NULL;

    if (g_strcmp0(state, "failed") == 0) {
        fprintf(stderr, "kohakuriver: VPS %" PRId64 " (%s) did not start: %s\n", show_int(vps, "id"),
                show_str(vps, "name"), clean ? clean : "no reason given");
        return CLI_EXIT_FAILED;
    }
    if (cli_wants_json(cli))
        return CLI_EXIT_OK;
    printf("VPS %" PRId64 " (%s) is %s on %s\n", show_int(vps, "id"), show_str(vps, "name"), state,
           show_str(vps, "node"));
    print_login(cli, vps);
    return CLI_EXIT_OK;
}

int cmd_vps_create(struct cli *cli) {
    GError *error = NULL;
    json_t *body = request_body(cli, &error), *vps;
    struct cli_api *api;
    int exit_code = CLI_EXIT_OK;

    if (!body)
        return cli_fail(error);
    api = cli_api_new(cli->host_url);
    vps = cli_api_call(api, "POST", "/vps", body, NULL, &error);
    json_decref(body);
    if (vps && !cli_wants_json(cli))
        fprintf(stderr, "VPS %" PRId64 " (%s) is being started on %s\n", show_int(vps, "id"), show_str(vps, "name"),
                show_str(vps, "node"));
    if (!vps)
        exit_code = cli_fail(error);
    else if (cli_flag(cli, "ssh") || cli_flag(cli, "wait"))
        exit_code = wait_for(api, &vps);
    if (vps && exit_code == CLI_EXIT_OK && cli_wants_json(cli))
        cli_print_json(vps);
    if (vps && exit_code == CLI_EXIT_OK)
        exit_code = report(cli, vps);
    json_decref(vps);
    cli_api_free(api);
    return exit_code;
}
