/*
 * The media of N calls, both ends of each, in one thread: N WebSocket clients that speak like Twilio, and a WebSocket
 * server that speaks like the voice agent. driver.py starts it and hands it the calls.
 *
 *   generator key=value...            settings, see `settings` below
 *   GENERATOR_TRANSCODED              in the environment, for resampled audio: the file of benchmarks/transcoded.py
 *   GENERATOR_TLS_PEM                 in the environment, if built WITH_TLS: certificate and key of the agent's server,
 *                                     which is plain without it
 *   stdin   one line a call, tab-separated: number, address, port, host header, path, signature or "-", account SID,
 *           call SID, stream SID, custom parameters (JSON); then "end". Closing stdin ends the process.
 *   stdout  one JSON object a line: listening, progress, window (start, end), result
 *
 * Open loop: slot s of each 20 ms always belongs to the same direction of the same call, so a slow bridge cannot slow the
 * load down. Every frame carries its call, direction and number, and its other bytes follow from these three; the
 * receiver makes the expected message again and compares all of it. Audio that the bridge resamples is compared with what
 * a reference resampler made of it.
 *
 * Up to 500 calls each frame is sent when it is due, as the frames of independent callers arrive. Beyond, due frames are
 * sent together on a tick of 0.1 ms: to wake up for each of them would need more than a core. The sockets are looked at every 0.5 ms, because waking up for each of them costs more than
 * reading it. Delays do not contain that interval, because the kernel stamps each frame when it arrives at the
 * generator's socket. If a second frame arrives on the same socket before the first is read, both get the second's stamp.
 * A delay is therefore at most 0.5 ms too high and never too low, unless the generator is late itself. The answers of
 * the generator (pongs, marks, closes) wait up to 0.5 ms.
 *
 * Linux only (epoll, SO_TIMESTAMPNS).
 */
#define _GNU_SOURCE
#include "calls.h"
#include "phases.h"
#include "received.h"

/* ---------------------------------------------------------------- calls from stdin */

static void begin_call(char *line)
{
    char *fields[10], key[32];
    int count = 0;
    for (char *field; count < 10 && (field = strsep(&line, "\t"));)
        fields[count++] = field;
    unsigned long number = count == 10 ? strtoul(fields[0], NULL, 10) : ~0ul;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (number >= (unsigned long)settings.calls || calls[number].state != CALL_NONE ||
        inet_pton(AF_INET, fields[1], &address.sin_addr) != 1) {
        fprintf(stderr, "generator: line not understood\n");
        exit(1);
    }
    address.sin_port = htons((uint16_t)atoi(fields[2]));
    struct call *call = &calls[number];
    call->number = (uint32_t)number;
    call->state = CALL_WAITING;
    given++;
    snprintf(call->account_sid, sizeof call->account_sid, "%s", fields[6]);
    snprintf(call->call_sid, sizeof call->call_sid, "%s", fields[7]);
    snprintf(call->stream_sid, sizeof call->stream_sid, "%s", fields[8]);
    call->prefix_bytes = (size_t)snprintf(call->prefix, sizeof call->prefix,
        "{\"event\":\"media\",\"streamSid\":\"%s\",\"media\":{\"payload\":\"", call->stream_sid);
    call->clear_bytes = (size_t)snprintf(call->clear, sizeof call->clear,
        "{\"event\":\"clear\",\"streamSid\":\"%s\"}", call->stream_sid);
    for (int i = 0; i < 2; i++) {
        call->flow[i].sent_ns = calloc(RING, sizeof(uint64_t));
        call->flow[i].state = calloc(RING, 1);
        call->flow[i].origin = calloc(RING, 1);
        call->flow[i].is_fresh = true;
        if (!call->flow[i].sent_ns || !call->flow[i].state || !call->flow[i].origin)
            fail("memory");
    }
    uint8_t nonce[18] = {0};
    uint64_t words[2] = {mix(&random_state), mix(&random_state)};
    memcpy(nonce, words, 16);
    key[base64(nonce, 16, key)] = 0;
    bool is_signed = strcmp(fields[5], "-") != 0;
    if (asprintf(&call->upgrade,
                 "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                 "Sec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                 fields[4], fields[3], key, is_signed ? "X-Twilio-Signature: " : "", is_signed ? fields[5] : "",
                 is_signed ? "\r\n" : "") < 0 ||
        asprintf(&call->start,
                 "{\"event\":\"start\",\"sequenceNumber\":\"1\",\"start\":{\"accountSid\":\"%s\",\"streamSid\":\"%s\","
                 "\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"mediaFormat\":{\"encoding\":\"audio/x-mulaw\","
                 "\"sampleRate\":8000,\"channels\":1},\"customParameters\":%s},\"streamSid\":\"%s\"}",
                 call->account_sid, call->stream_sid, call->call_sid, fields[9], call->stream_sid) < 0)
        fail("memory");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    struct leg *leg = call->caller = new_leg(fd, true, call);
    leg->state = LEG_CONNECTING;
    accept_key(key, leg->accept);
    watch(leg, EPOLL_CTL_ADD, true);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        leg_gone(leg, 1006, strerror(errno));
}

static void on_stdin(void)
{
    static char buffer[65536];
    static size_t have;
    ssize_t n = read(0, buffer + have, sizeof buffer - have - 1);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            return;
        fprintf(stderr, "generator: stdin was closed before the end\n");
        exit(1);
    }
    have += (size_t)n;
    buffer[have] = 0;
    char *line = buffer;
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (!strcmp(line, "end"))
            all_given = true;
        else
            begin_call(line);
    }
    have -= (size_t)(line - buffer);
    memmove(buffer, line, have);
}

/* ---------------------------------------------------------------- settings, sockets, the loop */

static void read_settings(int argc, char **argv)
{
    static const struct { const char *name; long *value; } known[] = {
        {"calls=", &settings.calls}, {"seconds_ms=", &settings.seconds_ms}, {"frame_bytes=", &settings.frame_bytes},
        {"interrupt_ms=", &settings.interrupt_ms}, {"agent_port=", &settings.agent_port}, {"inject=", &settings.inject},
        {"auth=", &settings.auth}, {"agent=", &settings.agent},
        {"caller_tls=", &settings.caller_tls},
    };
    for (int i = 1; i < argc; i++)
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            if (!strncmp(argv[i], known[k].name, strlen(known[k].name)))
                *known[k].value = strtol(argv[i] + strlen(known[k].name), NULL, 10);
    bool is_agent = settings.agent >= 0 && settings.agent < (long)(sizeof protocols / sizeof protocols[0]);
    protocol = &protocols[is_agent ? settings.agent : 0];
    if (!is_agent || settings.calls < 1 || settings.seconds_ms < 1 || settings.frame_bytes < FRAME_BYTES_MIN ||
        settings.frame_bytes > FRAME_BYTES_MAX / (long)protocol->audio_factor || settings.interrupt_ms < 0) {
        fprintf(stderr, "generator: settings out of range\n");
        exit(2);
    }
    callers_form = form_of(false, (size_t)settings.frame_bytes);
    agents_form = form_of(protocol->is_binary, (size_t)settings.frame_bytes * protocol->audio_factor);
}

static void listen_for_agents(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)settings.agent_port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener_fd, (struct sockaddr *)&address, size) || listen(listener_fd, 4096) ||
        getsockname(listener_fd, (struct sockaddr *)&address, &size))
        fail("cannot listen on the agent's port");
    printf("{\"event\":\"listening\",\"agent_port\":%d}\n", ntohs(address.sin_port));
}

static struct leg listener_mark, stdin_mark;

/* Sleeps until a frame or a look at the sockets is due, or the next tick. */
static void wait_for_work(uint64_t look_due)
{
    uint64_t now = clock_ns(), frame_due = slot_due(slots_fired);
    uint64_t wake = settings.calls > CALLS_ONE_BY_ONE ? (now / TICK + 1) * TICK : frame_due < look_due ? frame_due : look_due;
    if (frame_due > now)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME,
                        &(struct timespec){.tv_sec = (time_t)(wake / SECOND), .tv_nsec = (long)(wake % SECOND)}, NULL);
}

static void read_real_offset(void)
{
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    real_offset_ns = nanoseconds(real) - clock_ns();
}

/* Handles what has happened on the sockets; returns true if there may be more. */
static bool look_at_sockets(void)
{
    struct epoll_event events[EVENTS_PER_TURN];
    read_real_offset();
    int n = epoll_wait(epoll_fd, events, EVENTS_PER_TURN, 0);
    for (int i = 0; i < n; i++) {
        struct leg *leg = events[i].data.ptr;
        if (leg == &listener_mark)
            on_accept();
        else if (leg == &stdin_mark)
            on_stdin();
        else if (leg->state == LEG_CONNECTING)
            on_connected(leg);
        else {
            if (leg->state != LEG_CLOSED && events[i].events & EPOLLOUT)
                on_writable(leg);
            if (leg->state != LEG_CLOSED && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                on_readable(leg);
        }
    }
    return n == EVENTS_PER_TURN;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    read_settings(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 65536);
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrandom(&random_state, sizeof random_state, 0) != sizeof random_state)
        fail("getrandom");
    base64_setup();
    audio_setup();
    calls = calloc((size_t)settings.calls, sizeof *calls);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!calls || epoll_fd < 0)
        fail("start");
#ifdef WITH_TLS
    tls_setup(getenv("GENERATOR_TLS_PEM"), settings.caller_tls);
#endif
    if (protocol->audio_factor != 1)
        transcoded_setup(getenv("GENERATOR_TRANSCODED"));
    listen_for_agents();
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    listener_mark.fd = listener_fd;
    watch(&listener_mark, EPOLL_CTL_ADD, false);
    watch(&stdin_mark, EPOLL_CTL_ADD, false);
    prctl(PR_SET_TIMERSLACK, 1000); /* the default of 50 us is longer than the time between two frames */
    schedule_start = clock_ns();
    for (uint64_t look_due = 0; phase != DONE; wait_for_work(look_due)) {
        uint64_t now = clock_ns();
        fire_due(now);
        advance(now);
        if (now >= look_due)
            look_due = look_at_sockets() ? now : now + GATHER;
    }
    for (struct leg *next; legs; legs = next) {
        next = legs->next;
        leg_gone(legs, 1000, "");
        free(legs);
    }
    for (long i = 0; i < settings.calls; i++) {
        for (int k = 0; k < 2; k++) {
            free(calls[i].flow[k].sent_ns);
            free(calls[i].flow[k].state);
            free(calls[i].flow[k].origin);
        }
        free(calls[i].upgrade);
        free(calls[i].start);
    }
    for (int i = 0; i < 2; i++) {
        free(transcoded[i].sent);
        free(transcoded[i].fresh);
        free(transcoded[i].following);
    }
    free(calls);
    return 0;
}
