#pragma once
/* From a history that fails to a short one that fails in the same way: steps are left out as long as the same kind of
 * violation shows (delta debugging, Zeller). */

#include "sim/history.h"

/* The steps that are left, of unsigned. NULL when the history does not fail like that (any more). */
GArray *shrink(const struct history *history, const struct outcome *failure, double max_seconds);

/* "1,4-7,12" and back; NULL when it is no such list. */
char *steps_to_str(const GArray *steps);
GArray *steps_from_str(const char *text);
