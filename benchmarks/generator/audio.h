/* The audio of a frame: a header that names it, and noise that follows from the same three numbers. */
#ifndef GENERATOR_AUDIO_H
#define GENERATOR_AUDIO_H
#include "basics.h"

enum {
    HEADER_BYTES = 12, /* magic, direction, call, number, check; 16 base64 characters */
    FRAME_BYTES_MIN = 16,
    FRAME_BYTES_MAX = 32000,
    AUDIO_ROOM = 65536, /* for the audio of one frame, either way of writing it, and what a write may run over */
};

/* How the audio of a frame is written on one side: `wire_bytes` of binary, or of base64 text. */
struct form {
    bool is_binary;
    size_t audio_bytes, wire_bytes;
};

static struct form form_of(bool is_binary, size_t audio_bytes)
{
    return (struct form){is_binary, audio_bytes, is_binary ? audio_bytes : (audio_bytes + 2) / 3 * 4};
}

/* `audio` is written up to eight bytes past its end. */
static void make_bytes(uint8_t *audio, size_t n, uint32_t call, unsigned direction, uint32_t number)
{
    uint64_t state = ((uint64_t)call << 33 ^ number) << 1 ^ direction;
    uint64_t word = mix(&state);
    audio[0] = 0x7f;
    audio[1] = (uint8_t)direction;
    memcpy(audio + 2, &call, 4);
    memcpy(audio + 6, &number, 4);
    memcpy(audio + 10, &word, 2);
    for (size_t i = HEADER_BYTES; i < n; i += 8) {
        word = mix(&state);
        memcpy(audio + i, &word, 8);
    }
    memset(audio + n, 0, 2);
}

static void make_audio(const struct form *form, uint8_t *out, uint32_t call, unsigned direction, uint32_t number)
{
    static uint8_t audio[FRAME_BYTES_MAX + 16];
    if (form->is_binary) {
        make_bytes(out, form->audio_bytes, call, direction, number);
        return;
    }
    make_bytes(audio, form->audio_bytes, call, direction, number);
    base64(audio, form->audio_bytes, (char *)out);
}

/* Changes one byte behind the header. */
static void corrupt_audio(const struct form *form, uint8_t *out)
{
    uint8_t *byte = out + (form->is_binary ? HEADER_BYTES : HEADER_BYTES / 3 * 4) + 1;
    *byte = form->is_binary ? *byte ^ 1 : *byte == 'A' ? 'B' : 'A';
}

/* Reads what the frame says of itself; `wire` is at least a header long. */
static bool read_header(const struct form *form, const char *wire, uint32_t *call, unsigned *direction, uint32_t *number)
{
    uint8_t header[HEADER_BYTES];
    if (form->is_binary)
        memcpy(header, wire, HEADER_BYTES);
    for (int i = 0; i < 4 && !form->is_binary; i++) {
        unsigned group = 0;
        for (int j = 0; j < 4; j++) {
            int value = base64_value[(uint8_t)wire[i * 4 + j]];
            if (value < 0)
                return false;
            group = group << 6 | (unsigned)value;
        }
        header[i * 3] = (uint8_t)(group >> 16);
        header[i * 3 + 1] = (uint8_t)(group >> 8);
        header[i * 3 + 2] = (uint8_t)group;
    }
    *direction = header[1];
    memcpy(call, header + 2, 4);
    memcpy(number, header + 6, 4);
    uint64_t state = ((uint64_t)*call << 33 ^ *number) << 1 ^ *direction, word = mix(&state);
    return header[0] == 0x7f && !memcmp(header + 10, &word, 2);
}

#endif
