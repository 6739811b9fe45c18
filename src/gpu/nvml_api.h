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

enum {
    NVML_TEXT_BYTES = 96, /* the largest of NVML's buffers for names, UUIDs and versions */
    NVML_TEMPERATURE_GPU = 0,
    NVML_FEATURE_ENABLED = 1,
    NVIDIA_VENDOR = 0x10de,
    NVIDIA_MAJOR = 195, /* /dev/nvidiaN is 195:N */
    NVIDIA_MINOR_MODESET = 254,
    NVIDIA_MINOR_CTL = 255,
};

/* A library that stands in for the real one exports this symbol (any function); inventories taken through it are
 * marked as simulated. */
#define NVML_SIMULATED_MARK "kohakuriver_nvml_is_simulated"
