//! What weir says of its connections to backends, from the page that it serves to anybody who scrapes it.

/// Attempts to connect to a backend, by result.
const OPENS: &str = "weir_backend_connection_opens_total";
/// Connections to a backend, by state.
const CONNECTIONS: &str = "weir_backend_connections";
/// When the process started.
const START: &str = "process_start_time_seconds";

/// Results of attempts whose connection was established for certain.
const ESTABLISHED: [&str; 3] = ["ok", "auth", "tls"];
/// Results of attempts whose connection may have been.
const PERHAPS: [&str; 2] = ["timeout", "error"];

/// One weir's word, as totals since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// When it started, in seconds since 1970: another number is another weir.
    pub start: f64,
    /// Attempts whose connection was established.
    pub opened: u64,
    /// Attempts of which that is not known.
    pub perhaps: u64,
    /// Attempts under way.
    pub connecting: u64,
}

impl Said {
    /// Reads a page in the text format, of backends that `counts` says yes to.
    ///
    /// # Errors
    /// When it is no page of weir's.
    pub fn read(page: &str, counts: impl Fn(&str) -> bool) -> Result<Said, String> {
        let mut said = Said::default();
        let (mut started, mut opens) = (false, false);
        for line in page.lines() {
            if let Some(value) = line.strip_prefix(START).and_then(|rest| rest.strip_prefix(' ')) {
                said.start = value.trim().parse().map_err(|_| format!("{START} is no number"))?;
                started = true;
            }
            opens |= line.starts_with("# TYPE ") && line.contains(OPENS);
            let Some((name, labels, value)) = series(line) else { continue };
            if name != OPENS && name != CONNECTIONS {
                continue;
            }
            let (Some(backend), Ok(value)) = (labels.of("backend"), value.parse::<f64>()) else {
                return Err(format!("{name} has a series that cannot be read"));
            };
            if !counts(&backend) {
                continue;
            }
            let value = value.max(0.0) as u64;
            match (name, labels.of("result").as_deref(), labels.of("state").as_deref()) {
                (OPENS, Some(result), _) if ESTABLISHED.contains(&result) => said.opened += value,
                (OPENS, Some(result), _) if PERHAPS.contains(&result) => said.perhaps += value,
                (CONNECTIONS, _, Some("connecting")) => said.connecting += value,
                _ => {}
            }
        }
        if !started || !opens {
            return Err(format!("the page has no {}", if opens { START } else { OPENS }));
        }
        Ok(said)
    }
}

/// The labels of a series, between its braces.
struct Labels<'p>(&'p str);

impl Labels<'_> {
    /// The value of a label, unescaped.
    fn of(&self, name: &str) -> Option<String> {
        let mut rest = self.0;
        loop {
            let (found, after) = rest.split_once("=\"")?;
            let (value, end) = quoted(after)?;
            if found == name {
                return Some(value);
            }
            rest = after.get(end..)?.strip_prefix(',')?;
        }
    }
}

/// The text up to the closing quote, and where what follows begins.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, character)) = chars.next() {
        match character {
            '"' => return Some((value, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// Name, labels and value of a line that has labels.
fn series(line: &str) -> Option<(&str, Labels<'_>, &str)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    (!name.starts_with('#')).then_some((name, Labels(labels), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE weir_backend_connections gauge
weir_backend_connections{backend=\"a:1\",state=\"connecting\"} 2
weir_backend_connections{backend=\"a:1\",state=\"ready\"} 40
# TYPE weir_backend_connection_opens_total counter
weir_backend_connection_opens_total{backend=\"a:1\",result=\"ok\"} 7
weir_backend_connection_opens_total{backend=\"a:1\",result=\"auth\"} 1
weir_backend_connection_opens_total{backend=\"a:1\",result=\"refused\"} 100
weir_backend_connection_opens_total{backend=\"a:1\",result=\"timeout\"} 3
weir_backend_connection_opens_total{backend=\"b\\\"}{,\\\\:2\",result=\"ok\"} 1000
process_start_time_seconds 1700000000.25
";

    #[test]
    fn attempts_are_sorted_by_what_they_say_of_the_connection() {
        let said = Said::read(PAGE, |backend| backend == "a:1");
        assert_eq!(said, Ok(Said { start: 1_700_000_000.25, opened: 8, perhaps: 3, connecting: 2 }));
        let other = Said::read(PAGE, |backend| backend == "b\"}{,\\:2").expect("a page");
        assert_eq!((other.opened, other.perhaps), (1_000, 0));
    }

    #[test]
    fn a_page_of_somebody_else_is_no_word_of_weirs() {
        for page in ["", "<html>", "process_start_time_seconds 1\n", "process_start_time_seconds x\n"] {
            assert!(Said::read(page, |_| true).is_err(), "{page}");
        }
        let without_start = PAGE.replace("process_", "p_");
        assert!(Said::read(&without_start, |_| true).is_err());
        for broken in ["{backend=\"", "{backend=\"a", "{=} 1", "{backend=\"a\\", "{result=\"ok\"} 1"] {
            let page = format!("{PAGE}weir_backend_connection_opens_total{broken}\n");
            let _ = Said::read(&page, |_| true); // and no panic
        }
    }

    #[test]
    fn a_weir_without_backends_has_said_that_it_opened_nothing() {
        let page = "# TYPE weir_backend_connection_opens_total counter\nprocess_start_time_seconds 5\n";
        assert_eq!(Said::read(page, |_| true), Ok(Said { start: 5.0, ..Said::default() }));
    }
}
