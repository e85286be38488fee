/*
 * The audio for agents with resampled audio: a cycle of contents, and the output of a reference resampler for each.
 *
 * A resampled frame cannot have a header, and its beginning depends on the end of the frame before. The frames of a
 * call therefore repeat a cycle of contents; each call starts at another place. A frame is identified by its order and
 * its body, the part that depends only on its own content. Both resamplers fix the order of sums, so every byte must be
 * equal. The bridge keeps the filter's state over an interrupt.
 */
#ifndef GENERATOR_TRANSCODED_H
#define GENERATOR_TRANSCODED_H
#include "calls.h"

enum {
    CONTENTS_BACK = 4, /* how far a frame may be behind the next expected one and still be identified */
};

/* Reads the file of benchmarks/transcoded.py, which has the three parts of each content, way by way. */
static void transcoded_setup(const char *path)
{
    FILE *file = path ? fopen(path, "rb") : NULL;
    static uint8_t audio[FRAME_BYTES_MAX + 3];
    for (int direction = 0; direction < 2; direction++) {
        struct transcoded *t = &transcoded[direction];
        const struct form *sent = form_sent(direction), *received = form_received(direction);
        t->sent = calloc(CONTENTS, sent->wire_bytes);
        t->fresh = calloc(CONTENTS, received->wire_bytes);
        t->following = calloc(CONTENTS, received->wire_bytes);
        /* 4 ms of the slower side, the length of the filter. */
        size_t head = direction == TO_AGENT ? HISTORY_BYTES * protocol->audio_factor : HISTORY_BYTES;
        t->head_bytes = form_of(received->is_binary, head).wire_bytes;
        for (int part = 0; part < 3 * CONTENTS; part++) {
            const struct form *form = part % 3 ? received : sent;
            uint8_t *all = part % 3 == 0 ? t->sent : part % 3 == 1 ? t->fresh : t->following;
            if (!all || !file || fread(audio, 1, form->audio_bytes, file) != form->audio_bytes)
                fail("cannot read the transcoded audio");
            memset(audio + form->audio_bytes, 0, 2);
            write_audio(form, all + (size_t)(part / 3) * form->wire_bytes, audio);
        }
    }
    fclose(file);
}

static bool has_content(struct call *call, enum direction direction, uint32_t number, const char *wire)
{
    const struct transcoded *t = &transcoded[direction];
    size_t n = form_received(direction)->wire_bytes;
    const uint8_t *expected = t->following + content_of(call, number) * n;
    return !memcmp(wire + t->head_bytes, expected + t->head_bytes, n - t->head_bytes);
}

/* Identifies a frame by its body: from the next expected one forward, then backward; an unknown body is the next. */
static uint32_t find_by_content(struct call *call, enum direction direction, const char *wire)
{
    const struct flow *flow = &call->flow[direction];
    uint32_t next = flow->sent - flow->next > RING ? flow->sent - RING : flow->next;
    for (uint32_t number = next; number < flow->sent && number < next + CONTENTS - CONTENTS_BACK; number++)
        if (has_content(call, direction, number, wire))
            return number;
    for (uint32_t number = next; number-- > 0 && next - number <= CONTENTS_BACK;)
        if (has_content(call, direction, number, wire))
            return number;
    return next;
}

static bool is_transcoded(struct call *call, enum direction direction, uint32_t number, const char *wire)
{
    const struct transcoded *t = &transcoded[direction];
    enum frame_origin origin = call->flow[direction].origin[number % RING];
    const uint8_t *expected = (origin == FRESH ? t->fresh : t->following) +
        content_of(call, number) * form_received(direction)->wire_bytes;
    return has_content(call, direction, number, wire) &&
        (origin == AFTER_FAULT || !memcmp(wire, expected, t->head_bytes));
}

#endif
