#include "model/wire_seq.h"

#include "base/error.h"

void wire_seq_stamp(struct wire_seq *seq, json_t *message) {
    json_object_set_new(message, "seq", json_integer(++seq->sent));
}

bool wire_seq_check(struct wire_seq *seq, const json_t *message, GError **error) {
    int64_t number = json_integer_value(json_object_get(message, "seq"));

    if (number != seq->received + 1)
        return kr_fail(error, BAD_REQUEST, "message %" G_GINT64_FORMAT " came where %" G_GINT64_FORMAT " was due",
                       number, seq->received + 1);
    seq->received = number;
    return true;
}
