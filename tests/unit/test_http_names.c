/* Names and origins as browsers, proxies and people write them. */

#include "base/error.h"
#include "net/http_names.h"

/* R10: what is always right, what is listed, and nothing that merely looks like it. */
static void test_has(void) {
    struct http_names *names = http_names_new();
    g_auto(GStrv)
        list = g_strsplit("river.example.com; Gpu.Example.COM ;;b\303\274ro.example;rooted.example.", ";", -1);
    const char *const right[] = {"localhost",           "localhost:8000",        "LocalHost.",
                                 "127.0.0.1",           "192.168.1.7:80",        "[::1]",
                                 "[2001:db8::1]:8000",  "river.example.com",     "RIVER.example.com:443",
                                 "river.example.com.",  "river.example.com.:80", "gpu.example.com",
                                 "xn--bro-hoa.example", "rooted.example"};
    const char *const wrong[] = {"",
                                 ".",
                                 ":80",
                                 "evil.example",
                                 "river.example.com.evil.example",
                                 "evilriver.example.com",
                                 "example.com",
                                 "x.river.example.com",
                                 "river.example.com:80.evil.example",
                                 "river.example.com@evil.example",
                                 "localhost.evil.example",
                                 "127.0.0.1.evil.example",
                                 "[evil.example]",
                                 "[::1",
                                 "[::1].evil.example",
                                 "[127.0.0.1]",
                                 "[]",
                                 "[",
                                 "::1",
                                 "127.0.0.1:x",
                                 "localhost evil",
                                 "river.example.com.."};
    g_autoptr(GError) error = NULL;

    g_assert_false(http_names_has(names, "river.example.com"));
    g_assert_true(http_names_add(names, list, &error));
    g_assert_no_error(error);
    g_assert_true(http_names_has(names, g_get_host_name()));
    for (size_t i = 0; i < G_N_ELEMENTS(right); i++)
        if (!http_names_has(names, right[i]))
            g_error("\"%s\" is refused", right[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
        if (http_names_has(names, wrong[i]))
            g_error("\"%s\" is taken", wrong[i]);
    http_names_free(names);
}

static void test_wrong_names(void) {
    struct http_names *names = http_names_new();
    const char *const wrong[] = {"river.example.com:443",
                                 "https://river.example.com",
                                 "*.example.com",
                                 "a b",
                                 "[::1]",
                                 "river.example.com/",
                                 ".",
                                 ".example.com",
                                 "a,b",
                                 "x\xff"};

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_auto(GStrv) list = g_strsplit(wrong[i], ";", -1);
        g_autoptr(GError) error = NULL;
        g_assert_false(http_names_add(names, list, &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_USAGE);
    }
    http_names_free(names);
}

/* R10: the page must come from here, whoever writes out a port that the scheme has anyway. */
static void test_same_origin(void) {
    static const struct {
        const char *origin, *host;
        bool is_same;
    } rows[] = {
        {"https://river.example.com", "river.example.com", true},
        {"https://river.example.com", "River.example.com:443", true},
        {"https://river.example.com:443", "river.example.com", true},
        {"http://river.example.com", "river.example.com:80", true},
        {"HTTP://river.example.com:80", "river.example.com", true},
        {"http://127.0.0.1:8000", "127.0.0.1:8000", true},
        {"https://127.0.0.1:8000", "127.0.0.1:8000", true}, /* TLS ends at a proxy */
        {"http://[::1]:80", "[::1]", true},
        {"https://river.example.com", "river.example.com:80", false},
        {"http://river.example.com", "river.example.com:443", false},
        {"http://river.example.com", "river.example.com:8000", false},
        {"https://river.example.com:8443", "river.example.com", false},
        {"http://[fe80::80]", "[fe80:]", false},
        {"http://evil.example", "river.example.com", false},
        {"http://river.example.com.evil.example", "river.example.com", false},
        {"http://river.example.co", "river.example.com", false},
        {"river.example.com", "river.example.com", false},
        {"null", "null", false},
        {"", "", false},
        {"file://", "", false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (http_same_origin(rows[i].origin, rows[i].host) != rows[i].is_same)
            g_error("\"%s\" and \"%s\" should be %s", rows[i].origin, rows[i].host, rows[i].is_same ? "one" : "two");
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http-names/has", test_has);
    g_test_add_func("/http-names/wrong", test_wrong_names);
    g_test_add_func("/http-names/same-origin", test_same_origin);
    return g_test_run();
}
