#pragma once
/* The project's one error domain. Every code stands once in KR_ERRORS below, with the HTTP status the host answers
 * with, the exit code of the CLI and a hint that follows the message on the CLI. Named outcomes that are not failures
 * (a refused submission) are return values; they become an error only at the edge. */

#include <glib.h>
#include <stdbool.h>

/* code, wire name, HTTP status, CLI exit code, hint (or NULL) */
#define KR_ERRORS(X)                                                                                       \
    X(USAGE, "usage", 400, 2, NULL)                                                                        \
    X(BAD_REQUEST, "bad_request", 400, 1, NULL)                                                            \
    X(UNAUTHORIZED, "unauthorized", 401, 1, "check the token this side was given")                         \
    X(FORBIDDEN, "forbidden", 403, 1, NULL)                                                                \
    X(NOT_FOUND, "not_found", 404, 1, NULL)                                                                \
    X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, 1, NULL)                                              \
    X(REFUSED, "refused", 409, 1, NULL)                                                                    \
    X(TOO_LARGE, "too_large", 413, 1, NULL)                                                                \
    X(UNSUPPORTED_TYPE, "unsupported_type", 415, 1, NULL)                                                  \
    X(INTERNAL, "internal", 500, 1, "this is a defect: the host's log says more")                          \
    X(UNAVAILABLE, "unavailable", 503, 1, NULL)                                                            \
    X(TIMEOUT, "timeout", 504, 1, NULL)                                                                    \
    X(STORAGE, "storage", 507, 1, "free space on the disk that holds the state, nothing was changed")      \
    X(UNREACHABLE, "unreachable", 502, 1, "is `kohakuriver host` running? --host URL or KOHAKURIVER_HOST") \
    X(IO, "io", 500, 1, NULL)

enum kr_error {
    KR_ERROR_NONE = 0,
#define X(code, name, http, exit_code, hint) KR_ERROR_##code,
    KR_ERRORS(X)
#undef X
        KR_ERROR_COUNT_
};

#define KR_ERROR (kr_error_quark())
GQuark kr_error_quark(void);

/* All four accept any GError: one of another domain counts as KR_ERROR_INTERNAL. The strings are static. */
const char *kr_error_name(const GError *error);
int kr_error_http_status(const GError *error);
int kr_error_exit_code(const GError *error);
const char *kr_error_hint(const GError *error); /* NULL when there is none */

/* Wire name -> code; KR_ERROR_NONE when the name is unknown. */
enum kr_error kr_error_from_name(const char *name);

/* Sets *error (when error is not NULL) and returns false, so that `return kr_fail(error, BAD_REQUEST, "…")` reads well. */
bool kr_fail_at(GError **error, enum kr_error code, const char *format, ...) G_GNUC_PRINTF(3, 4);
#define kr_fail(error, code, ...)                                       \
    ({                                                                  \
        kr_fail_at((error), KR_ERROR_##code, __VA_ARGS__);              \
        false; /* said here too, so that checkers know it everywhere */ \
    })
