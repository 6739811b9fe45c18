#include "model/proof.h"

#include <string.h>

#include "base/json.h"

static const struct {
    unsigned fact;
    const char *name, *words;
} facts[] = {
    {PROOF_NEVER_STARTED, "never_started", "that it never started"},
    {PROOF_CONTAINER_GONE, "container_gone", "that the container is gone"},
    {PROOF_NO_PROCESS, "no_process", "that no process is left"},
    {PROOF_MEMORY_IDLE, "memory_idle", "that its memory is idle"},
    {PROOF_DRIVER, "driver", "that its driver is in order"},
    {PROOF_NO_XID, "no_xid", "that it reports no new fault"},
};

bool proof_of_release(const struct proof *proof, size_t n_gpus) {
    unsigned wanted = PROOF_CONTAINER_GONE | (n_gpus > 0 ? PROOF_CARD : 0);

    return (proof->facts & PROOF_NEVER_STARTED) || (proof->facts & wanted) == wanted;
}

bool proof_of_rest(const struct proof *proof) { return (proof->facts & PROOF_CARD) == PROOF_CARD; }

char *proof_missing_to_str(const struct proof *proof, unsigned wanted) {
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(facts); i++)
        if (facts[i].fact & wanted & ~proof->facts)
            g_string_append_printf(text, "%s%s", text->len ? ", " : "no proof ", facts[i].words);
    return g_string_free(text, FALSE);
}

json_t *proof_to_json(const struct proof *proof) {
    json_t *list = json_array();

    for (size_t i = 0; i < G_N_ELEMENTS(facts); i++)
        if (facts[i].fact & proof->facts)
            json_array_append_new(list, json_string(facts[i].name));
    return json_pack("{s:o,s:i}", "facts", list, "samples", proof->samples);
}

bool proof_from_json(const json_t *json, struct proof *ret_proof, GError **error) {
    struct json_reader r;
    struct proof proof = {0};
    const json_t *list, *item;
    size_t i;

    *ret_proof = proof;
    if (!json)
        return true;
    r = jr_init(json, "proof", error);
    list = jr_array(&r, "facts", 32);
    proof.samples = (int)jr_int(&r, "samples", 0, G_MAXINT);
    json_array_foreach (list, i, item)
        for (size_t k = 0; k < G_N_ELEMENTS(facts); k++)
            if (g_strcmp0(facts[k].name, json_string_value(item)) == 0)
                proof.facts |= facts[k].fact;
    if (!jr_done(&r))
        return false;
    *ret_proof = proof;
    return true;
}
