import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.cql.*;
import com.datastax.oss.driver.api.core.servererrors.InvalidQueryException;
import com.datastax.oss.driver.api.core.servererrors.SyntaxError;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;

/**
 * The Java driver against one CQL address: what a service does with it. Prints "ok NAME: figures" lines, then "done".
 *
 * <p>Driver HOST PORT KEYSPACE VERSION COMPRESSION(none|lz4|snappy) [reconnect]
 *
 * <p>With "reconnect" it says "ready" once everything else is done, expects the server to go away and to come back,
 * and says how long no request succeeded. Lines with "rows=" are the same whatever stands between it and the cluster.
 */
public class Driver {
  static final int ROWS = 1000, KEYS = 15_000, PAGE = 100, BURST = 200;

  static void ok(String name, String said) {
    System.out.println("ok " + name + ": " + said);
    System.out.flush();
  }

  static void expect(boolean holds, Object what) {
    if (!holds) throw new AssertionError(String.valueOf(what));
  }

  static CqlSession session(String[] to, String keyspace) {
    var config =
        DriverConfigLoader.programmaticBuilder()
            .withString(DefaultDriverOption.PROTOCOL_VERSION, "V" + to[3])
            .withString(DefaultDriverOption.PROTOCOL_COMPRESSION, to[4])
            .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(60))
            .withString(DefaultDriverOption.SESSION_NAME, "java-driver-test")
            .build();
    var builder = CqlSession.builder().withConfigLoader(config).withLocalDatacenter("datacenter1");
    builder.addContactPoint(new InetSocketAddress(to[0], Integer.parseInt(to[1])));
    return (keyspace == null ? builder : builder.withKeyspace(keyspace)).build();
  }

  static String digest(Iterable<Row> rows) throws Exception {
    var hashed = MessageDigest.getInstance("SHA-256");
    int count = 0;
    for (Row row : rows) {
      hashed.update((row.getInt("k") + "=" + row.getString("v") + ";").getBytes(StandardCharsets.UTF_8));
      count++;
    }
    return "rows=" + count + " digest=" + HexFormat.of().formatHex(hashed.digest(), 0, 8);
  }

  /** Identical reads at once, each with the timestamp that the driver gives it: one answer for all. */
  static String identical(CqlSession session, BoundStatement read) throws Exception {
    var generator = session.getContext().getTimestampGenerator();
    expect(generator.next() != Statement.NO_DEFAULT_TIMESTAMP, generator);
    String alone = digest(session.execute(read));
    var burst = IntStream.range(0, BURST).mapToObj(n -> session.executeAsync(read).toCompletableFuture()).toList();
    for (var one : burst) expect(digest(one.get().currentPage()).equals(alone), "another answer than " + alone);
    return alone;
  }

  static String eventually(String what, BooleanSupplier holds) throws Exception {
    long begun = System.nanoTime();
    while (!holds.getAsBoolean()) {
      expect(System.nanoTime() - begun < 10_000_000_000L, "not within 10 s: " + what);
      Thread.sleep(20);
    }
    return seconds(begun);
  }

  static String seconds(long since) {
    return String.format(Locale.ROOT, "%.2f s", (System.nanoTime() - since) / 1e9);
  }

  /** How long no request succeeds while the server is away; each asks for an answer within a second. */
  static String reconnect(CqlSession session, PreparedStatement read) throws Exception {
    System.out.println("ready");
    long begun = System.nanoTime(), lost = 0;
    while (true) {
      expect(System.nanoTime() - begun < 120_000_000_000L, "never again");
      try {
        session.execute(read.bind(List.of(1)).setTimeout(Duration.ofSeconds(1)));
        if (lost != 0) return "gap " + seconds(lost);
      } catch (RuntimeException error) {
        lost = lost == 0 ? System.nanoTime() : lost;
        System.out.println("# " + error.getClass().getSimpleName());
      }
      Thread.sleep(20);
    }
  }

  static void refused(Class<? extends Exception> kind, CqlSession session, String text) {
    try {
      session.execute(text);
    } catch (RuntimeException error) {
      expect(kind.isInstance(error), error);
      return;
    }
    throw new AssertionError(text + " was not refused");
  }

  public static void main(String[] to) throws Exception {
    var first = session(to, null);
    String keyspace = to[2], hosts = first.getMetadata().getNodes().keySet().toString();
    expect(first.getMetadata().getNodes().size() == 1, hosts);
    ok("connect", "version " + first.getContext().getProtocolVersion() + ", " + hosts);

    first.execute("DROP KEYSPACE IF EXISTS " + keyspace);
    first.execute("CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
    first.execute("CREATE TABLE " + keyspace + ".t (k int PRIMARY KEY, v text)");
    ok("ddl", "");

    var insert = first.prepare("INSERT INTO " + keyspace + ".t (k, v) VALUES (?, ?)");
    for (int k = 0; k < ROWS; k++) first.execute(insert.bind(k * 7, "v" + k));
    ok("inserts", "" + ROWS);

    var read = first.prepare("SELECT k, v FROM " + keyspace + ".t WHERE k IN ?");
    ok("in", digest(first.execute(read.bind(IntStream.range(0, KEYS).boxed().toList()))));
    ok("burst", identical(first, first.prepare("SELECT k, v FROM " + keyspace + ".t WHERE k = ?").bind(7)));
    var paged = first.execute(SimpleStatement.newInstance("SELECT k, v FROM " + keyspace + ".t").setPageSize(PAGE));
    ok("paging", digest(paged) + " pages=" + paged.getExecutionInfos().size());

    var batched = IntStream.range(100_000, 100_020).boxed().toList();
    var batch = BatchStatement.builder(BatchType.UNLOGGED);
    for (int k : batched) batch.addStatement(insert.bind(k, "batched"));
    first.execute(batch.build());
    ok("batch", digest(first.execute(read.bind(batched))));

    var own = session(to, keyspace);
    own.execute(own.prepare("INSERT INTO t (k, v) VALUES (?, ?)").bind(200_000, "own"));
    expect(own.execute("SELECT v FROM t WHERE k = ?", 200_000).one().getString("v").equals("own"), "own");
    ok("keyspaces", "");

    own.execute("ALTER TABLE " + keyspace + ".t ADD extra int");
    ok("schema change", eventually("the new column is seen", () ->
        first.getMetadata().getKeyspace(keyspace).flatMap(k -> k.getTable("t")).flatMap(t -> t.getColumn("extra")).isPresent()));
    own.close();

    refused(SyntaxError.class, first, "SELEC nothing");
    refused(InvalidQueryException.class, first, "SELECT * FROM " + keyspace + ".nowhere");
    refused(InvalidQueryException.class, first, "SELECT nothing FROM " + keyspace + ".t WHERE k = 1");
    ok("errors", digest(first.execute(read.bind(List.of(7)))));

    if (to.length > 5) ok("reconnect", reconnect(first, read));
    first.close();
    // In a session of its own: after a DDL the driver waits for its control connection, and when that is just being made
    // again (reconnect) it may wait until the request has timed out, although the DDL was answered.
    try (var last = session(to, null)) {
      last.execute("DROP KEYSPACE " + keyspace);
    }
    System.out.println("done");
  }
}
