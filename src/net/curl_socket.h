#pragma once
/* Every socket that libcurl opens for us: close-on-exec, which this libcurl does not do by itself. Else what we start (the GPU
 * worker, a machine's QEMU) keeps the daemon's connections open after its death, and its peer never learns of it. */

#include <curl/curl.h>

void curl_socket_set_options(CURL *easy);
