/*
 * The media of N calls, both ends of each, in one thread: N WebSocket clients that speak like Twilio, and a WebSocket
 * server that speaks like the voice agent. Started by driver.py, which says who is to be called.
 *
 *   generator key=value...            settings, see `settings` below
 *   GENERATOR_TLS_PEM                 in the environment, if built WITH_TLS: certificate and key of the agent's server
 *   stdin   one line a call, tab-separated: number, address, port, host header, path, signature or "-", account SID,
 *           call SID, stream SID, custom parameters (JSON); then "end". Closing stdin ends the process.
 *   stdout  one JSON object a line: listening, progress, window (start, end), result
 *
 * Open loop: slot s of each 20 ms belongs to one direction of one call for ever, so a slow bridge cannot slow the load
 * down. Every frame carries its call, direction and number, and all its other bytes follow from these three; the
 * receiver makes the expected message again and compares all of it. Only audio that the bridge resamples is told by its
 * order and its length alone.
 *
 * What is due is sent on a tick of 0.1 ms, as a network card hands over what came in: to arm a timer for each frame
 * would cost a virtual machine more than the frame, and the load would be lost on its own clock.
 *
 * Linux only (epoll, timerfd).
 */
#define _GNU_SOURCE
#include "agents.h"
#include "audio.h"
#include "basics.h"
#include "legs.h"

#define PERIOD (20 * MS)
#define TICK (MS / 10)

enum {
    RING = 1024,           /* frames remembered per direction: 20 s, longer than any delay worth waiting for */
    SCRATCH_BYTES = 1 << 20,
    HEAD_BYTES_MAX = 16384,
    SENDS_PER_TURN = 64,   /* bounds how long received frames wait for their time stamp */
    EVENTS_PER_TURN = 128,
    NOTES = 10,
    INJECT_EVERY = 50,     /* 2 % of the frames, so that `late` reaches the 99th percentile */
    INJECT_AT = 25,
};

#define UP_DEADLINE (10 * SECOND)
#define SETTLE (SECOND / 2)
#define DRAIN_DEADLINE (3 * SECOND)
#define DRAIN_LEAST (SECOND / 10) /* a duplicate may follow the last frame */
#define STOP_SPREAD (1 * SECOND)
#define CLOSE_DEADLINE (5 * SECOND)
#define LATE_INJECTED (300 * MS)

enum direction { TO_AGENT, TO_CALLER };
enum frame_state { OUTSTANDING, RECEIVED, CLEARED };
enum phase { RAMP, SETTLING, STEADY, DRAIN, CLOSING, DONE };
enum call_state { CALL_NONE, CALL_WAITING, CALL_UP, CALL_STOPPING, CALL_OVER };
enum inject { INJECT_NONE, INJECT_DROP, INJECT_DUP, INJECT_SWAP, INJECT_CORRUPT, INJECT_LATE };

struct flow {
    uint32_t sent, next;
    uint64_t *sent_ns;
    uint8_t *state;
};

struct call {
    uint32_t number, sequence;
    enum call_state state;
    struct leg *caller, *agent;
    struct flow flow[2];
    bool skips[2];
    char account_sid[64], call_sid[64], stream_sid[64], prefix[160], clear[160];
    size_t prefix_bytes, clear_bytes;
    char *upgrade, *start;
    uint64_t interrupt_due, interrupt_ns;
    uint32_t interrupt_boundary, turn;
};

struct way {
    uint64_t sent, received, received_in_window, lost, duplicated, reordered, corrupt, unexpected, cleared, stale;
    uint64_t outstanding;
    struct histogram delay;
};

static struct settings {
    long calls, seconds_ms, frame_bytes, interrupt_ms, agent_port, inject, auth, agent;
} settings = {.calls = 1, .seconds_ms = 1000, .frame_bytes = 160, .auth = 1};

static struct way ways[2];
static struct histogram lateness, clear_delay;
static struct call *calls;
static uint64_t given, up, refused, closed_early, bad_closes, interrupts, clears_unexpected, marks;
static uint64_t schedule_start, slots_fired, window_start, window_end;
static enum phase phase = RAMP;
static bool all_given;
static int listener_fd;
static char notes[NOTES][256];
static int notes_count;
static uint8_t scratch[SCRATCH_BYTES];
static uint8_t expected[AUDIO_ROOM];
static struct form callers_form, agents_form;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    if (notes_count == NOTES)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(notes[notes_count++], sizeof notes[0], format, arguments);
    va_end(arguments);
}

static void on_leg_gone(struct leg *leg, int code, const char *why)
{
    struct call *call = leg->call;
    const char *side = leg->is_caller ? "caller's" : "agent's";
    if (call->state == CALL_STOPPING && !leg->is_caller && code != 1000) {
        bad_closes++;
        note("call %u: agent's leg closed with %d after the caller's stop %s", call->number, code, why);
    } else if (call->state == CALL_WAITING) {
        refused++;
        note("call %u: %s leg refused (%d) %s", call->number, side, code, why);
        call->state = CALL_OVER;
    } else if (call->state == CALL_UP) {
        closed_early++;
        note("call %u: %s leg closed early with %d %s", call->number, side, code, why);
        call->state = CALL_OVER;
    }
}

/* ---------------------------------------------------------------- what is sent */

/* Puts frame `number` on the wire and notes when. */
static void transmit(struct call *call, enum direction direction, uint32_t number, bool corrupt)
{
    const struct form *form = direction == TO_AGENT ? &callers_form : &agents_form;
    uint8_t *start = outgoing + 8, *p = start;
    if (direction == TO_AGENT) {
        p = LITERAL_TO(p, "{\"event\":\"media\",\"sequenceNumber\":\"");
        p = number_to(p, ++call->sequence);
        p = LITERAL_TO(p, "\",\"media\":{\"track\":\"inbound\",\"chunk\":\"");
        p = number_to(p, number + 1);
        p = LITERAL_TO(p, "\",\"timestamp\":\"");
        p = number_to(p, (uint32_t)(number * (uint64_t)settings.frame_bytes / 8));
        p = LITERAL_TO(p, "\",\"payload\":\"");
    } else if (!form->is_binary) {
        p = fill(p, protocol->to_bridge[0], call->turn, call->stream_sid);
    }
    make_audio(form, p, call->number, direction, number);
    if (corrupt)
        corrupt_audio(form, p);
    p += form->wire_bytes;
    if (direction == TO_AGENT) {
        p = LITERAL_TO(p, "\"},\"streamSid\":\"");
        p = text_to(p, call->stream_sid, strlen(call->stream_sid));
        p = LITERAL_TO(p, "\"}");
    } else if (!form->is_binary) {
        p = fill(p, protocol->to_bridge[1], call->turn, call->stream_sid);
    }
    call->flow[direction].sent_ns[number % RING] = clock_ns();
    put_frame(direction == TO_AGENT ? call->caller : call->agent, form->is_binary ? OP_BINARY : OP_TEXT, start,
              (size_t)(p - start));
}

static uint32_t next_number(struct flow *flow, struct way *way)
{
    uint32_t number = flow->sent++;
    if (number >= RING && flow->state[number % RING] == OUTSTANDING) {
        way->lost++;
        way->outstanding--;
    }
    flow->state[number % RING] = OUTSTANDING;
    flow->sent_ns[number % RING] = 0;
    way->sent++;
    way->outstanding++;
    return number;
}

static void interrupt(struct call *call, uint64_t now)
{
    call->interrupt_due = now + (uint64_t)settings.interrupt_ms * MS;
    if (call->interrupt_ns)
        return; /* the last one is not answered yet; at the end that is a failure */
    call->interrupt_ns = now;
    call->interrupt_boundary = call->flow[TO_CALLER].sent;
    interrupts++;
    put_texts(call->agent, protocol->interrupt, call->turn++, call->stream_sid);
    put_texts(call->agent, protocol->turn, call->turn, call->stream_sid);
}

static void fire(struct call *call, enum direction direction, uint64_t due)
{
    struct flow *flow = &call->flow[direction];
    struct way *way = &ways[direction];
    uint64_t now = clock_ns();
    if (call->state != CALL_UP)
        return;
    if (phase == STEADY)
        record(&lateness, now - due);
    if (direction == TO_CALLER && settings.interrupt_ms && now >= call->interrupt_due)
        interrupt(call, now);
    if (call->skips[direction] || call->state != CALL_UP) {
        call->skips[direction] = false;
        return;
    }
    uint32_t number = next_number(flow, way);
    bool is_fault = settings.inject && number % INJECT_EVERY == INJECT_AT;
    if (!is_fault) {
        transmit(call, direction, number, false);
    } else if (settings.inject == INJECT_SWAP) {
        transmit(call, direction, next_number(flow, way), false);
        transmit(call, direction, number, false);
        call->skips[direction] = true;
    } else if (settings.inject != INJECT_DROP) {
        transmit(call, direction, number, settings.inject == INJECT_CORRUPT);
        if (settings.inject == INJECT_DUP)
            transmit(call, direction, number, false);
        if (settings.inject == INJECT_LATE)
            flow->sent_ns[number % RING] -= LATE_INJECTED;
    }
}

/* Slot s of a period belongs to call s / 2; the agent's frames of a call are half a period away from its caller's. */
static uint64_t slot_due(uint64_t slot)
{
    uint64_t slots = (uint64_t)settings.calls * 2;
    return schedule_start + slot / slots * PERIOD + slot % slots * PERIOD / slots;
}

static void fire_due(uint64_t now)
{
    uint64_t slots = (uint64_t)settings.calls * 2, due;
    for (int i = 0; (due = slot_due(slots_fired)) <= now; slots_fired++) {
        uint64_t index = slots_fired % slots;
        if (phase >= DRAIN)
            continue;
        uint64_t which = index % 2 ? (index / 2 + (uint64_t)settings.calls / 2) % (uint64_t)settings.calls : index / 2;
        if (calls[which].state == CALL_UP) {
            if (i++ == SENDS_PER_TURN)
                return;
            fire(&calls[which], index % 2 ? TO_CALLER : TO_AGENT, due);
        }
    }
}

/* ---------------------------------------------------------------- what is received */

/* Says which frame this is; false if it is none that was sent this way. */
static bool tell_frame(struct call *call, enum direction direction, const char *wire, size_t n, uint32_t *number)
{
    const struct form *form = direction == TO_AGENT ? &agents_form : &callers_form;
    struct flow *flow = &call->flow[direction];
    uint32_t named_call;
    unsigned named_direction;
    if (n != form->wire_bytes)
        return false;
    if (protocol->audio_factor != 1) {
        *number = flow->sent - flow->next > RING ? flow->sent - RING : flow->next;
        return true;
    }
    return read_header(form, wire, &named_call, &named_direction, number) && named_call == call->number &&
        named_direction == direction && *number < flow->sent;
}

static bool is_as_sent(struct call *call, enum direction direction, uint32_t number, const char *wire, size_t n)
{
    if (protocol->audio_factor != 1)
        return true;
    make_audio(direction == TO_AGENT ? &agents_form : &callers_form, expected, call->number, direction, number);
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
        record(&way->delay, now - sent_ns);
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
    /* Of what is missing, all that was sent before the interrupt was the bridge's to drop, and none of it may follow. */
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
    /* Spread over the period by the golden ratio, so that any number of calls interrupts evenly. */
    double share = (double)call->number * 0.6180339887498949;
    share -= (double)(uint64_t)share;
    call->interrupt_due = clock_ns() + (uint64_t)(share * (double)settings.interrupt_ms * (double)MS);
    put_texts(call->agent, protocol->turn, call->turn, call->stream_sid);
}

/* Finds the call of an agent's leg by what the first frame on it says of itself. */
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

/* Returns true if there is more that epoll does not know of. */
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
    uint64_t now = clock_ns();
    have += (size_t)n;
    leg->unparsed.length = 0;
    while (used < have && leg->state != LEG_CLOSED) {
        uint8_t *at = scratch + used;
        size_t step = leg->state == LEG_HEAD ? on_head(leg, at, have - used) : on_frame(leg, at, have - used, now);
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
        tls_accept(leg);
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
    put(leg, leg->call->upgrade, strlen(leg->call->upgrade));
}

/* ---------------------------------------------------------------- orders from stdin */

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
        if (!call->flow[i].sent_ns || !call->flow[i].state)
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

/* ---------------------------------------------------------------- phases and the report */

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t open_legs(void)
{
    uint64_t n = 0;
    for (struct leg *leg = legs; leg; leg = leg->next)
        n += leg->state != LEG_CLOSED && leg->call && leg->call->state == CALL_STOPPING;
    return n;
}

static void stop_call(struct call *call)
{
    char text[512];
    if (call->state == CALL_UP) {
        int n = snprintf(text, sizeof text,
                         "{\"event\":\"stop\",\"sequenceNumber\":\"%u\",\"stop\":{\"accountSid\":\"%s\",\"callSid\":\"%s\"},"
                         "\"streamSid\":\"%s\"}",
                         ++call->sequence, call->account_sid, call->call_sid, call->stream_sid);
        call->state = CALL_STOPPING;
        put_copy(call->caller, OP_TEXT, text, (size_t)n);
    }
    if (call->caller && call->caller->state == LEG_OPEN)
        put_close(call->caller, 1000);
}

static void print_count(const char *name, uint64_t value) { printf("\"%s\":%llu,", name, (unsigned long long)value); }

static void print_way(const char *name, const struct way *way)
{
    printf("\"%s\":{", name);
    print_count("sent", way->sent);
    print_count("received", way->received);
    print_count("received_in_window", way->received_in_window);
    print_count("lost", way->lost + way->outstanding);
    print_count("duplicated", way->duplicated);
    print_count("reordered", way->reordered);
    print_count("corrupt", way->corrupt);
    print_count("unexpected_messages", way->unexpected);
    print_count("cleared", way->cleared);
    print_count("stale_after_clear", way->stale);
    print_histogram("delay_us", &way->delay);
    printf("},");
}

static void print_result(double window_s, double window_cpu_s, uint64_t missing, uint64_t unanswered)
{
    printf("{\"event\":\"result\",\"window_s\":%.6f,\"generator_cpu_s\":%.6f,", window_s, window_cpu_s);
    print_count("calls_given", given);
    print_count("calls_up", up);
    print_count("calls_refused", refused);
    print_count("calls_missing", missing);
    print_count("calls_closed_early", closed_early);
    print_count("bad_closes", bad_closes);
    print_count("legs_left_open", open_legs());
    print_count("interrupts", interrupts);
    print_count("interrupts_unanswered", unanswered);
    print_count("clears_unexpected", clears_unexpected);
    print_count("marks", marks);
    print_way("to_agent", &ways[TO_AGENT]);
    print_way("to_caller", &ways[TO_CALLER]);
    print_histogram("clear_us", &clear_delay);
    printf(",");
    print_histogram("lateness_us", &lateness);
    printf(",\"notes\":[");
    for (int i = 0; i < notes_count; i++) {
        printf("%s\"", i ? "," : "");
        for (const char *c = notes[i]; *c; c++)
            printf(*c == '"' || *c == '\\' ? "\\%c" : (uint8_t)*c < 32 || (uint8_t)*c > 126 ? "?" : "%c", *c);
        printf("\"");
    }
    printf("]}\n");
}

/* Moves on through the phases; called every turn. */
static void advance(uint64_t now)
{
    static uint64_t since, deadline, missing, stopped, unanswered, next_progress;
    static double window_cpu;
    static const char *names[] = {"ramp", "ramp", "steady", "drain", "close", "done"};
    enum phase before = phase;
    if (now >= next_progress && phase < DONE) {
        next_progress = now + SECOND / 2;
        printf("{\"event\":\"progress\",\"phase\":\"%s\",\"up\":%llu,\"window_s\":%.1f,\"sent\":%llu,\"received\":%llu}\n",
               names[phase], (unsigned long long)up, phase == STEADY ? (double)(now - window_start) / 1e9 : 0.0,
               (unsigned long long)(ways[0].sent + ways[1].sent), (unsigned long long)(ways[0].received + ways[1].received));
    }
    if (phase == RAMP && all_given) {
        if (!deadline)
            deadline = now + UP_DEADLINE;
        if (up + refused >= given || now >= deadline) {
            missing = given - (up + refused < given ? up + refused : given);
            phase = up ? SETTLING : DRAIN;
        }
    } else if (phase == SETTLING && now - since >= SETTLE) {
        window_start = now;
        window_end = now + (uint64_t)settings.seconds_ms * MS;
        window_cpu = cpu_s();
        printf("{\"event\":\"window\",\"at\":\"start\"}\n");
        phase = STEADY;
    } else if (phase == STEADY && now >= window_end) {
        window_cpu = cpu_s() - window_cpu;
        window_end = now;
        printf("{\"event\":\"window\",\"at\":\"end\"}\n");
        phase = DRAIN;
    } else if (phase == DRAIN && now - since >= DRAIN_LEAST &&
               (now - since >= DRAIN_DEADLINE || !(ways[0].outstanding + ways[1].outstanding))) {
        for (long i = 0; i < settings.calls; i++)
            unanswered += calls[i].interrupt_ns != 0;
        phase = CLOSING;
    } else if (phase == CLOSING) {
        while (stopped < (uint64_t)settings.calls && now - since >= stopped * STOP_SPREAD / (uint64_t)settings.calls)
            stop_call(&calls[stopped++]);
        if (now - since >= STOP_SPREAD + CLOSE_DEADLINE || (stopped == (uint64_t)settings.calls && !open_legs())) {
            print_result((double)(window_end - window_start) / 1e9, window_cpu, missing, unanswered);
            phase = DONE;
        }
    }
    if (phase != before)
        since = now;
}

static void read_settings(int argc, char **argv)
{
    static const struct { const char *name; long *value; } known[] = {
        {"calls=", &settings.calls}, {"seconds_ms=", &settings.seconds_ms}, {"frame_bytes=", &settings.frame_bytes},
        {"interrupt_ms=", &settings.interrupt_ms}, {"agent_port=", &settings.agent_port}, {"inject=", &settings.inject},
        {"auth=", &settings.auth}, {"agent=", &settings.agent},
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

static void watch_ticks(struct leg *mark)
{
    struct itimerspec ticks = {.it_interval.tv_nsec = TICK, .it_value.tv_nsec = TICK};
    mark->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (mark->fd < 0 || timerfd_settime(mark->fd, 0, &ticks, NULL))
        fail("timerfd");
    watch(mark, EPOLL_CTL_ADD, false);
}

/* The kernel starts the next tick only when this one is read. */
static void on_tick(int fd)
{
    uint64_t ticks;
    if (read(fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
        fail("timerfd");
}

int main(int argc, char **argv)
{
    static struct leg listener_mark, stdin_mark, tick_mark;
    struct epoll_event events[EVENTS_PER_TURN];
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
    calls = calloc((size_t)settings.calls, sizeof *calls);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!calls || epoll_fd < 0)
        fail("start");
#ifdef WITH_TLS
    tls_setup(getenv("GENERATOR_TLS_PEM"));
#endif
    listen_for_agents();
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    listener_mark.fd = listener_fd;
    watch(&listener_mark, EPOLL_CTL_ADD, false);
    watch(&stdin_mark, EPOLL_CTL_ADD, false);
    watch_ticks(&tick_mark);
    schedule_start = clock_ns();
    while (phase != DONE) {
        uint64_t now = clock_ns();
        fire_due(now);
        advance(now);
        bool is_behind = slot_due(slots_fired) <= now;
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_TURN, is_behind ? 0 : -1);
        for (int i = 0; i < n; i++) {
            struct leg *leg = events[i].data.ptr;
            if (leg == &listener_mark)
                on_accept();
            else if (leg == &stdin_mark)
                on_stdin();
            else if (leg == &tick_mark)
                on_tick(leg->fd);
            else if (leg->state == LEG_CONNECTING)
                on_connected(leg);
            else {
                if (leg->state != LEG_CLOSED && events[i].events & EPOLLOUT)
                    on_writable(leg);
                if (leg->state != LEG_CLOSED && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                    on_readable(leg);
            }
        }
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
        }
        free(calls[i].upgrade);
        free(calls[i].start);
    }
    free(calls);
    return 0;
}
