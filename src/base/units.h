#pragma once
/* Quantities as people write and read them. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* "16G", "16GiB", "512M", "1.5T", "1048576" -> bytes (powers of 1024, at most 2^60). KR_ERROR_BAD_REQUEST otherwise. */
bool units_bytes_from_str(const char *text, int64_t *ret_bytes, GError **error);

enum { UNITS_TEXT_BYTES = 24 };
/* "1.5 GiB" into buf. Returns buf. */
const char *units_bytes_to_str(int64_t bytes, char buf[static UNITS_TEXT_BYTES]);
/* "500ms", "30s", "30m", "2h", "7d" -> milliseconds, more than 0 and at most 1000 days. KR_ERROR_BAD_REQUEST otherwise. */
bool units_span_from_str(const char *text, int64_t *ret_span_ms, GError **error);
/* "42s", "5m 3s", "2h 10m", "3d 4h" into buf; negative spans count as 0. Returns buf. */
const char *units_span_to_str(int64_t span_ms, char buf[static UNITS_TEXT_BYTES]);
