import com.datastax.oss.driver.api.core.AllNodesFailedException;
import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;

/**
 * What the Java driver makes of errors: asks for keys 0..COUNT, odd ones with a statement called idempotent.
 *
 * <p>Errors HOST PORT COUNT
 */
public class Errors {
  static String named(Throwable error) {
    String name = error.getClass().getSimpleName();
    if (!(error instanceof AllNodesFailedException failed)) return name;
    var inner =
        failed.getAllErrors().values().stream()
            .flatMap(List::stream)
            .map(one -> one.getClass().getSimpleName())
            .collect(Collectors.toCollection(TreeSet::new));
    return name + " of " + String.join(", ", inner);
  }

  public static void main(String[] to) throws Exception {
    var config =
        DriverConfigLoader.programmaticBuilder()
            .withString(DefaultDriverOption.PROTOCOL_VERSION, "V4")
            .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(10))
            .build();
    var session =
        CqlSession.builder()
            .withConfigLoader(config)
            .withLocalDatacenter("datacenter1")
            .addContactPoint(new InetSocketAddress(to[0], Integer.parseInt(to[1])))
            .build();
    var nodes = session.getMetadata().getNodes();
    if (nodes.size() != 2) throw new AssertionError(nodes);
    session.execute(
        "CREATE KEYSPACE IF NOT EXISTS errors WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
    session.execute("CREATE TABLE IF NOT EXISTS errors.t (k int PRIMARY KEY, v int)");
    var read = session.prepare("SELECT v FROM errors.t WHERE k = ?");
    int count = Integer.parseInt(to[2]);
    for (int key = 0; key < count; key++) {
      try {
        session.execute(read.bind(key).setIdempotent(key % 2 == 1));
        System.out.println("key " + key + " succeeds");
      } catch (RuntimeException error) {
        System.out.println("key " + key + " " + named(error));
      }
      Thread.sleep(100); // a connection that is closed because of it is closed by then
    }
    try {
      session.execute(read.bind(count)); // so that closing at the end is nobody's
    } catch (RuntimeException error) {
      System.out.println("afterwards: " + named(error));
    }
    session.close();
  }
}
