/*
 * The floor: the lowest possible cost of a bridge. One thread, epoll, no runtime, and only the data path of a bridge:
 * unmask, find the base64 text, wrap it anew, mask, send.
 *
 *   floor                   waits for its sockets
 *   floor --gather-us N     sleeps N microseconds between two looks at its sockets, so that it handles them in groups
 *
 * Settings in the environment, as for every peer:
 *   PORT                    serves ws://127.0.0.1:PORT/media/ID
 *   AGENT_WS_URL            ws://ADDRESS:PORT/PATH; a call is connected to AGENT_WS_URL/ID when its `start` arrives
 *
 * It trusts both sides: no limits, no deadlines; messages have their keys in the usual order and no escapes.
 */
#define _GNU_SOURCE
/* This uses only half of the generator's basics. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../generator/basics.h"

enum {
    EVENTS_PER_TURN = 256,
    RECEIVED_BYTES = 1 << 20,
    MESSAGE_BYTES_MAX = 1 << 18,
    HEAD_ROOM = 14, /* of a masked frame of any length */
};

enum opcode { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };
enum leg_state { CONNECTING, IN_HEAD, OPEN, GONE };

struct leg {
    int fd;
    enum leg_state state;
    bool is_agent, waits_writable, close_sent;
    struct leg *other;
    struct bytes unparsed, unsent;
    char id[160], prefix[160], clear[160]; /* prefix of audio to the caller, and clear, with its streamSid */
    size_t prefix_bytes, clear_bytes;
};

static int epoll_fd;
static uint64_t random_state;
static struct sockaddr_in agent_address;
static char agent_host[64], agent_path[256];
static uint8_t received[RECEIVED_BYTES + MESSAGE_BYTES_MAX];
static uint8_t outgoing[HEAD_ROOM + MESSAGE_BYTES_MAX + 256];

static const char to_agent[] = "{\"type\":\"audio\",\"audio_encoding\":\"mulaw\",\"sample_rate\":8000,\"data\":\"";

static void close_leg(struct leg *leg, int code);

static void watch(struct leg *leg, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = leg};
    if (epoll_ctl(epoll_fd, operation, leg->fd, &event))
        fail("epoll_ctl");
    leg->waits_writable = writable;
}

static struct leg *new_leg(int fd, bool is_agent)
{
    struct leg *leg = calloc(1, sizeof *leg);
    if (!leg)
        fail("memory");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    *leg = (struct leg){.fd = fd, .is_agent = is_agent, .state = is_agent ? CONNECTING : IN_HEAD};
    watch(leg, EPOLL_CTL_ADD, is_agent);
    return leg;
}

/* A leg is never freed, because events of the same turn may still point at it. */
static void leg_gone(struct leg *leg)
{
    if (leg->state == GONE)
        return;
    leg->state = GONE;
    close(leg->fd);
    free(leg->unparsed.at);
    free(leg->unsent.at);
    leg->unparsed = leg->unsent = (struct bytes){0};
    if (leg->other)
        close_leg(leg->other, 1000);
}

static void put(struct leg *leg, const uint8_t *data, size_t n)
{
    size_t done = 0;
    if (leg->state == GONE)
        return;
    /* Frames for an agent that is not open yet wait until it is. */
    if (leg->state == OPEN && !leg->unsent.length) {
        ssize_t sent = send(leg->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)n)
            return;
        if (sent < 0 && errno != EAGAIN) {
            leg_gone(leg);
            return;
        }
        done = sent < 0 ? 0 : (size_t)sent;
    }
    append(&leg->unsent, data + done, n - done);
    if (leg->state == OPEN && !leg->waits_writable)
        watch(leg, EPOLL_CTL_MOD, true);
}

static void on_writable(struct leg *leg)
{
    struct bytes *b = &leg->unsent;
    ssize_t sent = b->length ? send(leg->fd, b->at, b->length, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (sent < 0 && errno != EAGAIN) {
        leg_gone(leg);
        return;
    }
    if (sent > 0) {
        b->length -= (size_t)sent;
        memmove(b->at, b->at + sent, b->length);
    }
    if (!b->length)
        watch(leg, EPOLL_CTL_MOD, false);
}

/* Sends the `n` bytes at outgoing + HEAD_ROOM; on an agent's leg, as a client, masks them in place. */
static void put_frame(struct leg *leg, enum opcode opcode, size_t n)
{
    uint8_t *payload = outgoing + HEAD_ROOM, *head = payload, mask_bit = leg->is_agent ? 0x80 : 0;
    if (leg->is_agent) {
        uint32_t key = (uint32_t)(mix(&random_state) >> 32);
        mask_in_place(payload, n, key);
        memcpy(head -= 4, &key, 4);
    }
    if (n < 126) {
        *--head = (uint8_t)(mask_bit | n);
    } else {
        int length_bytes = n < 65536 ? 2 : 8;
        for (int i = 0; i < length_bytes; i++)
            *--head = (uint8_t)((uint64_t)n >> (8 * i));
        *--head = mask_bit | (length_bytes == 2 ? 126 : 127);
    }
    *--head = (uint8_t)(0x80 | opcode);
    put(leg, head, (size_t)(payload + n - head));
}

static void put_copy(struct leg *leg, enum opcode opcode, const void *data, size_t n)
{
    memcpy(outgoing + HEAD_ROOM, data, n);
    put_frame(leg, opcode, n);
}

static void close_leg(struct leg *leg, int code)
{
    if (leg->state == GONE || leg->close_sent)
        return;
    leg->close_sent = true;
    put_copy(leg, OP_CLOSE, (uint8_t[]){(uint8_t)(code >> 8), (uint8_t)code}, 2);
}

/* ---------------------------------------------------------------- messages */

/* Finds the text between `key` and the next quote. */
static const char *find(const char *text, size_t n, const char *key, size_t key_n, size_t *found_n)
{
    const char *at = memmem(text, n, key, key_n);
    if (!at)
        return NULL;
    at += key_n;
    const char *end = memchr(at, '"', n - (size_t)(at - text));
    *found_n = end ? (size_t)(end - at) : 0;
    return end ? at : NULL;
}
#define FIND(text, n, key, found_n) find(text, n, key, sizeof(key) - 1, found_n)
#define BEGINS(text, n, start) ((n) >= sizeof(start) - 1 && !memcmp(text, start, sizeof(start) - 1))

static void relay(struct leg *to, const char *prefix, size_t prefix_n, const char *payload, size_t n, const char *suffix)
{
    uint8_t *start = outgoing + HEAD_ROOM, *p = text_to(start, prefix, prefix_n);
    p = text_to(p, payload, n);
    p = text_to(p, suffix, strlen(suffix));
    put_frame(to, OP_TEXT, (size_t)(p - start));
}

static void on_start(struct leg *caller, const char *text, size_t n)
{
    size_t sid_n;
    const char *sid = FIND(text, n, "\"streamSid\":\"", &sid_n);
    if (!sid || sid_n > 64 || caller->other) {
        close_leg(caller, 1008);
        return;
    }
    caller->prefix_bytes = (size_t)snprintf(caller->prefix, sizeof caller->prefix,
        "{\"event\":\"media\",\"streamSid\":\"%.*s\",\"media\":{\"payload\":\"", (int)sid_n, sid);
    caller->clear_bytes = (size_t)snprintf(caller->clear, sizeof caller->clear,
        "{\"event\":\"clear\",\"streamSid\":\"%.*s\"}", (int)sid_n, sid);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    if (connect(fd, (struct sockaddr *)&agent_address, sizeof agent_address) && errno != EINPROGRESS)
        fail("connect");
    caller->other = new_leg(fd, true);
    caller->other->other = caller;
}

static void on_caller_text(struct leg *caller, const char *text, size_t n)
{
    size_t payload_n;
    if (BEGINS(text, n, "{\"event\":\"media\"")) {
        const char *payload = FIND(text, n, "\"payload\":\"", &payload_n);
        if (payload && caller->other)
            relay(caller->other, to_agent, sizeof to_agent - 1, payload, payload_n, "\"}");
    } else if (BEGINS(text, n, "{\"event\":\"start\"")) {
        on_start(caller, text, n);
    } else if (BEGINS(text, n, "{\"event\":\"stop\"") && caller->other) {
        close_leg(caller->other, 1000);
    }
}

static void on_agent_text(struct leg *agent, const char *text, size_t n)
{
    size_t payload_n;
    struct leg *caller = agent->other;
    if (BEGINS(text, n, "{\"type\":\"audio\"")) {
        const char *payload = FIND(text, n, "\"data\":\"", &payload_n);
        if (payload)
            relay(caller, caller->prefix, caller->prefix_bytes, payload, payload_n, "\"}}");
    } else if (BEGINS(text, n, "{\"type\":\"interrupt\"")) {
        put_copy(caller, OP_TEXT, caller->clear, caller->clear_bytes);
    } else if (BEGINS(text, n, "{\"type\":\"call_ended\"")) {
        close_leg(agent, 1000);
    }
}

/* Returns the bytes used, 0 if the frame is not complete yet. */
static size_t on_frame(struct leg *leg, uint8_t *data, size_t have)
{
    if (have < 2)
        return 0;
    size_t length = data[1] & 0x7f, head = 2;
    if (length >= 126) {
        head = length == 126 ? 4 : 10;
        if (have < head)
            return 0;
        length = 0;
        for (size_t i = 2; i < head; i++)
            length = length << 8 | data[i];
    }
    head += leg->is_agent ? 0 : 4;
    unsigned opcode = data[0] & 0x0f;
    if (length > MESSAGE_BYTES_MAX - HEAD_ROOM || (data[1] >> 7) == leg->is_agent || (opcode >= 8 && length > 125)) {
        leg_gone(leg);
        return have;
    }
    if (have < head + length)
        return 0;
    uint8_t *payload = data + head;
    if (!leg->is_agent) {
        uint32_t key;
        memcpy(&key, payload - 4, 4);
        mask_in_place(payload, length, key);
    }
    if (opcode == OP_TEXT) {
        (leg->is_agent ? on_agent_text : on_caller_text)(leg, (const char *)payload, length);
    } else if (opcode == OP_PING) {
        put_copy(leg, OP_PONG, payload, length);
    } else if (opcode == OP_CLOSE) {
        close_leg(leg, 1000);
        leg_gone(leg);
    }
    return head + length;
}

/* ---------------------------------------------------------------- upgrades and the loop */

static void on_connected(struct leg *agent)
{
    int error = 0;
    socklen_t size = sizeof error;
    char request[768];
    getsockopt(agent->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    int n = snprintf(request, sizeof request,
                     "GET %s/%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     agent_path, agent->other->id, agent_host);
    if (error || send(agent->fd, request, (size_t)n, MSG_NOSIGNAL) != n) {
        leg_gone(agent);
        return;
    }
    agent->state = IN_HEAD;
    watch(agent, EPOLL_CTL_MOD, false);
}

/* Returns the bytes used, 0 if the head is not complete yet. */
static size_t on_head(struct leg *leg, uint8_t *data, size_t have)
{
    uint8_t *end = memmem(data, have, "\r\n\r\n", 4);
    char answer[256], accept[40], key[64];
    if (!end)
        return 0;
    *end = 0;
    char *head = (char *)data, *line = strcasestr(head, "\r\nsec-websocket-key:");
    if (leg->is_agent) {
        if (strncmp(head, "HTTP/1.1 101", 12)) {
            leg_gone(leg);
            return have;
        }
        leg->state = OPEN;
        if (leg->unsent.length)
            watch(leg, EPOLL_CTL_MOD, true);
    } else {
        if (!line || sscanf(head, "GET /media/%150[A-Za-z0-9_-] ", leg->id) != 1 ||
            sscanf(line + 20, " %60[A-Za-z0-9+/=]", key) != 1) {
            leg_gone(leg);
            return have;
        }
        accept_key(key, accept);
        int n = snprintf(answer, sizeof answer,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
        leg->state = OPEN;
        put(leg, (uint8_t *)answer, (size_t)n);
    }
    return (size_t)(end + 4 - data);
}

static void on_readable(struct leg *leg)
{
    size_t have = leg->unparsed.length, used = 0;
    if (have)
        memcpy(received, leg->unparsed.at, have);
    ssize_t n = recv(leg->fd, received + have, RECEIVED_BYTES - 1, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            leg_gone(leg);
        return;
    }
    have += (size_t)n;
    leg->unparsed.length = 0;
    while (used < have && leg->state != GONE) {
        uint8_t *at = received + used;
        size_t step = leg->state == OPEN ? on_frame(leg, at, have - used) : on_head(leg, at, have - used);
        if (!step)
            break;
        used += step;
    }
    if (leg->state == GONE)
        return;
    /* An incomplete message beyond the size limit. */
    if (have - used > MESSAGE_BYTES_MAX)
        leg_gone(leg);
    else
        append(&leg->unparsed, received + used, have - used);
}

static void on_accept(int listener_fd)
{
    for (int fd; (fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
        new_leg(fd, false);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
        fail("cannot listen");
    return fd;
}

static void read_agent_url(const char *url)
{
    char address[32];
    int port = 0;
    agent_address.sin_family = AF_INET;
    if (!url || sscanf(url, "ws://%31[0-9.]:%d%255s", address, &port, agent_path) < 2 ||
        inet_pton(AF_INET, address, &agent_address.sin_addr) != 1) {
        fprintf(stderr, "floor: AGENT_WS_URL must be ws://ADDRESS:PORT/PATH with a number as address\n");
        exit(2);
    }
    agent_address.sin_port = htons((uint16_t)port);
    snprintf(agent_host, sizeof agent_host, "%s:%d", address, port);
}

static long read_gather_us(int argc, char **argv)
{
    char *end = "";
    long us = argc == 3 && !strcmp(argv[1], "--gather-us") ? strtol(argv[2], &end, 10) : 0;
    if ((argc != 1 && us < 1) || *end || us >= 1000000) {
        fprintf(stderr, "usage: floor [--gather-us N]\n");
        exit(2);
    }
    return us;
}

int main(int argc, char **argv)
{
    static struct leg listener;
    struct epoll_event events[EVENTS_PER_TURN];
    struct rlimit limit;
    const char *port = getenv("PORT");
    struct timespec gather = {.tv_nsec = read_gather_us(argc, argv) * 1000};
    read_agent_url(getenv("AGENT_WS_URL"));
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrandom(&random_state, sizeof random_state, 0) != sizeof random_state)
        fail("getrandom");
    base64_setup();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listener.fd = listen_on(port ? atoi(port) : 0);
    watch(&listener, EPOLL_CTL_ADD, false);
    prctl(PR_SET_TIMERSLACK, 1000); /* the default of 50 us is a tenth of the interval */
    for (;;) {
        if (gather.tv_nsec)
            nanosleep(&gather, NULL);
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_TURN, gather.tv_nsec ? 0 : -1);
        for (int i = 0; i < n; i++) {
            struct leg *leg = events[i].data.ptr;
            if (leg == &listener)
                on_accept(leg->fd);
            else if (leg->state == CONNECTING)
                on_connected(leg);
            else {
                if (leg->state != GONE && events[i].events & EPOLLOUT)
                    on_writable(leg);
                if (leg->state != GONE && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                    on_readable(leg);
            }
        }
    }
}
