#pragma once
/* The dashboard: every GET and HEAD outside the API is an asset of the bundle or, for the page's own addresses, its index.html. */

#include "host/web_assets.h"
#include "net/http_server.h"

/* The row for what no route matches (http_server_set_fallback). */
extern const struct http_route pages_route;

/* The asset that is served at a path, NULL: none. index.html for whatever looks like no file. */
const struct web_asset *pages_find(const struct web_asset *assets, const char *path);
/* The form to send by the client's Accept-Encoding (NULL: it sent none): the smallest that it takes. */
enum web_form pages_choose(const struct web_asset *asset, const char *accept_encoding);
/* Does an If-None-Match (NULL: none was sent) name this asset, in any form? */
bool pages_is_known(const struct web_asset *asset, const char *if_none_match);
