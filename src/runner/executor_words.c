#include "runner/executor_words.h"

#include <string.h>

#include "base/json.h"
#include "model/wire.h"
#include "runner/executor.h"

/* Its number was the message. */
static bool take_beat(struct executor *x, const json_t *message, GError **error) {
    (void)x;
    (void)message;
    (void)error;
    return true;
}

static bool take_start(struct executor *x, const json_t *message, GError **error) {
    struct task_spec *spec = NULL;
    struct lease lease;

    if (!lease_from_json(json_object_get(message, "lease"), &lease, error) ||
        !(spec = task_spec_from_json(json_object_get(message, "spec"), error)))
        return false;
    executor_start(x, &lease, spec);
    task_spec_free(spec);
    return true;
}

static bool read_pair(const json_t *message, const char *what, uint32_t *ret_task_id, int64_t *ret_epoch,
                      GError **error) {
    struct json_reader r = jr_init(message, what, error);

    *ret_task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    *ret_epoch = jr_int(&r, "epoch", 0, G_MAXINT64);
    return jr_done(&r);
}

static bool take_stop(struct executor *x, const json_t *message, GError **error) {
    uint32_t task_id;
    int64_t epoch;

    if (!read_pair(message, "stop", &task_id, &epoch, error))
        return false;
    executor_stop(x, task_id, epoch);
    return true;
}

static bool take_pause(struct executor *x, const json_t *message, GError **error) {
    uint32_t task_id;
    int64_t epoch;

    if (!read_pair(message, "pause", &task_id, &epoch, error))
        return false;
    executor_pause(x, task_id, epoch, true);
    return true;
}

static bool take_resume(struct executor *x, const json_t *message, GError **error) {
    uint32_t task_id;
    int64_t epoch;

    if (!read_pair(message, "resume", &task_id, &epoch, error))
        return false;
    executor_pause(x, task_id, epoch, false);
    return true;
}

static bool take_forget(struct executor *x, const json_t *message, GError **error) {
    uint32_t task_id;
    int64_t epoch;

    if (!read_pair(message, "forget", &task_id, &epoch, error))
        return false;
    executor_forget(x, task_id, epoch);
    return true;
}

static bool take_ack(struct executor *x, const json_t *message, GError **error) {
    uint32_t task_id;
    int64_t epoch;

    if (!read_pair(message, "ack", &task_id, &epoch, error))
        return false;
    executor_ack(x, task_id, epoch);
    return true;
}

static const struct {
    const char *type;
    bool (*take)(struct executor *x, const json_t *message, GError **error);
} words[] = {
    {WIRE_BEAT, take_beat},     {WIRE_START, take_start},   {WIRE_STOP, take_stop}, {WIRE_PAUSE, take_pause},
    {WIRE_RESUME, take_resume}, {WIRE_FORGET, take_forget}, {WIRE_ACK, take_ack},
};

enum executor_word executor_take_word(struct executor *x, const char *type, const json_t *message, GError **error) {
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(words[i].type, type) == 0)
            return words[i].take(x, message, error) ? EXECUTOR_WORD_TAKEN : EXECUTOR_WORD_BAD;
    return EXECUTOR_WORD_UNKNOWN;
}
