/* The calls: their state, their counters, and the frames that are sent on them. */
#ifndef GENERATOR_CALLS_H
#define GENERATOR_CALLS_H
#include "agents.h"
#include "audio.h"
#include "basics.h"
#include "legs.h"

#define PERIOD (20 * MS)
#define TICK (MS / 10)
#define CALLS_ONE_BY_ONE 500
#define GATHER (MS / 2)

enum {
    RING = 1024,           /* frames remembered per direction: 20 s, longer than any delay of interest */
    SCRATCH_BYTES = 1 << 20,
    HEAD_BYTES_MAX = 16384,
    SENDS_PER_TURN = 64,   /* so that a generator that is behind still receives */
    EVENTS_PER_TURN = 128,
    NOTES = 10,
    INJECT_EVERY = 50,     /* 2 % of the frames, so that `late` reaches the 99th percentile */
    INJECT_AT = 25,
    CONTENTS = 20,         /* of resampled audio, as in benchmarks/transcoded.py */
    HISTORY_BYTES = 33,    /* mu-law bytes that the beginning of a resampled frame depends on, a multiple of 3 */
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
/* The input of a resampler before a frame: the frame before it, nothing, or another frame because of a fault. */
enum frame_origin { FOLLOWING, FRESH, AFTER_FAULT };
enum phase { RAMP, SETTLING, STEADY, DRAIN, CLOSING, DONE };
enum call_state { CALL_NONE, CALL_WAITING, CALL_UP, CALL_STOPPING, CALL_OVER };
enum inject { INJECT_NONE, INJECT_DROP, INJECT_DUP, INJECT_SWAP, INJECT_CORRUPT, INJECT_LATE };

struct flow {
    uint32_t sent, next;
    uint64_t *sent_ns;
    uint8_t *state, *origin;
    uint32_t last;         /* the frame that was sent last */
    bool is_fresh, is_bad; /* nothing was sent yet; the last frame was faulty */
};

/* All contents in one way as they are on the wire; `head_bytes` of those received depend on the frame before. */
struct transcoded {
    uint8_t *sent, *fresh, *following;
    size_t head_bytes;
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
    long caller_tls; /* if built WITH_TLS */
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
static struct transcoded transcoded[2];

static const struct form *form_sent(enum direction direction)
{
    return direction == TO_AGENT ? &callers_form : &agents_form;
}

static const struct form *form_received(enum direction direction)
{
    return direction == TO_AGENT ? &agents_form : &callers_form;
}

static size_t content_of(const struct call *call, uint32_t number)
{
    return (call->number * 7 + number) % CONTENTS;
}

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

/* ---------------------------------------------------------------- sending */

/* Puts frame `number` on the wire and notes when. */
static void transmit(struct call *call, enum direction direction, uint32_t number, bool corrupt)
{
    const struct form *form = form_sent(direction);
    struct flow *flow = &call->flow[direction];
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
    if (protocol->audio_factor == 1)
        make_audio(form, p, call->number, direction, number);
    else
        memcpy(p, transcoded[direction].sent + content_of(call, number) * form->wire_bytes, form->wire_bytes);
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
    bool is_after_fault = flow->is_bad || number != flow->last + 1;
    flow->origin[number % RING] = flow->is_fresh ? FRESH : is_after_fault ? AFTER_FAULT : FOLLOWING;
    flow->last = number;
    flow->is_fresh = false;
    flow->is_bad = corrupt;
    flow->sent_ns[number % RING] = clock_ns();
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
        return; /* the last one is unanswered, which fails the run if it stays so */
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

#endif
