/* Makes C11's timed wait use the clock that libfaketime has shifted.

   librdkafka waits with C11's cnd_timedwait, which libfaketime does not intercept, so a deadline by the shifted clock would
   be compared with the machine's own. If the shifted clock is slow, every deadline is in the past, and each of librdkafka's
   threads spins; if it is fast, each wait is too long. libfaketime intercepts the POSIX function, so this library, preloaded
   before it, redirects the C11 function to the POSIX one. In glibc both have the same types of conditions and mutexes
   (nptl/cnd_timedwait.c). */

#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
  switch (pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until)) {
    case 0:
      return thrd_success;
    case ETIMEDOUT:
      return thrd_timedout;
    default:
      return thrd_error;
  }
}
