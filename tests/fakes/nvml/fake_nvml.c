/* A stand-in for libnvidia-ml.so.1: the functions that the GPU worker uses, driven by the scenario file that the variable
 * KOHAKURIVER_FAKE_NVML names (its members: tests/fakes/README.md). The file is read again whenever it changed on disk, so
 * that a test changes the machine while it runs; a file that is half written or wrong leaves the last good one in force.
 * Built twice: with FAKE_NVML_OLD it lacks what old drivers lack. One thread at a time may call. */

#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gpu/nvml_api.h"

#define EXPORT __attribute__((visibility("default")))

enum { MAX_CARDS = 64, PCI_BYTES = 32, HANG_STEP_MS = 20 };

struct nvml_device {
    char pci[PCI_BYTES];
    int node;           /* what an attached card holds open, its "device_node"; 0: nothing */
    bool was_absent;    /* it was not the driver's when the library was started, and stays unknown to it */
    long long told_seq; /* the newest of the card's "xids" that were delivered or came before anybody listened */
};

struct nvml_event_set {
    struct nvml_device *device; /* one card is registered for at most */
};

static struct {
    json_t *scenario;
    struct stat stamp;
    bool is_up;
    struct nvml_device devices[MAX_CARDS]; /* a handle is a pointer to one of these, good for the process's life */
} fake;

static const struct {
    const char *name;
    int code;
} codes[] = {
    {"SUCCESS", 0},
    {"UNINITIALIZED", NVML_ERROR_UNINITIALIZED},
    {"INVALID_ARGUMENT", NVML_ERROR_INVALID_ARGUMENT},
    {"NOT_SUPPORTED", NVML_ERROR_NOT_SUPPORTED},
    {"NO_PERMISSION", NVML_ERROR_NO_PERMISSION},
    {"NOT_FOUND", NVML_ERROR_NOT_FOUND},
    {"DRIVER_NOT_LOADED", NVML_ERROR_DRIVER_NOT_LOADED},
    {"TIMEOUT", NVML_ERROR_TIMEOUT},
    {"IRQ_ISSUE", NVML_ERROR_IRQ_ISSUE},
    {"LIBRARY_NOT_FOUND", NVML_ERROR_LIBRARY_NOT_FOUND},
    {"FUNCTION_NOT_FOUND", NVML_ERROR_FUNCTION_NOT_FOUND},
    {"GPU_IS_LOST", NVML_ERROR_GPU_IS_LOST},
    {"RESET_REQUIRED", NVML_ERROR_RESET_REQUIRED},
    {"OPERATING_SYSTEM", NVML_ERROR_OPERATING_SYSTEM},
    {"LIB_RM_VERSION_MISMATCH", NVML_ERROR_LIB_RM_VERSION_MISMATCH},
    {"IN_USE", NVML_ERROR_IN_USE},
    {"MEMORY", NVML_ERROR_MEMORY},
    {"ARGUMENT_VERSION_MISMATCH", NVML_ERROR_ARGUMENT_VERSION_MISMATCH},
    {"UNKNOWN", NVML_ERROR_UNKNOWN},
};

static bool same_stamp(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void refresh(void) {
    const char *path = getenv("KOHAKURIVER_FAKE_NVML");
    struct stat stamp;
    json_error_t why;
    json_t *fresh;

    if (!path || stat(path, &stamp) < 0 || same_stamp(&stamp, &fake.stamp))
        return;
    fresh = json_load_file(path, 0, &why);
    if (!fresh) {
        fprintf(stderr, "fake NVML: %s: %s (line %d)\n", path, why.text, why.line);
        return;
    }
    json_decref(fake.scenario);
    fake.scenario = fresh;
    fake.stamp = stamp;
}

static void sleep_ms(long ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};

    if (ms > 0)
        nanosleep(&span, NULL);
}

/* The fault that `faults` names for a function: by its name, its name without _vN, or "*". */
static const json_t *find_fault(const json_t *faults, const char *function) {
    const json_t *fault = json_object_get(faults, function);
    const char *suffix = strstr(function, "_v");
    char base[128];

    if (!fault && suffix && strlen(function) < sizeof base) {
        memcpy(base, function, (size_t)(suffix - function));
        base[suffix - function] = '\0';
        fault = json_object_get(faults, base);
    }
    return fault ? fault : json_object_get(faults, "*");
}

static int code_of(const json_t *value) {
    if (json_is_integer(value))
        return (int)json_integer_value(value);
    for (size_t i = 0; json_is_string(value) && i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].name, json_string_value(value)) == 0)
            return codes[i].code;
    return value ? NVML_ERROR_UNKNOWN : NVML_OK;
}

static const json_t *card_at(const char *pci) {
    const json_t *card;
    size_t i;

    json_array_foreach (json_object_get(fake.scenario, "gpus"), i, card)
        if (json_is_string(json_object_get(card, "pci")) &&
            strcmp(json_string_value(json_object_get(card, "pci")), pci) == 0)
            return card;
    return NULL;
}

static const json_t *fault_for(const char *function, const char *pci) {
    const json_t *fault = pci ? find_fault(json_object_get(card_at(pci), "faults"), function) : NULL;

    return fault ? fault : find_fault(json_object_get(fake.scenario, "faults"), function);
}

/* What a call goes through before it does anything: latency, a hang that ends when the scenario says so, an error. */
static int enter(const char *function, const struct nvml_device *device) {
    const char *pci = device ? device->pci : NULL;
    const json_t *fault;

    refresh();
    if (!fake.scenario)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    fault = fault_for(function, pci);
    sleep_ms((long)json_integer_value(json_object_get(fault, "latency_ms")));
    while (json_is_true(json_object_get(fault, "hang"))) {
        sleep_ms(HANG_STEP_MS);
        refresh();
        fault = fault_for(function, pci);
    }
    if (json_is_true(json_object_get(fault, "crash")))
        abort();
    return code_of(json_object_get(fault, "return"));
}

static const char *state_of(const json_t *card) {
    const char *state = json_string_value(json_object_get(card, "state"));

    return state ? state : "ok";
}

/* As `enter`, then the card behind the handle, which may have left in the meantime. */
static int enter_card(const char *function, const struct nvml_device *device, const json_t **ret_card) {
    int rc = enter(function, device);

    if (rc != NVML_OK)
        return rc;
    if (!fake.is_up)
        return NVML_ERROR_UNINITIALIZED;
    *ret_card = card_at(device->pci);
    return *ret_card && strcmp(state_of(*ret_card), "ok") == 0 ? NVML_OK : NVML_ERROR_GPU_IS_LOST;
}

static int put_text(const json_t *value, char *text, unsigned size) {
    const char *from = json_string_value(value);

    if (!from)
        return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(from) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(text, from, strlen(from) + 1);
    return NVML_OK;
}

static int put_number(const json_t *value, unsigned *ret) {
    if (!json_is_integer(value))
        return NVML_ERROR_NOT_SUPPORTED;
    *ret = (unsigned)json_integer_value(value);
    return NVML_OK;
}

static int card_text(const char *function, const struct nvml_device *device, const char *member, char *text,
                     unsigned size) {
    const json_t *card;
    int rc = enter_card(function, device, &card);

    return rc == NVML_OK ? put_text(json_object_get(card, member), text, size) : rc;
}

static int card_number(const char *function, const struct nvml_device *device, const char *member, unsigned *ret) {
    const json_t *card;
    int rc = enter_card(function, device, &card);

    return rc == NVML_OK ? put_number(json_object_get(card, member), ret) : rc;
}

static struct nvml_device *device_at(const char *pci) {
    struct nvml_device *device = fake.devices;

    while (device->pci[0] && strcmp(device->pci, pci) != 0 && device < fake.devices + MAX_CARDS - 1)
        device++;
    snprintf(device->pci, sizeof device->pci, "%s", pci);
    return device;
}

/* Who drives it in the tree that the scenario's "tree" names; without one, the driver has all cards. */
static bool is_with_driver(const char *pci) {
    const char *tree = json_string_value(json_object_get(fake.scenario, "tree"));
    char path[PATH_MAX], target[PATH_MAX];
    ssize_t n;

    if (!tree)
        return true;
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/driver", tree, pci);
    n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    return n > 0 && strcmp(strrchr(target, '/') ? strrchr(target, '/') : "", "/nvidia") == 0;
}

/* A card that is attached holds its device node open until the library is shut down. */
static void attach(struct nvml_device *device) {
    const char *node = json_string_value(json_object_get(card_at(device->pci), "device_node"));

    if (node && device->node <= 0)
        device->node = open(node, O_RDWR | O_CLOEXEC);
}

static void detach_all(void) {
    for (struct nvml_device *device = fake.devices; device < fake.devices + MAX_CARDS; device++) {
        if (device->node > 0)
            close(device->node);
        device->node = 0;
    }
}

/* The library knows the cards that the driver has now, and no later ones. */
static int start(const char *function, bool attaches) {
    int rc = enter(function, NULL);
    const json_t *card;
    size_t i;

    fake.is_up = rc == NVML_OK;
    json_array_foreach (json_object_get(fake.is_up ? fake.scenario : NULL, "gpus"), i, card) {
        struct nvml_device *device = device_at(json_string_value(json_object_get(card, "pci")));

        device->was_absent = !is_with_driver(device->pci);
        if (attaches && !device->was_absent)
            attach(device);
    }
    return rc;
}

static int open_card(const char *function, const char *pci, struct nvml_device **ret) {
    struct nvml_device *device = device_at(pci);
    int rc;

    if ((rc = enter(function, device)) != NVML_OK)
        return rc;
    if (!fake.is_up)
        return NVML_ERROR_UNINITIALIZED;
    if (device->was_absent || !card_at(pci) || strcmp(state_of(card_at(pci)), "vfio") == 0 ||
        strcmp(state_of(card_at(pci)), "gone") == 0)
        return NVML_ERROR_NOT_FOUND;
    if (strcmp(state_of(card_at(pci)), "lost") == 0)
        return NVML_ERROR_GPU_IS_LOST;
    attach(device);
    *ret = device;
    return NVML_OK;
}

static unsigned long long mib(const json_t *card, const char *member) {
    return (unsigned long long)json_integer_value(json_object_get(card, member)) << 20;
}

static bool is_kind(const json_t *process, const char *kind) {
    const char *given = json_string_value(json_object_get(process, "kind"));

    return strcmp(given ? given : "compute", kind) == 0;
}

/* The list of one kind, in the layout of 16 or 24 bytes an entry. */
static int list(const char *function, const struct nvml_device *device, const char *kind, size_t entry_bytes,
                unsigned *count, void *ret_entries) {
    unsigned room = *count, n = 0;
    const json_t *card, *process;
    size_t i;
    int rc = enter_card(function, device, &card);

    if (rc != NVML_OK)
        return rc;
    json_array_foreach (json_object_get(card, "processes"), i, process) {
        unsigned pid = (unsigned)json_integer_value(json_object_get(process, "pid"));
        unsigned long long used = mib(process, "memory_mib");
        char *entry = (char *)ret_entries + n * entry_bytes;

        if (!is_kind(process, kind) || ++n > room)
            continue;
        memset(entry, 0, entry_bytes);
        memcpy(entry, &pid, sizeof pid);
        memcpy(entry + offsetof(struct nvml_process, used_memory), &used, sizeof used);
    }
    *count = n;
    return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_OK;
}

/* ---- events ---- */

/* The scenario's next event of a card, by "seq". */
static const json_t *next_xid(const json_t *card, long long after) {
    const json_t *xid, *next = NULL;
    size_t i;

    json_array_foreach (json_object_get(card, "xids"), i, xid) {
        long long seq = json_integer_value(json_object_get(xid, "seq"));
        if (seq > after && (!next || seq < json_integer_value(json_object_get(next, "seq"))))
            next = xid;
    }
    return next;
}

static int register_events(const char *function, struct nvml_device *device, unsigned long long types,
                           struct nvml_event_set *set) {
    const json_t *card, *xid;
    int rc = enter_card(function, device, &card);

    if (rc != NVML_OK)
        return rc;
    if (types & ~(unsigned long long)(NVML_EVENT_XID | NVML_EVENT_CLOCK | NVML_EVENT_RECOVERY_ACTION))
        return NVML_ERROR_NOT_SUPPORTED;
    while ((xid = next_xid(card, device->told_seq)))
        device->told_seq = json_integer_value(json_object_get(xid, "seq")); /* events before are nobody's */
    set->device = device;
    return NVML_OK;
}

static int wait_event(const char *function, struct nvml_event_set *set, struct nvml_event *ret, size_t bytes) {
    struct nvml_event event = {.device = set->device, .type = NVML_EVENT_XID};
    const json_t *card, *xid;
    int rc = set->device ? enter_card(function, set->device, &card) : NVML_ERROR_TIMEOUT;

    if (rc != NVML_OK)
        return rc;
    if (!(xid = next_xid(card, set->device->told_seq)))
        return NVML_ERROR_TIMEOUT;
    set->device->told_seq = json_integer_value(json_object_get(xid, "seq"));
    event.data = (unsigned long long)json_integer_value(json_object_get(xid, "code"));
    memcpy(ret, &event, bytes);
    return NVML_OK;
}

/* ---- NVLink ---- */

/* The member "nvlinks" of a card: one item for each link, null for one that is down, "switch", or the other card's address. */
static int link_at(const char *function, const struct nvml_device *device, unsigned link, const json_t **ret) {
    const json_t *card;
    int rc = enter_card(function, device, &card);

    if (rc != NVML_OK)
        return rc;
    *ret = json_array_get(json_object_get(card, "nvlinks"), link);
    return *ret ? NVML_OK : NVML_ERROR_NOT_SUPPORTED;
}

static int put_big(const json_t *value, unsigned long long *ret) {
    if (!json_is_integer(value))
        return NVML_ERROR_NOT_SUPPORTED;
    *ret = (unsigned long long)json_integer_value(value);
    return NVML_OK;
}

/* ---- what is exported ---- */

EXPORT void kohakuriver_nvml_is_simulated(void);
void kohakuriver_nvml_is_simulated(void) {}

#define NVML(name, ...)           \
    EXPORT int name(__VA_ARGS__); \
    int name(__VA_ARGS__)

NVML(nvmlInit, void) { return start(__func__, true); }

NVML(nvmlShutdown, void) {
    detach_all();
    fake.is_up = false;
    return enter(__func__, NULL);
}

NVML(nvmlSystemGetDriverVersion, char *text, unsigned size) {
    int rc = enter(__func__, NULL);
    return rc == NVML_OK ? put_text(json_object_get(fake.scenario, "driver_version"), text, size) : rc;
}

NVML(nvmlSystemGetNVMLVersion, char *text, unsigned size) {
    int rc = enter(__func__, NULL);
    return rc == NVML_OK ? put_text(json_object_get(fake.scenario, "nvml_version"), text, size) : rc;
}

NVML(nvmlDeviceGetHandleByPciBusId, const char *pci, struct nvml_device **ret) { return open_card(__func__, pci, ret); }

NVML(nvmlDeviceGetUUID, struct nvml_device *device, char *text, unsigned size) {
    return card_text(__func__, device, "uuid", text, size);
}

NVML(nvmlDeviceGetName, struct nvml_device *device, char *text, unsigned size) {
    return card_text(__func__, device, "name", text, size);
}

NVML(nvmlDeviceGetMinorNumber, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "minor", ret);
}

NVML(nvmlDeviceGetMemoryInfo, struct nvml_device *device, struct nvml_memory *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    if (rc != NVML_OK)
        return rc;
    ret->total = mib(card, "memory_total_mib");
    ret->used = mib(card, "memory_used_mib") + mib(card, "memory_reserved_mib");
    ret->free = ret->total - ret->used;
    return NVML_OK;
}

NVML(nvmlDeviceGetUtilizationRates, struct nvml_device *device, struct nvml_utilization *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    if (rc == NVML_OK)
        rc = put_number(json_object_get(card, "utilization"), &ret->gpu);
    if (rc == NVML_OK)
        ret->memory = (unsigned)json_integer_value(json_object_get(card, "memory_utilization"));
    return rc;
}

NVML(nvmlDeviceGetTemperature, struct nvml_device *device, int sensor, unsigned *ret) {
    return sensor == NVML_TEMPERATURE_GPU ? card_number(__func__, device, "temperature", ret)
                                          : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlDeviceGetPowerUsage, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "power_mw", ret);
}

NVML(nvmlDeviceGetPowerManagementLimit, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "power_limit_mw", ret);
}

NVML(nvmlDeviceGetComputeRunningProcesses, struct nvml_device *device, unsigned *count, void *entries) {
    return list(__func__, device, "compute", sizeof(struct nvml_process_v1), count, entries);
}

NVML(nvmlDeviceGetGraphicsRunningProcesses, struct nvml_device *device, unsigned *count, void *entries) {
    return list(__func__, device, "graphics", sizeof(struct nvml_process_v1), count, entries);
}

NVML(nvmlDeviceGetFanSpeed, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "fan_percent", ret);
}

NVML(nvmlDeviceGetClockInfo, struct nvml_device *device, int clock, unsigned *ret) {
    return card_number(__func__, device, clock == NVML_CLOCK_SM ? "sm_clock_mhz" : "memory_clock_mhz", ret);
}

NVML(nvmlDeviceGetCurrentClocksThrottleReasons, struct nvml_device *device, unsigned long long *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    return rc == NVML_OK ? put_big(json_object_get(card, "clock_reasons"), ret) : rc;
}

NVML(nvmlDeviceGetTotalEccErrors, struct nvml_device *device, int kind, int since, unsigned long long *ret) {
    static const char *const members[2][2] = {{"ecc_corrected", "ecc_corrected_ever"},
                                              {"ecc_uncorrected", "ecc_uncorrected_ever"}};
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    return rc == NVML_OK ? put_big(json_object_get(card, members[kind != 0][since != 0]), ret) : rc;
}

NVML(nvmlDeviceGetCurrPcieLinkGeneration, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "pcie_generation", ret);
}

NVML(nvmlDeviceGetCurrPcieLinkWidth, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "pcie_width", ret);
}

NVML(nvmlDeviceGetPcieReplayCounter, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "pcie_replays", ret);
}

NVML(nvmlDeviceGetPersistenceMode, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "persistence", ret);
}

NVML(nvmlDeviceGetSupportedEventTypes, struct nvml_device *device, unsigned long long *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    *ret = NVML_EVENT_XID | NVML_EVENT_CLOCK | NVML_EVENT_RECOVERY_ACTION;
    return rc;
}

NVML(nvmlEventSetCreate, struct nvml_event_set **ret) {
    int rc = enter(__func__, NULL);

    if (rc == NVML_OK)
        *ret = calloc(1, sizeof **ret);
    return rc;
}

NVML(nvmlEventSetFree, struct nvml_event_set *set) {
    free(set);
    return NVML_OK;
}

NVML(nvmlDeviceRegisterEvents, struct nvml_device *device, unsigned long long types, struct nvml_event_set *set) {
    return register_events(__func__, device, types, set);
}

NVML(nvmlEventSetWait, struct nvml_event_set *set, struct nvml_event *ret, unsigned timeout_ms) {
    return wait_event(__func__, set, ret, offsetof(struct nvml_event, gpu_instance));
}

NVML(nvmlDeviceGetNvLinkState, struct nvml_device *device, unsigned link, unsigned *ret) {
    const json_t *other;
    int rc = link_at(__func__, device, link, &other);

    *ret = rc == NVML_OK && json_is_string(other);
    return rc;
}

#ifndef FAKE_NVML_OLD

NVML(nvmlDeviceGetNvLinkRemoteDeviceType, struct nvml_device *device, unsigned link, int *ret) {
    const json_t *other;
    int rc = link_at(__func__, device, link, &other);

    *ret = rc == NVML_OK && strcmp(json_string_value(other), "switch") == 0 ? NVML_REMOTE_SWITCH : NVML_REMOTE_GPU;
    return rc;
}

NVML(nvmlDeviceGetNvLinkRemotePciInfo_v2, struct nvml_device *device, unsigned link, struct nvml_pci *ret) {
    const json_t *other;
    int rc = link_at(__func__, device, link, &other);

    if (rc == NVML_OK && sscanf(json_string_value(other), "%x:%x:%x", &ret->domain, &ret->bus, &ret->device) != 3)
        rc = NVML_ERROR_UNKNOWN;
    return rc;
}

NVML(nvmlEventSetWait_v2, struct nvml_event_set *set, struct nvml_event *ret, unsigned timeout_ms) {
    return wait_event(__func__, set, ret, sizeof *ret);
}

NVML(nvmlDeviceGetCurrentClocksEventReasons, struct nvml_device *device, unsigned long long *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    return rc == NVML_OK ? put_big(json_object_get(card, "clock_reasons"), ret) : rc;
}

NVML(nvmlDeviceGetRemappedRows, struct nvml_device *device, unsigned *corrected, unsigned *uncorrected,
     unsigned *pending, unsigned *failed) {
    const json_t *card, *rows;
    int rc = enter_card(__func__, device, &card);

    if (rc != NVML_OK)
        return rc;
    if (!(rows = json_object_get(card, "remapped_rows")))
        return NVML_ERROR_NOT_SUPPORTED;
    *corrected = (unsigned)json_integer_value(json_array_get(rows, 0));
    *uncorrected = (unsigned)json_integer_value(json_array_get(rows, 1));
    *pending = (unsigned)json_integer_value(json_array_get(rows, 2));
    *failed = (unsigned)json_integer_value(json_array_get(rows, 3));
    return NVML_OK;
}

NVML(nvmlDeviceGetFieldValues, struct nvml_device *device, int count, struct nvml_field *fields) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    for (int i = 0; rc == NVML_OK && i < count; i++) {
        const char *member = fields[i].id == NVML_FIELD_MEMORY_TEMPERATURE ? "memory_temperature"
                             : fields[i].id == NVML_FIELD_RECOVERY_ACTION  ? "recovery_action"
                                                                           : "";
        fields[i].type = NVML_FIELD_IS_UNSIGNED;
        fields[i].rc = put_number(json_object_get(card, member), &fields[i].value.natural);
    }
    return rc;
}

NVML(nvmlInit_v2, void) { return start(__func__, false); }

NVML(nvmlDeviceGetHandleByPciBusId_v2, const char *pci, struct nvml_device **ret) {
    return open_card(__func__, pci, ret);
}

NVML(nvmlDeviceGetMemoryInfo_v2, struct nvml_device *device, struct nvml_memory_v2 *ret) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    if (rc != NVML_OK)
        return rc;
    if (ret->version != NVML_MEMORY_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    ret->total = mib(card, "memory_total_mib");
    ret->reserved = mib(card, "memory_reserved_mib");
    ret->used = mib(card, "memory_used_mib");
    ret->free = ret->total - ret->reserved - ret->used;
    return NVML_OK;
}

NVML(nvmlDeviceGetMigMode, struct nvml_device *device, unsigned *current, unsigned *pending) {
    const json_t *card;
    int rc = enter_card(__func__, device, &card);

    if (rc != NVML_OK)
        return rc;
    if (!json_object_get(card, "mig"))
        return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = json_is_true(json_object_get(card, "mig"));
    return NVML_OK;
}

NVML(nvmlDeviceGetEnforcedPowerLimit, struct nvml_device *device, unsigned *ret) {
    return card_number(__func__, device, "power_limit_mw", ret);
}

NVML(nvmlDeviceGetComputeRunningProcesses_v3, struct nvml_device *device, unsigned *count, void *entries) {
    return list(__func__, device, "compute", sizeof(struct nvml_process), count, entries);
}

NVML(nvmlDeviceGetGraphicsRunningProcesses_v3, struct nvml_device *device, unsigned *count, void *entries) {
    return list(__func__, device, "graphics", sizeof(struct nvml_process), count, entries);
}

#endif
