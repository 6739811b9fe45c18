#pragma once
/* What the QEMU of this node is and can: asked of the program itself, and again when the file is another one. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct qemu_facts;

/* binary and accel ("auto", "kvm", "tcg") are copied. on_known comes after each look. */
struct qemu_facts *qemu_facts_new(uv_loop_t *loop, const char *binary, const char *accel, void (*on_known)(void *user),
                                  void *user);
/* The loop must run once more. */
void qemu_facts_free(struct qemu_facts *facts);
/* Looks, unless it is known and the program is the same file as then. true: it is known already. */
bool qemu_facts_refresh(struct qemu_facts *facts);

bool qemu_facts_are_known(const struct qemu_facts *facts);
bool qemu_facts_is_absent(const struct qemu_facts *facts);      /* there is no such program */
const char *qemu_facts_problem(const struct qemu_facts *facts); /* why it cannot be used; NULL: it can */
const char *qemu_facts_version(const struct qemu_facts *facts); /* "7.2.22" */
const char *qemu_facts_machine_type(const struct qemu_facts *facts);
const char *qemu_facts_accel(const struct qemu_facts *facts); /* "kvm" | "tcg" */
