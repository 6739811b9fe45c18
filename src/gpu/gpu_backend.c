#include "gpu/gpu_backend.h"

const struct gpu_backend_ops *const gpu_backends[] = {&nvml_backend_ops, NULL};
