#pragma once
/* NVML as it is on this machine: loaded at run time, each function under the newest name that it has, and what every call
 * has cost. A function that the library lacks answers NVML_ERROR_FUNCTION_NOT_FOUND. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gpu/nvml_api.h"

struct nvml_device;    /* NVML's handle of a card */
struct nvml_event_set; /* NVML's handle of a set of events */

/* Functions with the names under which they are looked for, newest first (L40). A missing optional one only makes its
 * figure absent; without a required one the library is called broken. */
#define NVML_FUNCTIONS(X)                                                                                              \
    X(init, true, (void), "nvmlInit_v2", "nvmlInit", NULL)                                                             \
    X(shutdown, false, (void), "nvmlShutdown", NULL, NULL)                                                             \
    X(driver_version, false, (char *text, unsigned size), "nvmlSystemGetDriverVersion", NULL, NULL)                    \
    X(nvml_version, false, (char *text, unsigned size), "nvmlSystemGetNVMLVersion", NULL, NULL)                        \
    X(handle_by_pci, true, (const char *pci, struct nvml_device **ret), "nvmlDeviceGetHandleByPciBusId_v2",            \
      "nvmlDeviceGetHandleByPciBusId", NULL)                                                                           \
    X(uuid, true, (struct nvml_device * device, char *text, unsigned size), "nvmlDeviceGetUUID", NULL, NULL)           \
    X(name, false, (struct nvml_device * device, char *text, unsigned size), "nvmlDeviceGetName", NULL, NULL)          \
    X(minor_number, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetMinorNumber", NULL, NULL)       \
    X(mig_mode, false, (struct nvml_device * device, unsigned *current, unsigned *pending), "nvmlDeviceGetMigMode",    \
      NULL, NULL)                                                                                                      \
    X(memory_v2, false, (struct nvml_device * device, struct nvml_memory_v2 * ret), "nvmlDeviceGetMemoryInfo_v2",      \
      NULL, NULL)                                                                                                      \
    X(memory, false, (struct nvml_device * device, struct nvml_memory * ret), "nvmlDeviceGetMemoryInfo", NULL, NULL)   \
    X(utilization, false, (struct nvml_device * device, struct nvml_utilization * ret),                                \
      "nvmlDeviceGetUtilizationRates", NULL, NULL)                                                                     \
    X(temperature, false, (struct nvml_device * device, int sensor, unsigned *ret), "nvmlDeviceGetTemperature", NULL,  \
      NULL)                                                                                                            \
    X(power, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetPowerUsage", NULL, NULL)               \
    X(power_limit, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetEnforcedPowerLimit",             \
      "nvmlDeviceGetPowerManagementLimit", NULL)                                                                       \
    X(fan, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetFanSpeed", NULL, NULL)                   \
    X(clock, false, (struct nvml_device * device, int clock, unsigned *ret), "nvmlDeviceGetClockInfo", NULL, NULL)     \
    X(clock_reasons, false, (struct nvml_device * device, unsigned long long *ret),                                    \
      "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", NULL)                     \
    X(ecc_errors, false, (struct nvml_device * device, int kind, int since, unsigned long long *ret),                  \
      "nvmlDeviceGetTotalEccErrors", NULL, NULL)                                                                       \
    X(remapped_rows, false,                                                                                            \
      (struct nvml_device * device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed),  \
      "nvmlDeviceGetRemappedRows", NULL, NULL)                                                                         \
    X(pcie_generation, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetCurrPcieLinkGeneration",     \
      NULL, NULL)                                                                                                      \
    X(pcie_width, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetCurrPcieLinkWidth", NULL, NULL)   \
    X(pcie_replays, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetPcieReplayCounter", NULL, NULL) \
    X(persistence, false, (struct nvml_device * device, unsigned *ret), "nvmlDeviceGetPersistenceMode", NULL, NULL)    \
    X(fields, false, (struct nvml_device * device, int count, struct nvml_field *fields), "nvmlDeviceGetFieldValues",  \
      NULL, NULL)                                                                                                      \
    X(compute, false, (struct nvml_device * device, unsigned *count, void *list),                                      \
      "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",                            \
      "nvmlDeviceGetComputeRunningProcesses")                                                                          \
    X(graphics, false, (struct nvml_device * device, unsigned *count, void *list),                                     \
      "nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2",                          \
      "nvmlDeviceGetGraphicsRunningProcesses")                                                                         \
    X(mps, false, (struct nvml_device * device, unsigned *count, void *list),                                          \
      "nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2",                      \
      "nvmlDeviceGetMPSComputeRunningProcesses")                                                                       \
    X(event_types, false, (struct nvml_device * device, unsigned long long *ret), "nvmlDeviceGetSupportedEventTypes",  \
      NULL, NULL)                                                                                                      \
    X(event_set_create, false, (struct nvml_event_set * *ret), "nvmlEventSetCreate", NULL, NULL)                       \
    X(event_set_free, false, (struct nvml_event_set * set), "nvmlEventSetFree", NULL, NULL)                            \
    X(event_register, false, (struct nvml_device * device, unsigned long long types, struct nvml_event_set *set),      \
      "nvmlDeviceRegisterEvents", NULL, NULL)                                                                          \
    X(event_wait, false, (struct nvml_event_set * set, struct nvml_event * ret, unsigned timeout_ms),                  \
      "nvmlEventSetWait_v2", "nvmlEventSetWait", NULL)                                                                 \
    X(link_state, false, (struct nvml_device * device, unsigned link, unsigned *ret), "nvmlDeviceGetNvLinkState",      \
      NULL, NULL)                                                                                                      \
    X(link_remote_type, false, (struct nvml_device * device, unsigned link, int *ret),                                 \
      "nvmlDeviceGetNvLinkRemoteDeviceType", NULL, NULL)                                                               \
    X(link_remote_pci, false, (struct nvml_device * device, unsigned link, struct nvml_pci *ret),                      \
      "nvmlDeviceGetNvLinkRemotePciInfo_v2", "nvmlDeviceGetNvLinkRemotePciInfo", NULL)

struct nvml_functions {
#define X(member, required, args, ...) int(*member) args;
    NVML_FUNCTIONS(X)
#undef X
};

enum nvml_function {
#define X(member, required, args, ...) NVML_FN_##member,
    NVML_FUNCTIONS(X)
#undef X
        NVML_FN_COUNT_
};

struct nvml_cost {
    uint64_t count, total_us, max_us;
};

struct nvml_library {
    void *dl; /* NULL: not loaded */
    struct nvml_functions call;
    int variant[NVML_FN_COUNT_]; /* which of its names was found; -1: none */
    struct nvml_cost costs[NVML_FN_COUNT_];
    int64_t began_us; /* of the call that runs */
    bool is_simulated;
};

/* NULL when all that is required is there, else why not (caller frees); *ret_absent: there is no such library at all. */
char *nvml_library_load(struct nvml_library *library, const char *path, bool *ret_absent);

/* Calls the function and counts what it costs. */
#define NVML_CALL(library, member, ...)                                                                               \
    ((library)->call.member ? nvml_library_called((library), NVML_FN_##member,                                        \
                                                  (nvml_library_begin(library), (library)->call.member(__VA_ARGS__))) \
                            : NVML_ERROR_FUNCTION_NOT_FOUND)
void nvml_library_begin(struct nvml_library *library);
int nvml_library_called(struct nvml_library *library, enum nvml_function function, int rc); /* gives rc back */

/* One of the functions that give one number of a card. */
int nvml_library_number(struct nvml_library *library, enum nvml_function function, struct nvml_device *device,
                        unsigned *ret);

/* [{"function", "count", "total_us", "max_us"}] of the functions that were called. */
json_t *nvml_library_costs(const struct nvml_library *library);

/* For people; static. */
const char *nvml_error_text(int rc);
