#include "host/pages.h"

#include <string.h>

#include "base/error.h"

#define POLICY                                                                                            \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " \
    "worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct {
    const char *token;    /* in Accept-Encoding, Content-Encoding */
    const char *etag_end; /* each form is another representation */
} forms[WEB_FORMS] = {[WEB_PLAIN] = {"identity", ""}, [WEB_GZIP] = {"gzip", "-gzip"}, [WEB_BROTLI] = {"br", "-br"}};

/* ---- which asset ---- */

static const struct web_asset *find_exact(const struct web_asset *assets, const char *path) {
    while (assets->path && strcmp(assets->path, path) != 0)
        assets++;
    return assets->path ? assets : NULL;
}

static bool is_below(const char *path, const char *folder) {
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* What a browser asks for by itself, or from a page of an older version; a node's name may have a dot too, and
 * /nodes/gpu1.example.com is a page. */
static bool looks_like_file(const char *path) {
    static const char *const ends[] = {".js",  ".mjs",  ".css",  ".map", ".json",        ".png",
                                       ".ico", ".jpg",  ".svg",  ".txt", ".webmanifest", ".woff2",
                                       ".xml", ".wasm", ".html", ".gif", ".php"};

    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
        if (g_str_has_suffix(path, ends[i]))
            return true;
    return is_below(path, "/assets");
}

const struct web_asset *pages_find(const struct web_asset *assets, const char *path) {
    const struct web_asset *asset = find_exact(assets, path);

    if (asset || is_below(path, "/api") || is_below(path, "/metrics") || looks_like_file(path))
        return asset;
    return find_exact(assets, "/index.html");
}

/* ---- which form ---- */

/* "gzip;q=0.5" -> 500; a wrong weight is none at all. */
static int weight_of(char *item) {
    char *parameter = strchr(item, ';');

    if (!parameter)
        return 1000;
    *parameter++ = '\0';
    g_strstrip(parameter);
    if (!g_str_has_prefix(parameter, "q=") && !g_str_has_prefix(parameter, "Q="))
        return 1000;
    return CLAMP((int)(g_ascii_strtod(parameter + 2, NULL) * 1000), 0, 1000);
}

static bool accepts(const char *accept_encoding, const char *token) {
    g_auto(GStrv) items = g_strsplit(accept_encoding, ",", -1);
    bool any = false;

    for (char **item = items; *item; item++) {
        int weight = weight_of(*item);

        g_strstrip(*item);
        if (g_ascii_strcasecmp(*item, token) == 0)
            return weight > 0;
        if (strcmp(*item, "*") == 0)
            any = weight > 0;
    }
    return any;
}

enum web_form pages_choose(const struct web_asset *asset, const char *accept_encoding) {
    for (int form = WEB_BROTLI; form > WEB_PLAIN && accept_encoding; form--)
        if (asset->forms[form].bytes && accepts(accept_encoding, forms[form].token))
            return (enum web_form)form;
    return WEB_PLAIN;
}

/* ---- is it known already ---- */

static char *etag_of(const struct web_asset *asset, enum web_form form) {
    return g_strdup_printf("\"%s%s\"", asset->hash, forms[form].etag_end);
}

bool pages_is_known(const struct web_asset *asset, const char *if_none_match) {
    g_auto(GStrv) items = g_strsplit(if_none_match ? if_none_match : "", ",", -1);

    for (char **item = items; *item; item++) {
        const char *tag = g_strstrip(*item);

        if (strcmp(tag, "*") == 0)
            return true;
        if (g_str_has_prefix(tag, "W/")) /* also what a proxy has packed in another way */
            tag += 2;
        for (int form = 0; form < WEB_FORMS; form++) {
            g_autofree char *etag = etag_of(asset, (enum web_form)form);
            if (strcmp(tag, etag) == 0)
                return true;
        }
    }
    return false;
}

/* ---- the answer ---- */

static void send_asset(struct http_exchange *x, const struct web_asset *asset) {
    enum web_form form = pages_choose(asset, http_header(x, "Accept-Encoding"));
    bool is_known = pages_is_known(asset, http_header(x, "If-None-Match"));
    /* names under /assets hold a hash of what is in them */
    bool is_for_ever = is_below(asset->path, "/assets");
    g_autofree char *etag = etag_of(asset, form);
    struct http_header headers[] = {
        {"ETag", etag},
        {"Cache-Control", is_for_ever ? "public, max-age=31536000, immutable" : "no-cache"},
        {"Vary", "Accept-Encoding"},
        {"Content-Security-Policy", POLICY},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {is_known ? NULL : "Content-Type", asset->type},
        {form == WEB_PLAIN ? NULL : "Content-Encoding", forms[form].token},
        {0},
    };

    /* of a 304, as of a HEAD, the server sends the length alone */
    http_reply_static(x, is_known ? 304 : 200, headers, asset->forms[form].bytes, asset->forms[form].len);
}

static void handle(struct http_exchange *x, void *app) {
    const char *path = http_path(x);
    const struct web_asset *asset = pages_find(web_assets, path);
    g_autoptr(GError) error = NULL;

    (void)app;
    if (asset) {
        send_asset(x, asset);
        return;
    }
    if (!web_assets[0].path && strcmp(path, "/") == 0)
        kr_fail(&error, NOT_FOUND, "this host was built without its dashboard; the API is at /api/v1/openapi.json");
    else
        kr_fail(&error, NOT_FOUND, "there is nothing at %s: see /api/v1/openapi.json", path);
    http_reply_error(x, error, NULL);
}

const struct http_route pages_route = {.method = "GET", .success_status = 200, .handle = handle};
