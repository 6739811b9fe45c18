#include "gpu/nvml_library.h"

#include <dlfcn.h>
#include <string.h>

static const struct nvml_symbol {
    const char *names[3];
    bool required;
    size_t at; /* of its pointer in struct nvml_functions */
} symbols[NVML_FN_COUNT_] = {
#define X(member, required, args, ...) \
    [NVML_FN_##member] = {{__VA_ARGS__}, required, offsetof(struct nvml_functions, member)},
    NVML_FUNCTIONS(X)
#undef X
};

static bool bind_symbol(struct nvml_library *library, enum nvml_function function) {
    const struct nvml_symbol *symbol = &symbols[function];

    library->variant[function] = -1;
    for (int i = 0; i < (int)G_N_ELEMENTS(symbol->names) && symbol->names[i]; i++) {
        void *found = dlsym(library->dl, symbol->names[i]);

        if (!found)
            continue;
        memcpy((char *)&library->call + symbol->at, &found, sizeof found);
        library->variant[function] = i;
        return true;
    }
    return !symbol->required;
}

char *nvml_library_load(struct nvml_library *library, const char *path, bool *ret_absent) {
    library->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    *ret_absent = !library->dl;
    if (!library->dl)
        return g_strdup_printf("NVML is absent: %.400s", dlerror());
    for (int i = 0; i < NVML_FN_COUNT_; i++)
        if (!bind_symbol(library, (enum nvml_function)i)) {
            g_clear_pointer(&library->dl, dlclose);
            return g_strdup_printf("NVML is broken: %s has no function %s", path, symbols[i].names[0]);
        }
    library->is_simulated = dlsym(library->dl, NVML_SIMULATED_MARK) != NULL;
    return NULL;
}

void nvml_library_begin(struct nvml_library *library) { library->began_us = g_get_monotonic_time(); }

int nvml_library_called(struct nvml_library *library, enum nvml_function function, int rc) {
    struct nvml_cost *cost = &library->costs[function];
    uint64_t took_us = (uint64_t)MAX(g_get_monotonic_time() - library->began_us, 0);

    cost->count++;
    cost->total_us += took_us;
    cost->max_us = MAX(cost->max_us, took_us);
    return rc;
}

int nvml_library_number(struct nvml_library *library, enum nvml_function function, struct nvml_device *device,
                        unsigned *ret) {
    int (*call)(struct nvml_device *, unsigned *);

    memcpy(&call, (const char *)&library->call + symbols[function].at, sizeof call);
    if (!call)
        return NVML_ERROR_FUNCTION_NOT_FOUND;
    nvml_library_begin(library);
    return nvml_library_called(library, function, call(device, ret));
}

json_t *nvml_library_costs(const struct nvml_library *library) {
    json_t *list = json_array();

    for (int i = 0; i < NVML_FN_COUNT_; i++) {
        const struct nvml_cost *cost = &library->costs[i];
        const char *name = symbols[i].names[MAX(library->variant[i], 0)];

        if (cost->count)
            json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:I}", "function", name, "count",
                                                  (json_int_t)cost->count, "total_us", (json_int_t)cost->total_us,
                                                  "max_us", (json_int_t)cost->max_us));
    }
    return list;
}

const char *nvml_error_text(int rc) {
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
    case NVML_ERROR_FUNCTION_NOT_FOUND: return "the library lacks the function";
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
