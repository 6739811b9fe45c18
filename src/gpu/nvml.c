/* The NVIDIA backend. Cards come from sysfs and are opened in NVML by PCI address: that initialises this one card only,
 * while opening by UUID or index may stumble over a broken neighbour. NVML's own index is never used (R4). Handles stay
 * open for the life of the process, because each fresh initialisation costs up to seconds (L77). */

#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "base/fs.h"
#include "gpu/nvml_internal.h"

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
    self->path = g_strdup(library);
    self->cards = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

static void go_down(struct gpu_backend *self) {
    if (self->is_up)
        (void)NVML_CALL(&self->library, shutdown);
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
    g_free(self->path);
    g_free(self);
}

static void read_versions(struct gpu_backend *self) {
    char driver[NVML_TEXT_BYTES] = "", nvml[NVML_TEXT_BYTES] = "";

    if (NVML_CALL(&self->library, driver_version, driver, sizeof driver) != NVML_OK)
        g_strlcpy(driver, "unknown", sizeof driver);
    if (NVML_CALL(&self->library, nvml_version, nvml, sizeof nvml) != NVML_OK)
        g_strlcpy(nvml, "unknown", sizeof nvml);
    clean(driver, sizeof driver);
    clean(nvml, sizeof nvml);
    self->driver = g_strdup(driver);
    self->version_text = g_strdup_printf("driver %s, NVML %s", driver, nvml);
}

static enum gpu_backend_state nvml_probe(struct gpu_backend *self, char **ret_text, char **ret_driver) {
    bool is_absent = false;
    char *why;
    int rc;

    if (!self->library.dl && (why = nvml_library_load(&self->library, self->path, &is_absent))) {
        *ret_text = why;
        return is_absent ? GPU_BACKEND_ABSENT : GPU_BACKEND_BROKEN;
    }
    if (self->is_session_dead)
        go_down(self);
    if (!self->is_up) {
        rc = NVML_CALL(&self->library, init);
        if (rc != NVML_OK) {
            *ret_text = g_strdup_printf("NVML is broken: %s (code %d)", nvml_error_text(rc), rc);
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
    gpu->reason = g_strdup_printf("NVML: %s: %s (code %d)", what, nvml_error_text(rc), rc);
}

static bool is_card_fault(int rc) {
    return rc == NVML_ERROR_GPU_IS_LOST || rc == NVML_ERROR_RESET_REQUIRED || rc == NVML_ERROR_IRQ_ISSUE;
}

static bool is_session_dead(int rc) {
    return rc == NVML_ERROR_UNINITIALIZED || rc == NVML_ERROR_DRIVER_NOT_LOADED ||
           rc == NVML_ERROR_LIB_RM_VERSION_MISMATCH;
}

bool nvml_judge(struct gpu_backend *self, struct gpu *gpu, const char *what, int rc, bool is_essential) {
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

    if (NVML_CALL(&self->library, name, card->device, card->name, sizeof card->name) != NVML_OK)
        g_strlcpy(card->name, "NVIDIA GPU", sizeof card->name);
    if (NVML_CALL(&self->library, minor_number, card->device, &minor) == NVML_OK && minor < NVIDIA_MINOR_MODESET)
        card->minor = (int)minor;
    else
        card->minor = minor_from_proc(self, address);
    clean(card->uuid, sizeof card->uuid);
    clean(card->name, sizeof card->name);
}

/* The open card, NULL when it cannot be opened: the gpu's condition says why. */
static struct nvml_card *card_of(struct gpu_backend *self, const char *address, struct gpu *gpu) {
    struct nvml_card *card = g_hash_table_lookup(self->cards, address);
    struct nvml_card fresh = {.minor = -1};
    int rc;

    if (card)
        return card;
    rc = NVML_CALL(&self->library, handle_by_pci, address, &fresh.device);
    if (!nvml_judge(self, gpu,
                    rc == NVML_ERROR_NOT_FOUND ? "the driver has the card and NVML does not" : "open the card", rc,
                    true) ||
        !nvml_judge(self, gpu, "read the UUID",
                    NVML_CALL(&self->library, uuid, fresh.device, fresh.uuid, sizeof fresh.uuid), true)) {
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
    int rc = NVML_CALL(&self->library, memory_v2, card->device, &v2);
    bool use_v1 = rc == NVML_ERROR_FUNCTION_NOT_FOUND || rc == NVML_ERROR_ARGUMENT_VERSION_MISMATCH ||
                  rc == NVML_ERROR_INVALID_ARGUMENT;

    if (use_v1)
        rc = NVML_CALL(&self->library, memory, card->device, &v1);
    if (nvml_judge(self, gpu, "read the memory", rc, true))
        set_memory(gpu, use_v1 ? v1.total : v2.total, use_v1 ? v1.used : v2.used);
}

static void sample_mig(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    unsigned current = 0, pending = 0;
    int rc = NVML_CALL(&self->library, mig_mode, card->device, &current, &pending);

    if (!nvml_judge(self, gpu, "read the MIG mode", rc, false) || current != NVML_FEATURE_ENABLED ||
        gpu->condition != GPU_CONDITION_OK)
        return;
    gpu->condition = GPU_CONDITION_UNKNOWN;
    gpu->reason = g_strdup(
        "MIG is enabled on it and MIG instances cannot be handed out yet; `nvidia-smi -mig 0` ends it");
}

static void sample_utilization(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    struct nvml_utilization util = {0};

    if (!nvml_judge(self, gpu, "read the utilisation", NVML_CALL(&self->library, utilization, card->device, &util),
                    false))
        return;
    put(gpu, GPU_UTIL, util.gpu);
    put(gpu, GPU_MEM_UTIL, util.memory);
}

/* Figures that one function gives as one number. */
static const struct {
    enum gpu_figure figure;
    enum nvml_function function;
    const char *what;
} numbers[] = {
    {GPU_POWER, NVML_FN_power, "read the power"},
    {GPU_POWER_LIMIT, NVML_FN_power_limit, "read the power limit"},
    {GPU_FAN, NVML_FN_fan, "read the fan speed"},
    {GPU_PCIE_GENERATION, NVML_FN_pcie_generation, "read the PCIe generation"},
    {GPU_PCIE_WIDTH, NVML_FN_pcie_width, "read the PCIe width"},
    {GPU_PCIE_REPLAYS, NVML_FN_pcie_replays, "read the PCIe replays"},
    {GPU_PERSISTENCE, NVML_FN_persistence, "read the persistence mode"},
};

static void sample_numbers(struct gpu_backend *self, const struct nvml_card *card, unsigned tiers, struct gpu *gpu) {
    for (size_t i = 0; i < G_N_ELEMENTS(numbers) && gpu->condition != GPU_CONDITION_FAULT; i++) {
        unsigned value = 0;

        if ((tiers & gpu_figure_tier(numbers[i].figure)) &&
            nvml_judge(self, gpu, numbers[i].what,
                       nvml_library_number(&self->library, numbers[i].function, card->device, &value), false))
            put(gpu, numbers[i].figure, value);
    }
}

static void sample_clocks(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    static const struct {
        unsigned long long reason;
        unsigned throttle;
    } reasons[] = {{NVML_REASON_POWER_CAP, GPU_THROTTLE_POWER_CAP},
                   {NVML_REASON_HW_SLOWDOWN, GPU_THROTTLE_HW_SLOWDOWN},
                   {NVML_REASON_SW_THERMAL, GPU_THROTTLE_SW_THERMAL},
                   {NVML_REASON_HW_THERMAL, GPU_THROTTLE_HW_THERMAL},
                   {NVML_REASON_POWER_BRAKE, GPU_THROTTLE_POWER_BRAKE}};
    struct nvml_library *nvml = &self->library;
    unsigned long long bits = 0;
    unsigned value = 0, throttle = 0;

    if (nvml_judge(self, gpu, "read the SM clock", NVML_CALL(nvml, clock, card->device, NVML_CLOCK_SM, &value), false))
        put(gpu, GPU_CLOCK_SM, value);
    if (nvml_judge(self, gpu, "read the memory clock", NVML_CALL(nvml, clock, card->device, NVML_CLOCK_MEM, &value),
                   false))
        put(gpu, GPU_CLOCK_MEM, value);
    if (!nvml_judge(self, gpu, "read the clock reasons", NVML_CALL(nvml, clock_reasons, card->device, &bits), false))
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(reasons); i++)
        throttle |= bits & reasons[i].reason ? reasons[i].throttle : 0;
    put(gpu, GPU_THROTTLE, throttle);
}

/* False when the field has no value that can be used. */
static bool field_value(const struct nvml_field *field, int64_t *ret) {
    if (field->rc != NVML_OK)
        return false;
    switch (field->type) {
    case NVML_FIELD_IS_UNSIGNED: *ret = field->value.natural; return true;
    case NVML_FIELD_IS_UNSIGNED_LONG: *ret = (int64_t)field->value.natural_long; return true;
    case NVML_FIELD_IS_UNSIGNED_LONG_LONG: *ret = (int64_t)field->value.natural_longest; return true;
    case NVML_FIELD_IS_LONG_LONG: *ret = field->value.number_longest; return true;
    case NVML_FIELD_IS_INT: *ret = field->value.number; return true;
    case NVML_FIELD_IS_UNSIGNED_SHORT: *ret = field->value.natural_short; return true;
    default: return false;
    }
}

static void sample_fields(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    static const enum gpu_figure figures[] = {GPU_MEM_TEMP, GPU_RECOVERY};
    struct nvml_field fields[] = {{.id = NVML_FIELD_MEMORY_TEMPERATURE, .rc = NVML_ERROR_NOT_SUPPORTED},
                                  {.id = NVML_FIELD_RECOVERY_ACTION, .rc = NVML_ERROR_NOT_SUPPORTED}};
    int rc = NVML_CALL(&self->library, fields, card->device, (int)G_N_ELEMENTS(fields), fields);
    int64_t value;

    if (!nvml_judge(self, gpu, "read its field values", rc, false))
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        nvml_judge(self, gpu, "read a field value", fields[i].rc, false);
        if (field_value(&fields[i], &value) && value >= 0 && value < 1000 && (value > 0 || figures[i] != GPU_MEM_TEMP))
            gpu_set(gpu, figures[i], value); /* a memory of 0 degrees is what cards without a sensor say */
    }
}

static void sample_slow(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    unsigned value = 0;
    int rc = NVML_CALL(&self->library, temperature, card->device, NVML_TEMPERATURE_GPU, &value);

    if (nvml_judge(self, gpu, "read the temperature", rc, false))
        put(gpu, GPU_TEMP, value);
    sample_clocks(self, card, gpu);
    sample_fields(self, card, gpu);
}

static void sample_rows(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
    int rc = NVML_CALL(&self->library, remapped_rows, card->device, &corrected, &uncorrected, &pending, &failed);

    if (!nvml_judge(self, gpu, "read the remapped rows", rc, false))
        return;
    put(gpu, GPU_ROWS_CORRECTED, corrected);
    put(gpu, GPU_ROWS_UNCORRECTED, uncorrected);
    put(gpu, GPU_REMAP_PENDING, pending != 0);
    put(gpu, GPU_REMAP_FAILED, failed != 0);
}

static void sample_rare(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu) {
    static const struct {
        enum gpu_figure figure;
        int kind, since;
    } errors[] = {{GPU_ECC_CORRECTED, NVML_ERRORS_CORRECTED, NVML_SINCE_DRIVER_LOAD},
                  {GPU_ECC_UNCORRECTED, NVML_ERRORS_UNCORRECTED, NVML_SINCE_DRIVER_LOAD},
                  {GPU_ECC_UNCORRECTED_EVER, NVML_ERRORS_UNCORRECTED, NVML_SINCE_EVER}};

    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        unsigned long long count = 0;
        int rc = NVML_CALL(&self->library, ecc_errors, card->device, errors[i].kind, errors[i].since, &count);

        if (nvml_judge(self, gpu, "read the ECC errors", rc, false) && count <= G_MAXINT64)
            gpu_set(gpu, errors[i].figure, (int64_t)count);
    }
    sample_rows(self, card, gpu);
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

static void sample_tiers(struct gpu_backend *self, const struct nvml_card *card, unsigned tiers, struct gpu *gpu) {
    static const struct {
        unsigned tier;
        void (*sample)(struct gpu_backend *self, const struct nvml_card *card, struct gpu *gpu);
    } steps[] = {{GPU_TIER_ALL, sample_memory}, /* it also tells whether the card answers at all */
                 {GPU_TIER_FAST, sample_utilization},
                 {GPU_TIER_SLOW, sample_slow},
                 {GPU_TIER_RARE, sample_rare}};

    for (size_t i = 0; i < G_N_ELEMENTS(steps) && gpu->condition != GPU_CONDITION_FAULT; i++)
        if (tiers & steps[i].tier)
            steps[i].sample(self, card, gpu);
    sample_numbers(self, card, tiers, gpu);
}

static void nvml_sample(struct gpu_backend *self, const struct gpu_pci_card *pci, unsigned tiers, struct gpu *gpu) {
    struct nvml_card *card;

    gpu->condition = GPU_CONDITION_OK;
    card = card_of(self, pci->address, gpu);
    if (card) {
        set_identity(card, gpu);
        nvml_events_drain(self, card, gpu, &tiers);
        sample_tiers(self, card, tiers, gpu);
        if (gpu->condition != GPU_CONDITION_FAULT)
            sample_mig(self, card, gpu);
    }
    if (card && gpu->condition == GPU_CONDITION_FAULT) { /* the handle is dead; a card that comes back is opened anew */
        nvml_events_close(self, card);
        g_hash_table_remove(self->cards, pci->address);
    }
}

static size_t nvml_nodes(struct gpu_backend *self, const struct gpu_pci_card *pci, const struct gpu *gpu,
                         dev_t ret_nodes[GPU_MAX_NODES]) {
    if (!gpu_has(gpu, GPU_MINOR))
        return 0;
    ret_nodes[0] = makedev(NVIDIA_MAJOR, (unsigned)gpu_figure(gpu, GPU_MINOR));
    return 1;
}

static int64_t nvml_hears_xids_since_us(struct gpu_backend *self, const struct gpu_pci_card *pci) {
    const struct nvml_card *card = g_hash_table_lookup(self->cards, pci->address);

    return card ? card->hears_since_us : 0;
}

static json_t *nvml_costs(const struct gpu_backend *self) { return nvml_library_costs(&self->library); }

static bool nvml_is_simulated(const struct gpu_backend *self) { return self->library.is_simulated; }

const struct gpu_backend_ops nvml_backend_ops = {
    .name = "nvml",
    .pci_vendor = PCI_VENDOR_NVIDIA,
    .kernel_drivers = {"nvidia", NULL},
    .open = nvml_open,
    .close = nvml_close,
    .probe = nvml_probe,
    .sample = nvml_sample,
    .processes = nvml_processes,
    .nodes = nvml_nodes,
    .hears_xids_since_us = nvml_hears_xids_since_us,
    .links = nvml_links,
    .costs = nvml_costs,
    .is_simulated = nvml_is_simulated,
};
