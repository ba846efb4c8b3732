package soma.bench;

import java.util.HashMap;
import java.util.Map;

/** The integrator's law with its default settings (fixed share), the same as ops/bench/law.py. */
final class Law {
  static final double ALPHA = 2.0;
  static final double SHARE = 0.001;
  static final double MARGIN = 0.05;
  static final long MIN_DWELL_US = 50_000;
  static final long STALE_AFTER_US = 10_000_000;

  final Map<String, Double> weights = new HashMap<>(8);
  final Map<String, Double> errors = new HashMap<>(8);
  double confidence;
  double entropy;
  long dwellMs;

  private boolean[] fresh = new boolean[4];

  /** Folds one record into the state; the frame's numbers are in this object's fields afterwards. */
  void fold(TenantState s, String domain, double error, long ts) {
    int moved = s.slot(domain);
    if (moved < 0) {
      moved = s.add(domain);
    }
    if (fresh.length < s.domains) {
      fresh = new boolean[2 * s.domains];
    }
    boolean entering = ts - s.seen[moved] > STALE_AFTER_US;
    int n = 0;
    for (int j = 0; j < s.domains; j++) {
      fresh[j] = j == moved || ts - s.seen[j] <= STALE_AFTER_US;
      if (fresh[j]) {
        n++;
      }
    }
    s.error[moved] = error;
    s.loss[moved] = 1.0 - Math.exp(-ALPHA * error);
    s.seen[moved] = Math.max(s.seen[moved], ts);
    enter(s, moved, entering, n);
    reweigh(s, n);
    publish(s, n);
    elect(s, ts);
  }

  /** Weights of the fresh domains sum to 1; one that appears or returns starts with share/n. */
  private void enter(TenantState s, int moved, boolean entering, int n) {
    double others = 0.0;
    for (int j = 0; j < s.domains; j++) {
      if (fresh[j] && !(entering && j == moved)) {
        others += s.weight[j];
      }
    }
    double start = n == 1 ? 1.0 : SHARE / n;
    double rest = entering ? 1.0 - start : 1.0;
    for (int j = 0; j < s.domains; j++) {
      if (!fresh[j]) {
        continue;
      }
      if (entering && j == moved) {
        s.weight[j] = start;
      } else {
        s.weight[j] = others > 0.0 ? s.weight[j] / others * rest : rest / (n - (entering ? 1 : 0));
      }
    }
  }

  private void reweigh(TenantState s, int n) {
    double mean = 0.0;
    double least = Double.POSITIVE_INFINITY;
    for (int j = 0; j < s.domains; j++) {
      if (fresh[j]) {
        mean += s.weight[j] * s.loss[j];
        least = Math.min(least, s.loss[j]);
      }
    }
    double gap;
    double sum = 0.0;
    if (n == 1) {
      gap = 0.0;
      sum = 1.0;
    } else if (s.delta <= 0.0) {
      for (int j = 0; j < s.domains; j++) {
        if (fresh[j]) {
          s.weight[j] = s.loss[j] == least ? s.weight[j] : 0.0;
          sum += s.weight[j];
        }
      }
      gap = mean - least;
    } else {
      double eta = Math.log(n) / s.delta;
      for (int j = 0; j < s.domains; j++) {
        if (fresh[j]) {
          s.weight[j] *= Math.exp(-eta * (s.loss[j] - least));
          sum += s.weight[j];
        }
      }
      gap = mean - (least - Math.log(sum) / eta);
    }
    for (int j = 0; j < s.domains; j++) {
      if (fresh[j]) {
        s.weight[j] = n == 1 ? 1.0 : (1.0 - SHARE) * s.weight[j] / sum + SHARE / n;
      }
    }
    s.delta = (1.0 - SHARE) * s.delta + Math.max(0.0, gap);
  }

  private void publish(TenantState s, int n) {
    weights.clear();
    errors.clear();
    double h = 0.0;
    for (int j = 0; j < s.domains; j++) {
      if (fresh[j]) {
        double w = s.weight[j];
        weights.put(s.domain[j], w);
        errors.put(s.domain[j], s.error[j]);
        if (w > 0.0) {
          h -= w * Math.log(w);
        }
      }
    }
    entropy = n == 1 ? 0.0 : h / Math.log(n);
  }

  private void elect(TenantState s, long ts) {
    int best = -1;
    for (int j = 0; j < s.domains; j++) {
      if (fresh[j] && (best < 0 || before(s, j, best))) {
        best = j;
      }
    }
    int leader = s.leader;
    if (leader < 0
        || !fresh[leader]
        || (best != leader
            && s.weight[best] > s.weight[leader] + MARGIN
            && ts - s.leaderSince >= MIN_DWELL_US)) {
      if (best != leader) {
        s.leaderSince = ts;
      }
      s.leader = best;
    }
    confidence = s.weight[s.leader];
    dwellMs = Math.max(0, ts - s.leaderSince) / 1000;
  }

  private static boolean before(TenantState s, int a, int b) {
    if (s.weight[a] != s.weight[b]) {
      return s.weight[a] > s.weight[b];
    }
    int ra = rank(s.domain[a]);
    int rb = rank(s.domain[b]);
    return ra != rb ? ra < rb : s.domain[a].compareTo(s.domain[b]) < 0;
  }

  private static int rank(String domain) {
    return switch (domain) {
      case "state" -> 0;
      case "agent" -> 1;
      case "action" -> 2;
      default -> 3;
    };
  }
}
