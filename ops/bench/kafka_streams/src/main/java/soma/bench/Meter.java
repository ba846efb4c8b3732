package soma.bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

/** Counts records from the first to the last, with the time and the process's CPU between. */
final class Meter {
  private static final OperatingSystemMXBean OS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  final CountDownLatch done = new CountDownLatch(1);
  private final long events;
  private final AtomicLong counted = new AtomicLong();
  private long startNs;
  private long startCpuNs;
  private long middleNs;
  private long middleCpuNs;
  private long endNs;
  private long endCpuNs;

  Meter(long events) {
    this.events = events;
  }

  void count() {
    long n = counted.incrementAndGet();
    if (n == 1) {
      startCpuNs = OS.getProcessCpuTime();
      startNs = System.nanoTime();
    }
    if (n == events / 2) {
      middleCpuNs = OS.getProcessCpuTime();
      middleNs = System.nanoTime();
    }
    if (n == events) {
      endNs = System.nanoTime();
      endCpuNs = OS.getProcessCpuTime();
      done.countDown();
    }
  }

  String json() {
    long half = events - events / 2;
    return String.format(
        Locale.ROOT,
        "{\"peer\": \"kstreams\", \"events\": %d, \"events_per_s\": %.1f, \"cpu_us_per_event\": %.3f, "
            + "\"warm_events_per_s\": %.1f, \"warm_cpu_us_per_event\": %.3f}",
        events,
        events / ((endNs - startNs) / 1e9),
        (endCpuNs - startCpuNs) / 1e3 / events,
        half / ((endNs - middleNs) / 1e9),
        (endCpuNs - middleCpuNs) / 1e3 / half);
  }
}
