package soma.bench;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * predictor_update to global_frame in Kafka Streams: exactly_once_v2, in-memory store with changelog.
 *
 * <p>Arguments: broker, application id, input topic, output topic, its topic id prefix, events,
 * stream threads, folders with the .avsc files, schema id of global_frame. Prints one JSON line.
 */
public final class Job {
  private Job() {}

  public static void main(String[] args) throws Exception {
    Path schemas = Path.of(args[7].split(":")[0]);
    Schema update = parse(schemas.resolve("predictor_update.v1.avsc"));
    Schema frame = parse(schemas.resolve("global_frame.v1.avsc"));
    Meter meter = new Meter(Long.parseLong(args[5]));
    run(
        args,
        meter,
        () -> new Fold(update, frame, Integer.parseInt(args[8]), args[4], meter),
        new TenantState.Rows());
  }

  /** Run a processor with a store of tenants until the meter has counted all; print its line. */
  static <T> void run(
      String[] args,
      Meter meter,
      ProcessorSupplier<byte[], byte[], byte[], byte[]> fold,
      Serde<T> rows)
      throws InterruptedException {
    Topology topology = new Topology();
    topology.addSource("in", new ByteArrayDeserializer(), new ByteArrayDeserializer(), args[2]);
    topology.addProcessor("fold", fold, "in");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(
            Stores.inMemoryKeyValueStore("tenants"), Serdes.String(), rows),
        "fold");
    topology.addSink("out", args[3], new ByteArraySerializer(), new ByteArraySerializer(), "fold");
    KafkaStreams streams = new KafkaStreams(topology, settings(args));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          System.exit(1);
          return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    streams.start();
    meter.done.await();
    String result = meter.json();
    streams.close(Duration.ofSeconds(20)); // commits what is open, so that every frame can be read
    System.out.println(result);
    System.exit(0);
  }

  static Schema parse(Path file) throws IOException {
    return new Schema.Parser().parse(Files.readString(file));
  }

  /** The five bytes in front of a value (Confluent wire format). */
  static byte[] header(int schemaId) {
    return ByteBuffer.allocate(5).put((byte) 0).putInt(schemaId).array();
  }

  private static Properties settings(String[] args) {
    Properties p = new Properties();
    p.put("bootstrap.servers", args[0]);
    p.put("application.id", args[1]);
    p.put("num.stream.threads", args[6]);
    p.put("processing.guarantee", "exactly_once_v2");
    p.put("commit.interval.ms", 1000); // the default, 100, is slower
    p.put("auto.offset.reset", "earliest");
    p.put("replication.factor", 1);
    p.put("state.dir", new File(System.getProperty("java.io.tmpdir"), args[1]).getPath());
    return p;
  }

  private static final class Fold implements Processor<byte[], byte[], byte[], byte[]> {
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final int[] in = new int[6];
    private final Schema frame;
    private final byte[] header;
    private final String idPrefix;
    private final Meter meter;
    private final Law law = new Law();
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<String, TenantState> tenants;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private GenericRecord record;

    Fold(Schema update, Schema frame, int schemaId, String idPrefix, Meter meter) {
      this.reader = new GenericDatumReader<>(update);
      this.writer = new GenericDatumWriter<>(frame);
      this.frame = frame;
      this.header = header(schemaId);
      this.idPrefix = idPrefix;
      this.meter = meter;
      String[] wanted = {"tenant", "domain", "error_metric", "ts", "observation_id"};
      for (int k = 0; k < wanted.length; k++) {
        in[k] = update.getField(wanted[k]).pos();
      }
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
        String tenant = record.get(in[0]).toString();
        String domain = record.get(in[1]).toString();
        long ts = (Long) record.get(in[3]);
        TenantState state = tenants.get(tenant);
        if (state == null) {
          state = new TenantState();
        }
        law.fold(state, domain, ((Float) record.get(in[2])).doubleValue(), ts);
        tenants.put(tenant, state);
        context.forward(message.withValue(encode(state, tenant, domain, ts, record.get(in[4]))));
        meter.count();
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }

    private byte[] encode(TenantState state, String tenant, String domain, long ts, Object observation)
        throws IOException {
      var place = context.recordMetadata().orElseThrow();
      GenericRecord out = new GenericData.Record(frame);
      out.put("frame_id", idPrefix + "-" + place.partition() + "-" + place.offset());
      out.put("tenant", tenant);
      out.put("ts", ts);
      out.put("domain", domain);
      out.put("leader", state.domain[state.leader]);
      out.put("weights", law.weights);
      out.put("errors", law.errors);
      out.put("confidence", law.confidence);
      out.put("entropy", law.entropy);
      out.put("regret_bound", Double.NaN);
      out.put("dwell_ms", law.dwellMs);
      out.put("veto", new GenericData.EnumSymbol(frame.getField("veto").schema(), "none"));
      out.put("rationale", "");
      out.put("observation_id", observation);
      out.put("config_version", 0L);
      bytes.reset();
      bytes.writeBytes(header);
      encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
      writer.write(out, encoder);
      encoder.flush();
      return bytes.toByteArray();
    }
  }
}
