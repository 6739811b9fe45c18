/* What a look at 8 cards costs to keep: bench_history. Prints one JSON line, in microseconds per look of a 2 s interval. */

#include <glib/gstdio.h>
#include <stdio.h>

#include "base/clock.h"
#include "gpu/gpu_history.h"

enum { CARDS = 8, LOOKS = 20000, INTERVAL_MS = 2000 };

int main(void) {
    g_autofree char *folder = g_dir_make_tmp("kr-bench-XXXXXX", NULL);
    struct gpu_history *history = gpu_history_new(folder, 2 * INTERVAL_MS);
    struct gpu *gpu = gpu_new();
    int64_t now_ms = clock_wall_ms(), begin_us = g_get_monotonic_time();

    for (int look = 0; look < LOOKS; look++, now_ms += INTERVAL_MS)
        for (int card = 0; card < CARDS; card++) {
            g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%d", card);
            gpu_set(gpu, GPU_UTIL, (look + card) % 101);
            gpu_set(gpu, GPU_MEM_USED, (int64_t)look << 20);
            gpu_set(gpu, GPU_TEMP, 50);
            gpu_set(gpu, GPU_POWER, 300000 + look);
            gpu_history_note(history, gpu, now_ms);
        }
    printf("{\"value\": %.1f}\n", (double)(g_get_monotonic_time() - begin_us) / LOOKS);
    gpu_history_free(history);
    gpu_free(gpu);
    for (int card = 0; card < CARDS; card++) {
        g_autofree char *path = g_strdup_printf("%s/GPU-%d", folder, card);
        g_unlink(path);
    }
    g_rmdir(folder);
    return 0;
}
