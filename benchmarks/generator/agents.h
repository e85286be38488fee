/*
 * The messages of the agent's side of a call, for each protocol that the bridge speaks.
 *
 * In the texts `#` is the number of the agent's turn (in messages of the bridge: any number) and `$` the stream's SID;
 * several messages are separated by line breaks.
 */
#ifndef GENERATOR_AGENTS_H
#define GENERATOR_AGENTS_H
#include "legs.h"

enum { ANSWERS_MAX = 5 };

/* The beginning of a message of the bridge, and the answer to it; NULL for none. */
struct answer {
    const char *asked, *answer;
};

/*
 * has_id: the path of the agent's socket ends in the number of the call. Otherwise the first audio on the socket
 *     identifies the call.
 * is_probed: the caller sends its first frame at once, and the call is up when the agent receives it. Needed without an
 *     id, and if the bridge waits for a message of the agent.
 * is_settled_first: no audio may come before the message that the first of `answers` answers.
 * is_binary: audio is binary both ways; else base64 text between the two texts of each way.
 * audio_factor: bytes of the agent's audio for one of the caller's. If not 1 it is resampled, see transcoded.h.
 */
struct protocol {
    bool has_id, is_probed, is_settled_first, is_binary;
    size_t audio_factor;
    const char *to_agent[2], *to_bridge[2];
    const char *opening, *turn, *interrupt;
    struct answer answers[ANSWERS_MAX];
};

#define OPENAI_ITEM "\"response_id\":\"resp_load0000000000000000#\",\"item_id\":\"item_load0000000000000000#\"," \
                    "\"output_index\":0,\"content_index\":0"
#define ELEVENLABS(format)                                                                                             \
    .to_agent = {"{\"user_audio_chunk\":\"", "\"}"},                                                                   \
    .to_bridge = {"{\"type\":\"audio\",\"audio_event\":{\"audio_base_64\":\"", "\",\"event_id\":#}}"},                 \
    .interrupt = "{\"type\":\"interruption\",\"interruption_event\":{\"event_id\":#}}",                                \
    .answers = {{"{\"type\":\"conversation_initiation_client_data\"",                                                  \
                 "{\"type\":\"conversation_initiation_metadata\",\"conversation_initiation_metadata_event\":{"         \
                 "\"conversation_id\":\"conv_load\",\"agent_output_audio_format\":\"" format "\","                     \
                 "\"user_input_audio_format\":\"" format "\"}}\n"                                                      \
                 "{\"type\":\"ping\",\"ping_event\":{\"event_id\":1,\"ping_ms\":50}}"},                                \
                {"{\"type\":\"pong\",\"event_id\":", NULL}}

/* In the order of PROTOCOLS in benchmarks/agents.py. */
static const struct protocol protocols[] = {
    /* retell */
    {.has_id = true, .audio_factor = 1,
     .to_agent = {"{\"type\":\"audio\",\"audio_encoding\":\"mulaw\",\"sample_rate\":8000,\"data\":\"", "\"}"},
     .to_bridge = {"{\"type\":\"audio\",\"data\":\"", "\"}"},
     .interrupt = "{\"type\":\"interrupt\"}"},
    /* retell-web */
    {.has_id = true, .audio_factor = 1, .is_binary = true,
     .interrupt = "clear",
     .answers = {{"ping", "pong"}}},
    /* retell-twilio */
    {.has_id = true, .audio_factor = 1,
     .to_agent = {"{\"event\":\"media\",\"sequenceNumber\":\"#\",\"media\":{\"track\":\"inbound\",\"chunk\":\"#\","
                  "\"timestamp\":\"#\",\"payload\":\"",
                  "\"},\"streamSid\":\"$\"}"},
     .to_bridge = {"{\"event\":\"media\",\"streamSid\":\"$\",\"media\":{\"payload\":\"", "\"}}"},
     .interrupt = "{\"event\":\"clear\",\"streamSid\":\"$\"}",
     .answers = {{"{\"event\":\"connected\"", NULL}, {"{\"event\":\"start\"", NULL}, {"{\"event\":\"mark\"", NULL},
                 {"{\"event\":\"stop\"", NULL}}},
    /* openai */
    {.is_probed = true, .is_settled_first = true, .audio_factor = 1,
     .to_agent = {"{\"type\":\"input_audio_buffer.append\",\"audio\":\"", "\"}"},
     .to_bridge = {"{\"type\":\"response.output_audio.delta\",\"event_id\":\"event_load000000000000000\"," OPENAI_ITEM
                   ",\"delta\":\"",
                   "\"}"},
     .opening = "{\"type\":\"session.created\",\"event_id\":\"event_load000000000000000\",\"session\":{\"type\":"
                "\"realtime\",\"object\":\"realtime.session\",\"id\":\"sess_load\",\"model\":\"gpt-realtime\"}}",
     .turn = "{\"type\":\"response.content_part.added\",\"event_id\":\"event_load000000000000000\"," OPENAI_ITEM
             ",\"part\":{\"type\":\"audio\",\"transcript\":\"\"}}",
     .interrupt = "{\"type\":\"input_audio_buffer.speech_started\",\"event_id\":\"event_load000000000000000\","
                  "\"audio_start_ms\":0,\"item_id\":\"item_callers\"}",
     .answers = {{"{\"type\":\"session.update\"",
                  "{\"type\":\"session.updated\",\"event_id\":\"event_load000000000000000\",\"session\":{\"type\":"
                  "\"realtime\",\"object\":\"realtime.session\",\"id\":\"sess_load\",\"model\":\"gpt-realtime\"}}"},
                 {"{\"type\":\"conversation.item.truncate\"", NULL}}},
    /* elevenlabs */
    {.is_probed = true, .is_settled_first = true, .audio_factor = 1, ELEVENLABS("ulaw_8000")},
    /* elevenlabs-pcm */
    {.has_id = true, .is_probed = true, .is_settled_first = true, .audio_factor = 4, ELEVENLABS("pcm_16000")},
    /* deepgram */
    {.is_probed = true, .is_settled_first = true, .audio_factor = 1, .is_binary = true,
     .opening = "{\"type\":\"Welcome\",\"request_id\":\"load\"}",
     .interrupt = "{\"type\":\"UserStartedSpeaking\"}",
     .answers = {{"{\"type\":\"Settings\"", "{\"type\":\"SettingsApplied\"}"}, {"{\"type\":\"KeepAlive\"}", NULL}}},
    /* json */
    {.is_probed = true, .audio_factor = 1,
     .to_agent = {"{\"kind\":\"audio\",\"body\":{\"b64\":\"", "\"}}"},
     .to_bridge = {"{\"kind\":\"audio\",\"body\":{\"b64\":\"", "\"}}"},
     .interrupt = "{\"kind\":\"stop_talking\"}"},
    /* binary */
    {.is_probed = true, .audio_factor = 1, .is_binary = true,
     .interrupt = "{\"type\":\"interrupt\"}"},
};

static const struct protocol *protocol = &protocols[0];

/* Writes a text with its places filled, up to a line break; returns its end. */
static uint8_t *fill(uint8_t *p, const char *text, uint32_t turn, const char *stream_sid)
{
    for (;;) {
        size_t literal = strcspn(text, "#$\n");
        p = text_to(p, text, literal);
        text += literal;
        if (*text != '#' && *text != '$')
            return p;
        p = *text++ == '#' ? number_to(p, turn) : text_to(p, stream_sid, strlen(stream_sid));
    }
}

/* Returns the end of such a text if `at` begins with it, else NULL. */
static const char *after(const char *at, const char *end, const char *text, const char *stream_sid)
{
    for (;;) {
        size_t literal = strcspn(text, "#$");
        if ((size_t)(end - at) < literal || memcmp(at, text, literal))
            return NULL;
        at += literal;
        text += literal;
        if (!*text)
            return at;
        size_t n = strlen(stream_sid);
        if (*text++ == '#')
            for (n = 0; at + n < end && at[n] >= '0' && at[n] <= '9';)
                n++;
        else if ((size_t)(end - at) < n || memcmp(at, stream_sid, n))
            return NULL;
        if (!n)
            return NULL;
        at += n;
    }
}

/* Finds the base64 text of a frame to the agent; the whole message around it must be as expected. */
static bool find_audio(const char **text, size_t *n, const char *stream_sid)
{
    const char *end = *text + *n, *audio, *audio_end;
    if (protocol->is_binary || !(audio = after(*text, end, protocol->to_agent[0], stream_sid)) ||
        !(audio_end = memchr(audio, '"', (size_t)(end - audio))) ||
        after(audio_end, end, protocol->to_agent[1], stream_sid) != end)
        return false;
    *text = audio;
    *n = (size_t)(audio_end - audio);
    return true;
}

static const struct answer *find_answer(const char *text, size_t n)
{
    for (const struct answer *a = protocol->answers; a < protocol->answers + ANSWERS_MAX && a->asked; a++)
        if (n >= strlen(a->asked) && !memcmp(text, a->asked, strlen(a->asked)))
            return a;
    return NULL;
}

/* Sends messages that are separated by line breaks. */
static void put_texts(struct leg *leg, const char *texts, uint32_t turn, const char *stream_sid)
{
    for (; texts; texts = strchr(texts, '\n'), texts = texts ? texts + 1 : NULL) {
        uint8_t *start = outgoing + 8, *end = fill(start, texts, turn, stream_sid);
        put_frame(leg, OP_TEXT, start, (size_t)(end - start));
    }
}

#endif
