#include "model/operator.h"

#include "base/json.h"

struct mark *mark_new(const char *subject, bool is_drain, const char *who, const char *reason, int64_t since_ms) {
    struct mark *mark = g_new0(struct mark, 1);

    g_strlcpy(mark->subject, subject, sizeof mark->subject);
    mark->is_drain = is_drain;
    mark->who = g_strdup(who);
    mark->reason = g_strdup(reason ? reason : "");
    mark->since_ms = since_ms;
    return mark;
}

struct mark *mark_copy(const struct mark *mark) {
    return mark_new(mark->subject, mark->is_drain, mark->who, mark->reason, mark->since_ms);
}

void mark_free(struct mark *mark) {
    if (!mark)
        return;
    g_free(mark->who);
    g_free(mark->reason);
    g_free(mark);
}

void mark_subject_of_node(const char *node, char ret_subject[static MARK_SUBJECT_MAX_BYTES + 1]) {
    g_snprintf(ret_subject, MARK_SUBJECT_MAX_BYTES + 1, "node:%s", node);
}

void mark_subject_of_gpu(const char *uuid, char ret_subject[static MARK_SUBJECT_MAX_BYTES + 1]) {
    g_snprintf(ret_subject, MARK_SUBJECT_MAX_BYTES + 1, "gpu:%s", uuid);
}

json_t *mark_to_json(const struct mark *mark) {
    return json_pack("{s:s,s:s,s:s,s:I}", "kind", mark->is_drain ? "drain" : "cordon", "who", mark->who, "reason",
                     mark->reason, "since_ms", (json_int_t)mark->since_ms);
}

struct pardon *pardon_of_gpu(const struct gpu *gpu, const char *boot_id, int64_t at_ms) {
    struct pardon *pardon = g_new0(struct pardon, 1);

    g_strlcpy(pardon->uuid, gpu->uuid, sizeof pardon->uuid);
    pardon->boot_id = g_strdup(boot_id ? boot_id : "");
    for (size_t i = 0; i < gpu->n_xids; i++)
        pardon->xids[i] = gpu->xids[i];
    pardon->n_xids = gpu->n_xids;
    pardon->ecc_uncorrected = gpu_figure(gpu, GPU_ECC_UNCORRECTED);
    pardon->at_ms = at_ms;
    return pardon;
}

void pardon_free(struct pardon *pardon) {
    if (!pardon)
        return;
    g_free(pardon->boot_id);
    g_free(pardon);
}

json_t *pardon_to_json(const struct pardon *pardon) {
    return json_pack("{s:s,s:s,s:o,s:I,s:I}", "uuid", pardon->uuid, "boot_id", pardon->boot_id, "xids",
                     gpu_xids_to_json(pardon->xids, pardon->n_xids), "ecc_uncorrected",
                     (json_int_t)pardon->ecc_uncorrected, "at_ms", (json_int_t)pardon->at_ms);
}

struct pardon *pardon_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "pardon", error);
    struct pardon *pardon = g_new0(struct pardon, 1);

    g_strlcpy(pardon->uuid, jr_str(&r, "uuid", GPU_UUID_MAX_BYTES), sizeof pardon->uuid);
    pardon->boot_id = g_strdup(jr_str(&r, "boot_id", 511));
    pardon->n_xids = gpu_xids_from_json(&r, pardon->xids);
    pardon->ecc_uncorrected = jr_int(&r, "ecc_uncorrected", 0, G_MAXINT64);
    pardon->at_ms = jr_int(&r, "at_ms", 0, G_MAXINT64);
    if (jr_done(&r))
        return pardon;
    pardon_free(pardon);
    return NULL;
}

struct audit_entry *audit_new(int64_t at_ms, const char *who, const char *action, const char *subject,
                              const char *text) {
    struct audit_entry *entry = g_new0(struct audit_entry, 1);

    entry->at_ms = at_ms;
    entry->who = g_strdup(who);
    entry->action = g_strdup(action);
    entry->subject = g_strdup(subject);
    entry->text = g_strdup(text);
    return entry;
}

void audit_free(struct audit_entry *entry) {
    if (!entry)
        return;
    g_free(entry->who);
    g_free(entry->action);
    g_free(entry->subject);
    g_free(entry->text);
    g_free(entry);
}

json_t *audit_to_json(const struct audit_entry *entry) {
    return json_pack("{s:I,s:I,s:s,s:s,s:s,s:s}", "id", (json_int_t)entry->id, "at_ms", (json_int_t)entry->at_ms, "who",
                     entry->who, "action", entry->action, "subject", entry->subject, "text", entry->text);
}
