/* The phases of a run, from the ramp to the result, and their output. */
#ifndef GENERATOR_PHASES_H
#define GENERATOR_PHASES_H
#include "calls.h"

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
    print_count("reads_without_stamp", reads_without_stamp);
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

/* Enters the next phase when it is due; called every turn. */
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

#endif
