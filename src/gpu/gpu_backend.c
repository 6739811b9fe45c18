#include "gpu/gpu_backend.h"

const struct gpu_backend_ops *const gpu_backends[GPU_BACKEND_COUNT + 1] = {&nvml_backend_ops, &amd_backend_ops,
                                                                           &intel_backend_ops, NULL};

static const unsigned char tiers[GPU_FIGURE_COUNT_] = {
    [GPU_MEM_TOTAL] = GPU_TIER_FAST,
    [GPU_MEM_USED] = GPU_TIER_FAST,
    [GPU_UTIL] = GPU_TIER_FAST,
    [GPU_MEM_UTIL] = GPU_TIER_FAST,
    [GPU_TEMP] = GPU_TIER_SLOW,
    [GPU_MEM_TEMP] = GPU_TIER_SLOW,
    [GPU_POWER] = GPU_TIER_SLOW,
    [GPU_POWER_LIMIT] = GPU_TIER_SLOW,
    [GPU_FAN] = GPU_TIER_SLOW,
    [GPU_CLOCK_SM] = GPU_TIER_SLOW,
    [GPU_CLOCK_MEM] = GPU_TIER_SLOW,
    [GPU_THROTTLE] = GPU_TIER_SLOW,
    [GPU_RECOVERY] = GPU_TIER_SLOW,
    [GPU_ECC_CORRECTED] = GPU_TIER_RARE,
    [GPU_ECC_UNCORRECTED] = GPU_TIER_RARE,
    [GPU_ECC_UNCORRECTED_EVER] = GPU_TIER_RARE,
    [GPU_ROWS_CORRECTED] = GPU_TIER_RARE,
    [GPU_ROWS_UNCORRECTED] = GPU_TIER_RARE,
    [GPU_REMAP_PENDING] = GPU_TIER_RARE,
    [GPU_REMAP_FAILED] = GPU_TIER_RARE,
    [GPU_PCIE_GENERATION] = GPU_TIER_RARE,
    [GPU_PCIE_WIDTH] = GPU_TIER_RARE,
    [GPU_PCIE_REPLAYS] = GPU_TIER_RARE,
    [GPU_PERSISTENCE] = GPU_TIER_RARE,
};

unsigned gpu_figure_tier(enum gpu_figure figure) { return tiers[figure]; }
