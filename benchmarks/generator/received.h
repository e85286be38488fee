/* Receiving: the upgrade, the WebSocket frames, and the check of every frame's audio. */
#ifndef GENERATOR_RECEIVED_H
#define GENERATOR_RECEIVED_H
#include "calls.h"
#include "transcoded.h"

/* Identifies a frame; false if it was never sent this way. */
static bool tell_frame(struct call *call, enum direction direction, const char *wire, size_t n, uint32_t *number)
{
    const struct form *form = form_received(direction);
    struct flow *flow = &call->flow[direction];
    uint32_t named_call;
    unsigned named_direction;
    if (n != form->wire_bytes)
        return false;
    if (protocol->audio_factor != 1) {
        *number = find_by_content(call, direction, wire);
        return true;
    }
    return read_header(form, wire, &named_call, &named_direction, number) && named_call == call->number &&
        named_direction == direction && *number < flow->sent;
}

static bool is_as_sent(struct call *call, enum direction direction, uint32_t number, const char *wire, size_t n)
{
    if (protocol->audio_factor != 1)
        return is_transcoded(call, direction, number, wire);
    make_audio(form_received(direction), expected, call->number, direction, number);
    return !memcmp(expected, wire, n);
}

static void on_audio(struct call *call, enum direction direction, const char *wire, size_t n, uint64_t now)
{
    struct flow *flow = &call->flow[direction];
    struct way *way = &ways[direction];
    uint32_t number;
    if (!tell_frame(call, direction, wire, n, &number)) {
        way->corrupt++;
        note("call %u: audio %s that was never sent: %.*s", call->number, direction == TO_AGENT ? "to agent" : "to caller",
             (int)(n < 80 ? n : 80), wire);
        return;
    }
    if (number >= flow->sent || flow->sent - number > RING || flow->state[number % RING] == RECEIVED) {
        way->duplicated++;
        return;
    }
    uint8_t *state = &flow->state[number % RING];
    if (*state == CLEARED) {
        way->stale++;
        *state = RECEIVED;
        return;
    }
    *state = RECEIVED;
    way->outstanding--;
    if (!is_as_sent(call, direction, number, wire, n)) {
        way->corrupt++;
        return;
    }
    way->received++;
    way->received_in_window += phase == STEADY;
    if (number < flow->next)
        way->reordered++;
    else
        flow->next = number + 1;
    uint64_t sent_ns = flow->sent_ns[number % RING];
    if (phase >= STEADY && sent_ns >= window_start && sent_ns < window_end)
        record(&way->delay, now > sent_ns ? now - sent_ns : 0); /* 0: the system's clock was set meanwhile */
}

static void on_clear(struct call *call, uint64_t now)
{
    struct flow *flow = &call->flow[TO_CALLER];
    if (!call->interrupt_ns) {
        clears_unexpected++;
        return;
    }
    if (call->interrupt_ns >= window_start && phase >= STEADY)
        record(&clear_delay, now - call->interrupt_ns);
    call->interrupt_ns = 0;
    /* The bridge may drop the frames that were sent before the interrupt, but none of them may arrive from now on. */
    uint32_t first = flow->sent > RING ? flow->sent - RING : 0;
    for (uint32_t n = call->interrupt_boundary; n-- > first;) {
        if (flow->state[n % RING] != OUTSTANDING)
            continue;
        flow->state[n % RING] = CLEARED;
        ways[TO_CALLER].cleared++;
        ways[TO_CALLER].outstanding--;
    }
    if (protocol->audio_factor != 1 && flow->next < call->interrupt_boundary)
        flow->next = call->interrupt_boundary;
}

static bool is_wrapped(const char *text, size_t n, const char *prefix, size_t prefix_n, const char *suffix)
{
    size_t suffix_n = strlen(suffix);
    return n >= prefix_n + suffix_n && !memcmp(text, prefix, prefix_n) && !memcmp(text + n - suffix_n, suffix, suffix_n);
}

static void echo_mark(struct call *call, const char *text, size_t n)
{
    static const char key[] = "\"name\":\"";
    const char *name = memmem(text, n, key, sizeof key - 1), *end;
    char echo[512];
    if (!name || !(end = memchr(name + 8, '"', n - (size_t)(name + 8 - text))) || end - name > 200)
        return;
    int length = snprintf(echo, sizeof echo,
                          "{\"event\":\"mark\",\"sequenceNumber\":\"%u\",\"mark\":{\"name\":\"%.*s\"},\"streamSid\":\"%s\"}",
                          ++call->sequence, (int)(end - name - 8), name + 8, call->stream_sid);
    marks++;
    put_copy(call->caller, OP_TEXT, echo, (size_t)length);
}

static void on_unexpected(struct leg *leg, const char *text, size_t n)
{
    ways[leg->is_caller ? TO_CALLER : TO_AGENT].unexpected++;
    note("call %d: unexpected message to %s: %.*s", leg->call ? (int)leg->call->number : -1,
         leg->is_caller ? "caller" : "agent", (int)(n < 160 ? n : 160), text);
}

static void on_caller_text(struct leg *leg, const char *text, size_t n, uint64_t now)
{
    struct call *call = leg->call;
    if (is_wrapped(text, n, call->prefix, call->prefix_bytes, "\"}}"))
        on_audio(call, TO_CALLER, text + call->prefix_bytes, n - call->prefix_bytes - 3, now);
    else if (n == call->clear_bytes && !memcmp(text, call->clear, n))
        on_clear(call, now);
    else if (is_wrapped(text, n, "{\"event\":\"mark\"", 15, "}"))
        echo_mark(call, text, n);
    else
        on_unexpected(leg, text, n);
}

static void on_both_open(struct call *call)
{
    if (call->state != CALL_WAITING || !call->agent || !call->caller || call->caller->state != LEG_OPEN ||
        (protocol->is_probed && !call->flow[TO_AGENT].next))
        return;
    call->state = CALL_UP;
    up++;
    /* Spread over the period by the golden ratio, so that interrupts are even for any number of calls. */
    double share = (double)call->number * 0.6180339887498949;
    share -= (double)(uint64_t)share;
    call->interrupt_due = clock_ns() + (uint64_t)(share * (double)settings.interrupt_ms * (double)MS);
    put_texts(call->agent, protocol->turn, call->turn, call->stream_sid);
}

/* Finds the call of an agent's leg by the header of the first frame on it. */
static bool know_by_audio(struct leg *leg, const char *wire, size_t n)
{
    uint32_t number, frame;
    unsigned direction;
    if (n != agents_form.wire_bytes || !read_header(&agents_form, wire, &number, &direction, &frame) ||
        number >= (unsigned long)settings.calls || calls[number].state != CALL_WAITING || calls[number].agent)
        return false;
    leg->call = &calls[number];
    leg->call->agent = leg;
    return true;
}

static void on_agent_message(struct leg *leg, bool is_binary, const char *text, size_t n, uint64_t now)
{
    const char *wire = text, *stream_sid = leg->call ? leg->call->stream_sid : "";
    size_t wire_bytes = n;
    const struct answer *answer;
    if (is_binary || find_audio(&wire, &wire_bytes, stream_sid)) {
        bool is_early = protocol->is_settled_first && !leg->is_settled;
        if (is_early || (!leg->call && !know_by_audio(leg, wire, wire_bytes))) {
            on_unexpected(leg, text, n);
            return;
        }
        on_audio(leg->call, TO_AGENT, wire, wire_bytes, now);
        on_both_open(leg->call);
    } else if ((answer = find_answer(text, n))) {
        leg->is_settled |= answer == protocol->answers;
        put_texts(leg, answer->answer, leg->call ? leg->call->turn : 0, stream_sid);
    } else {
        on_unexpected(leg, text, n);
    }
}

static void on_close_frame(struct leg *leg, const uint8_t *payload, size_t n)
{
    char reason[126] = "";
    int code = n >= 2 ? payload[0] << 8 | payload[1] : 1005;
    if (n > 2)
        memcpy(reason, payload + 2, n - 2);
    if (leg->state == LEG_OPEN)
        put_close(leg, code == 1005 ? 1000 : code);
    leg_gone(leg, code, reason);
}

/* Returns the bytes used, 0 if the frame is not complete yet. */
static size_t on_frame(struct leg *leg, uint8_t *data, size_t have, uint64_t now)
{
    if (have < 2)
        return 0;
    size_t length = data[1] & 0x7f, head = 2;
    bool is_masked = data[1] & 0x80;
    unsigned opcode = data[0] & 0x0f;
    if (length >= 126) {
        head = length == 126 ? 4 : 10;
        if (have < head)
            return 0;
        length = 0;
        for (size_t i = 2; i < head; i++)
            length = length << 8 | data[i];
    }
    head += is_masked ? 4 : 0;
    bool is_control = opcode >= 8;
    bool is_message = opcode == OP_TEXT || (opcode == OP_BINARY && protocol->is_binary && !leg->is_caller);
    if ((data[0] & 0xf0) != 0x80 || is_masked == leg->is_caller || length > SCRATCH_BYTES / 4 ||
        (is_control && length > 125) || !(is_message || (opcode >= OP_CLOSE && opcode <= OP_PONG))) {
        ways[leg->is_caller ? TO_CALLER : TO_AGENT].unexpected++;
        note("call %d: WebSocket frame with head %02x %02x", leg->call ? (int)leg->call->number : -1, data[0], data[1]);
        leg_gone(leg, 1002, "unexpected WebSocket frame");
        return have;
    }
    if (have < head + length)
        return 0;
    uint8_t *payload = data + head;
    if (is_masked) {
        uint32_t key;
        memcpy(&key, payload - 4, 4);
        mask_in_place(payload, length, key);
    }
    if (is_message && leg->is_caller)
        on_caller_text(leg, (const char *)payload, length, now);
    else if (is_message)
        on_agent_message(leg, opcode == OP_BINARY, (const char *)payload, length, now);
    else if (opcode == OP_PING)
        put_copy(leg, OP_PONG, payload, length);
    else if (opcode == OP_CLOSE)
        on_close_frame(leg, payload, length);
    return head + length;
}

/* ---------------------------------------------------------------- the upgrade */

static bool read_field(const char *head, const char *name, char *out, size_t capacity)
{
    size_t name_n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, name_n) || line[name_n] != ':')
            continue;
        line += name_n + 1 + strspn(line + name_n + 1, " \t");
        size_t n = strcspn(line, "\r\n");
        if (n >= capacity)
            return false;
        memcpy(out, line, n);
        out[n] = 0;
        return true;
    }
    return false;
}

static void on_response(struct leg *leg, const char *head)
{
    char accept[64] = "";
    struct call *call = leg->call;
    if (strncmp(head, "HTTP/1.1 101", 12) || !read_field(head, "sec-websocket-accept", accept, sizeof accept) ||
        strcmp(accept, leg->accept)) {
        leg_gone(leg, strlen(head) > 12 ? atoi(head + 9) : 0, "as answer to the upgrade");
        return;
    }
    static const char connected[] = "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}";
    leg->state = LEG_OPEN;
    put_copy(leg, OP_TEXT, connected, sizeof connected - 1);
    put_copy(leg, OP_TEXT, call->start, strlen(call->start));
    call->sequence = 1;
    if (protocol->is_probed && call->state == CALL_WAITING)
        transmit(call, TO_AGENT, next_number(&call->flow[TO_AGENT], &ways[TO_AGENT]), false);
    on_both_open(call);
}

static void on_request(struct leg *leg, const char *head)
{
    char key[64] = "", token[2048] = "", wanted[64], accept[40], answer[256];
    const char *path = head + 4, *end = strpbrk(path, " ?\r");
    const char *digits = end ? end : path;
    while (digits > path && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    unsigned long number = end && digits < end ? strtoul(digits, NULL, 10) : ~0ul;
    struct call *call = protocol->has_id && number < (unsigned long)settings.calls ? &calls[number] : NULL;
    bool is_wanted = !protocol->has_id || (call && call->state == CALL_WAITING && !call->agent);
    read_field(head, "authorization", token, sizeof token);
    snprintf(wanted, sizeof wanted, "Bearer load-%lu-", number);
    int status = strncmp(head, "GET ", 4) || !read_field(head, "sec-websocket-key", key, sizeof key) ? 400
        : !is_wanted                                                                                ? 404
        : settings.auth && strncmp(token, wanted, strlen(wanted))                                   ? 401
                                                                                                    : 101;
    if (status != 101) {
        note("agent: upgrade refused with %d: %.*s", status, (int)strcspn(head, "\r\n"), head);
        int n = snprintf(answer, sizeof answer, "HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
        put(leg, answer, (size_t)n);
        leg_gone(leg, status, "");
        return;
    }
    accept_key(key, accept);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    leg->state = LEG_OPEN;
    leg->call = call;
    if (call)
        call->agent = leg;
    put(leg, answer, (size_t)n);
    put_texts(leg, protocol->opening, 0, call ? call->stream_sid : "");
    if (call)
        on_both_open(call);
}

static size_t on_head(struct leg *leg, const uint8_t *data, size_t have)
{
    const uint8_t *end = memmem(data, have, "\r\n\r\n", 4);
    static char head[HEAD_BYTES_MAX + 1];
    if (!end || end + 4 - data > HEAD_BYTES_MAX) {
        if (have > HEAD_BYTES_MAX)
            leg_gone(leg, 431, "head too long");
        return 0;
    }
    size_t n = (size_t)(end + 4 - data);
    memcpy(head, data, n);
    head[n] = 0;
    if (leg->is_caller)
        on_response(leg, head);
    else
        on_request(leg, head);
    return n;
}

/* Returns true if more bytes wait where epoll does not see them. */
static bool read_once(struct leg *leg)
{
    size_t have = leg->unparsed.length, used = 0;
    if (have)
        memcpy(scratch, leg->unparsed.at, have);
    ssize_t n = leg_receive(leg, scratch + have, SCRATCH_BYTES / 2);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            leg_gone(leg, 1006, n ? strerror(errno) : "connection ended");
        return false;
    }
    have += (size_t)n;
    leg->unparsed.length = 0;
    while (used < have && leg->state != LEG_CLOSED) {
        uint8_t *at = scratch + used;
        size_t step = leg->state == LEG_HEAD ? on_head(leg, at, have - used) : on_frame(leg, at, have - used, arrived_ns);
        if (!step)
            break;
        used += step;
    }
    if (leg->state == LEG_CLOSED)
        return false;
    append(&leg->unparsed, scratch + used, have - used);
    return leg_holds_bytes(leg);
}

static void on_readable(struct leg *leg)
{
    while (read_once(leg))
        ;
}

static void on_accept(void)
{
    for (int fd; (fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct leg *leg = new_leg(fd, false, NULL);
        watch(leg, EPOLL_CTL_ADD, false);
#ifdef WITH_TLS
        tls_begin(leg);
#endif
    }
}

static void on_connected(struct leg *leg)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(leg->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        leg_gone(leg, 1006, strerror(error));
        return;
    }
    leg->state = LEG_HEAD;
    watch(leg, EPOLL_CTL_MOD, false);
#ifdef WITH_TLS
    tls_begin(leg);
#endif
    put(leg, leg->call->upgrade, strlen(leg->call->upgrade));
}

#endif
