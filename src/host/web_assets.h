#pragma once
/* The dashboard as it is embedded: made by tools/web_bundle.py from web/. */

#include <stddef.h>

enum web_form { WEB_PLAIN, WEB_GZIP, WEB_BROTLI, WEB_FORMS };

struct web_asset {
    const char *path; /* "/index.html", "/assets/index-CCWfcV1S.js" */
    const char *type; /* Content-Type */
    const char *hash; /* of the plain bytes */
    struct {
        const unsigned char *bytes; /* NULL: not in this form, it would not be smaller */
        size_t len;
    } forms[WEB_FORMS]; /* by enum web_form; plain is always there */
};

/* Ends with a NULL path; empty in a program that was built without the dashboard (-Dweb=false). */
extern const struct web_asset web_assets[];
