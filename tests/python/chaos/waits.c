/* Makes C11's timed wait follow a clock that libfaketime moved.

   librdkafka waits with C11's cnd_timedwait, which libfaketime does not know: a moment by the moved clock would be waited
   for by the machine's own. For a clock that is slow every such moment is past, so that each of librdkafka's threads
   spins; for one that is fast each wait is too long. libfaketime knows POSIX's wait, so preloaded before it this hands
   one on to the other. In glibc both kinds of condition and of mutex are the same (nptl/cnd_timedwait.c). */

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
