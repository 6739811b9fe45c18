#pragma once
/* What the cards of this node are and do. The monitor runs one worker, a child process (`kohakuriver gpu-worker`) that
 * reads sysfs and NVML: whatever hangs or crashes there (rule R7, losses L40, L57, L70, L77) is killed at a deadline
 * and started anew, and the cards show as unknown meanwhile, never as free (R3).
 * Identity: cards are found in sysfs in PCI order, opened in NVML by PCI address, and keep the node-local index that
 * they were given first, in `index_file` (R4). NVML's own index is never used. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "model/gpu.h"

struct gpu_monitor;

struct gpu_monitor_config {
    const char *sysfs_root;      /* "/" or the root of a fake tree (<root>/sys/bus/pci/devices …) */
    const char *nvml_library;    /* "libnvidia-ml.so.1" or a path */
    const char *index_file;      /* state: PCI address + UUID -> index, baseline memory */
    const char *worker_exe;      /* NULL: /proc/self/exe */
    const char *boot_id;         /* of this boot; NULL or "": not known. XIDs are remembered until it changes */
    int64_t interval_ms;         /* between samples: utilisation, memory, events */
    int64_t slow_interval_ms;    /* between readings of power, temperature and clocks; 0: 5000 */
    int64_t process_interval_ms; /* between lists of processes, where nothing asks for one; 0: 10000 */
    int64_t health_interval_ms;  /* between readings of ECC, remapped rows and the PCIe link; 0: 60000 */
    int64_t deadline_ms;         /* for one answer of the worker */
};

/* The newest picture. Borrowed; valid until the next on_update or gpu_monitor_free. */
struct gpu_snapshot {
    GPtrArray *gpus;  /* of struct gpu, by index */
    bool known;       /* an inventory could be taken. true with no cards: the node has none */
    bool simulated;   /* the library or the tree is a stand-in */
    char *text;       /* "driver 550.54.15, NVML 12.550", or why there is no inventory or NVML */
    int64_t taken_ms; /* monotonic; 0: none yet */
};

/* Starts the worker. on_update after every sample and when the worker fails. New monitor, or NULL with KR_ERROR_IO /
 * KR_ERROR_STORAGE when the index file is unreadable or cannot be written. */
struct gpu_monitor *gpu_monitor_new(uv_loop_t *loop, const struct gpu_monitor_config *config,
                                    void (*on_update)(void *user), void *user, GError **error);
void gpu_monitor_free(struct gpu_monitor *monitor);
const struct gpu_snapshot *gpu_monitor_snapshot(const struct gpu_monitor *monitor);

/* Tells which cards our own leases hold: processes there are ours, elsewhere they are foreign (L10). */
void gpu_monitor_set_leased(struct gpu_monitor *monitor, const char *uuid, bool leased);

/* Evidence for R2, asked fresh: no process on the card (NVML's lists and /proc/N/fd by device number), memory within a
 * margin of the card's learned idle baseline, card and driver in order. One entry per uuid asked, same order. When the
 * worker does not answer within its deadline every entry is "not free: no answer". Never calls back before returning. */
struct gpu_check {
    char uuid[GPU_UUID_MAX_BYTES + 1];
    bool is_free;
    bool is_bare; /* it is free, and no driver of its vendor has it: a container cannot use it */
    /* PROOF_CARD of one look when it is free. A kind of card without a memory figure is judged by its processes alone: its
     * memory counts as idle. A look in which an XID shows that is worse than an application's own finds no free card. */
    struct proof proof;
    char *why; /* NULL when free; else "pid 4711 python3 (user alice) uses it", "412 MiB above its idle memory" … */
};
typedef void gpu_check_cb(void *user, const struct gpu_check *checks, size_t n);
struct gpu_check_call;
struct gpu_check_call *gpu_monitor_check(struct gpu_monitor *monitor, const char *const *uuids, size_t n,
                                         gpu_check_cb *on_done, void *user);
void gpu_check_cancel(struct gpu_check_call *call); /* no callback afterwards; NULL is fine */

/* Questions that the worker answers at its leisure: on_done comes once, never before the call returned, with `json` or the
 * reason why there is none; both borrowed (json_incref what is to stay). */
typedef void gpu_query_cb(void *user, json_t *json, const char *why);
struct gpu_query;
void gpu_query_cancel(struct gpu_query *query); /* no callback afterwards; NULL is fine */

/* Who is on this card now: [{"pid", "command", "user", "started_ms"?, "container"?, "memory_bytes"?}]. started_ms is wall clock and
 * tells apart two processes that had one pid; container is the id of 64 hex digits; memory_bytes is of the card. */
struct gpu_query *gpu_monitor_users(struct gpu_monitor *monitor, const char *uuid, gpu_query_cb *on_done, void *user);

/* What the calls of the GPU libraries have cost since the worker was started:
 * [{"function", "count", "total_us", "max_us"}]. */
struct gpu_query *gpu_monitor_costs(struct gpu_monitor *monitor, gpu_query_cb *on_done, void *user);

/* How the cards are joined, as last seen, also of cards that are lost or on vfio-pci now; empty lists before the first
 * sample. The shape is told in gpu_topology.h. New reference. */
json_t *gpu_monitor_topology(const struct gpu_monitor *monitor);

/* The NVIDIA cards (minor numbers, ascending) whose device nodes a process's root has in /dev, by reading
 * /proc/PID/root/dev: character devices of major 195 and minor < 254. For the check after a container's start that exactly
 * the asked cards arrived (L52). KR_ERROR_NOT_FOUND when the process is gone. *ret_minors: caller unrefs. */
bool gpu_minors_visible_to(pid_t pid, GArray **ret_minors, GError **error);

/* The same for render nodes in /dev/dri, major 226 and minor >= 128, but those of NVIDIA's cards by <root>/sys/dev/char: with
 * CDI these come along with their card. Of dev_t, ascending; caller unrefs. */
bool gpu_renders_visible_to(const char *root, pid_t pid, GArray **ret_renders, GError **error);
bool gpu_is_render_node(dev_t node);

/* ---- letting cards go ----
 * A card that is opened by anybody cannot leave its driver, and the worker has all cards open for as long as it lives: NVML
 * knows no way to close one. So for a switch to vfio-pci the worker ends, and another one starts when the switch is over. */

/* Cards (PCI addresses, NULL-terminated) that are being switched or are on vfio-pci: no worker touches them from now on, also
 * one that is started anew. They show as switching or vfio, and no check finds them free. One that is not named any more is
 * seen again by a fresh worker, since a driver's library knows only the cards that were there when it was started. */
void gpu_monitor_set_away(struct gpu_monitor *monitor, const char *const *pci);

/* Ends the worker; the next one starts with gpu_monitor_take_up. Meanwhile the other cards show as they were last seen, and as unknown
 * when that is longer ago than a deadline; checks and questions wait. on_gone: once, never before this returned, when no
 * worker has any card open; not at all when one hangs in the driver: then its pid is what holds the card. */
void gpu_monitor_let_go(struct gpu_monitor *monitor, void (*on_gone)(void *user), void *user);
void gpu_monitor_take_up(struct gpu_monitor *monitor); /* nothing when no worker was ended */

/* The child's main function, verb `gpu-worker`: requests on stdin, answers on stdout, ends with its stdin. */
int gpu_worker_main(int argc, char **argv);
