/* NVML's lists of the processes on a card. */

#include <string.h>

#include "gpu/nvml_internal.h"

enum { LIST_ROOM = 64, LIST_TRIES = 4, LIST_ENTRY_MAX_BYTES = 32, LIST_MAX = 65536 };

/* `pid` and `used_memory` stand at the same place in all layouts. */
static struct gpu_user read_entry(const char *entry) {
    struct nvml_process_v1 process;
    struct gpu_user user = {0};

    memcpy(&process, entry, sizeof process);
    user.pid = (pid_t)process.pid;
    user.memory_bytes = process.used_memory > G_MAXINT64 ? -1 : (int64_t)process.used_memory;
    return user;
}

/* Appends one of NVML's process lists. Room is for 32 bytes an entry: some libraries of the 535 series write a field more.
 * Their pids after the first are then read wrongly, which can only make a card look used. */
static int list_processes(struct nvml_library *nvml, enum nvml_function function,
                          int (*call)(struct nvml_device *, unsigned *, void *), struct nvml_device *device,
                          GArray *users) {
    size_t entry_bytes = nvml->variant[function] == 2 ? sizeof(struct nvml_process_v1) : sizeof(struct nvml_process);
    unsigned room = LIST_ROOM, count = 0;
    int rc = NVML_ERROR_INSUFFICIENT_SIZE;

    for (int tries = 0; rc == NVML_ERROR_INSUFFICIENT_SIZE && tries < LIST_TRIES; tries++, room = count + LIST_ROOM) {
        g_autofree char *list = g_malloc0_n(room, LIST_ENTRY_MAX_BYTES);

        count = room;
        nvml_library_begin(nvml);
        rc = nvml_library_called(nvml, function, call(device, &count, list));
        for (unsigned i = 0; rc == NVML_OK && i < MIN(count, room); i++) {
            struct gpu_user user = read_entry(list + i * entry_bytes);
            g_array_append_val(users, user);
        }
        count = MIN(count, LIST_MAX);
    }
    return rc;
}

bool nvml_processes(struct gpu_backend *self, const struct gpu_pci_card *pci, GArray *users, char **ret_why) {
    struct nvml_library *nvml = &self->library;
    const struct nvml_card *card = g_hash_table_lookup(self->cards, pci->address);
    const struct {
        enum nvml_function function;
        int (*list)(struct nvml_device *, unsigned *, void *);
        bool is_essential;
    } lists[] = {{NVML_FN_compute, nvml->call.compute, true},
                 {NVML_FN_graphics, nvml->call.graphics, true},
                 {NVML_FN_mps, nvml->call.mps, false}};

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        int rc = NVML_ERROR_FUNCTION_NOT_FOUND;

        if (card && lists[i].list)
            rc = list_processes(nvml, lists[i].function, lists[i].list, card->device, users);
        if (rc == NVML_OK || rc == NVML_ERROR_NOT_SUPPORTED || !lists[i].is_essential)
            continue;
        *ret_why = g_strdup_printf("NVML cannot list its processes: %s (code %d)", nvml_error_text(rc), rc);
        return false;
    }
    return true;
}
