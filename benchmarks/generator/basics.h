/* Basics without knowledge of calls: time, randomness, histograms, SHA-1, base64, small writers. */
#ifndef GENERATOR_BASICS_H
#define GENERATOR_BASICS_H
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define SECOND 1000000000ull

enum { BUCKETS = 60 * 64 };

struct histogram {
    uint64_t count, max, bucket[BUCKETS];
};

struct bytes {
    uint8_t *at;
    size_t length, capacity;
};

static uint16_t base64_pair[4096];
static int8_t base64_value[256];

static uint64_t nanoseconds(struct timespec t) { return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec; }

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return nanoseconds(t);
}

static uint64_t mix(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

static void append(struct bytes *b, const void *data, size_t n)
{
    if (!n)
        return;
    if (b->length + n > b->capacity) {
        b->capacity = (b->length + n) * 2;
        b->at = realloc(b->at, b->capacity);
        if (!b->at)
            fail("memory");
    }
    memcpy(b->at + b->length, data, n);
    b->length += n;
}

/* Buckets of 1/64 of their power of two: a quantile is at most 1.6 % too high, never too low. */
static void record(struct histogram *h, uint64_t ns)
{
    unsigned index = (unsigned)ns;
    if (ns >= 64) {
        unsigned exponent = 63 - (unsigned)__builtin_clzll(ns);
        index = (exponent - 5) * 64 + (unsigned)((ns >> (exponent - 6)) & 63);
    }
    h->bucket[index]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

static double quantile_us(const struct histogram *h, double q)
{
    uint64_t rank = (uint64_t)(q * (double)h->count + 0.999999), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (h->bucket[i] && seen >= rank) {
            uint64_t top = i < 64 ? i : ((uint64_t)(64 + i % 64 + 1) << (i / 64 - 1)) - 1;
            return (double)(top < h->max ? top : h->max) / 1e3;
        }
    }
    return 0;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf("\"%s\":{\"count\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name,
           (unsigned long long)h->count, quantile_us(h, 0.5), quantile_us(h, 0.99), quantile_us(h, 0.999),
           (double)h->max / 1e3);
}

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const uint8_t *data, size_t n, uint8_t out[20])
{
    uint8_t message[192] = {0}; /* a key and the GUID are 60 bytes */
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t total = (n + 8) / 64 * 64 + 64;
    if (total > sizeof message)
        n = 0, total = 64;
    memcpy(message, data, n);
    message[n] = 0x80;
    for (int i = 0; i < 8; i++)
        message[total - 1 - (size_t)i] = (uint8_t)((uint64_t)n * 8 >> (8 * i));
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = message + block + i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++)
            w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5a827999
                : i < 40        ? (b ^ c ^ d) + 0x6ed9eba1
                : i < 60        ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t t = rotate(a, 5) + f + e + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

static void base64_setup(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(base64_value, -1, sizeof base64_value);
    for (int i = 0; i < 64; i++)
        base64_value[(uint8_t)alphabet[i]] = (int8_t)i;
    for (int i = 0; i < 4096; i++) {
        char pair[2] = {alphabet[i >> 6], alphabet[i & 63]};
        memcpy(&base64_pair[i], pair, 2);
    }
}

/* `in` is read up to two bytes past its end; these must be zero. */
static size_t base64(const uint8_t *in, size_t n, char *out)
{
    char *o = out;
    for (size_t i = 0; i < n; i += 3, o += 4) {
        unsigned group = (unsigned)in[i] << 16 | (unsigned)in[i + 1] << 8 | in[i + 2];
        memcpy(o, &base64_pair[group >> 12], 2);
        memcpy(o + 2, &base64_pair[group & 4095], 2);
    }
    if (n % 3)
        o[-1] = '=';
    if (n % 3 == 1)
        o[-2] = '=';
    return (size_t)(o - out);
}

static void accept_key(const char *key, char *out)
{
    char text[128];
    uint8_t digest[24] = {0};
    int n = snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1((uint8_t *)text, (size_t)n, digest);
    out[base64(digest, 20, out)] = 0;
}

static void mask_in_place(uint8_t *p, size_t n, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        word ^= wide;
        memcpy(p + i, &word, 8);
    }
    for (; i < n; i++)
        p[i] ^= (uint8_t)(key >> i % 4 * 8);
}

static uint8_t *text_to(uint8_t *p, const char *text, size_t n) { return (uint8_t *)memcpy(p, text, n) + n; }
#define LITERAL_TO(p, literal) text_to(p, literal, sizeof(literal) - 1)

static uint8_t *number_to(uint8_t *p, uint32_t value)
{
    char digits[10];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *p++ = (uint8_t)digits[--n];
    return p;
}

#endif
