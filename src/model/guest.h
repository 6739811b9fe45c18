#pragma once
/* What a machine's guest says of itself (vm/guest_agent.h): its word, shown to people and believed in nothing else. A lease, a
 * card or a proof never depends on it. Part of what its node says (model/node.h), not recorded by the host. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_MAX_GPUS = 32, GUEST_TEXT_BYTES = 128, GUEST_LONG_TEXT_BYTES = 256 };

enum guest_driver {
    GUEST_DRIVER_UNSET = 0,
    GUEST_DRIVER_NONE,
    GUEST_DRIVER_INSTALLING,
    GUEST_DRIVER_READY,
    GUEST_DRIVER_FAILED,
    GUEST_DRIVER_COUNT_
};
const char *guest_driver_to_str(enum guest_driver driver); /* static; "unset" for 0 */
enum guest_driver guest_driver_from_str(const char *text); /* UNSET for what is none */

struct guest_gpu {
    char name[GUEST_TEXT_BYTES];
    int utilization_percent;                 /* -1: not known */
    int64_t mem_used_bytes, mem_total_bytes; /* -1: not known */
    int temperature_celsius;                 /* -1: not known */
};

struct guest_state {
    char address[64]; /* "": not known */
    bool is_ready;    /* its first start is over */
    enum guest_driver driver;
    char driver_version[GUEST_TEXT_BYTES];
    char driver_text[GUEST_LONG_TEXT_BYTES]; /* why it failed; "": not said */
    char host_key[GUEST_TEXT_BYTES];         /* "ssh-ed25519 AAAA…" of its SSH server; "": none yet */
    size_t n_gpus;
    struct guest_gpu gpus[GUEST_MAX_GPUS];
};

struct guest {
    uint32_t task_id;
    bool has_state; /* false: it has said nothing yet */
    bool is_silent; /* its last word is older than its next one may be */
    bool is_late;   /* the node's deadline is over and it is not ready */
    struct guest_state state;
};
void guest_free(struct guest *guest);                              /* NULL is fine */
json_t *guest_to_json(const struct guest *guest);                  /* new reference */
struct guest *guest_from_json(const json_t *json, GError **error); /* KR_ERROR_BAD_REQUEST */

/* "ssh-ed25519" and its base64 text, as in a .pub file, nothing else: it becomes a line of a known_hosts file. */
bool guest_host_key_is_valid(const char *key);
