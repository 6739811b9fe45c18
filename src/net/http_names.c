#include "net/http_names.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"

struct http_names {
    GHashTable *set; /* in lower case, without a final dot */
};

static char *normal(const char *name, size_t len) {
    if (len > 0 && name[len - 1] == '.')
        len--;
    return g_ascii_strdown(name, (gssize)len);
}

struct http_names *http_names_new(void) {
    struct http_names *names = g_new0(struct http_names, 1);
    const char *own = g_get_host_name();

    names->set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_add(names->set, g_strdup("localhost"));
    if (own[0])
        g_hash_table_add(names->set, normal(own, strlen(own)));
    return names;
}

void http_names_free(struct http_names *names) {
    if (!names)
        return;
    g_hash_table_unref(names->set);
    g_free(names);
}

static bool is_name(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

    return text[0] != '.' && text[strspn(text, letters)] == '\0';
}

bool http_names_add(struct http_names *names, char *const *list, GError **error) {
    for (; *list; list++) {
        g_autofree char *bare = g_strstrip(g_strdup(*list));
        g_autofree char *ascii = g_utf8_validate(bare, -1, NULL) ? g_hostname_to_ascii(bare) : NULL;

        if (bare[0] == '\0')
            continue;
        if (!ascii || !is_name(ascii))
            return kr_fail(error, USAGE,
                           "\"%s\" is not a host's name such as river.example.com, without scheme, port and \"*\"",
                           bare);
        g_hash_table_add(names->set, normal(ascii, strlen(ascii)));
    }
    return true;
}

static bool is_port(const char *text) { return text[0] == ':' && text[1 + strspn(text + 1, "0123456789")] == '\0'; }

bool http_names_has(const struct http_names *names, const char *host) {
    bool is_ipv6 = host[0] == '[';
    size_t len = is_ipv6 ? strcspn(host, "]") : strcspn(host, ":");
    struct in6_addr address;
    g_autofree char *name = NULL;

    if (is_ipv6) {
        g_autofree char *inner = g_strndup(host + 1, len - 1);
        bool is_whole = host[len] == ']' && (host[len + 1] == '\0' || is_port(host + len + 1));
        return is_whole && inet_pton(AF_INET6, inner, &address) == 1;
    }
    if (host[len] != '\0' && !is_port(host + len))
        return false;
    name = normal(host, len);
    return inet_pton(AF_INET, name, &address) == 1 || g_hash_table_contains(names->set, name);
}

/* Of an authority, without the port that its scheme has anyway. */
static size_t length_without(const char *authority, const char *port) {
    size_t len = strlen(authority), n = strlen(port);

    return n > 0 && len > n && strcmp(authority + len - n, port) == 0 ? len - n : len;
}

static const char *default_port(const char *origin) {
    if (g_ascii_strncasecmp(origin, "https://", strlen("https://")) == 0)
        return ":443";
    return g_ascii_strncasecmp(origin, "http://", strlen("http://")) == 0 ? ":80" : "";
}

bool http_same_origin(const char *origin, const char *host) {
    const char *authority = strstr(origin, "://"), *port = default_port(origin);
    size_t len;

    if (!authority)
        return false;
    authority += strlen("://");
    len = length_without(authority, port);
    return len > 0 && len == length_without(host, port) && g_ascii_strncasecmp(authority, host, len) == 0;
}
