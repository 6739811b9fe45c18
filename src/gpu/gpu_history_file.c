#include "gpu/gpu_history_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"

enum { MINUTE_MS = 60 * 1000, FILE_MODE = 0600, FORMAT = 1 };

const struct history_ring_info history_rings[HISTORY_RING_COUNT_] = {
    [HISTORY_SECONDS] = {"10m", 1000, 600},
    [HISTORY_MINUTES] = {"24h", MINUTE_MS, 1440},
    [HISTORY_QUARTERS] = {"30d", 15 * MINUTE_MS, HISTORY_MAX_SLOTS},
};

/* ---- what lies on the disk, in this machine's byte order ---- */

struct stored_values {
    uint32_t mem;  /* 64 KiB */
    uint32_t mw;   /* power */
    uint16_t util; /* 1/100 % */
    int16_t temp;  /* 1/10 degree Celsius */
};

struct stored_slot {
    uint16_t check; /* of the rest */
    uint16_t n_samples;
    uint32_t number;
    struct stored_values mean, max;
};
G_STATIC_ASSERT(sizeof(struct stored_slot) == 32); /* slots never cross a sector */

struct stored_header {
    char magic[8];
    uint32_t format, check; /* of everything else here */
    struct {
        uint32_t step_ms, n_slots;
    } rings[HISTORY_RING_COUNT_];
    char uuid[GPU_UUID_MAX_BYTES + 1];
    char reserved[512 - 16 - 24 - (GPU_UUID_MAX_BYTES + 1)];
};
G_STATIC_ASSERT(sizeof(struct stored_header) == 512);

/* Where each value lies in stored_values, and in which unit. The highest number of each kind stands for "absent". */
static const struct {
    double unit;
    int64_t low, absent;
} kinds[HISTORY_VALUE_COUNT_] = {
    [HISTORY_UTIL] = {0.01, 0, UINT16_MAX},
    [HISTORY_MEM] = {65536, 0, UINT32_MAX},
    [HISTORY_TEMP] = {0.1, INT16_MIN, INT16_MAX},
    [HISTORY_POWER] = {1, 0, UINT32_MAX},
};

/* FNV-1a. */
static uint32_t checksum(const void *bytes, size_t len) {
    const unsigned char *at = bytes;
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 16777619U;
    return hash;
}

static uint16_t slot_check(const struct stored_slot *slot) {
    uint32_t hash = checksum(&slot->n_samples, sizeof *slot - offsetof(struct stored_slot, n_samples));

    return (uint16_t)(hash ^ hash >> 16);
}

static int64_t stored_of(enum history_value value, double real, bool is_valid) {
    int64_t number = is_valid ? (int64_t)llround(real / kinds[value].unit) : kinds[value].absent;

    return is_valid ? CLAMP(number, kinds[value].low, kinds[value].absent - 1) : number;
}

static struct stored_values store_values(const double *reals, unsigned valid) {
    int64_t n[HISTORY_VALUE_COUNT_];

    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++)
        n[i] = stored_of(i, reals[i], valid >> i & 1);
    return (struct stored_values){.util = (uint16_t)n[HISTORY_UTIL],
                                  .mem = (uint32_t)n[HISTORY_MEM],
                                  .temp = (int16_t)n[HISTORY_TEMP],
                                  .mw = (uint32_t)n[HISTORY_POWER]};
}

static unsigned load_values(const struct stored_values *stored, double *ret_reals) {
    const int64_t n[HISTORY_VALUE_COUNT_] = {[HISTORY_UTIL] = stored->util,
                                             [HISTORY_MEM] = stored->mem,
                                             [HISTORY_TEMP] = stored->temp,
                                             [HISTORY_POWER] = stored->mw};
    unsigned valid = 0;

    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++) {
        valid |= (unsigned)(n[i] != kinds[i].absent) << i;
        ret_reals[i] = n[i] != kinds[i].absent ? (double)n[i] * kinds[i].unit : 0;
    }
    return valid;
}

static bool load_slot(const struct stored_slot *slot, int64_t number, struct history_point *ret_point) {
    if (slot->n_samples == 0 || slot->number != number || slot->check != slot_check(slot))
        return false;
    *ret_point = (struct history_point){.number = number, .n_samples = slot->n_samples};
    ret_point->valid = load_values(&slot->mean, ret_point->mean) & load_values(&slot->max, ret_point->max);
    return true;
}

static off_t ring_offset(enum history_ring ring) {
    size_t offset = sizeof(struct stored_header);

    for (int i = 0; i < (int)ring; i++)
        offset += (size_t)history_rings[i].n_slots * sizeof(struct stored_slot);
    return (off_t)offset;
}

static off_t slot_offset(enum history_ring ring, int64_t number) {
    return ring_offset(ring) + (off_t)(number % history_rings[ring].n_slots) * (off_t)sizeof(struct stored_slot);
}

/* ---- the file ---- */

static struct stored_header header_of(const char *uuid) {
    struct stored_header header = {.magic = "KRHIST\n", .format = FORMAT};

    for (int i = 0; i < HISTORY_RING_COUNT_; i++) {
        header.rings[i].step_ms = (uint32_t)history_rings[i].step_ms;
        header.rings[i].n_slots = (uint32_t)history_rings[i].n_slots;
    }
    g_strlcpy(header.uuid, uuid, sizeof header.uuid);
    header.check = checksum(&header, sizeof header);
    return header;
}

static bool is_usable(int fd, const char *uuid, const char **ret_why) {
    struct stored_header wanted = header_of(uuid), header;
    struct stat stat;

    if (fstat(fd, &stat) < 0 || pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        *ret_why = "it cannot be read, or is too short";
    else if (memcmp(&header, &wanted, sizeof header) != 0)
        *ret_why = "its header is damaged, or of another card or version";
    else if (stat.st_size != ring_offset(HISTORY_RING_COUNT_))
        *ret_why = "it is not as long as it must be";
    else
        return true;
    return false;
}

/* Whole under another name, then under its own: a file of this name is never half made. */
static int make_file(const char *path, const char *uuid, GError **error) {
    g_autofree char *temporary = g_strconcat(path, ".new", NULL);
    struct stored_header header = header_of(uuid);
    _cleanup_fd_ int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    int problem = fd < 0 ? errno : posix_fallocate(fd, 0, ring_offset(HISTORY_RING_COUNT_));

    if (problem == 0 && (pwrite(fd, &header, sizeof header, 0) != (ssize_t)sizeof header || fdatasync(fd) < 0 ||
                         rename(temporary, path) < 0))
        problem = errno ? errno : EIO;
    if (problem != 0) {
        if (fd >= 0)
            unlink(temporary);
        fs_fail_errno(error, problem, "make", path);
        return -1;
    }
    return g_steal_fd(&fd);
}

int history_file_open(const char *path, const char *uuid, GError **error) {
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *aside = g_strconcat(path, ".unreadable", NULL);
    const char *why = "it cannot be opened";

    if (fd < 0 && errno == ENOENT)
        return make_file(path, uuid, error);
    if (fd >= 0 && is_usable(fd, uuid, &why))
        return g_steal_fd(&fd);
    if (rename(path, aside) < 0) {
        fs_fail_errno(error, errno, "set aside", path);
        return -1;
    }
    log_warning("history of GPU %s: %s; it is set aside as %s and begun anew", uuid, why, aside);
    return make_file(path, uuid, error);
}

bool history_file_read(int fd, enum history_ring ring, int64_t number, struct history_point *ret_point) {
    struct stored_slot slot;

    return pread(fd, &slot, sizeof slot, slot_offset(ring, number)) == (ssize_t)sizeof slot &&
           load_slot(&slot, number, ret_point);
}

bool history_file_write(int fd, enum history_ring ring, const struct history_point *point, GError **error) {
    struct stored_slot slot = {.number = (uint32_t)point->number,
                               .n_samples = (uint16_t)CLAMP(point->n_samples, 1, UINT16_MAX),
                               .mean = store_values(point->mean, point->valid),
                               .max = store_values(point->max, point->valid)};
    ssize_t n;

    slot.check = slot_check(&slot);
    n = pwrite(fd, &slot, sizeof slot, slot_offset(ring, point->number));
    return n == (ssize_t)sizeof slot || fs_fail_errno(error, n < 0 ? errno : ENOSPC, "write", "history");
}

struct history_point *history_file_read_all(int fd, enum history_ring ring, int64_t last) {
    int n = history_rings[ring].n_slots;
    size_t len = (size_t)n * sizeof(struct stored_slot);
    g_autofree struct stored_slot *slots = g_new0(struct stored_slot, n);
    struct history_point *points = g_new0(struct history_point, n);

    if (pread(fd, slots, len, ring_offset(ring)) != (ssize_t)len)
        return points;
    for (int i = 0; i < n; i++) {
        int64_t number = last - n + 1 + i;
        if (number > 0)
            load_slot(&slots[number % n], number, &points[i]);
    }
    return points;
}
