#include "net/ws_handshake.h"

#include <glib.h>

char *ws_handshake_accept(const char *key) {
    g_autofree char *text = g_strconcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", NULL); /* RFC 6455 section 1.3 */
    g_autoptr(GChecksum) sha1 = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 digest[20];
    gsize len = sizeof digest;

    g_checksum_update(sha1, (const guchar *)text, -1);
    g_checksum_get_digest(sha1, digest, &len);
    return g_base64_encode(digest, len);
}
