#pragma once
/* Memory that only the start needed. A daemon of ours maps some thirty shared libraries (libcurl's mostly); relocating
 * and initialising them touches far more of their pages than running does. See docs/decisions/0002-resident-memory.md. */

/* Gives free heap back to the kernel and lets go of clean pages of mapped files (code and constants); what is used again
 * is mapped again from the page cache. Costs a few milliseconds; to be called when idle, every minute or so. */
void mem_trim(void);
