#pragma once
/* What the driver's XID numbers mean for the use of a card: a table with the source of each line. An XID is a line that
 * NVIDIA's driver writes when something went wrong on a GPU; most are the doing of the program that ran there, some say that
 * the card itself is not to be trusted. */

#include <stdbool.h>

/* In growing weight. */
enum xid_class {
    XID_UNSET = 0,
    XID_APPLICATION, /* the program's own doing; the card is in order */
    XID_SUSPECT,     /* may be the card; it gets nothing new until it was quiet for a while */
    XID_QUARANTINE,  /* the card needs a reset or a reboot, and somebody who says that it had one */
    XID_DEAD,        /* the card is gone until the machine was powered off, or for good */
    XID_CLASS_COUNT_
};
const char *xid_class_to_str(enum xid_class class); /* static; "unset" for 0 */

struct xid_meaning {
    int code;
    enum xid_class class;
    const char *text;   /* what happened */
    const char *source; /* where that is written */
};
/* Never NULL. A number that is not in the table is suspect: unknown is not free (R3). */
const struct xid_meaning *xid_meaning(int code);
