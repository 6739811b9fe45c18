#include "model/xid.h"

#include <stddef.h>

#define CATALOG "NVIDIA, XID Errors, r580, error catalog"
#define MEMORY "NVIDIA, GPU Memory Error Management, r555"
#define IGNORED "NVIDIA, XID Errors, common errors; passed over by its Kubernetes device plugin"

static const struct xid_meaning meanings[] = {
    {8, XID_SUSPECT, "the GPU stopped processing", CATALOG},
    {13, XID_APPLICATION, "graphics engine exception", IGNORED},
    {31, XID_APPLICATION, "memory page fault", IGNORED},
    {32, XID_SUSPECT, "invalid or corrupted push buffer stream", CATALOG},
    {38, XID_SUSPECT, "driver firmware error", CATALOG},
    {43, XID_APPLICATION, "the GPU stopped processing for a program's fault", IGNORED},
    {45, XID_APPLICATION, "clean-up after an earlier error or a killed program", IGNORED},
    {48, XID_QUARANTINE, "double bit ECC error", MEMORY},
    {61, XID_SUSPECT, "internal micro-controller warning", CATALOG},
    {62, XID_QUARANTINE, "internal micro-controller halt", CATALOG},
    {63, XID_SUSPECT, "a memory row or page was marked for replacement", MEMORY},
    {64, XID_QUARANTINE, "a memory row or page could not be replaced", MEMORY},
    {68, XID_APPLICATION, "video decoder exception", IGNORED},
    {69, XID_APPLICATION, "graphics engine class error", CATALOG},
    {74, XID_QUARANTINE, "NVLink error", CATALOG},
    {79, XID_DEAD, "the GPU has fallen off the bus", CATALOG},
    {92, XID_SUSPECT, "high rate of single bit ECC errors", MEMORY},
    {94, XID_SUSPECT, "contained memory error", MEMORY},
    {95, XID_QUARANTINE, "uncontained memory error", MEMORY},
    {109, XID_APPLICATION, "context switch timeout", IGNORED},
    {119, XID_QUARANTINE, "the GPU's system processor does not answer", CATALOG},
    {120, XID_QUARANTINE, "error of the GPU's system processor", CATALOG},
    {121, XID_SUSPECT, "link error between chips", CATALOG},
    {136, XID_SUSPECT, "link training failed", CATALOG},
    {140, XID_QUARANTINE, "unrecovered ECC error", MEMORY},
    {143, XID_QUARANTINE, "the GPU could not be initialised", CATALOG},
    {154, XID_SUSPECT, "the driver asks for a recovery action", CATALOG},
};

static const char *const class_names[XID_CLASS_COUNT_] = {
    [XID_UNSET] = "unset",     [XID_APPLICATION] = "application",
    [XID_SUSPECT] = "suspect", [XID_QUARANTINE] = "quarantine",
    [XID_DEAD] = "dead",
};

const char *xid_class_to_str(enum xid_class class) { return class_names[class < XID_CLASS_COUNT_ ? class : XID_UNSET]; }

const struct xid_meaning *xid_meaning(int code) {
    static const struct xid_meaning unknown = {0, XID_SUSPECT, "not known here", "-"};

    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].code == code)
            return &meanings[i];
    return &unknown;
}
