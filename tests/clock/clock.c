/* Another time of day: preloaded, it adds KRONOS_CLOCK_OFFSET seconds to what the clock of the day says.
 *
 * libfaketime does more, and so takes a lock: in a handler of a signal that interrupts it, it tells the real time. There
 * PostgreSQL asks whether a statement's time is up, and then waits for years. Here is nothing that a signal could meet
 * halfway. Timers, waits and the times of files stay real, as does the monotonic clock. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset;

__attribute__((constructor)) static void read_offset(void)
{
    const char *seconds = getenv("KRONOS_CLOCK_OFFSET");
    offset = seconds ? (time_t)strtoll(seconds, NULL, 10) : 0;
}

/* The system call, not the function of the C library, which this one replaces. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset;
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds)
{
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return (time_t)-1;
    if (seconds)
        *seconds = exact.tv_sec;
    return exact.tv_sec;
}
