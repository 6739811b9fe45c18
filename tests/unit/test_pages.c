/* The dashboard's files: which, in which form, and whether they are sent at all. */

#include <string.h>

#include "host/pages.h"

static const unsigned char bytes[8];
static const struct web_asset assets[] = {
    {"/assets/index-1.js", "text/javascript", "aaaa", {{bytes, 8}, {bytes, 4}, {bytes, 3}}},
    {"/icon.png", "image/png", "bbbb", {{bytes, 8}, {NULL, 0}, {NULL, 0}}},
    {"/index.html", "text/html", "cccc", {{bytes, 8}, {bytes, 4}, {NULL, 0}}},
    {NULL},
};

static void expect_found(const char *path, const char *wanted) {
    const struct web_asset *asset = pages_find(assets, path);

    if (g_strcmp0(asset ? asset->path : NULL, wanted) != 0)
        g_error("%s: %s, not %s", path, asset ? asset->path : "nothing", wanted ? wanted : "nothing");
}

static void test_find(void) {
    expect_found("/", "/index.html");
    expect_found("/index.html", "/index.html");
    expect_found("/icon.png", "/icon.png");
    expect_found("/assets/index-1.js", "/assets/index-1.js");
    expect_found("/nodes/mynode/gpus/3", "/index.html");
    expect_found("/nodes/gpu1.example.com", "/index.html"); /* a name may have dots */
    expect_found("/tasks/17", "/index.html");
    expect_found("/apiary", "/index.html");
    /* no page in the place of a file: a script of an older version must fail, not be HTML */
    expect_found("/assets/index-0.js", NULL);
    expect_found("/assets/", NULL);
    expect_found("/favicon.ico", NULL);
    expect_found("/wp-login.php", NULL);
    expect_found("/assets/../index.html", NULL);
    /* nor in the place of the API */
    expect_found("/api/v1/nothing", NULL);
    expect_found("/api", NULL);
    expect_found("/metrics/x", NULL);
    g_assert_null(pages_find(assets + 3, "/")); /* built without */
}

static void test_choose(void) {
    const struct web_asset *all = &assets[0], *no_brotli = &assets[2];

    g_assert_cmpint(pages_choose(all, NULL), ==, WEB_PLAIN);
    g_assert_cmpint(pages_choose(all, ""), ==, WEB_PLAIN);
    g_assert_cmpint(pages_choose(all, "gzip, deflate, br"), ==, WEB_BROTLI);
    g_assert_cmpint(pages_choose(all, "gzip, deflate"), ==, WEB_GZIP);
    g_assert_cmpint(pages_choose(all, "GZIP;Q=0.3"), ==, WEB_GZIP);
    g_assert_cmpint(pages_choose(all, "br;q=0, gzip ; q=1"), ==, WEB_GZIP);
    g_assert_cmpint(pages_choose(all, "br;q=0,gzip;q=0.0"), ==, WEB_PLAIN);
    g_assert_cmpint(pages_choose(all, "*"), ==, WEB_BROTLI);
    g_assert_cmpint(pages_choose(all, "*, br;q=0"), ==, WEB_GZIP);
    g_assert_cmpint(pages_choose(all, "identity"), ==, WEB_PLAIN);
    g_assert_cmpint(pages_choose(all, "brotli, xgzip"), ==, WEB_PLAIN);
    g_assert_cmpint(pages_choose(no_brotli, "br, gzip"), ==, WEB_GZIP);
    g_assert_cmpint(pages_choose(no_brotli, "br"), ==, WEB_PLAIN);
}

static void test_known(void) {
    g_assert_false(pages_is_known(&assets[0], NULL));
    g_assert_true(pages_is_known(&assets[0], "\"aaaa\""));
    g_assert_true(pages_is_known(&assets[0], "\"x\", W/\"aaaa-gzip\""));
    g_assert_true(pages_is_known(&assets[0], "\"aaaa-br\""));
    g_assert_true(pages_is_known(&assets[0], "*"));
    g_assert_false(pages_is_known(&assets[0], "\"bbbb\""));
    g_assert_false(pages_is_known(&assets[0], "aaaa"));
}

/* What was built in: a page that loads what is there, each form smaller than the one before. */
static void test_embedded(void) {
    const struct web_asset *index = pages_find(web_assets, "/");

    if (!web_assets[0].path) {
        g_test_skip("built without the dashboard");
        return;
    }
    g_assert_nonnull(index);
    g_assert_true(g_strstr_len((const char *)index->forms[WEB_PLAIN].bytes, (gssize)index->forms[WEB_PLAIN].len,
                               "<script") != NULL);
    for (const struct web_asset *asset = web_assets; asset->path; asset++) {
        size_t before = asset->forms[WEB_PLAIN].len;

        g_assert_nonnull(asset->forms[WEB_PLAIN].bytes);
        for (int form = WEB_GZIP; form < WEB_FORMS; form++)
            g_assert_cmpuint(asset->forms[form].len, <, before);
        if (asset->forms[WEB_GZIP].bytes) { /* the magic of gzip, so the offsets are right */
            g_assert_cmpint(asset->forms[WEB_GZIP].bytes[0], ==, 0x1f);
            g_assert_cmpint(asset->forms[WEB_GZIP].bytes[1], ==, 0x8b);
        }
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pages/find", test_find);
    g_test_add_func("/pages/choose", test_choose);
    g_test_add_func("/pages/known", test_known);
    g_test_add_func("/pages/embedded", test_embedded);
    return g_test_run();
}
