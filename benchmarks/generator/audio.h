/* The audio of a frame: a header that names it, and noise from a place that follows from the same three numbers. */
#ifndef GENERATOR_AUDIO_H
#define GENERATOR_AUDIO_H
#include "basics.h"

enum {
    HEADER_BYTES = 12, /* magic, direction, call, number, check; 16 base64 characters */
    FRAME_BYTES_MIN = 16,
    FRAME_BYTES_MAX = 32000,
    AUDIO_ROOM = 65536,       /* for the audio of one frame, either way of writing it */
    NOISE_BEGINNINGS = 12288, /* small, so that the noise of short frames stays in the processor's caches */
    NOISE_BYTES = (NOISE_BEGINNINGS + FRAME_BYTES_MAX) / 3 * 3,
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

/* Noise, and the same as base64. */
static uint8_t noise[NOISE_BYTES + 2], noise_text[NOISE_BYTES / 3 * 4 + 1];

static void audio_setup(void)
{
    uint64_t state = 0;
    for (size_t i = 0; i < NOISE_BYTES; i++)
        noise[i] = (uint8_t)(mix(&state) >> 56);
    base64(noise, NOISE_BYTES, (char *)noise_text);
}

/* The state of the random numbers that belong to a frame. */
static uint64_t state_of(uint32_t call, unsigned direction, uint32_t number)
{
    return ((uint64_t)call << 33 ^ number) << 1 ^ direction;
}

/* Writes a header, or the base64 of one, and returns where in the noise the frame's audio begins, a multiple of 3. */
static size_t make_header(const struct form *form, uint8_t *out, uint32_t call, unsigned direction, uint32_t number)
{
    uint64_t state = state_of(call, direction, number), word = mix(&state);
    uint8_t header[HEADER_BYTES + 2] = {0x7f, (uint8_t)direction};
    memcpy(header + 2, &call, 4);
    memcpy(header + 6, &number, 4);
    memcpy(header + 10, &word, 2);
    if (form->is_binary)
        memcpy(out, header, HEADER_BYTES);
    else
        base64(header, HEADER_BYTES, (char *)out);
    return (word >> 16) % (NOISE_BEGINNINGS / 3) * 3;
}

static void make_audio(const struct form *form, uint8_t *out, uint32_t call, unsigned direction, uint32_t number)
{
    size_t at = make_header(form, out, call, direction, number), rest = form->audio_bytes - HEADER_BYTES;
    if (form->is_binary) {
        memcpy(out + HEADER_BYTES, noise + at, rest);
        return;
    }
    uint8_t *text = out + HEADER_BYTES / 3 * 4;
    memcpy(text, noise_text + at / 3 * 4, rest / 3 * 4);
    if (rest % 3) {
        uint8_t last[5] = {0};
        memcpy(last, noise + at + rest / 3 * 3, rest % 3);
        base64(last, rest % 3, (char *)text + rest / 3 * 4);
    }
}

/* Writes audio as it goes on the wire; `audio` has two bytes of zeros behind its end. */
static void write_audio(const struct form *form, uint8_t *out, const uint8_t *audio)
{
    if (form->is_binary)
        memcpy(out, audio, form->audio_bytes);
    else
        base64(audio, form->audio_bytes, (char *)out);
}

/* Changes one byte behind the header. */
static void corrupt_audio(const struct form *form, uint8_t *out)
{
    uint8_t *byte = out + (form->is_binary ? HEADER_BYTES : HEADER_BYTES / 3 * 4) + 1;
    *byte = form->is_binary ? *byte ^ 1 : *byte == 'A' ? 'B' : 'A';
}

/* Reads the header of a frame; `wire` has at least its length. */
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
    uint64_t state = state_of(*call, *direction, *number), word = mix(&state);
    return header[0] == 0x7f && !memcmp(header + 10, &word, 2);
}

#endif
