#pragma once
/* Messages of one connection are numbered, each way, from 1. A number that is not the next one means that something was
 * lost, doubled or overtaken; the connection is then given up, and the next hello tells the whole truth anew. TCP keeps
 * this promise by itself; whatever stands between host and runner need not. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct wire_seq {
    int64_t sent, received;
};

/* Sets "seq" of an outgoing message. */
void wire_seq_stamp(struct wire_seq *seq, json_t *message);
/* false with KR_ERROR_BAD_REQUEST when the message is not the next one. */
bool wire_seq_check(struct wire_seq *seq, const json_t *message, GError **error);
