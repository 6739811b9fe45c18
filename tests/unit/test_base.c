/* Errors, JSON limits, units, durable files, settings. */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/units.h"

static void test_errors(void) {
    for (int code = 1; code < KR_ERROR_COUNT_; code++) {
        g_autoptr(GError) error = NULL;
        kr_fail_at(&error, (enum kr_error)code, "x");
        g_assert_cmpint(kr_error_from_name(kr_error_name(error)), ==, code);
        g_assert_cmpint(kr_error_http_status(error), >=, 400);
        g_assert_cmpint(kr_error_exit_code(error), >, 0);
    }
}

static bool parses(const char *text) {
    json_t *json = jsonx_parse(text, strlen(text), NULL);
    bool ok = json != NULL;

    json_decref(json);
    return ok;
}

static void test_json_limits(void) {
    GString *deep = g_string_new(NULL);

    g_assert_true(parses("{\"a\":[1,\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]}"));
    g_assert_false(parses("{\"a\":1,\"a\":2}"));
    g_assert_false(parses("{\"a\":1} x"));
    g_assert_false(parses("\"\\u0000\""));
    g_assert_false(parses("\"\xff\""));
    g_assert_false(parses(""));
    for (int i = 0; i < 100000; i++)
        g_string_append_c(deep, '[');
    g_assert_false(parses(deep->str));
    g_string_free(deep, TRUE);
}

static void test_json_reader(void) {
    json_t *json = json_pack("{s:s,s:i,s:[s,s],s:b}", "s", "text", "n", 7, "l", "a", "b", "odd", 1);
    g_autoptr(GError) error = NULL;
    struct json_reader r = jr_init(json, "thing", &error);
    g_auto(GStrv) list = NULL;

    g_assert_cmpstr(jr_str(&r, "s", 10), ==, "text");
    g_assert_cmpint(jr_int(&r, "n", 0, 10), ==, 7);
    list = jr_strv_opt(&r, "l", 5, 5);
    g_assert_cmpstr(list[1], ==, "b");
    g_assert_true(jr_done(&r));
    g_assert_false(jr_done_strict(&r));
    g_assert_nonnull(strstr(error->message, "thing: has 1 member"));
    g_clear_error(&error);
    r = jr_init(json, "thing", &error);
    jr_int(&r, "n", 8, 10);
    jr_str(&r, "missing", 10); /* the first complaint stays */
    g_assert_false(jr_done(&r));
    g_assert_nonnull(strstr(error->message, "\"n\" is 7"));
    json_decref(json);
}

static void test_log_levels(void) {
    g_assert_cmpint(log_level_from_str("error"), ==, LOG_LEVEL_ERROR);
    g_assert_cmpint(log_level_from_str("warning"), ==, LOG_LEVEL_WARNING);
    g_assert_cmpint(log_level_from_str("info"), ==, LOG_LEVEL_INFO);
    g_assert_cmpint(log_level_from_str("debug"), ==, LOG_LEVEL_DEBUG);
}

static void test_units(void) {
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0},       {"1048576", 1 << 20}, {"16G", 16LL << 30}, {"512MiB", 512LL << 20},
                {"1.5K", 1536}, {"1kB", 1024},        {"2T", 2LL << 40}};
    static const char *const bad[] = {"",    "-1",  "G",  "1X",  "1e9",          "0x10",
                                      "nan", "inf", " 1", "1 G", "99999999999T", "1GG"};
    char buf[UNITS_TEXT_BYTES];
    int64_t bytes;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(units_bytes_from_str(good[i].text, &bytes, NULL));
        g_assert_cmpint(bytes, ==, good[i].bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(units_bytes_from_str(bad[i], &bytes, NULL));
    g_assert_cmpstr(units_bytes_to_str(1536, buf), ==, "1.5 KiB");
    g_assert_cmpstr(units_bytes_to_str(80LL << 30, buf), ==, "80.0 GiB");
    g_assert_cmpstr(units_span_to_str(3723000, buf), ==, "1h 2m");
}

static void test_durable(void) {
    g_autofree char *dir = g_dir_make_tmp("kr-base-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "file", NULL);
    g_autofree char *temporary = g_strconcat(path, ".tmp", NULL);
    g_autofree char *text = NULL;
    struct rlimit limit, old;
    g_autoptr(GError) error = NULL;
    struct stat st;
    size_t len;

    g_assert_true(fs_write_durable(path, 0600, "one", 3, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    /* a write that the system cuts short leaves the old content and no temporary */
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 1;
    setrlimit(RLIMIT_FSIZE, &limit);
    g_assert_false(fs_write_durable(path, 0600, "two", 3, &error));
    setrlimit(RLIMIT_FSIZE, &old);
    g_assert_true(fs_read_file(path, 100, &text, &len, NULL));
    g_assert_cmpstr(text, ==, "one");
    g_assert_cmpint(access(temporary, F_OK), ==, -1);
    g_assert_false(fs_read_file(path, 2, &text, NULL, NULL));
    g_assert_true(fs_remove_durable(path, NULL));
    g_assert_true(fs_remove_durable(path, NULL));
    rmdir(dir);
}

static const struct config_key keys[] = {
    {.name = "listen", .type = CONFIG_STRING, .fallback = "here"},
    {.name = "beat_ms", .type = CONFIG_INT, .fallback = "5000", .min = 100, .max = 9000},
    {.name = "shm_bytes", .type = CONFIG_BYTES, .fallback = "1G", .min = 0, .max = INT64_MAX},
    {.name = "mode", .type = CONFIG_CHOICE, .fallback = "auto", .choices = "auto|cdi"},
    {.name = "roots", .type = CONFIG_LIST, .fallback = "/home;/data"},
    {0},
};

static void expect_config_error(const char *override, const char *part) {
    const char *overrides[] = {override, NULL};
    g_autoptr(GError) error = NULL;

    g_assert_null(config_load(keys, "host", NULL, NULL, (char *const *)overrides, &error));
    g_assert_cmpint(error->code, ==, KR_ERROR_USAGE);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_config(void) {
    g_autofree char *dir = g_dir_make_tmp("kr-base-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "host.conf", NULL);
    static const char text[] = "[host]\nlisten=there\nbeat_ms=300\n[runner]\nlisten=no\n";
    const char *overrides[] = {"beat-ms=400", NULL};
    struct config *config;

    g_assert_true(fs_write_durable(path, 0600, text, strlen(text), NULL));
    config = config_load(keys, "host", path, NULL, (char *const *)overrides, NULL);
    g_assert_nonnull(config);
    g_assert_cmpstr(config_str(config, "listen"), ==, "there");
    g_assert_cmpint(config_int(config, "beat_ms"), ==, 400);
    g_assert_cmpint(config_int(config, "shm_bytes"), ==, 1LL << 30);
    g_assert_cmpstr(config_list(config, "roots")[1], ==, "/data");
    config_free(config);
    expect_config_error("beat_ms=5", "5 is not between 100 and 9000");
    expect_config_error("beat_ms=5x", "\"5x\" is not a whole number");
    expect_config_error("mode=foo", "not one of auto|cdi");
    expect_config_error("nothing=1", "there is no setting \"nothing\"");
    unlink(path);
    rmdir(dir);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/errors", test_errors);
    g_test_add_func("/base/json-limits", test_json_limits);
    g_test_add_func("/base/json-reader", test_json_reader);
    g_test_add_func("/base/log-levels", test_log_levels);
    g_test_add_func("/base/units", test_units);
    g_test_add_func("/base/durable-files", test_durable);
    g_test_add_func("/base/config", test_config);
    return g_test_run();
}
