/* What a guest may write on its channel: never more than a report, never a control character, the cut does not matter. */
#include <glib.h>
#include <stdlib.h>

#include "vm/guest_agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_report(void *user, const struct guest_state *state) {
    struct guest guest = {.task_id = 1, .has_state = true, .state = *state}, *again;
    json_t *json = guest_to_json(&guest);

    if (state->n_gpus > GUEST_MAX_GPUS)
        abort();
    if (!(again = guest_from_json(json, NULL))) /* what a node takes from a guest, the host takes from the node */
        abort();
    guest_free(again);
    for (const char *at = state->address; *at; at++)
        if (!g_ascii_isprint(*at))
            abort();
    json_decref(json);
    ++*(int *)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int reports[2] = {0};

    for (int i = 0; i < 2; i++) {
        struct agent_pump pump;
        size_t cut = i && size ? data[0] % (size + 1) : size;
        agent_pump_init(&pump, "s", on_report, &reports[i]);
        agent_pump_feed(&pump, (const char *)data, cut);
        agent_pump_feed(&pump, (const char *)data + cut, size - cut);
        agent_pump_clear(&pump);
    }
    if (reports[0] != reports[1])
        abort();
    return 0;
}
