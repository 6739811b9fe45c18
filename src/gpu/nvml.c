/* The NVIDIA backend. Cards come from sysfs and are opened in NVML by PCI address: that initialises this one card only,
 * while opening by UUID or index may stumble over a broken neighbour. NVML's own index is never used (R4). Handles stay
 * open for the life of the process, because each fresh initialisation costs up to seconds (L77). */

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "gpu/gpu_backend.h"
#include "gpu/nvml_api.h"

struct nvml_device; /* NVML's handle */

/* Functions with the names under which they are looked for, newest first (L40). A missing optional one only makes its
 * figure absent; without a required one the library is called broken. */
#define NVML_FUNCTIONS(X)                                                                                             \
    X(init, true, (void), "nvmlInit_v2", "nvmlInit", NULL)                                                            \
    X(shutdown, false, (void), "nvmlShutdown", NULL, NULL)                                                            \
    X(driver_version, false, (char *text, unsigned size), "nvmlSystemGetDriverVersion", NULL, NULL)                   \
    X(nvml_version, false, (char *text, unsigned size), "nvmlSystemGetNVMLVersion", NULL, NULL)                       \
    X(handle_by_pci, true, (const char *pci, struct nvml_device **ret), "nvmlDeviceGetHandleByPciBusId_v2",           \
      "nvmlDeviceGetHandleByPciBusId", NULL)                                                                          \
    X(uuid, true, (struct nvml_device * device, char *text, unsigned size), "nvmlDeviceGetUUID", NULL, NULL)          \
    X(name, false, (struct nvml_device * device, char *text, unsigned size), "nvmlDeviceGetName", NULL, NULL)         \
    X(minor, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetMinorNumber", NULL, NULL)             \
    X(mig_mode, false, (struct nvml_device * device, unsigned *current, unsigned *pending), "nvmlDeviceGetMigMode",   \
      NULL, NULL)                                                                                                     \
    X(memory_v2, false, (struct nvml_device * device, struct nvml_memory_v2 * ret), "nvmlDeviceGetMemoryInfo_v2",     \
      NULL, NULL)                                                                                                     \
    X(memory, false, (struct nvml_device * device, struct nvml_memory * ret), "nvmlDeviceGetMemoryInfo", NULL, NULL)  \
    X(utilization, false, (struct nvml_device * device, struct nvml_utilization * ret),                               \
      "nvmlDeviceGetUtilizationRates", NULL, NULL)                                                                    \
    X(temperature, false, (struct nvml_device * device, int sensor, unsigned *ret), "nvmlDeviceGetTemperature", NULL, \
      NULL)                                                                                                           \
    X(power, false, (struct nvml_device * device, unsigned *ret_mw), "nvmlDeviceGetPowerUsage", NULL, NULL)           \
    X(power_limit, false, (struct nvml_device * device, unsigned *ret_mw), "nvmlDeviceGetEnforcedPowerLimit",         \
      "nvmlDeviceGetPowerManagementLimit", NULL)                                                                      \
    X(compute, false, (struct nvml_device * device, unsigned *count, void *list),                                     \
      "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",                           \
      "nvmlDeviceGetComputeRunningProcesses")                                                                         \
    X(graphics, false, (struct nvml_device * device, unsigned *count, void *list),                                    \
      "nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2",                         \
      "nvmlDeviceGetGraphicsRunningProcesses")                                                                        \
    X(mps, false, (struct nvml_device * device, unsigned *count, void *list),                                         \
      "nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2",                     \
      "nvmlDeviceGetMPSComputeRunningProcesses")

struct nvml_functions {
#define X(member, required, args, ...) int(*member) args;
    NVML_FUNCTIONS(X)
#undef X
#define X(member, required, args, ...) int member##_variant; /* which of the names was found */
    NVML_FUNCTIONS(X)
#undef X
};

static const struct nvml_symbol {
    const char *names[3];
    bool required;
    size_t function_at, variant_at;
} symbols[] = {
#define X(member, required, args, ...)        \
    {{__VA_ARGS__},                           \
     required,                                \
     offsetof(struct nvml_functions, member), \
     offsetof(struct nvml_functions, member##_variant)},
    NVML_FUNCTIONS(X)
#undef X
};

struct nvml_card { /* what does not change while the handle is open */
    struct nvml_device *device;
    char uuid[NVML_TEXT_BYTES];
    char name[NVML_TEXT_BYTES];
    int minor; /* -1: not to be had */
};

struct gpu_backend {
    char *root;
    char *library;
    void *dl;
    struct nvml_functions call;
    bool is_up;           /* initialised */
    bool is_session_dead; /* some call said so: the next probe starts anew */
    bool is_simulated;
    char *version_text, *driver;
    GHashTable *cards; /* PCI address -> struct nvml_card; the open ones */
};

static const char *text_of(int rc) {
    switch (rc) {
    case NVML_ERROR_UNINITIALIZED: return "NVML is not initialised";
    case NVML_ERROR_INVALID_ARGUMENT: return "invalid argument";
    case NVML_ERROR_NOT_SUPPORTED: return "not supported";
    case NVML_ERROR_NO_PERMISSION: return "insufficient permissions";
    case NVML_ERROR_NOT_FOUND: return "not found";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "the NVIDIA driver is not loaded";
    case NVML_ERROR_TIMEOUT: return "timeout in the driver";
    case NVML_ERROR_IRQ_ISSUE: return "the card's interrupts do not arrive";
    case NVML_ERROR_LIBRARY_NOT_FOUND: return "a part of the NVIDIA driver's libraries is missing";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost: it has fallen off the bus";
    case NVML_ERROR_RESET_REQUIRED: return "the GPU needs a reset";
    case NVML_ERROR_OPERATING_SYSTEM: return "the operating system or a control group blocks the GPU";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "driver/library version mismatch: reload the NVIDIA kernel modules or reboot";
    case NVML_ERROR_IN_USE: return "in use";
    case NVML_ERROR_MEMORY: return "out of memory";
    case NVML_ERROR_UNKNOWN: return "unknown error";
    default: return "an error that is not known here";
    }
}

/* Text of a library goes into JSON: what is no printable ASCII becomes '?', so that it cannot spoil the whole report. */
static void clean(char *text, size_t size) {
    text[size - 1] = '\0';
    for (; *text; text++)
        if (!g_ascii_isprint(*text))
            *text = '?';
}

static struct gpu_backend *nvml_open(const char *root, const char *library) {
    struct gpu_backend *self = g_new0(struct gpu_backend, 1);

    self->root = g_strdup(root);
    self->library = g_strdup(library);
    self->cards = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

static void go_down(struct gpu_backend *self) {
    if (self->is_up && self->call.shutdown)
        self->call.shutdown();
    self->is_up = self->is_session_dead = false;
    g_hash_table_remove_all(self->cards);
    g_clear_pointer(&self->version_text, g_free);
    g_clear_pointer(&self->driver, g_free);
}

/* The library stays loaded: unloading one with its own threads is not safe, and the process ends after this. */
static void nvml_close(struct gpu_backend *self) {
    if (!self)
        return;
    go_down(self);
    g_hash_table_unref(self->cards);
    g_free(self->root);
    g_free(self->library);
    g_free(self);
}

static GArray *nvml_enumerate(struct gpu_backend *self, GError **error) {
    return gpu_pci_scan(self->root, NVIDIA_VENDOR, error);
}

static bool bind_symbol(struct gpu_backend *self, const struct nvml_symbol *symbol) {
    char *functions = (char *)&self->call;

    for (int i = 0; i < (int)G_N_ELEMENTS(symbol->names) && symbol->names[i]; i++) {
        void *found = dlsym(self->dl, symbol->names[i]);

        if (!found)
            continue;
        memcpy(functions + symbol->function_at, &found, sizeof found);
        memcpy(functions + symbol->variant_at, &i, sizeof i);
        return true;
    }
    return !symbol->required;
}

/* NULL when all is bound, else why not (caller frees). */
static char *load_library(struct gpu_backend *self) {
    self->dl = dlopen(self->library, RTLD_NOW | RTLD_LOCAL);
    if (!self->dl)
        return g_strdup_printf("NVML is absent: %.400s", dlerror());
    for (size_t i = 0; i < G_N_ELEMENTS(symbols); i++)
        if (!bind_symbol(self, &symbols[i])) {
            g_clear_pointer(&self->dl, dlclose);
            return g_strdup_printf("NVML is broken: %s has no function %s", self->library, symbols[i].names[0]);
        }
    self->is_simulated = dlsym(self->dl, NVML_SIMULATED_MARK) != NULL;
    return NULL;
}

static void read_versions(struct gpu_backend *self) {
    char driver[NVML_TEXT_BYTES] = "", nvml[NVML_TEXT_BYTES] = "";

    if (!self->call.driver_version || self->call.driver_version(driver, sizeof driver) != NVML_OK)
        g_strlcpy(driver, "unknown", sizeof driver);
    if (!self->call.nvml_version || self->call.nvml_version(nvml, sizeof nvml) != NVML_OK)
        g_strlcpy(nvml, "unknown", sizeof nvml);
    clean(driver, sizeof driver);
    clean(nvml, sizeof nvml);
    self->driver = g_strdup(driver);
    self->version_text = g_strdup_printf("driver %s, NVML %s", driver, nvml);
}

static enum gpu_backend_state nvml_probe(struct gpu_backend *self, char **ret_text, char **ret_driver) {
    char *why;
    int rc;

    if (!self->dl && (why = load_library(self))) {
        *ret_text = why;
        return g_str_has_prefix(why, "NVML is absent") ? GPU_BACKEND_ABSENT : GPU_BACKEND_BROKEN;
    }
    if (self->is_session_dead)
        go_down(self);
    if (!self->is_up) {
        rc = self->call.init();
        if (rc != NVML_OK) {
            *ret_text = g_strdup_printf("NVML is broken: %s (code %d)", text_of(rc), rc);
            return GPU_BACKEND_BROKEN;
        }
        self->is_up = true;
        read_versions(self);
    }
    *ret_text = g_strdup(self->version_text);
    *ret_driver = g_strdup(self->driver);
    return GPU_BACKEND_PRESENT;
}

static void set_condition(struct gpu *gpu, enum gpu_condition condition, const char *what, int rc) {
    gpu->condition = condition;
    g_free(gpu->reason);
    gpu->reason = g_strdup_printf("NVML: %s: %s (code %d)", what, text_of(rc), rc);
}

static bool is_card_fault(int rc) {
    return rc == NVML_ERROR_GPU_IS_LOST || rc == NVML_ERROR_RESET_REQUIRED || rc == NVML_ERROR_IRQ_ISSUE;
}

static bool is_session_dead(int rc) {
    return rc == NVML_ERROR_UNINITIALIZED || rc == NVML_ERROR_DRIVER_NOT_LOADED ||
           rc == NVML_ERROR_LIB_RM_VERSION_MISMATCH;
}

/* Judges an answer for one figure. True: the value is good. A lost card is a fault; an error of an essential figure
 * makes the card unknown; "not supported" and errors of the others leave the figure absent (L43). */
static bool judge(struct gpu_backend *self, struct gpu *gpu, const char *what, int rc, bool is_essential) {
    if (rc == NVML_OK)
        return true;
    self->is_session_dead |= is_session_dead(rc);
    if (is_card_fault(rc))
        set_condition(gpu, GPU_CONDITION_FAULT, what, rc);
    else if ((is_essential && rc != NVML_ERROR_NOT_SUPPORTED && gpu->condition != GPU_CONDITION_FAULT) ||
             self->is_session_dead)
        set_condition(gpu, GPU_CONDITION_UNKNOWN, what, rc);
    return false;
}

/* The driver's own word on a card's minor, for libraries that do not give it: "Device Minor: \t 2". */
static int minor_from_proc(const struct gpu_backend *self, const char *address) {
    g_autofree char *path = g_build_filename(self->root, "proc/driver/nvidia/gpus", address, "information", NULL);
    g_autofree char *text = NULL;
    const char *found;
    char *end;
    gint64 value;

    if (!fs_read_file(path, 65536, &text, NULL, NULL) || !(found = strstr(text, "Device Minor:")))
        return -1;
    found += strlen("Device Minor:");
    value = g_ascii_strtoll(found, &end, 10);
    return end == found || value < 0 || value >= NVIDIA_MINOR_MODESET ? -1 : (int)value;
}

static void read_identity(struct gpu_backend *self, const char *address, struct nvml_card *card) {
    unsigned minor = 0;

    if (!self->call.name || self->call.name(card->device, card->name, sizeof card->name) != NVML_OK)
        g_strlcpy(card->name, "NVIDIA GPU", sizeof card->name);
    if (self->call.minor && self->call.minor(card->device, &minor) == NVML_OK && minor < NVIDIA_MINOR_MODESET)
        card->minor = (int)minor;
    else
        card->minor = minor_from_proc(self, address);
    clean(card->uuid, sizeof card->uuid);
    clean(card->name, sizeof card->name);
}

/* The open card, NULL when it cannot be opened: the gpu's condition says why. */
static const struct nvml_card *card_of(struct gpu_backend *self, const char *address, struct gpu *gpu) {
    struct nvml_card *card = g_hash_table_lookup(self->cards, address);
    struct nvml_card fresh = {.minor = -1};

    if (card)
        return card;
    if (!judge(self, gpu, "open the card", self->call.handle_by_pci(address, &fresh.device), true) ||
        !judge(self, gpu, "read the UUID", self->call.uuid(fresh.device, fresh.uuid, sizeof fresh.uuid), true)) {
        if (gpu->condition == GPU_CONDITION_OK) /* "not supported" is no answer here */
            set_condition(gpu, GPU_CONDITION_UNKNOWN, "open the card", NVML_ERROR_NOT_SUPPORTED);
        return NULL;
    }
    read_identity(self, address, &fresh);
    card = g_memdup2(&fresh, sizeof fresh);
    g_hash_table_insert(self->cards, g_strdup(address), card);
    return card;
}

static void put(struct gpu *gpu, enum gpu_figure figure, unsigned value) {
    if (value <= G_MAXINT)
        gpu_set(gpu, figure, (int64_t)value);
}

static void set_memory(struct gpu *gpu, unsigned long long total, unsigned long long used) {
    if (total > G_MAXINT64 || used > G_MAXINT64)
        return;
    gpu_set(gpu, GPU_MEM_TOTAL, (int64_t)total);
    gpu_set(gpu, GPU_MEM_USED, (int64_t)used);
}

static void sample_memory(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    struct nvml_memory_v2 v2 = {.version = NVML_MEMORY_V2};
    struct nvml_memory v1 = {0};
    int rc = self->call.memory_v2 ? self->call.memory_v2(card->device, &v2) : NVML_ERROR_FUNCTION_NOT_FOUND;
    bool use_v1 = rc == NVML_ERROR_FUNCTION_NOT_FOUND || rc == NVML_ERROR_ARGUMENT_VERSION_MISMATCH ||
                  rc == NVML_ERROR_INVALID_ARGUMENT;

    if (use_v1 && self->call.memory)
        rc = self->call.memory(card->device, &v1);
    if (judge(self, gpu, "read the memory", rc, true))
        set_memory(gpu, use_v1 ? v1.total : v2.total, use_v1 ? v1.used : v2.used);
}

static void sample_mig(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    unsigned current = 0, pending = 0;

    if (!self->call.mig_mode ||
        !judge(self, gpu, "read the MIG mode", self->call.mig_mode(card->device, &current, &pending), false))
        return;
    if (current != NVML_FEATURE_ENABLED || gpu->condition != GPU_CONDITION_OK)
        return;
    gpu->condition = GPU_CONDITION_UNKNOWN;
    gpu->reason = g_strdup(
        "MIG is enabled on it and MIG instances cannot be handed out yet; `nvidia-smi -mig 0` ends it");
}

static void sample_figures(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    const struct nvml_functions *call = &self->call;
    struct nvml_utilization util = {0};
    unsigned value = 0;

    if (call->utilization && judge(self, gpu, "read the utilisation", call->utilization(card->device, &util), false))
        put(gpu, GPU_UTIL, util.gpu);
    if (call->temperature &&
        judge(self, gpu, "read the temperature", call->temperature(card->device, NVML_TEMPERATURE_GPU, &value), false))
        put(gpu, GPU_TEMP, value);
    if (call->power && judge(self, gpu, "read the power", call->power(card->device, &value), false))
        put(gpu, GPU_POWER, value);
    if (call->power_limit && judge(self, gpu, "read the power limit", call->power_limit(card->device, &value), false))
        put(gpu, GPU_POWER_LIMIT, value);
}

static void set_identity(const struct nvml_card *card, struct gpu *gpu) {
    g_strlcpy(gpu->uuid, card->uuid, sizeof gpu->uuid);
    g_strlcpy(gpu->name, card->name, sizeof gpu->name);
    if (card->minor >= 0)
        put(gpu, GPU_MINOR, (unsigned)card->minor);
    if (card->minor >= 0 || gpu->condition != GPU_CONDITION_OK)
        return;
    gpu->condition = GPU_CONDITION_UNKNOWN;
    gpu->reason = g_strdup(
        "neither NVML nor /proc/driver/nvidia tells its minor number, so its use cannot be verified");
}

static void nvml_sample(struct gpu_backend *self, const struct gpu_pci_card *pci, struct gpu *gpu) {
    const struct nvml_card *card;

    gpu->condition = GPU_CONDITION_OK;
    card = card_of(self, pci->address, gpu);
    if (card) {
        set_identity(card, gpu);
        sample_memory(self, card, gpu);
        if (gpu->condition != GPU_CONDITION_FAULT)
            sample_figures(self, card, gpu);
        sample_mig(self, card, gpu);
    }
    if (gpu->condition == GPU_CONDITION_FAULT) /* the handle is dead; a card that comes back is opened anew */
        g_hash_table_remove(self->cards, pci->address);
}

enum { LIST_ROOM = 64, LIST_TRIES = 4, LIST_ENTRY_MAX_BYTES = 32 };

/* Appends the pids of one of NVML's process lists. Room is for 32 bytes an entry: some libraries of the 535 series write
 * a field more. Their pids after the first are then read wrongly, which can only make a card look used. */
static int list_processes(int (*call)(struct nvml_device *, unsigned *, void *), bool is_v1, struct nvml_device *device,
                          GArray *pids) {
    size_t entry_bytes = is_v1 ? sizeof(struct nvml_process_v1) : sizeof(struct nvml_process);
    unsigned room = LIST_ROOM, count = 0;
    int rc = NVML_ERROR_INSUFFICIENT_SIZE;

    for (int tries = 0; rc == NVML_ERROR_INSUFFICIENT_SIZE && tries < LIST_TRIES; tries++, room = count + LIST_ROOM) {
        g_autofree char *list = g_malloc0_n(room, LIST_ENTRY_MAX_BYTES);

        count = room;
        rc = call(device, &count, list);
        for (unsigned i = 0; rc == NVML_OK && i < MIN(count, room); i++) {
            unsigned number;
            pid_t pid;

            memcpy(&number, list + i * entry_bytes, sizeof number); /* `pid` is the first member of both layouts */
            pid = (pid_t)number;
            g_array_append_val(pids, pid);
        }
        count = MIN(count, 65536U);
    }
    return rc;
}

static bool nvml_processes(struct gpu_backend *self, const struct gpu_pci_card *pci, GArray *pids, char **ret_why) {
    const struct nvml_functions *call = &self->call;
    const struct nvml_card *card = g_hash_table_lookup(self->cards, pci->address);
    const struct {
        int (*list)(struct nvml_device *, unsigned *, void *);
        int variant;
        bool is_essential;
    } lists[] = {{call->compute, call->compute_variant, true},
                 {call->graphics, call->graphics_variant, true},
                 {call->mps, call->mps_variant, false}};

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        int rc = NVML_ERROR_FUNCTION_NOT_FOUND;

        if (card && lists[i].list)
            rc = list_processes(lists[i].list, lists[i].variant == 2, card->device, pids);
        if (rc == NVML_OK || rc == NVML_ERROR_NOT_SUPPORTED || !lists[i].is_essential)
            continue;
        *ret_why = g_strdup_printf("NVML cannot list its processes: %s (code %d)", text_of(rc), rc);
        return false;
    }
    return true;
}

static bool nvml_is_simulated(const struct gpu_backend *self) { return self->is_simulated; }

const struct gpu_backend_ops nvml_backend_ops = {
    .name = "nvml",
    .kernel_driver = "nvidia",
    .no_cards_text = "no NVIDIA GPU on this node",
    .open = nvml_open,
    .close = nvml_close,
    .enumerate = nvml_enumerate,
    .probe = nvml_probe,
    .sample = nvml_sample,
    .processes = nvml_processes,
    .device_major = NVIDIA_MAJOR,
    .is_simulated = nvml_is_simulated,
};
