#include "net/curl_socket.h"

#include <sys/socket.h>

/* CURLOPT_OPENSOCKETFUNCTION(3). Connections are made on threads too: the flag has to be set by the call that opens it. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

    (void)user;
    (void)purpose;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

void curl_socket_set_options(CURL *easy) { curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket); }
