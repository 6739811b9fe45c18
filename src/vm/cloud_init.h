#pragma once
/* What a guest is told at its first start, in cloud-init's NoCloud form: pure functions from what is known to three texts. All
 * values are written as JSON, which is YAML too, so that no key, name or text can become anything but that value. What
 * the user brings himself goes along as a second part, merged after ours. */

#include <glib.h>
#include <stdbool.h>

enum cloud_driver {
    CLOUD_DRIVER_NONE = 0,
    CLOUD_DRIVER_DISTRIBUTION, /* packages of the guest's own distribution */
    CLOUD_DRIVER_RUN_FILE, /* NVIDIA's installer, from a URL or a path in the guest, run only with the right checksum */
};

/* Strings are borrowed. */
struct cloud_init {
    const char *instance_id; /* stable: a new one makes cloud-init begin again */
    const char *hostname;
    const char *user;
    char *const *ssh_keys;
    const char *user_data; /* NULL: none */
    const char *mac;
    const char *address;       /* "10.88.0.5/24"; NULL: by DHCP */
    const char *gateway;       /* with an address */
    char *const *name_servers; /* with an address; may be empty */
    bool has_share;            /* mount the share at /shared */
    const char *agent;         /* the guest agent's script */
    enum cloud_driver driver;
    const char *driver_version;                /* of the node's module, "535.104.05"; "": not known */
    bool is_open;                              /* the open kernel modules */
    const char *driver_source, *driver_sha256; /* of a run file; "": not known */
};

/* Callers free. */
char *cloud_init_meta_data(const struct cloud_init *c);
char *cloud_init_network_config(const struct cloud_init *c);
char *cloud_init_user_data(const struct cloud_init *c);

/* The version in the text of /proc/driver/nvidia/version; NULL: none. Caller frees. */
char *cloud_driver_version(const char *text);
/* Where that version's installer is: "{version}" in the pattern, and "{line}" as NVIDIA orders its downloads ("tesla" for data-centre
 * cards, "XFree86/Linux-x86_64" for others). NULL: the version is asked for and not known. Caller frees. */
char *cloud_driver_source(const char *pattern, const char *version, bool is_data_centre);
/* The checksum for that version out of "SUM" or "VERSION=SUM, VERSION=SUM"; "": there is none. Caller frees. */
char *cloud_driver_sum(const char *sums, const char *version);
/* May the open kernel modules run this card? By PCI device id: Turing and newer. Blackwell and newer need them. */
bool cloud_card_takes_open(unsigned device_id);
