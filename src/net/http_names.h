#pragma once
/* Under which names a server may be asked for, and whether a page is the server's own: what stands between a browser and
 * pages of other sites. An address, localhost and this machine's own host name are always right: no page of somebody else
 * has such an address. Every other name must be listed, or its owner could point it at this machine (DNS rebinding) and
 * his pages would be of the same origin. Texts alone are compared, nothing is resolved. */

#include <glib.h>
#include <stdbool.h>

struct http_names;

/* Knows what is always right. Caller frees. */
struct http_names *http_names_new(void);
void http_names_free(struct http_names *names); /* NULL is fine */

/* Adds names as they stand in a URL, without scheme and port; capitals, spaces around a name and empty ones do not matter,
 * names beyond ASCII are taken as browsers send them (punycode). `list` ends with NULL and stays the caller's.
 * KR_ERROR_USAGE names the first that is no such name; those before it are added. */
bool http_names_add(struct http_names *names, char *const *list, GError **error);

/* Of a Host header, with or without a port. */
bool http_names_has(const struct http_names *names, const char *host);

/* Whether a page of `origin`, "SCHEME://HOST[:PORT]", comes from where this Host header leads to. The scheme's default port
 * (http, https) may be left out on either side. The scheme itself is not compared: TLS may end at a proxy. */
bool http_same_origin(const char *origin, const char *host);
