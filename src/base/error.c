#include "base/error.h"

struct error_row {
    const char *name;
    int http_status;
    int exit_code;
    const char *hint;
};

static const struct error_row rows[] = {[KR_ERROR_NONE] = {"none", 200, 0, NULL},
#define X(code, name, http, exit_code, hint) [KR_ERROR_##code] = {name, http, exit_code, hint},
                                        KR_ERRORS(X)
#undef X
};

G_DEFINE_QUARK(kohakuriver - error - quark, kr_error)

static const struct error_row *row_of(const GError *error) {
    if (!error || error->domain != KR_ERROR || error->code <= 0 || error->code >= KR_ERROR_COUNT_)
        return &rows[KR_ERROR_INTERNAL];
    return &rows[error->code];
}

const char *kr_error_name(const GError *error) { return row_of(error)->name; }
int kr_error_http_status(const GError *error) { return row_of(error)->http_status; }
int kr_error_exit_code(const GError *error) { return row_of(error)->exit_code; }
const char *kr_error_hint(const GError *error) { return row_of(error)->hint; }

enum kr_error kr_error_from_name(const char *name) {
    for (int code = 1; code < KR_ERROR_COUNT_; code++)
        if (g_strcmp0(rows[code].name, name) == 0)
            return (enum kr_error)code;
    return KR_ERROR_NONE;
}

bool kr_fail_at(GError **error, enum kr_error code, const char *format, ...) {
    va_list args;

    va_start(args, format);
    if (error && !*error)
        *error = g_error_new_valist(KR_ERROR, (int)code, format, args);
    va_end(args);
    return false;
}
