package soma.bench;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/** One tenant's state: its domains in order of appearance, and what the law needs to go on. */
final class TenantState {
  String[] domain = new String[4];
  double[] error = new double[4]; // last reported error
  double[] loss = new double[4]; // 1 - exp(-alpha * error)
  double[] weight = new double[4]; // fixed-share weights; stale domains keep theirs
  long[] seen = new long[4]; // event time of the domain's last record, microseconds
  int domains;
  double delta; // summed mixability gaps
  int leader = -1;
  long leaderSince;

  int slot(String name) {
    for (int j = 0; j < domains; j++) {
      if (domain[j].equals(name)) {
        return j;
      }
    }
    return -1;
  }

  int add(String name) {
    if (domains == domain.length) {
      int more = 2 * domains;
      domain = Arrays.copyOf(domain, more);
      error = Arrays.copyOf(error, more);
      loss = Arrays.copyOf(loss, more);
      weight = Arrays.copyOf(weight, more);
      seen = Arrays.copyOf(seen, more);
    }
    domain[domains] = name;
    seen[domains] = Long.MIN_VALUE / 2;
    return domains++;
  }

  /** Row form: count, then name, error, loss, weight and seen of each domain, delta, leader, since. */
  static final class Rows implements Serde<TenantState>, Serializer<TenantState>, Deserializer<TenantState> {
    @Override
    public byte[] serialize(String topic, TenantState state) {
      if (state == null) {
        return null;
      }
      byte[][] names = new byte[state.domains][];
      int size = 1 + 8 + 1 + 8;
      for (int j = 0; j < state.domains; j++) {
        names[j] = state.domain[j].getBytes(StandardCharsets.UTF_8);
        size += 1 + names[j].length + 4 * 8;
      }
      ByteBuffer out = ByteBuffer.allocate(size);
      out.put((byte) state.domains);
      for (int j = 0; j < state.domains; j++) {
        out.put((byte) names[j].length).put(names[j]);
        out.putDouble(state.error[j]).putDouble(state.loss[j]).putDouble(state.weight[j]);
        out.putLong(state.seen[j]);
      }
      out.putDouble(state.delta).put((byte) state.leader).putLong(state.leaderSince);
      return out.array();
    }

    @Override
    public TenantState deserialize(String topic, byte[] row) {
      if (row == null) {
        return null;
      }
      TenantState state = new TenantState();
      ByteBuffer in = ByteBuffer.wrap(row);
      int domains = in.get();
      for (int k = 0; k < domains; k++) {
        byte[] name = new byte[in.get() & 0xff];
        in.get(name);
        int j = state.add(new String(name, StandardCharsets.UTF_8));
        state.error[j] = in.getDouble();
        state.loss[j] = in.getDouble();
        state.weight[j] = in.getDouble();
        state.seen[j] = in.getLong();
      }
      state.delta = in.getDouble();
      state.leader = in.get();
      state.leaderSince = in.getLong();
      return state;
    }

    @Override
    public Serializer<TenantState> serializer() {
      return this;
    }

    @Override
    public Deserializer<TenantState> deserializer() {
      return this;
    }

    @Override
    public void configure(Map<String, ?> settings, boolean key) {}

    @Override
    public void close() {}
  }
}
