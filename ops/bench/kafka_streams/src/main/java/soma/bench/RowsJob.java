package soma.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Observations counted by tenant, one record for each: arguments as {@link Job}'s. */
public final class RowsJob {
  private RowsJob() {}

  public static void main(String[] args) throws Exception {
    String[] folders = args[7].split(":");
    Schema observation = Job.parse(Path.of(folders[0], "observation.v1.avsc"));
    Schema count = Job.parse(Path.of(folders[1], "observation_count.v1.avsc"));
    Meter meter = new Meter(Long.parseLong(args[5]));
    int id = Integer.parseInt(args[8]);
    Job.run(args, meter, () -> new Counting(observation, count, id, args[4], meter), new Rows());
  }

  private static final class Count {
    long total;
    long lastTs;
    double norms;
  }

  private static final class Rows implements Serde<Count>, Serializer<Count>, Deserializer<Count> {
    @Override
    public byte[] serialize(String topic, Count row) {
      if (row == null) {
        return null;
      }
      return ByteBuffer.allocate(24)
          .putLong(row.total)
          .putLong(row.lastTs)
          .putDouble(row.norms)
          .array();
    }

    @Override
    public Count deserialize(String topic, byte[] bytes) {
      if (bytes == null) {
        return null;
      }
      ByteBuffer in = ByteBuffer.wrap(bytes);
      Count row = new Count();
      row.total = in.getLong();
      row.lastTs = in.getLong();
      row.norms = in.getDouble();
      return row;
    }

    @Override
    public Serializer<Count> serializer() {
      return this;
    }

    @Override
    public Deserializer<Count> deserializer() {
      return this;
    }

    @Override
    public void configure(Map<String, ?> configs, boolean isKey) {}

    @Override
    public void close() {}
  }

  private static final class Counting implements Processor<byte[], byte[], byte[], byte[]> {
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final int tenantAt;
    private final int tsAt;
    private final int vectorAt;
    private final Schema count;
    private final byte[] header;
    private final String idPrefix;
    private final Meter meter;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(256);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<String, Count> tenants;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private GenericRecord record;

    Counting(Schema observation, Schema count, int schemaId, String idPrefix, Meter meter) {
      this.reader = new GenericDatumReader<>(observation);
      this.writer = new GenericDatumWriter<>(count);
      this.tenantAt = observation.getField("tenant").pos();
      this.tsAt = observation.getField("ts").pos();
      this.vectorAt = observation.getField("vector").pos();
      this.count = count;
      this.header = Job.header(schemaId);
      this.idPrefix = idPrefix;
      this.meter = meter;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      this.tenants = context.getStateStore("tenants");
    }

    @Override
    public void process(Record<byte[], byte[]> message) {
      try {
        byte[] value = message.value();
        decoder = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, decoder);
        record = reader.read(record, decoder);
        String tenant = record.get(tenantAt).toString();
        Count row = tenants.get(tenant);
        if (row == null) {
          row = new Count();
        }
        row.total++;
        row.lastTs = (Long) record.get(tsAt);
        row.norms += norm((ByteBuffer) record.get(vectorAt));
        tenants.put(tenant, row);
        context.forward(message.withValue(encode(row, tenant)));
        meter.count();
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }

    private static double norm(ByteBuffer vector) {
      ByteBuffer in = vector.order(ByteOrder.LITTLE_ENDIAN);
      double sum = 0;
      while (in.remaining() >= 4) {
        double x = in.getFloat();
        sum += x * x;
      }
      return Math.sqrt(sum);
    }

    private byte[] encode(Count row, String tenant) throws IOException {
      var place = context.recordMetadata().orElseThrow();
      GenericRecord out = new GenericData.Record(count);
      out.put("tenant", tenant);
      out.put("ts", row.lastTs);
      out.put("total", row.total);
      out.put("norms", row.norms);
      out.put("observation_id", idPrefix + "-" + place.partition() + "-" + place.offset());
      bytes.reset();
      bytes.writeBytes(header);
      encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
      writer.write(out, encoder);
      encoder.flush();
      return bytes.toByteArray();
    }
  }
}
