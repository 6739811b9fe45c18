#pragma once
/* The bridge of the machines' own network as the kernel has it: rtnetlink (rtnetlink(7)) through libmnl. The kernel answers at
 * once; one that does not is given up after seconds. */

#include <glib.h>
#include <stdbool.h>

#include "vm/nat.h"

/* Makes it, with its address, and brings it up; what is there already is left as it is. KR_ERROR_REFUSED: a link of that name
 * is there that was not made here (its group says so), or the kernel's own word. */
bool nat_link_ensure(const struct nat_net *net, GError **error);
