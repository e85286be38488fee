/* A leg: one connection, client or server, with its WebSocket frames and its unsent bytes. */
#ifndef GENERATOR_LEGS_H
#define GENERATOR_LEGS_H
#include "basics.h"
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum leg_state { LEG_CONNECTING, LEG_HEAD, LEG_OPEN, LEG_CLOSING, LEG_CLOSED };
enum opcode { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };
struct call;

struct leg {
    int fd;
    enum leg_state state;
    bool is_caller, waits_writable;
    bool is_settled; /* of an agent's leg: the first of the protocol's answers was sent */
    struct call *call;
    struct leg *next;
    struct bytes unparsed, unsent;
    char accept[32];
#ifdef WITH_TLS
    SSL *tls; /* NULL if the leg is plain */
#endif
};

enum { UNSENT_BYTES_MAX = 4 << 20 };

static struct leg *legs;
static int epoll_fd;
static uint8_t outgoing[65536 + 1024];
static uint64_t random_state;
/* CLOCK_REALTIME, which the kernel's stamps have, minus CLOCK_MONOTONIC; updated before each look at the sockets. */
static uint64_t real_offset_ns;
/* When the kernel received the last bytes that `socket_receive` returned. */
static uint64_t arrived_ns;
static uint64_t reads_without_stamp;

/* Handles the loss of a leg for its call. */
static void on_leg_gone(struct leg *leg, int code, const char *why);

/* ---------------------------------------------------------------- the socket, with TLS if built so */

static ssize_t socket_send(struct leg *leg, const void *data, size_t n)
{
    return send(leg->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Receives, and sets `arrived_ns`. The stamp is that of the last packet: a frame that waits with a later one gets the
 * later one's. Bytes from before the socket was accepted have no stamp and get the time of reading.
 */
static ssize_t socket_receive(struct leg *leg, void *data, size_t n)
{
    struct iovec into = {.iov_base = data, .iov_len = n};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t received = recvmsg(leg->fd, &message, MSG_DONTWAIT);
    if (received <= 0)
        return received;
    struct cmsghdr *stamp = CMSG_FIRSTHDR(&message);
    struct timespec t;
    if (!stamp || stamp->cmsg_level != SOL_SOCKET || stamp->cmsg_type != SO_TIMESTAMPNS) {
        arrived_ns = clock_ns();
        reads_without_stamp++;
        return received;
    }
    memcpy(&t, CMSG_DATA(stamp), sizeof t);
    arrived_ns = nanoseconds(t) - real_offset_ns;
    return received;
}

#ifdef WITH_TLS
/* Those of agents' and of callers' legs; NULL if these are plain. */
static SSL_CTX *agents_tls, *callers_tls;
static BIO_METHOD *tls_socket;

static int tls_socket_read(BIO *bio, char *data, int n)
{
    ssize_t received = socket_receive(BIO_get_data(bio), data, (size_t)n);
    BIO_clear_retry_flags(bio);
    if (received < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    return (int)received;
}

static int tls_socket_write(BIO *bio, const char *data, int n)
{
    ssize_t sent = socket_send(BIO_get_data(bio), data, (size_t)n);
    BIO_clear_retry_flags(bio);
    if (sent < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    return (int)sent;
}

static long tls_socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static SSL_CTX *new_tls(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);
    if (!context)
        fail("TLS");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

/* `pem`: certificate and key of the agent's server, or NULL for plain agents' legs. */
static void tls_setup(const char *pem, bool has_callers)
{
    if (pem) {
        agents_tls = new_tls(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(agents_tls, pem) != 1 ||
            SSL_CTX_use_PrivateKey_file(agents_tls, pem, SSL_FILETYPE_PEM) != 1) {
            ERR_print_errors_fp(stderr);
            exit(1);
        }
    }
    if (has_callers)
        callers_tls = new_tls(TLS_client_method()); /* the bridge's certificate is not checked */
    tls_socket = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket with stamps");
    if (!tls_socket || !BIO_meth_set_read(tls_socket, tls_socket_read) ||
        !BIO_meth_set_write(tls_socket, tls_socket_write) || !BIO_meth_set_ctrl(tls_socket, tls_socket_control))
        fail("TLS");
}

/* Begins TLS on a connected leg, if its side has it; the first reads and writes are the handshake. */
static void tls_begin(struct leg *leg)
{
    SSL_CTX *context = leg->is_caller ? callers_tls : agents_tls;
    if (!context)
        return;
    BIO *bio = BIO_new(tls_socket);
    leg->tls = SSL_new(context);
    if (!leg->tls || !bio)
        fail("TLS");
    BIO_set_data(bio, leg);
    BIO_set_init(bio, 1);
    SSL_set_bio(leg->tls, bio, bio);
    if (leg->is_caller)
        SSL_set_connect_state(leg->tls);
    else
        SSL_set_accept_state(leg->tls);
}

/* Turns the result of SSL_read or SSL_write into that of recv or send. */
static ssize_t tls_result(struct leg *leg, int result)
{
    if (result > 0)
        return result;
    int error = SSL_get_error(leg->tls, result), is_system = error == SSL_ERROR_SYSCALL && errno;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (!is_system)
        errno = EPROTO;
    return -1;
}
#endif

static ssize_t leg_send(struct leg *leg, const void *data, size_t n)
{
#ifdef WITH_TLS
    if (leg->tls) {
        ERR_clear_error();
        return tls_result(leg, SSL_write(leg->tls, data, (int)n));
    }
#endif
    return socket_send(leg, data, n);
}

static ssize_t leg_receive(struct leg *leg, void *data, size_t n)
{
#ifdef WITH_TLS
    if (leg->tls) {
        ERR_clear_error();
        return tls_result(leg, SSL_read(leg->tls, data, (int)n));
    }
#endif
    return socket_receive(leg, data, n);
}

/* True if bytes of the socket wait in the TLS library, where epoll does not see them. */
static bool leg_holds_bytes(struct leg *leg)
{
#ifdef WITH_TLS
    return leg->tls && SSL_has_pending(leg->tls);
#else
    (void)leg;
    return false;
#endif
}

static void leg_shut(struct leg *leg)
{
#ifdef WITH_TLS
    if (leg->tls) {
        ERR_clear_error();
        SSL_shutdown(leg->tls);
        SSL_free(leg->tls);
        leg->tls = NULL;
    }
#endif
    close(leg->fd);
}

/* ---------------------------------------------------------------- legs and frames */

static void watch(struct leg *leg, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = leg};
    if (epoll_ctl(epoll_fd, operation, leg->fd, &event))
        fail("epoll_ctl");
    leg->waits_writable = writable;
}

static struct leg *new_leg(int fd, bool is_caller, struct call *call)
{
    struct leg *leg = calloc(1, sizeof *leg);
    if (!leg)
        fail("memory");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    /* BBR, the default of some systems, arms a timer for every frame; on loopback there is nothing to pace. */
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    *leg = (struct leg){.fd = fd, .is_caller = is_caller, .call = call, .next = legs, .state = LEG_HEAD};
    legs = leg;
    return leg;
}

/* A leg is not freed before the end, because events of the same turn may still point at it. */
static void leg_gone(struct leg *leg, int code, const char *why)
{
    if (leg->state == LEG_CLOSED)
        return;
    leg->state = LEG_CLOSED;
    leg_shut(leg);
    free(leg->unparsed.at);
    free(leg->unsent.at);
    leg->unparsed = leg->unsent = (struct bytes){0};
    if (leg->call)
        on_leg_gone(leg, code, why);
}

static void put(struct leg *leg, const void *data, size_t n)
{
    size_t done = 0;
    if (leg->state == LEG_CLOSED)
        return;
    if (!leg->unsent.length) {
        ssize_t sent = leg_send(leg, data, n);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            leg_gone(leg, 1006, strerror(errno));
            return;
        }
        done = sent < 0 ? 0 : (size_t)sent;
    }
    if (done == n)
        return;
    append(&leg->unsent, (const uint8_t *)data + done, n - done);
    if (leg->unsent.length > UNSENT_BYTES_MAX)
        leg_gone(leg, 1006, "the bridge stopped reading");
    else if (!leg->waits_writable)
        watch(leg, EPOLL_CTL_MOD, true);
}

static void on_writable(struct leg *leg)
{
    struct bytes *b = &leg->unsent;
    ssize_t sent = b->length ? leg_send(leg, b->at, b->length) : 0;
    if (sent < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            leg_gone(leg, 1006, strerror(errno));
        return;
    }
    b->length -= (size_t)sent;
    if (b->length)
        memmove(b->at, b->at + sent, b->length);
    else
        watch(leg, EPOLL_CTL_MOD, false);
}

/* Sends the `n` bytes at `payload`, which has eight writable bytes before it; masks them in place on a caller's leg. */
static void put_frame(struct leg *leg, enum opcode opcode, uint8_t *payload, size_t n)
{
    uint8_t *head = payload, mask_bit = leg->is_caller ? 0x80 : 0;
    if (leg->is_caller) {
        uint32_t key = (uint32_t)(mix(&random_state) >> 32);
        mask_in_place(payload, n, key);
        memcpy(head -= 4, &key, 4);
    }
    if (n < 126) {
        *--head = (uint8_t)(mask_bit | n);
    } else {
        *--head = (uint8_t)n;
        *--head = (uint8_t)(n >> 8);
        *--head = mask_bit | 126;
    }
    *--head = (uint8_t)(0x80 | opcode);
    put(leg, head, (size_t)(payload + n - head));
}

static void put_copy(struct leg *leg, enum opcode opcode, const void *data, size_t n)
{
    if (n)
        memcpy(outgoing + 8, data, n);
    put_frame(leg, opcode, outgoing + 8, n);
}

static void put_close(struct leg *leg, int code)
{
    uint8_t text[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_copy(leg, OP_CLOSE, text, 2);
    if (leg->state == LEG_OPEN)
        leg->state = LEG_CLOSING;
}

#endif
