#include "vm/fat_seed.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum {
    SECTOR = 512,
    CLUSTER_SECTORS = 1,
    FAT_SECTORS = 12, /* 4096 entries of 12 bits */
    N_FATS = 2,
    ROOT_ENTRIES = 64,
    ENTRY = 32,
    ROOT_SECTORS = ROOT_ENTRIES * ENTRY / SECTOR,
    FIRST_DATA = 1 + N_FATS * FAT_SECTORS + ROOT_SECTORS,
    FIRST_CLUSTER = 2,
    MAX_CLUSTERS = 4000, /* fewer than 4085: FAT12 */
    MIN_CLUSTERS = 2048,
    END_OF_CHAIN = 0xfff,
    MEDIA = 0xf8,
    CHARS_A_PART = 13,
    ATTRIBUTE_LABEL = 0x08,
    ATTRIBUTE_LONG = 0x0f,
    ATTRIBUTE_ARCHIVE = 0x20,
    A_DATE = 0x5a21, /* 2025-01-01: the same bytes for the same files */
};

static void put16(guint8 *at, unsigned value) {
    at[0] = (guint8)value;
    at[1] = (guint8)(value >> 8);
}

static void put32(guint8 *at, size_t value) {
    put16(at, (unsigned)(value & 0xffff));
    put16(at + 2, (unsigned)(value >> 16));
}

static void put_padded(guint8 *at, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        at[i] = (guint8)(*text ? *text++ : ' ');
}

static void write_boot_sector(guint8 *at, const char *label, unsigned sectors) {
    put16(at, 0x3ceb); /* a jump, as the format wants it */
    at[2] = 0x90;
    put_padded(at + 3, "MSDOS5.0", 8);
    put16(at + 11, SECTOR);
    at[13] = CLUSTER_SECTORS;
    put16(at + 14, 1);
    at[16] = N_FATS;
    put16(at + 17, ROOT_ENTRIES);
    put16(at + 19, sectors);
    at[21] = MEDIA;
    put16(at + 22, FAT_SECTORS);
    put16(at + 24, 32); /* sectors a track, heads: nobody asks */
    put16(at + 26, 2);
    at[36] = 0x80;
    at[38] = 0x29;
    put32(at + 39, 0x4b524956);
    put_padded(at + 43, label, 11);
    put_padded(at + 54, "FAT12", 8);
    at[510] = 0x55;
    at[511] = 0xaa;
}

/* Two entries share three bytes. */
static void set_fat(guint8 *fat, unsigned cluster, unsigned value) {
    guint8 *at = fat + cluster * 3 / 2;

    if (cluster % 2) {
        at[0] = (guint8)((at[0] & 0x0f) | (value << 4));
        at[1] = (guint8)(value >> 4);
    } else {
        at[0] = (guint8)value;
        at[1] = (guint8)((at[1] & 0xf0) | (value >> 8 & 0x0f));
    }
}

static guint8 checksum(const guint8 *short_name) {
    guint8 sum = 0;

    for (int i = 0; i < 11; i++)
        sum = (guint8)((sum & 1 ? 0x80 : 0) + (sum >> 1) + short_name[i]);
    return sum;
}

/* The long name comes before the short one, its last part first. */
static guint8 *put_long_name(guint8 *at, const char *name, guint8 sum) {
    static const guint8 places[CHARS_A_PART] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    size_t len = strlen(name), parts = (len + CHARS_A_PART - 1) / CHARS_A_PART;

    for (size_t part = parts; part > 0; part--, at += ENTRY) {
        at[0] = (guint8)(part | (part == parts ? 0x40 : 0));
        at[11] = ATTRIBUTE_LONG;
        at[13] = sum;
        for (size_t i = 0; i < CHARS_A_PART; i++) {
            size_t k = (part - 1) * CHARS_A_PART + i;
            put16(at + places[i], k < len ? (unsigned char)name[k] : k == len ? 0 : 0xffff);
        }
    }
    return at;
}

static guint8 *put_file(guint8 *entry, const struct fat_file *file, size_t number, unsigned cluster) {
    char short_name[12];
    guint8 name[11];

    snprintf(short_name, sizeof short_name, "SEED~%u     ", (unsigned)number + 1);
    put_padded(name, short_name, sizeof name);
    entry = put_long_name(entry, file->name, checksum(name));
    memcpy(entry, name, sizeof name);
    entry[11] = ATTRIBUTE_ARCHIVE;
    put16(entry + 16, A_DATE);
    put16(entry + 18, A_DATE);
    put16(entry + 24, A_DATE);
    put16(entry + 26, file->len ? cluster : 0);
    put32(entry + 28, file->len);
    return entry + ENTRY;
}

static guint8 *put_label(guint8 *entry, const char *label) {
    put_padded(entry, label, 11);
    entry[11] = ATTRIBUTE_LABEL;
    put16(entry + 24, A_DATE);
    return entry + ENTRY;
}

static unsigned clusters_of(size_t len) {
    return (unsigned)((len + SECTOR * CLUSTER_SECTORS - 1) / (SECTOR * CLUSTER_SECTORS));
}

static bool check(const struct fat_file *files, size_t n, unsigned *ret_clusters, GError **error) {
    unsigned clusters = 0;

    if (n > FAT_SEED_MAX_FILES)
        return kr_fail(error, TOO_LARGE, "more than %d files in a seed", FAT_SEED_MAX_FILES);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(files[i].name);
        if (len == 0 || len > FAT_SEED_MAX_NAME || files[i].len > FAT_SEED_MAX_BYTES)
            return kr_fail(error, TOO_LARGE, "the seed's file %.32s is too large", files[i].name);
        clusters += clusters_of(files[i].len);
    }
    *ret_clusters = MAX(clusters, (unsigned)MIN_CLUSTERS);
    return clusters <= MAX_CLUSTERS || kr_fail(error, TOO_LARGE, "the seed's files are too large together");
}

static void put_content(guint8 *image, const struct fat_file *file, unsigned cluster) {
    guint8 *fat = image + SECTOR;
    unsigned n = clusters_of(file->len);

    if (n > 0)
        memcpy(image + (FIRST_DATA + (size_t)(cluster - FIRST_CLUSTER) * CLUSTER_SECTORS) * SECTOR, file->bytes,
               file->len);
    for (unsigned i = 0; i < n; i++)
        set_fat(fat, cluster + i, i + 1 < n ? cluster + i + 1 : END_OF_CHAIN);
}

GByteArray *fat_seed_make(const char *label, const struct fat_file *files, size_t n, GError **error) {
    unsigned clusters, cluster = FIRST_CLUSTER, sectors;
    GByteArray *bytes;
    guint8 *image, *entry;

    if (!check(files, n, &clusters, error))
        return NULL;
    sectors = FIRST_DATA + clusters * CLUSTER_SECTORS;
    bytes = g_byte_array_sized_new(sectors * SECTOR);
    g_byte_array_set_size(bytes, sectors * SECTOR);
    image = bytes->data;
    memset(image, 0, bytes->len);
    write_boot_sector(image, label, sectors);
    set_fat(image + SECTOR, 0, 0xf00 | MEDIA);
    set_fat(image + SECTOR, 1, END_OF_CHAIN);
    entry = put_label(image + (1 + N_FATS * FAT_SECTORS) * SECTOR, label);
    for (size_t i = 0; i < n; i++) {
        entry = put_file(entry, &files[i], i, cluster);
        put_content(image, &files[i], cluster);
        cluster += clusters_of(files[i].len);
    }
    memcpy(image + (1 + FAT_SECTORS) * SECTOR, image + SECTOR, FAT_SECTORS * SECTOR);
    return bytes;
}
