#pragma once
/* What a replay tells: one line for each step, and below it what the code under test logs. Silent unless switched on. */

#include <glib.h>
#include <stdbool.h>

void trace_switch(bool is_on);
bool trace_is_on(void);
void trace_line(const char *format, ...) G_GNUC_PRINTF(1, 2);
