#pragma once
/* The part of NVML's binary interface that is used here, written from the documented facts: return codes, structures,
 * device numbers. NVML is loaded at run time (nvml.c), never linked. `unsigned` and `unsigned long long` as in NVML. */

enum nvml_return {
    NVML_OK = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_IRQ_ISSUE = 11,
    NVML_ERROR_LIBRARY_NOT_FOUND = 12,
    NVML_ERROR_FUNCTION_NOT_FOUND = 13,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_RESET_REQUIRED = 16,
    NVML_ERROR_OPERATING_SYSTEM = 17,
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
    NVML_ERROR_IN_USE = 19,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

struct nvml_memory { /* nvmlDeviceGetMemoryInfo: `used` counts what the driver reserves too */
    unsigned long long total, free, used;
};

struct nvml_memory_v2 { /* nvmlDeviceGetMemoryInfo_v2 */
    unsigned version;   /* NVML_MEMORY_V2 */
    unsigned long long total, reserved, free, used;
};
#define NVML_MEMORY_V2 ((unsigned)sizeof(struct nvml_memory_v2) | 2U << 24)

struct nvml_utilization {
    unsigned gpu, memory; /* percent */
};

struct nvml_process_v1 { /* of the functions without suffix */
    unsigned pid;
    unsigned long long used_memory;
};

struct nvml_process { /* of the functions _v2 and _v3 */
    unsigned pid;
    unsigned long long used_memory;
    unsigned gpu_instance, compute_instance;
};

struct nvml_event { /* nvmlEventSetWait_v2; the older function fills the first three members alone */
    struct nvml_device *device;
    unsigned long long type; /* one of the NVML_EVENT_ bits */
    unsigned long long data; /* of an XID: its number */
    unsigned gpu_instance, compute_instance;
};
enum {
    NVML_EVENT_XID = 0x8,
    NVML_EVENT_CLOCK = 0x10,
    NVML_EVENT_MIG_CHANGE = 0x100,
    NVML_EVENT_RECOVERY_ACTION = 0x8000,
};

struct nvml_field { /* nvmlDeviceGetFieldValues */
    unsigned id;    /* NVML_FIELD_… */
    unsigned scope;
    long long taken_us, latency_us;
    int type; /* NVML_FIELD_IS_… */
    int rc;   /* the value is good only with NVML_OK */
    union {
        double real;
        int number;
        unsigned natural;
        unsigned long natural_long;
        unsigned long long natural_longest;
        long long number_longest;
        unsigned short natural_short;
    } value;
};
enum {
    NVML_FIELD_MEMORY_TEMPERATURE = 82,
    NVML_FIELD_RECOVERY_ACTION = 230,
    NVML_FIELD_IS_DOUBLE = 0,
    NVML_FIELD_IS_UNSIGNED = 1,
    NVML_FIELD_IS_UNSIGNED_LONG = 2,
    NVML_FIELD_IS_UNSIGNED_LONG_LONG = 3,
    NVML_FIELD_IS_LONG_LONG = 4,
    NVML_FIELD_IS_INT = 5,
    NVML_FIELD_IS_UNSIGNED_SHORT = 6,
};

struct nvml_pci { /* nvmlDeviceGetNvLinkRemotePciInfo */
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

enum {
    NVML_CLOCK_SM = 1,
    NVML_CLOCK_MEM = 2,
    NVML_ERRORS_CORRECTED = 0,
    NVML_ERRORS_UNCORRECTED = 1,
    NVML_SINCE_DRIVER_LOAD = 0,
    NVML_SINCE_EVER = 1,
    NVML_MAX_LINKS = 18,
    NVML_REMOTE_GPU = 0,
    NVML_REMOTE_SWITCH = 2,
    /* reasons why clocks are lower */
    NVML_REASON_POWER_CAP = 0x4,
    NVML_REASON_HW_SLOWDOWN = 0x8,
    NVML_REASON_SW_THERMAL = 0x20,
    NVML_REASON_HW_THERMAL = 0x40,
    NVML_REASON_POWER_BRAKE = 0x80,
};

/* Memory of a process that NVML cannot tell. */
#define NVML_VALUE_NOT_AVAILABLE (~0ULL)

enum {
    NVML_TEXT_BYTES = 96, /* the largest of NVML's buffers for names, UUIDs and versions */
    NVML_TEMPERATURE_GPU = 0,
    NVML_FEATURE_ENABLED = 1,
    NVIDIA_MAJOR = 195, /* /dev/nvidiaN is 195:N */
    NVIDIA_MINOR_MODESET = 254,
    NVIDIA_MINOR_CTL = 255,
};

/* A library that stands in for the real one exports this symbol (any function); inventories taken through it are
 * marked as simulated. */
#define NVML_SIMULATED_MARK "kohakuriver_nvml_is_simulated"
