/* uppercase PORT: about the least that a server can do for server.py's load, as a measure for the others.
 *
 * What comes goes back at once with its ASCII letters in upper case, so it need not even know where lines end. A peer
 * that does not read its replies holds up all others.
 */

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, BACKLOG = 4096, CHUNK = 16 * 1024 };

static void watch(int epoll, int socket) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 0)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG)) {
        perror("uppercase");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int peer = events[i].data.fd;
            if (peer == listener) {
                if ((peer = accept(listener, NULL, NULL)) >= 0)
                    watch(epoll, peer);
                continue;
            }
            char bytes[CHUNK];
            ssize_t size = read(peer, bytes, CHUNK);
            if (size <= 0) {
                close(peer);
                continue;
            }
            for (ssize_t j = 0; j < size; j++)
                bytes[j] = toupper((unsigned char)bytes[j]);
            send(peer, bytes, size, MSG_NOSIGNAL);
        }
    }
}
