#pragma once
/* What operators decide, and the log of it. A mark keeps a node or a card from being granted anew; tasks that run there are
 * not touched. An audit entry says who did what; it is durable in the transaction that does it. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"
#include "model/target.h"

enum {
    MARK_SUBJECT_MAX_BYTES = 5 + GPU_UUID_MAX_BYTES, /* longer than any node name */
    OPERATOR_WHO_MAX_BYTES = 128,
    OPERATOR_TEXT_MAX_BYTES = 512,
};

/* "node:NAME" or "gpu:UUID" is its subject: a card keeps its mark when it moves. */
struct mark {
    char subject[MARK_SUBJECT_MAX_BYTES + 1];
    bool is_drain; /* of a node: it is to become empty, not only to get nothing new */
    char *who;     /* as its client said, see audit_entry */
    char *reason;  /* may be "" */
    int64_t since_ms;
};
struct mark *mark_new(const char *subject, bool is_drain, const char *who, const char *reason, int64_t since_ms);
struct mark *mark_copy(const struct mark *mark);
void mark_free(struct mark *mark);
void mark_subject_of_node(const char *node, char ret_subject[static MARK_SUBJECT_MAX_BYTES + 1]);
void mark_subject_of_gpu(const char *uuid, char ret_subject[static MARK_SUBJECT_MAX_BYTES + 1]);
json_t *mark_to_json(const struct mark *mark);

/* What an operator has seen to when he gave a card back to use (gpu uncordon): faults up to these counts do not speak
 * against it any more. Of one boot of its node, as counts begin anew with the next. */
struct pardon {
    char uuid[GPU_UUID_MAX_BYTES + 1];
    char *boot_id; /* "" when not known */
    struct gpu_xid xids[GPU_MAX_XIDS];
    size_t n_xids;
    int64_t ecc_uncorrected;
    int64_t at_ms;
};
struct pardon *pardon_of_gpu(const struct gpu *gpu, const char *boot_id, int64_t at_ms); /* of all that it shows now */
void pardon_free(struct pardon *pardon);
json_t *pardon_to_json(const struct pardon *pardon);
struct pardon *pardon_from_json(const json_t *json, GError **error); /* KR_ERROR_BAD_REQUEST */

struct audit_entry {
    int64_t id; /* 0: not stored yet */
    int64_t at_ms;
    char *who;     /* login and address as the client gave them: there are no users yet, so it is a claim */
    char *action;  /* "task release --force", "node cordon" … */
    char *subject; /* "task 7", "node mynode", "GPU 3 of mynode" */
    char *text;    /* the reason given, and what it did */
};
struct audit_entry *audit_new(int64_t at_ms, const char *who, const char *action, const char *subject,
                              const char *text);
void audit_free(struct audit_entry *entry);
json_t *audit_to_json(const struct audit_entry *entry);
