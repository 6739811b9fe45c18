#pragma once
/* The conversation between host and runner: JSON text frames over one WebSocket that the runner dials
 * (GET /api/v1/runners/connect, subprotocol WIRE_SUBPROTOCOL, "Authorization: Bearer CREDENTIAL"), plus binary frames for log bytes.
 * docs/protocol.md tells the whole story; here are the names, once. Every message is an object with "type". */

/* runner -> host */
#define WIRE_HELLO "hello"           /* first message: protocol, version, node{}, tasks[]: the node's full truth */
#define WIRE_HEARTBEAT "heartbeat"   /* node{}: what of hello's changed since the last (model/delta.h) */
#define WIRE_REPORT "report"         /* task{}: one task_report; repeated until acknowledged when final */
#define WIRE_LOG_END "log_end"       /* stream, error?: no more bytes of this log stream */
#define WIRE_ANSWER "answer"         /* id, body{} | error, code: to a query */
#define WIRE_TUNNEL_END "tunnel_end" /* stream, error?: a tunnel is over */
/* both ways */
#define WIRE_TUNNEL_CREDIT "tunnel_credit" /* stream, bytes: so many more can be taken */
/* host -> runner */
#define WIRE_TUNNEL_OPEN "tunnel_open" /* stream, task_id, to ("ssh"|"console"): join it to a socket of that machine */
#define WIRE_TUNNEL_CLOSE "tunnel_close" /* stream: the client went away */
#define WIRE_WELCOME "welcome"           /* cluster_id, heartbeat_ms: hello was accepted */
#define WIRE_REFUSED "refused"           /* reason: hello was not accepted; the host closes */
#define WIRE_BEAT "beat"     /* answers each heartbeat: its number shows whether anything before it was lost */
#define WIRE_START "start"   /* lease{}, spec{}: hold this lease, run this task */
#define WIRE_STOP "stop"     /* task_id, epoch: end it; answered by reports (state unset if unknown) */
#define WIRE_PAUSE "pause"   /* task_id, epoch: freeze it; answered by reports */
#define WIRE_RESUME "resume" /* task_id, epoch: let it go on */
#define WIRE_FORGET \
    "forget" /* task_id, epoch: an operator releases the lease without proof; nothing is forgotten of which a container exists */
#define WIRE_ACK "ack"               /* task_id, epoch: a final, released report is durable; the runner may forget it */
#define WIRE_QUERY "query"           /* id, what, args{}: only the node knows (src/runner/node_queries.c) */
#define WIRE_LOG_OPEN "log_open"     /* stream, task_id, which ("stdout"|"stderr"), offset, follow */
#define WIRE_LOG_CREDIT "log_credit" /* stream, bytes: the reader can take that many more (flow control) */
#define WIRE_LOG_CLOSE "log_close"   /* stream: the reader went away */

#define WIRE_SUBPROTOCOL "kohakuriver.v1"
#define WIRE_TUNNEL_SUBPROTOCOL \
    "kohakuriver.tunnel.v1" /* client and host: binary frames are bytes, text is {"credit":N} */

enum {
    WIRE_PROTOCOL = 2,
    WIRE_MAX_TEXT_BYTES = 8 * 1024 * 1024, /* a hello with many tasks is the largest */
    WIRE_MAX_BINARY_BYTES = 64 * 1024 + 4, /* log data: 4 bytes stream id (big endian), then bytes */
    WIRE_TUNNEL_WINDOW_BYTES = 256 * 1024, /* bytes that may be under way each way before there is credit */
    WIRE_LOG_WINDOW_BYTES = 1024 * 1024,   /* credit that a log stream starts with */
};
