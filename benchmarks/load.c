/* The load of server.py: connections that send a line, and the next one as soon as its reply is complete.
 *
 *     load PORT CONNECTIONS SECONDS
 *
 * The connections are made one after the other; each sends a line and gets its reply before the next is made, so that
 * no backlog matters and what is measured is a server that has met everybody. Then all of them send for SECONDS, and
 * finish the exchange that they are in. Prints lines answered per second, the same of the slowest connection, replies
 * that were wrong or never came, and p50, p99, p99.9 and maximum of the response times in milliseconds.
 *
 * With 0 SECONDS it prints that after the first lines, and keeps the connections until it is killed.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char LINE[] = "hello world\n", REPLY[] = "HELLO WORLD\n";

enum {
    SIZE = sizeof LINE - 1,
    EVENTS = 512,
    PATIENCE = 10,      /* seconds that the first reply may take, and the last one after the end */
    LIFE = 60,          /* seconds, besides SECONDS, after which the kernel ends this program whatever it does */
    LONGEST = 30000000, /* microseconds; what takes longer is counted as that */
};

struct connection {
    int socket;
    int received; /* bytes of the reply; all of them where nothing is waited for */
    double sent;
    long answered;
};

static uint32_t times[LONGEST + 1]; /* how many replies took so many microseconds */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_line(struct connection *connection, double moment) {
    connection->received = 0;
    connection->sent = moment;
    send(connection->socket, LINE, SIZE, MSG_NOSIGNAL); /* where that fails, so does the next read */
}

static void open_connection(struct connection *connection, int port, int epoll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = PATIENCE};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    char reply[SIZE];

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if ((connection->socket = socket(AF_INET, SOCK_STREAM, 0)) < 0)
        fail("socket");
    setsockopt(connection->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(connection->socket, (struct sockaddr *)&address, sizeof address))
        fail("connect");
    send_line(connection, 0);
    if (recv(connection->socket, reply, SIZE, MSG_WAITALL) != SIZE || memcmp(reply, REPLY, SIZE))
        fail("first reply");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &event))
        fail("epoll_ctl");
}

/* Return the time in milliseconds that a share of the replies did not exceed. */
static double percentile(double share, long replies) {
    long seen = 0;
    int time = 0;
    while ((seen += times[time]) < share * replies && time < LONGEST)
        time++;
    return time / 1e3;
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "load PORT CONNECTIONS SECONDS\n");
        return 2;
    }
    int port = atoi(arguments[1]), connections = atoi(arguments[2]), seconds = atoi(arguments[3]);
    alarm(LIFE + seconds);

    int epoll = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++)
        open_connection(&all[i], port, epoll);

    long wrong = 0, replies = 0;
    int waiting = seconds ? connections : 0;
    double end = now() + seconds;
    for (int i = 0; i < waiting; i++)
        send_line(&all[i], now());
    while (waiting && now() < end + PATIENCE) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            int due = SIZE - one->received;
            char reply[SIZE + 1]; /* so that a byte too many is seen */
            ssize_t size = read(one->socket, reply, sizeof reply);
            if (size <= 0 || size > due || memcmp(reply, REPLY + one->received, size)) {
                wrong++;
                waiting -= due > 0;
                close(one->socket);
                continue;
            }
            if ((one->received += size) < SIZE)
                continue;
            double moment = now(), microseconds = (moment - one->sent) * 1e6;
            times[microseconds < LONGEST ? (int)microseconds : LONGEST]++;
            replies++;
            if (moment < end) {
                one->answered++;
                send_line(one, moment);
            } else
                waiting--;
        }
    }

    long total = 0, least = connections ? all[0].answered : 0;
    for (int i = 0; i < connections; i++) {
        total += all[i].answered;
        if (all[i].answered < least)
            least = all[i].answered;
    }
    double length = seconds ? seconds : 1;
    printf("%.0f %.1f %ld ", total / length, least / length, wrong + waiting);
    printf("%.3f %.3f ", percentile(0.5, replies), percentile(0.99, replies));
    printf("%.3f %.3f\n", percentile(0.999, replies), percentile(1, replies));
    fflush(stdout);
    if (!seconds)
        pause();
    return 0;
}
