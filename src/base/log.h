#pragma once
/* The daemons' log: one line per message on stderr. Under systemd (JOURNAL_STREAM set) lines carry the journal's
 * <priority> prefix and no time; elsewhere UTC time and level. Whoever ends an error logs it, once. */

#include <glib.h>
#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* "error", "warning", "info", "debug"; INFO for anything else (the settings' table lets nothing else through). */
enum log_level log_level_from_str(const char *text);

/* Call once at start, from main. Messages above max_level are dropped. Default without a call: INFO. */
void log_init(enum log_level max_level);

void log_at(enum log_level level, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
